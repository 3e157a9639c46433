"""The card's tables of scores."""

from __future__ import annotations

from dataclasses import replace

from embedsweep.config.trial import BenchmarkConfig, TrialConfig
from tests.card.cases import (
    BEFORE,
    DEV,
    RESULT,
    TEST,
    Write,
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
    benchmarks = tuple(BenchmarkConfig(name, "folder", "test", config.data) for name in ("sts2017-es", "news-2024"))
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
