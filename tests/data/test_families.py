"""What each family of evaluations scores: data of its shape, read from files and from benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

from embedsweep.config.metrics import Family, Scoring
from embedsweep.config.trial import EVALUATIONS, BenchmarkConfig, DataConfig, EvaluationConfig, Shape
from embedsweep.data.examples import COLUMNS
from embedsweep.data.load import load_benchmark, load_splits
from embedsweep.data.scored import BinaryPairs, Retrieval, Scored, TripletSet
from embedsweep.errors import ConfigError
from tests.configs import EVALUATION, SCORED

TRIPLETS = (("a", "a1", "x"), ("b", "b1", "y"))
PAIRS = (("a", "a1", "1"), ("b", "y", "0"))
POSITIVES = (("a?", "a"), ("b?", "b"))


def evaluation_of(family: Family) -> EvaluationConfig:
    """Return an evaluation with the keys that all have; loading looks at no others."""
    common = {name: getattr(EVALUATION, name) for name in ("batch_size", "dev", "test", "benchmarks", "watch")}
    ranks = dict.fromkeys(("accuracy_at_k", "precision_recall_at_k", "mrr_at_k", "ndcg_at_k", "map_at_k"), (10,))
    own = {"similarities": ("cosine",), "at_k": 10, "corpus_chunk_size": 10, "corpus_size": None, "corpus_seed": 0}
    kind = EVALUATIONS[family]
    values = {**common, **ranks, **own, "name": family, "path": None, "dims": (), "before": False}
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def folder_of(path: Path, shape: Shape, rows: Sequence[Sequence[str]]) -> DataConfig:
    """Write the rows as every split and return the data that reads them."""
    path.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        lines = [",".join(COLUMNS[shape]), *(",".join(row) for row in rows)]
        (path / f"{split}.csv").write_text("\n".join(lines), encoding="utf-8")
    return replace(SCORED, path=str(path), shape=shape, columns=COLUMNS[shape])


@pytest.mark.parametrize(
    ("family", "shape", "rows", "expected"),
    [
        ("triplets", "triplets", TRIPLETS, TripletSet(("a", "b"), ("a1", "b1"), ("x", "y"), "")),
        ("pairs", "binary_pairs", PAIRS, BinaryPairs(("a", "b"), ("a1", "y"), (1, 0), "")),
        (
            "retrieval",
            "positive_pairs",
            POSITIVES,
            Retrieval(("0", "1"), ("a?", "b?"), ("0", "1"), ("a", "b"), {"0": {"0": 1.0}, "1": {"1": 1.0}}, ""),
        ),
        (
            "reranking",
            "triplets",
            TRIPLETS,
            Retrieval(
                ("0", "1"),
                ("a", "b"),
                ("0", "1", "2", "3"),
                ("a1", "x", "b1", "y"),
                {"0": {"0": 1.0, "1": 0.0}, "1": {"2": 1.0, "3": 0.0}},
                "",
            ),
        ),
    ],
)
def test_each_family_scores_data_of_its_shape(
    family: Family, shape: Shape, rows: Sequence[Sequence[str]], expected: Scored, tmp_path: Path
) -> None:
    data = folder_of(tmp_path, shape, rows)
    splits = load_splits(data, evaluation_of(family))
    for split, scored in (("dev", splits.dev), ("test", splits.test)):
        assert scored == replace(expected, origin=str(tmp_path / f"{split}.csv"))
        assert scored.digest == expected.digest
    assert splits.train.shape == shape
    scoring = Scoring.variant(family)
    assert scoring.family == family
    benchmark = BenchmarkConfig("mine", tmp_path.name, "test", replace(data, path=None), family, None)
    assert load_benchmark(benchmark, str(tmp_path.parent)) == splits.test


def refusal(data: DataConfig, evaluation: EvaluationConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_splits(data, evaluation)
    return [str(problem) for problem in error.value.problems]


def test_reranking_needs_queries_with_documents_of_both_kinds(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "positive_pairs", POSITIVES)
    assert refusal(data, evaluation_of("reranking")) == [
        f"data.path: no query of {tmp_path / split}.csv has both a relevant document and one that is judged not "
        "relevant (0): add such judgements, or take evaluation=retrieval"
        for split in ("dev", "test")
    ]


def test_queries_that_cannot_be_reranked_are_left_out_and_counted() -> None:
    judged = {"1": {"a": 2.0, "b": 0.0}, "2": {"a": 1.0}, "3": {"b": 0.0}}
    whole = Retrieval(("1", "2", "3"), ("x", "y", "z"), ("a", "b"), ("A", "B"), judged, "here", ("l1", "l2", "l3"))
    kept = whole.with_candidates()
    assert (kept.queries, kept.places, kept.relevant) == (("x",), ("l1",), {"1": {"a": 2.0, "b": 0.0}})
    assert kept.origin == "here (2 queries without judged documents of both kinds left out)"
    assert kept.documents == whole.documents
    assert kept.with_candidates() == kept


def test_a_benchmark_of_another_family_neither_selects_nor_reports(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "triplets", TRIPLETS)
    sts = folder_of(tmp_path / "sts", "scored_pairs", (("a", "b", "0"), ("c", "d", "5")))
    benchmark = BenchmarkConfig("bench", "sts", "test", sts, "sts", None)
    assert refusal(data, replace(evaluation_of("triplets"), test=benchmark)) == [
        "evaluation.test: bench is of the family sts, which evaluation=triplets cannot score: choose another "
        "benchmark, or evaluation=sts"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"relevant": {"1": {"a": 1.0}}},
        {"relevant": {"1": {"a": 2.0, "b": 0.0}}},
        {"documents": ("A", "b")},
        {"document_ids": ("b", "a")},
        {"queries": ("y",)},
    ],
)
def test_the_digest_of_retrieval_changes_with_texts_ids_and_judgements(change: dict[str, object]) -> None:
    retrieval = Retrieval(("1",), ("x",), ("a", "b"), ("A", "B"), {"1": {"a": 1.0, "b": 0.0}}, "here")
    assert replace(retrieval, origin="there", places=("line 1",)).digest == retrieval.digest
    assert replace(retrieval, **change).digest != retrieval.digest  # type: ignore[arg-type]
