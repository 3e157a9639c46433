from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from embedsweep.card import write_card
from embedsweep.gate import pass_single
from embedsweep.schema import DEV_METRICS, Emissions, TrialConfig, TrialResult

# What sentence-transformers writes, shortened: the order of its sections, and those it comments out.
LIBRARY = """\
---
tags:
- sentence-transformers
library_name: sentence-transformers
model-index:
- name: SentenceTransformer
  results:
  - task:
      type: semantic-similarity
      name: Semantic Similarity
    dataset:
      name: dev
      type: dev
    metrics:
    - type: spearman_cosine
      value: 0.1111
      name: Spearman Cosine
---

# SentenceTransformer

This is a [sentence-transformers](https://www.SBERT.net) model trained. It maps inputs to a vector space.

## Usage

## Evaluation

### Metrics

* Evaluated with <code>embedsweep.evaluation.PairEvaluator</code>

| spearman_cosine | 0.1111 |

<!--
## Bias, Risks and Limitations

*What are the known issues?*
-->

## Training Details

### Framework Versions
- Python: 3.11.7

## Citation

### BibTeX
"""
DEV = {name: 0.5 + index / 100 for index, name in enumerate(DEV_METRICS)}
TEST = {name.replace("dev/", "test/"): value + 0.2 for name, value in DEV.items()}
RESULT = TrialResult(
    objective=DEV["dev/spearman_cosine"],
    dev=DEV,
    test={},
    best_step=40,
    steps=90,
    emissions=Emissions(0.00125, 0.0042, 360.0, "FRA", ("cpu power estimated",)),
    pruned=False,
    conversion="positive pairs: score >= 0.8",
)


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    return pass_single(["loss=mnrl", "optimizer.lr=3e-4", "trainer.device=cpu"]).config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(LIBRARY, encoding="utf-8")
    return tmp_path


def front_matter(folder: Path) -> dict[str, Any]:
    _, matter, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]


def metadata_scores(folder: Path) -> dict[str, float]:
    """Scores of the model-index, under this project's names."""
    (index,) = front_matter(folder)["model-index"]
    return {
        f"{result['dataset']['split']}/{metric['type']}": metric["value"]
        for result in index["results"]
        for metric in result["metrics"]
    }


def test_emissions_are_metadata_in_grams(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, RESULT, "It was run once.")
    assert front_matter(folder)["co2_eq_emissions"] == {
        "emissions": pytest.approx(1.25),
        "energy_consumed": 0.0042,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "geographical_location": "FRA",
        "hours_used": pytest.approx(0.1),
    }
    assert "1.25 g CO2eq, 0.0042 kWh in 360 s" in text_of(folder)
    assert "cpu power estimated" in text_of(folder)


def test_metadata_survives_the_hubs_own_reader(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, replace(RESULT, test=TEST), "It was run once.")
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "sentence-transformers"
    assert card.data.tags == ["sentence-transformers"]
    assert len(card.data.eval_results) == 20
    before = front_matter(folder)
    card.save(folder / "README.md")
    assert front_matter(folder) == before


def test_all_scores_are_metadata_and_replace_the_librarys(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, RESULT, "It is one trial of a study.")
    assert metadata_scores(folder) == DEV
    write_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    assert metadata_scores(folder) == DEV | TEST


def test_the_table_holds_every_score_and_marks_the_objective(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, replace(RESULT, test=TEST), "It was run once.")
    rows = [line.strip("| ").split(" | ") for line in text_of(folder).splitlines() if line.startswith("| ")]
    head, *body = rows[: rows.index(["key", "value"])]
    assert head == ["similarity", "dev Pearson", "dev Spearman", "test Pearson", "test Spearman"]
    scores = DEV | TEST
    expected = [
        [name, *(f"{scores[f'{column}_{name}']:.4f}" for column in ("dev/pearson", "dev/spearman"))]
        + [f"{scores[f'{column}_{name}']:.4f}" for column in ("test/pearson", "test/spearman")]
        for name in ("cosine", "euclidean", "manhattan", "dot", "max")
    ]
    assert [[cell.strip("*") for cell in row] for row in body] == expected
    assert [cell for row in body for cell in row if cell.startswith("**")] == [f"**{DEV['dev/spearman_cosine']:.4f}**"]


def test_without_a_test_score_the_table_has_dev_only(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, RESULT, "It is one trial of a study.")
    assert "| similarity | dev Pearson | dev Spearman |\n" in text_of(folder)


def test_writing_it_again_replaces_what_was_written(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, RESULT, "It is one trial of a study.")
    write_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    text = text_of(folder)
    for once in ("## Evaluation", "## Emissions", "## Configuration", "## How this model came about", "the best of 3"):
        assert text.count(once) == 1
    assert "one trial of a study" not in text
    write_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    assert text_of(folder) == text


def test_the_librarys_other_sections_stay_in_their_order(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, RESULT, "It was run once.")
    text = text_of(folder)
    places = [
        text.index(words)
        for words in (
            "# SentenceTransformer",
            "model trained on demo. It maps",
            "## Usage",
            "## Evaluation",
            "## Configuration",
            "<!--\n## Bias, Risks and Limitations",
            "### Framework Versions",
            "## Citation",
        )
    ]
    assert places == sorted(places)
    assert "0.1111" not in text
    assert "PairEvaluator" not in text


@pytest.mark.parametrize("without", ["## Evaluation", "## Citation"])
def test_a_card_that_lacks_a_section_gets_ours_all_the_same(config: TrialConfig, folder: Path, without: str) -> None:
    (folder / "README.md").write_text(LIBRARY.replace(without, "## Another"), encoding="utf-8")
    write_card(folder, config, RESULT, "It was run once.")
    assert text_of(folder).count("## Emissions") == 1


def test_the_configuration_data_and_conversion_are_told(config: TrialConfig, folder: Path) -> None:
    write_card(folder, config, RESULT, "It was run once.")
    text = text_of(folder)
    for words in (
        "| `optimizer.lr` | `0.0003` |",
        "| `loss.name` | `mnrl` |",
        "90 optimizer steps on demo, generated by embedsweep",
        "the checkpoint of step 40 is kept, the best by dev/spearman_cosine. It was run once.",
        "Training data was converted for loss=mnrl: positive pairs: score >= 0.8.",
    ):
        assert words in text


@pytest.mark.parametrize(("path", "datasets"), [(None, ["ORG/STS"]), ("some/folder", None)])
def test_a_hub_dataset_and_its_language_are_metadata(
    config: TrialConfig, folder: Path, path: str | None, datasets: list[str] | None
) -> None:
    data = replace(config.data, name="sts", hub="ORG/STS", language="es", path=path)
    write_card(folder, replace(config, data=data), RESULT, "It was run once.")
    matter = front_matter(folder)
    assert matter["language"] == ["es"]
    assert matter.get("datasets") == datasets
    assert f"on sts (es), {path or 'ORG/STS'}" in text_of(folder)


def test_a_folder_without_a_card_is_refused(config: TrialConfig, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_card(tmp_path / "nowhere", config, RESULT, "")
