"""Binary pairs beside the library's evaluator and scikit-learn over every threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, matthews_corrcoef

from embedsweep.config.metrics import SIMILARITIES, BinaryScoring
from embedsweep.data.scored import BinaryPairs
from embedsweep.evaluation.binary import BinaryPairEvaluator
from embedsweep.evaluation.evaluator import scores_of
from embedsweep.evaluation.intervals import classification, resampled
from embedsweep.evaluation.scores import read_scores, write_scores
from embedsweep.models.tiny import tiny_model_path
from tests.demo_pairs import demo_pairs
from tests.evaluation.embedders import Embedder

ROWS = demo_pairs("dev")[:90]
PAIRS = BinaryPairs(
    tuple(row[0] for row in ROWS), tuple(row[1] for row in ROWS), tuple(int(float(row[2]) > 3) for row in ROWS), "demo"
)
ALL = BinaryScoring("pairs", SIMILARITIES)
METRICS = ("ap", "accuracy", "f1", "precision", "recall", "mcc")


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.mark.parametrize("dim", [None, 8])
def test_scores_and_thresholds_are_the_librarys(model: SentenceTransformer, dim: int | None) -> None:
    library = BinaryClassificationEvaluator(
        list(PAIRS.sentences1),
        list(PAIRS.sentences2),
        list(PAIRS.labels),
        similarity_fn_names=list(SIMILARITIES),
        batch_size=16,
        truncate_dim=dim,
        write_csv=False,
    )(model)
    scores = scores_of(BinaryPairEvaluator(PAIRS, "dev", 16, (8,), ALL), model)
    prefix = "dev" if dim is None else f"dev-{dim}"
    names = [(metric, name) for metric in METRICS for name in (*SIMILARITIES, "max")]
    names += [(f"{metric}_threshold", name) for metric in ("accuracy", "f1") for name in SIMILARITIES]
    expected = {f"{prefix}/{metric}_{name}": library[f"{name}_{metric}"] for metric, name in names}
    assert {name: value for name, value in scores.items() if name.startswith(f"{prefix}/")} == pytest.approx(
        expected, abs=1e-5
    )
    assert {f"dev/{name}" for name in ALL.metrics} < set(scores)


def test_sentences_are_encoded_once_in_an_order_of_their_own(model: SentenceTransformer) -> None:
    counting = Embedder(lambda texts: np.array([[len(text), text.count("e") + 1.0] for text in texts]))
    counting.prompts, counting.default_prompt_name = {"query": "Q: ", "all": "A: "}, "all"
    BinaryPairEvaluator(PAIRS, "dev", 16, (1,), ALL)(counting)
    assert counting.texts == [f"A: {text}" for text in sorted({*PAIRS.sentences1, *PAIRS.sentences2})]


def test_the_items_are_the_pairs_and_every_metric_follows_from_them(model: SentenceTransformer, tmp_path: Path) -> None:
    evaluator = BinaryPairEvaluator(PAIRS, "dev", 16, (), ALL)
    assert not evaluator.has_scored
    scores = scores_of(evaluator, model)
    write_scores(tmp_path, evaluator.item_scores())
    items = read_scores(tmp_path)
    assert items is not None
    assert items.is_of_same_items(evaluator.item_scores())
    assert list(items.columns["label"]) == list(PAIRS.labels)
    first, second = (model.encode(list(texts)) for texts in (PAIRS.sentences1, PAIRS.sentences2))
    np.testing.assert_allclose(items.columns["predicted_dot"], (first * second).sum(axis=1), rtol=1e-4)
    for name in ALL.metrics:
        value = items.statistic(f"dev/{name}")(np.ones((1, 90)))[0]
        assert value == pytest.approx(scores[f"dev/{name}"], abs=1e-9), name


_draws = np.random.default_rng(3)
LABELS = (_draws.random(40) < 0.4).astype(int)
TIED = np.round(LABELS + _draws.normal(0, 1, 40), 1)  # several items have one score


def by_every_threshold(metric: str, labels: np.ndarray, scores: np.ndarray) -> float:
    """A metric at the best threshold for it, or at that of the best F1, by scikit-learn."""
    if metric == "ap":
        return float(average_precision_score(labels, scores))
    cuts = [scores >= threshold for threshold in sorted(set(scores), reverse=True)]
    if metric == "accuracy":
        return float(max(accuracy_score(labels, cut) for cut in [*cuts, np.zeros(len(labels), bool)]))
    f1 = [2 * (cut & (labels == 1)).sum() / (cut.sum() + labels.sum()) for cut in cuts]
    best = cuts[int(np.argmax(f1))]
    hits = (best & (labels == 1)).sum()
    assert max(f1) == pytest.approx(f1_score(labels, best))
    return float(
        {
            "f1": f1_score(labels, best),
            "precision": hits / best.sum(),
            "recall": hits / labels.sum(),
            "mcc": matthews_corrcoef(labels, best),
        }[metric]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_every_resample_has_the_threshold_that_is_best_for_it(metric: str) -> None:
    found = resampled(classification(f"{metric}_cosine", LABELS, {"cosine": TIED}), 40, 20)
    drawn = np.random.default_rng(0).integers(40, size=(20, 40))
    expected = [by_every_threshold(metric, LABELS[items], TIED[items]) for items in drawn]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert len(set(np.round(expected, 9))) > 5


def test_accuracy_counts_a_threshold_that_no_pair_reaches() -> None:
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1])
    assert classification("accuracy_cosine", labels, {"cosine": scores})(np.ones((1, 4)))[0] == 0.75


def test_the_largest_is_taken_in_every_resample() -> None:
    predicted = {"cosine": TIED, "dot": TIED[::-1]}
    found = resampled(classification("ap_max", LABELS, predicted), 40)
    each = [resampled(classification(f"ap_{name}", LABELS, predicted), 40) for name in predicted]
    np.testing.assert_array_equal(found, np.maximum(*each))
    assert not np.array_equal(found, each[0])


@pytest.mark.parametrize(
    ("metric", "label", "defined"),
    [("ap", 0, False), ("f1", 0, False), ("mcc", 0, False), ("mcc", 1, False), ("accuracy", 0, True), ("f1", 1, True)],
)
def test_a_resample_without_a_class_that_a_metric_needs_has_none(metric: str, label: int, defined: bool) -> None:
    counts = np.equal(LABELS, label).astype(np.float64)[None]
    value = classification(f"{metric}_cosine", LABELS, {"cosine": TIED})(counts)[0]
    assert (value == 1.0) if defined else np.isnan(value)
