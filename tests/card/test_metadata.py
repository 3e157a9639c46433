"""The card's metadata, as the Hub reads it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from embedsweep.card.metadata import set_results
from embedsweep.card.write import complete_card
from embedsweep.config.result import Emissions
from embedsweep.config.trial import BenchmarkConfig, TrialConfig
from embedsweep.validation.single import pass_single
from tests.card.cases import (
    DEV,
    RESULT,
    TEST,
    Write,
    front_matter,
    metadata_scores,
    part,
)


def test_emissions_are_metadata_in_grams(folder: Path, write: Write) -> None:
    text = write()
    assert front_matter(folder)["co2_eq_emissions"] == {
        "emissions": pytest.approx(1.25),
        "energy_consumed": 0.0042,
        "source": "codecarbon",
        "training_type": "pre-training",  # the tiny model's weights are random; where it runs is unknown
        "cpu_model": "Some CPU",
        "ram_total_size": pytest.approx(psutil.virtual_memory().total / 2**30),
        "hours_used": pytest.approx(0.1),
        "hardware_used": "Some CPU",  # trainer.device=cpu: the machine's GPU was not used
        "geographical_location": "FRA",
    }
    cost = part(text, "### Environmental Impact")
    for words in ("0.0042 kWh", "1.25 g of CO2", "0.1 hours", "**Electricity Mix**: FRA", "cpu power estimated"):
        assert words in cost
    assert "**GPU Model**: No GPU used\n- **CPU Model**: Some CPU" in part(text, "### Training Hardware")
    assert "Training Time" not in text


def test_emissions_that_were_not_measured_are_left_out_of_the_metadata(folder: Path, write: Write) -> None:
    write(replace(RESULT, emissions=Emissions(0.0, 0.0, 360.0, "world average", ("attempt 1 not measured",))))
    assert "co2_eq_emissions" not in front_matter(folder)
    write(replace(RESULT, emissions=replace(RESULT.emissions, country="world average")))
    assert "geographical_location" not in front_matter(folder)["co2_eq_emissions"]


def test_all_scores_are_metadata_and_replace_the_librarys(config: TrialConfig, folder: Path, write: Write) -> None:
    write()
    assert metadata_scores(folder) == DEV
    assert front_matter(folder)["metrics"] == [name.removeprefix("dev/") for name in DEV]
    complete_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    assert metadata_scores(folder) == DEV | TEST


@pytest.mark.parametrize(
    ("path", "language", "expected"),
    [
        (None, "es", {"datasets": ["ORG/STS"], "language": ["es"]}),
        ("some/folder", "es", {"language": ["es"]}),
        (None, "all", {"datasets": ["ORG/STS"]}),
    ],
)
def test_a_hub_dataset_and_its_language_are_metadata(
    config: TrialConfig, folder: Path, write: Write, path: str | None, language: str, expected: dict[str, list[str]]
) -> None:
    data = replace(config.data, name="sts", hub="ORG/STS", revision="abc", language=language, path=path)
    text = write(config=replace(config, data=data))
    matter = front_matter(folder)
    assert {key: matter[key] for key in ("datasets", "language") if key in matter} == expected
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"] == {
        "type": "ORG/STS" if path is None else "sts",
        "name": f"sts ({language}), dev",
        "config": language,
        "split": "dev",
        **({"revision": "abc"} if path is None else {}),
    }
    link = "[ORG/STS](https://huggingface.co/datasets/ORG/STS) at [abc]("
    assert (link in text) == (path is None)


@pytest.mark.parametrize(
    ("matter", "expected"),
    [
        ("license: cc-by-sa-4.0", "cc-by-sa-4.0"),
        ("license: other", None),
        ("license: [mit, apache-2.0]", None),
        ("license: Whatever I say", None),
        ("license: [", None),
        ("language: es", None),
    ],
)
def test_the_licence_is_the_base_models_own(
    config: TrialConfig, folder: Path, write: Write, tmp_path: Path, matter: str, expected: str | None
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text(f"---\n{matter}\n---\n# Base\n", encoding="utf-8")
    text = write(config=replace(config, model=replace(config.model, path=str(tmp_path / "base"))))
    assert front_matter(folder).get("license") == expected
    line = f"- **License:** {expected}\n" if expected else "<!-- - **License:** Unknown -->\n"
    assert line in text


def test_metadata_is_unchanged_by_the_hubs_reader(config: TrialConfig, folder: Path, write: Write) -> None:
    benchmark = BenchmarkConfig("sts2017-es", "folder", "test", config.data, "sts", None)
    write(
        replace(RESULT, test=TEST, benchmarks={"sts2017-es/spearman_dot": 0.4, "sts2017-es-64/spearman_dot": 0.3}),
        replace(config, evaluation=replace(config.evaluation, benchmarks=(benchmark,))),
    )
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    assert len(card.data.eval_results) == 22
    assert all(isinstance(score, EvalResult) for score in card.data.eval_results)
    truncated = [score for score in card.data.eval_results if score.metric_args is not None]
    assert [(score.metric_args, score.metric_name) for score in truncated] == [
        ({"truncate_dim": 64}, "Spearman Dot, 64 dimensions")
    ]
    before = front_matter(folder)
    card.save(folder / "README.md")
    assert front_matter(folder) == before


@pytest.mark.parametrize("place", ["local", "hub", "demo"])
def test_metadata_has_the_types_that_the_hub_requires(
    config: TrialConfig, folder: Path, write: Write, place: str
) -> None:
    """Check the Hub's specification, https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""
    data = {
        "local": replace(config.data, name="my data: 1+1", path="/home/somebody/data", language="pt-BR"),
        "hub": replace(config.data, name="sts", hub="ORG/STS", revision="abc", language="no"),
        "demo": config.data,
    }[place]
    write(replace(RESULT, test=TEST), replace(config, data=data))
    matter = front_matter(folder)
    allowed = {"tags", "widget", "pipeline_tag", "library_name", "metrics", "model-index", "co2_eq_emissions"}
    assert allowed <= set(matter) <= allowed | {"language", "datasets", "base_model"}
    for key in ("tags", "metrics"):
        assert matter[key]
        assert all(isinstance(value, str) and value for value in matter[key])
    assert (matter["pipeline_tag"], matter["library_name"]) == ("sentence-similarity", "sentence-transformers")
    assert matter.get("language") == (["no"] if place == "hub" else None)  # not YAML 1.1's boolean
    for example in matter["widget"]:
        assert set(example) == {"source_sentence", "sentences"}
        assert all(isinstance(sentence, str) for sentence in [example["source_sentence"], *example["sentences"]])
    cost = matter["co2_eq_emissions"]
    for key in ("emissions", "energy_consumed", "ram_total_size", "hours_used"):
        assert isinstance(cost[key], float)
        assert math.isfinite(cost[key])
    for key in ("source", "training_type", "geographical_location", "hardware_used", "cpu_model"):
        assert isinstance(cost[key], str)
    (index,) = matter["model-index"]
    assert index["name"] == "SentenceTransformer"
    assert len(index["results"]) == 2
    for result in index["results"]:
        assert result["task"]["type"] == "semantic-similarity"
        assert re.fullmatch(r"([\w-]+/)?[\w.-]+", result["dataset"]["type"])  # the Hub's own pattern
        assert all(isinstance(value, str) and value for value in result["dataset"].values())
        assert len(result["metrics"]) == 10
        for metric in result["metrics"]:
            assert isinstance(metric["type"], str)
            assert isinstance(metric["value"], float)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"languages": ("es",)}, ["es"]),
        ({"languages": ("en", "es"), "language": "fr"}, ["en", "es"]),
        ({"where": {"language": "de"}}, ["de"]),
        ({"languages": ("Spanish",)}, None),  # the Hub refuses names
        ({}, None),
    ],
)
def test_the_languages_of_the_texts_are_metadata(
    config: TrialConfig, folder: Path, write: Write, values: dict[str, object], expected: list[str] | None
) -> None:
    data = replace(config.data, **values)  # type: ignore[arg-type]
    write(config=replace(config, data=data))
    assert front_matter(folder).get("language") == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "pre-training"),
        ({"name": "static", "path": "ORG/NAME", "static_dim": 8}, "pre-training"),
        ({"name": "pretrained", "path": "ORG/NAME"}, "fine-tuning"),
    ],
)
def test_training_from_random_weights_is_no_fine_tuning(
    config: TrialConfig, folder: Path, write: Write, values: dict[str, object], expected: str
) -> None:
    write(config=replace(config, model=replace(config.model, **values)))  # type: ignore[arg-type]
    assert front_matter(folder)["co2_eq_emissions"]["training_type"] == expected


def test_scores_of_each_family_are_those_of_its_task_and_data() -> None:
    words = ["data=demo_retrieval", "loss=mnrl", "evaluation=retrieval", "evaluation.watch=[demo-dev]"]
    config = pass_single(words).config
    scores = {"dev/ndcg_at_10_cosine": 0.5, "dev/demo-dev/spearman_cosine": 0.4}
    data = ModelCardData()
    set_results(data, config, replace(RESULT, dev=scores, test={"test/map_at_100_dot": 0.3}))
    assert [
        (each.task_type, each.dataset_name, each.metric_type, each.metric_name, each.metric_value)
        for each in data.eval_results or []
    ] == [
        ("information-retrieval", "demo_retrieval, dev", "cosine_ndcg@10", "Cosine Ndcg@10", 0.5),
        ("semantic-similarity", "demo-dev", "spearman_cosine", "Spearman Cosine", 0.4),
        ("information-retrieval", "demo_retrieval, test", "dot_map@100", "Dot Map@100", 0.3),
    ]
