"""Sections of the card: scores, base model, selection, hardware."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from embedsweep.card.metadata import library_metric
from embedsweep.card.sections import evaluation_section
from embedsweep.config.trial import BenchmarkConfig, TrialConfig
from embedsweep.validation.single import pass_single
from tests.card.cases import (
    BEFORE,
    DEV,
    RESULT,
    TEST,
    Write,
    front_matter,
    part,
    rows,
)


def test_the_table_has_every_score_and_marks_the_objective(write: Write) -> None:
    head, *body = rows(part(write(replace(RESULT, test=TEST)), "## Evaluation"))
    assert head == ["similarity", "dev Pearson", "dev Spearman", "test Pearson", "test Spearman"]
    scores = DEV | TEST
    expected = [
        [name, *(f"{scores[f'{column}_{name}']:.4f}" for column in ("dev/pearson", "dev/spearman"))]
        + [f"{scores[f'{column}_{name}']:.4f}" for column in ("test/pearson", "test/spearman")]
        for name in ("cosine", "euclidean", "manhattan", "dot", "max")
    ]
    assert [[cell.strip("*") for cell in row] for row in body] == expected
    assert [cell for row in body for cell in row if cell.startswith("**")] == [f"**{DEV['dev/spearman_cosine']:.4f}**"]


def test_scores_before_training_of_truncated_embeddings_and_of_benchmarks_have_tables(
    config: TrialConfig, write: Write
) -> None:
    benchmarks = tuple(
        BenchmarkConfig(name, "folder", "test", config.data, "sts", None) for name in ("sts2017-es", "news-2024")
    )
    cut = {"dev-32/spearman_cosine": 0.41, "dev-64/pearson_cosine": 0.42}
    text = write(
        replace(
            RESULT,
            dev={**DEV, **cut},
            before={**BEFORE, "sts2017-es/pearson_dot": 0.33},
            benchmarks={
                "sts2017-es/pearson_dot": 0.44,
                "sts2017-es-64/pearson_dot": 0.43,
                "news-2024/spearman_dot": 0.45,
            },
        ),
        replace(config, evaluation=replace(config.evaluation, benchmarks=benchmarks)),
    )
    head, first, *_ = rows(part(text, "### Before training"))
    assert head == ["similarity", "dev Pearson", "dev Spearman", "test Pearson", "test Spearman"]
    assert first == ["cosine", "0.2000", "0.2500", "0.4000", "0.4500"]  # DEV and TEST, less 0.3
    head, *body = rows(part(text, "### Truncated embeddings"))
    assert head == ["dimensions", "similarity", "dev Pearson", "dev Spearman"]
    assert [body[0], body[5]] == [["64", "cosine", "0.4200", "-"], ["32", "cosine", "-", "0.4100"]]
    head, *body = rows(part(text, "### Other benchmarks"))
    assert head[-4:] == ["Pearson", "Spearman", "Pearson before", "Spearman before"]
    assert [row for row in body if row[2] == "dot"] == [
        ["sts2017-es", "all", "dot", "0.4400", "-", "0.3300", "-"],
        ["sts2017-es", "64", "dot", "0.4300", "-", "-", "-"],
        ["news-2024", "all", "dot", "-", "0.4500", "-", "-"],
    ]


@pytest.mark.parametrize("device", ["auto", "cuda:0"])
def test_a_gpu_that_was_used_is_named(config: TrialConfig, folder: Path, write: Write, device: str) -> None:
    text = write(config=replace(config, trainer=replace(config.trainer, device=device)))
    assert front_matter(folder)["co2_eq_emissions"]["hardware_used"] == "1 x Some GPU"
    assert "**GPU Model**: 1 x Some GPU" in text


def test_gpu_hours_and_memory_are_shown_if_a_gpu_was_used(write: Write) -> None:
    text = write()
    assert "GPU Hours" not in text
    assert "Peak GPU Memory" not in text
    emissions = replace(RESULT.emissions, gpu_h=0.01234)
    text = write(replace(RESULT, emissions=emissions, peak_memory_gib=3.456))
    assert "- **GPU Hours**: 0.01234 hours\n" in part(text, "### Environmental Impact")
    assert "- **Peak GPU Memory**: 3.46 GiB\n" in part(text, "### Training Hardware")


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (True, "checkpoint of step 40 was kept: it has the best `dev/spearman_cosine` (0.5500) of all that"),
        (False, "The last checkpoint was kept, of step 40, with `dev/spearman_cosine` 0.5500."),
    ],
)
def test_the_card_says_how_the_model_was_chosen(config: TrialConfig, write: Write, best: bool, words: str) -> None:
    trainer = replace(config.trainer, load_best_model_at_end=best)
    text = write(config=replace(config, trainer=trainer))
    origin = part(text, "### How this model was trained")
    assert words in origin
    assert "for 90 optimizer steps" in origin


def test_the_card_warns_of_a_dev_split_that_was_trained_on(config: TrialConfig, write: Write) -> None:
    assert "cannot be trusted" not in write()
    splits = {**config.data.splits, "train": ("train", "dev")}
    assert "`dev` is part of the training data too: the dev scores cannot be trusted" in write(
        config=replace(config, data=replace(config.data, splits=splits))
    )


@pytest.mark.parametrize("path", ["/home/somebody/models/base", "~/models/base", "../base", "base"])
def test_a_local_base_model_is_named_by_its_folder_alone(
    config: TrialConfig, folder: Path, write: Write, path: str
) -> None:
    text = write(config=replace(config, model=replace(config.model, name="pretrained", path=path)))
    assert "base_model" not in front_matter(folder)
    assert "model finetuned from `base` (a local folder) on demo. It maps" in text
    assert "- **Base model:** `base` (a local folder)\n" in text
    assert "| `model.path` | `base` |" in text


def test_a_base_model_from_the_hub_is_metadata_and_a_link(
    config: TrialConfig, folder: Path, model: SentenceTransformer, write: Write
) -> None:
    model.model_card_data.base_model = "org/base"
    base = replace(config.model, name="pretrained", path="org/base", revision="main")
    text = write(config=replace(config, model=base))
    assert front_matter(folder)["base_model"] == "org/base"
    assert "finetuned from [org/base](https://huggingface.co/org/base) at [main](" in text
    assert "| `model.path` | `org/base` |" in text


def test_scores_of_another_family_have_a_row_for_each_metric_and_benchmarks_the_table_of_their_own() -> None:
    words = ["data=demo_retrieval", "loss=mnrl", "evaluation=retrieval", "evaluation.dims=[32]"]
    config = pass_single([*words, "evaluation.watch=[demo-dev]", "evaluation.benchmarks=[demo-test,demo-dev]"]).config
    dev = {"dev/ndcg_at_10_cosine": 0.5, "dev/map_at_100_dot": 0.4, "dev-32/ndcg_at_10_cosine": 0.3}
    result = replace(
        RESULT,
        dev={**dev, "dev/demo-dev/spearman_cosine": 0.6},
        test={"test/ndcg_at_10_cosine": 0.45},
        before={"dev/ndcg_at_10_cosine": 0.2, "dev/demo-dev/spearman_cosine": 0.7},
        benchmarks={"demo-test/pearson_cosine": 0.1, "demo-dev/spearman_cosine": 0.6},
    )
    text = evaluation_section(config, result)
    assert "is `dev/ndcg_at_10_cosine`, in bold" in text
    assert rows(part(text, "## Evaluation"))[:3] == [
        ["metric", "dev", "test"],
        ["`ndcg_at_10_cosine`", "**0.5000**", "0.4500"],
        ["`map_at_100_dot`", "0.4000", "-"],
    ]
    assert rows(part(text, "### Before training"))[1:2] == [["`ndcg_at_10_cosine`", "0.2000"]]
    assert rows(part(text, "### Truncated embeddings"))[1:2] == [["32", "`ndcg_at_10_cosine`", "0.3000", "-"]]
    further = [row for row in rows(part(text, "### Other benchmarks")) if row[2] == "cosine"]
    assert further == [
        ["demo-dev", "all", "cosine", "-", "0.6000", "-", "0.7000"],
        ["demo-test", "all", "cosine", "0.1000", "-", "-", "-"],
    ]


def test_a_benchmark_of_another_family_has_a_row_for_each_metric(config: TrialConfig) -> None:
    searched = BenchmarkConfig("searched", "folder", "test", config.data, "retrieval", None)
    benchmarks = {"searched/recall_at_10_dot": 0.25}
    text = evaluation_section(
        replace(config, evaluation=replace(config.evaluation, benchmarks=(searched,))),
        replace(RESULT, benchmarks=benchmarks, before={"searched/recall_at_10_dot": 0.2}),
    )
    assert rows(part(text, "### Other benchmarks")) == [
        ["benchmark", "dimensions", "metric", "score", "before"],
        ["searched", "all", "`recall_at_10_dot`", "0.2500", "0.2000"],
    ]


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("ndcg_at_10_cosine", "cosine_ndcg@10"),
        ("accuracy_max", "max_accuracy"),
        ("ap_manhattan", "manhattan_ap"),
        ("mrr_at_10", "mrr@10"),
        ("map", "map"),
    ],
)
def test_the_hub_gets_the_librarys_names_of_metrics(metric: str, name: str) -> None:
    assert library_metric(metric) == name
