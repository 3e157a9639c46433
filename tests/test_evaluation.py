from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import pearsonr, spearmanr
from sentence_transformers import SentenceTransformer

from embedsweep.data import demo
from embedsweep.data.pairs import Pairs
from embedsweep.errors import TrialError
from embedsweep.evaluation import PairEvaluator, metric_names, scores_of, write_scores
from embedsweep.models.tiny import tiny_model_path
from embedsweep.schema import DEV_METRICS, EvaluationConfig

ROWS = demo.generate()["dev"][:60]
PAIRS = Pairs(
    tuple(first for first, _, _ in ROWS),
    tuple(second for _, second, _ in ROWS),
    tuple(float(score) / 5 for _, _, score in ROWS),
    "demo dev",
)
CONFIG = EvaluationConfig("sts", batch_size=16)


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture(scope="module")
def similarities(model: SentenceTransformer) -> dict[str, np.ndarray]:
    """Every pair's similarities, by the formulas of a textbook; each ``(pairs,)``."""
    first = model.encode(list(PAIRS.sentences1), batch_size=16).astype(np.float64)
    second = model.encode(list(PAIRS.sentences2), batch_size=16).astype(np.float64)
    dot = (first * second).sum(axis=1)
    return {
        "cosine": dot / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1)),
        "euclidean": -np.sqrt(((first - second) ** 2).sum(axis=1)),
        "manhattan": -np.abs(first - second).sum(axis=1),
        "dot": dot,
    }


def test_scores_are_the_correlations_of_four_similarities_and_the_largest(
    model: SentenceTransformer, similarities: dict[str, np.ndarray]
) -> None:
    expected: dict[str, float] = {}
    for correlation, function in (("pearson", pearsonr), ("spearman", spearmanr)):
        values = {name: float(function(PAIRS.scores, scores)[0]) for name, scores in similarities.items()}
        expected |= {f"dev/{correlation}_{name}": value for name, value in values.items()}
        expected[f"dev/{correlation}_max"] = max(values.values())
    scores = scores_of(PairEvaluator(PAIRS, "dev", CONFIG), model)
    assert set(scores) == set(DEV_METRICS)
    assert len(set(expected.values())) == 8  # two of the ten are the largest of the others
    assert scores == pytest.approx(expected, abs=1e-4)


def test_the_file_of_scores_holds_every_pair_and_its_predictions(
    model: SentenceTransformer, similarities: dict[str, np.ndarray], tmp_path: Path
) -> None:
    evaluator = PairEvaluator(PAIRS, "dev", CONFIG)
    had_scored = evaluator.has_scored
    scores_of(evaluator, model)
    assert (had_scored, evaluator.has_scored) == (False, True)
    write_scores(tmp_path / "scores" / "dev.parquet", PAIRS, evaluator)
    table = pq.read_table(tmp_path / "scores" / "dev.parquet").to_pydict()
    assert table["sentence1"] == list(PAIRS.sentences1)
    assert table["sentence2"] == list(PAIRS.sentences2)
    assert table["gold"] == list(PAIRS.scores)
    for name, expected in similarities.items():
        np.testing.assert_allclose(table[f"predicted_{name}"], expected, rtol=1e-4, atol=1e-5)


def test_predictions_are_of_the_model_scored_last(
    model: SentenceTransformer, similarities: dict[str, np.ndarray]
) -> None:
    evaluator = PairEvaluator(PAIRS, "dev", CONFIG)
    scores_of(evaluator, _Embedder(lambda texts: np.array([[len(text), 1.0] for text in texts])))
    assert not np.allclose(evaluator.predicted()["cosine"], similarities["cosine"])
    scores_of(evaluator, model)
    np.testing.assert_allclose(evaluator.predicted()["cosine"], similarities["cosine"], atol=1e-5)


class _Embedder(SentenceTransformer):  # type: ignore[misc]  # the library is untyped
    """A model whose embeddings a test chooses."""

    def __init__(self, embed: object) -> None:
        super().__init__(str(tiny_model_path()), device="cpu")
        self._embed = embed

    def encode(self, sentences: list[str], **_: object) -> np.ndarray:
        return np.asarray(self._embed(sentences), dtype=np.float32)  # type: ignore[operator]


@pytest.mark.parametrize("value", [1.0, 0.0, math.nan])
@pytest.mark.filterwarnings("ignore:An input array is constant", "ignore:invalid value encountered")
def test_constant_or_missing_embeddings_are_no_score(value: float) -> None:
    constant = _Embedder(lambda texts: np.full((len(texts), 8), value))
    with pytest.raises(TrialError, match=r"dev/\w+ is not a number"):
        scores_of(PairEvaluator(PAIRS, "dev", CONFIG), constant)


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ({"dev_spearman_cosine": 0.5}, {"dev/spearman_cosine": 0.5}),
        ({"eval_dev_spearman_cosine": 0.5, "eval_runtime": 3.0, "epoch": 1.0}, {"dev/spearman_cosine": 0.5}),
        ({"test_spearman_max": 0.5}, {}),
        ({"eval_loss": math.nan, "eval_dev_pearson_dot": -1.0}, {"dev/pearson_dot": -1.0}),
    ],
)
def test_metrics_are_those_of_the_split_under_this_projects_names(
    library: dict[str, float], expected: dict[str, float]
) -> None:
    assert metric_names(library, "dev") == expected
