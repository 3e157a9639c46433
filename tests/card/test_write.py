"""Model cards as they are written after a training and completed after a study."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import jinja2
import jinja2.meta
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from embedsweep.card.write import FOLLOWS, TEMPLATE, complete_card
from embedsweep.config.trial import AlsoConfig, LossConfig, TrialConfig
from embedsweep.data.examples import Examples, Splits
from tests.card.cases import (
    BEFORE,
    DEV,
    OLD_CARD,
    PAIRS,
    RESULT,
    TEST,
    TRAIN,
    Write,
    as_trained,
    front_matter,
    metadata_scores,
    part,
    rows,
    text_of,
)


def test_completing_a_card_gives_the_card_that_is_written_with_everything(
    config: TrialConfig, folder: Path, write: Write
) -> None:
    final = replace(RESULT, test=TEST, before=BEFORE)
    write(final, selection="It is the best of 3 trials.")
    expected = (folder / "README.md").read_text(encoding="utf-8")
    write(selection="It is one trial of a study.")
    for _ in range(2):
        complete_card(folder, config, final, "It is the best of 3 trials.")
        assert (folder / "README.md").read_text(encoding="utf-8") == expected
    write(final, selection="It is the best of 3 trials.")
    assert (folder / "README.md").read_text(encoding="utf-8") == expected


def test_every_section_is_there_once_and_in_order(write: Write) -> None:
    text = write()
    prose = re.sub(r"^```.*?^```", "", re.sub("<!--.*?-->", "", text, flags=re.DOTALL), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if line.startswith("#")] == [
        "# SentenceTransformer",
        "## Model Details",
        "### Model Description",
        "### Model Sources",
        "### Full Model Architecture",
        "## Usage",
        "### Direct Usage (Sentence Transformers)",
        "## Evaluation",
        "## Training Details",
        "### How this model was trained",
        "### Training Dataset",
        "#### demo",
        "### Evaluation Datasets",
        "#### dev: demo",
        "#### test: demo",
        "### Training Hyperparameters",
        "#### Non-Default Hyperparameters",
        "#### All Hyperparameters",
        "### Configuration of embedsweep",
        "### Training Logs",
        "### Environmental Impact",
        "### Training Hardware",
        "### Framework Versions",
        "## Additional Resources",
        "## Citation",
        "### BibTeX",
        "#### Sentence Transformers",
        "#### CoSENTLoss",
    ]
    for replaced in ("0.1111", "Evaluator", "Unnamed Dataset"):
        assert replaced not in text


def test_the_template_uses_all_variables_of_the_librarys_except_those_it_replaces(
    model: SentenceTransformer,
) -> None:
    environment = jinja2.Environment(autoescape=False)
    library, ours = (
        jinja2.meta.find_undeclared_variables(environment.parse(path.read_text(encoding="utf-8")))
        for path in (model.model_card_data.template_path, TEMPLATE)
    )
    of_training = {"co2_eq_emissions", "training_time", "evaluation_time", "total_time"}
    assert library - ours == {"base_model", "base_model_revision", "eval_metrics", *of_training} | {
        "train_datasets",
        "eval_datasets",
    }


def test_the_training_log_marks_the_checkpoint_that_was_kept(write: Write) -> None:
    assert rows(part(write(), "### Training Logs"))[1] == ["**1.0**", "**40**", "**0.5**"]


def test_completing_a_card_of_an_earlier_version_changes_scores_and_selection_alone(
    config: TrialConfig, folder: Path
) -> None:
    card = folder / "README.md"
    card.write_bytes(OLD_CARD.read_bytes())
    before = text_of(folder)
    complete_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    after = text_of(folder)
    for name in ("evaluation", "origin"):
        block = re.compile(f"<!-- embedsweep: {name} -->.*?<!-- embedsweep: {name}, end -->", re.DOTALL)
        assert len(block.findall(after)) == 1
        before, after = block.sub("", before), block.sub("", after)
    assert after == before
    text = text_of(folder)
    assert rows(part(text, "## Evaluation"))[1] == ["cosine", "0.5000", "**0.5500**", "0.7000", "0.7500"]
    assert "It is the best of 3 trials." in part(text, "### How this model was trained")
    assert "### How this model came about" not in text
    assert metadata_scores(folder) == DEV | TEST
    assert front_matter(folder)["model-index"][0]["name"] == "SentenceTransformer"
    assert front_matter(folder)["co2_eq_emissions"]["cpu_model"] == "AMD EPYC"


def test_a_card_that_somebody_rewrote_gets_the_scores_at_its_end(config: TrialConfig, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# My model\n\nIt is good.\n", encoding="utf-8")
    for _ in range(2):
        complete_card(folder, config, RESULT, "It is the best of 3 trials.")
        text = text_of(folder)
        assert text.startswith("# My model\n\nIt is good.\n")
        assert text.count("## Evaluation") == text.count("It is the best of 3 trials.") == 1
    assert metadata_scores(folder) == DEV
    assert front_matter(folder)["license"] == "mit"


def test_folders_of_this_machine_are_left_out(config: TrialConfig, folder: Path, write: Write) -> None:
    data = replace(config.data, name="csv", path="/home/somebody/data", files="{split}.csv")
    evaluation = replace(config.evaluation, path="/home/somebody/sts")
    write(config=replace(config, data=data, evaluation=evaluation))
    whole = (folder / "README.md").read_text(encoding="utf-8")
    assert "somebody" not in whole
    assert "<code>train.csv</code>" in whole
    assert "private data" not in whole


def test_secrets_in_the_data_are_redacted(folder: Path, write: Write) -> None:
    texts = (("api_key=abcdef123456", "b", "c", "d"), ("a", "b", "c", "d"))
    write(splits=Splits(replace(TRAIN, texts=texts), PAIRS, PAIRS))
    whole = (folder / "README.md").read_text(encoding="utf-8")
    assert "abcdef123456" not in whole
    assert "hunter22" not in whole
    assert "password=***" in whole
    assert "<code>api&#95;key&#61;&#42;&#42;&#42;</code>" in whole


def test_every_loss_is_cited_once_with_those_inside(
    model: SentenceTransformer, write: Write, config: TrialConfig
) -> None:
    nested = losses.Matryoshka2dLoss(model, losses.CoSENTLoss(model), [128, 64])
    binary = Examples("binary_pairs", (("a", "b"), ("c", "d")), (0.0, 1.0), None, "more.csv", None)
    as_trained(model, {"demo": (TRAIN, nested), "more": (binary, losses.OnlineContrastiveLoss(model))})
    data = replace(config.data, also={"more": AlsoConfig(config.data, LossConfig("online_contrastive", {}, None))})
    for _ in range(2):
        cited = write(config=replace(config, data=data), also={"more": binary}).partition("## Citation")[2]
        for paper in ("li20242d", "kusupati2024matryoshka", "10531646", "hadsell2006", "reimers-2019"):
            assert cited.count(f"{{{paper}") == 1


def test_losses_cited_here_have_no_citation_in_the_library() -> None:
    for name, follows in FOLLOWS.items():
        assert not hasattr(getattr(losses, name), "citation")
        assert all(hasattr(getattr(losses, each), "citation") for each in follows)
    assert len(FOLLOWS) == 2


def test_versions_include_those_of_what_trains_searches_and_records(write: Write) -> None:
    lines = part(write(), "### Framework Versions").split("\n")
    assert [line.split(":")[0] for line in lines if line.startswith("- ")] == [
        "- Python",
        "- Sentence Transformers",
        "- Transformers",
        "- PyTorch",
        "- Accelerate",
        "- Datasets",
        "- Tokenizers",
        "- Optuna",
        "- Hydra",
        "- MLflow",
        "- CodeCarbon",
        "- embedsweep",
    ]
    assert all(line.split(": ")[1][0].isdigit() for line in lines if line.startswith("- "))


def test_a_folder_without_a_card_is_refused(config: TrialConfig, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        complete_card(tmp_path / "nowhere", config, RESULT, "")
