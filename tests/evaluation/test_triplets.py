"""Triplets beside the library's evaluator and direct formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator

from embedsweep.config.metrics import SIMILARITIES, TripletScoring
from embedsweep.data.scored import TripletSet
from embedsweep.evaluation.evaluator import scores_of
from embedsweep.evaluation.scores import read_scores, write_scores
from embedsweep.evaluation.triplets import TripletSetEvaluator
from embedsweep.models.tiny import tiny_model_path
from tests.demo_pairs import demo_pairs
from tests.evaluation.embedders import Embedder

ROWS = demo_pairs("dev")[:61]
TRIPLETS = TripletSet(
    tuple(row[0] for row in ROWS[:60]),
    tuple(row[1] for row in ROWS[:60]),
    tuple(row[1] for row in ROWS[1:]),
    "demo",
)
ALL = TripletScoring("triplets", SIMILARITIES)


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


def similarities(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    dot = (first * second).sum(axis=1)
    return {
        "cosine": dot / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1),
        "euclidean": -np.linalg.norm(first - second, axis=1),
        "manhattan": -np.abs(first - second).sum(axis=1),
        "dot": dot,
    }


def test_accuracies_are_the_librarys_and_those_of_textbook_similarities(model: SentenceTransformer) -> None:
    texts = [list(TRIPLETS.anchors), list(TRIPLETS.positives), list(TRIPLETS.negatives)]
    evaluator = TripletSetEvaluator(TRIPLETS, "dev", 16, (8,), ALL)
    scores = scores_of(evaluator, model)
    expected = {}
    for dim, prefix in ((None, "dev"), (8, "dev-8")):
        library = TripletEvaluator(
            *texts, similarity_fn_names=list(SIMILARITIES), batch_size=16, truncate_dim=dim, write_csv=False
        )(model)
        anchors, positives, negatives = (model.encode(each).astype(np.float64)[:, :dim] for each in texts)
        near, far = similarities(anchors, positives), similarities(anchors, negatives)
        for name in SIMILARITIES:
            expected[f"{prefix}/accuracy_{name}"] = library[f"{name}_accuracy"]
            assert library[f"{name}_accuracy"] == pytest.approx((near[name] > far[name]).mean())
        expected[f"{prefix}/accuracy_max"] = library["max_accuracy"]
    assert scores == pytest.approx(expected)
    assert {f"dev/{name}" for name in ALL.metrics} == {name for name in scores if name.startswith("dev/")}
    assert 0.5 < scores["dev/accuracy_cosine"] < 1


def test_the_items_are_the_triplets_and_both_similarities(model: SentenceTransformer, tmp_path: Path) -> None:
    evaluator = TripletSetEvaluator(TRIPLETS, "dev", 16, (), ALL)
    assert not evaluator.has_scored
    scores = scores_of(evaluator, model)
    write_scores(tmp_path, evaluator.item_scores())
    items = read_scores(tmp_path)
    assert items is not None
    assert items.is_of_same_items(evaluator.item_scores())
    assert items.columns["negative"] == list(TRIPLETS.negatives)
    texts = [list(TRIPLETS.anchors), list(TRIPLETS.positives), list(TRIPLETS.negatives)]
    anchors, positives, negatives = map(model.encode, texts)
    for name, values in similarities(anchors, positives).items():
        np.testing.assert_allclose(items.columns[f"positive_{name}"], values, rtol=1e-4, atol=1e-5)
    for name, values in similarities(anchors, negatives).items():
        np.testing.assert_allclose(items.columns[f"negative_{name}"], values, rtol=1e-4, atol=1e-5)
    for metric, score in scores.items():
        assert items.statistic(metric)(np.ones((1, 60)))[0] == pytest.approx(score)
    interval = items.interval("dev/accuracy_cosine")
    assert interval is not None
    low, high = interval
    p = scores["dev/accuracy_cosine"]
    assert low < p < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 60), rel=0.15)


def test_one_similarity_has_no_largest(model: SentenceTransformer) -> None:
    evaluator = TripletSetEvaluator(TRIPLETS, "test", 16, (), TripletScoring("triplets", ("cosine",)))
    assert list(scores_of(evaluator, model)) == ["test/accuracy_cosine"]


def test_anchors_are_queries_and_the_others_documents() -> None:
    model = Embedder(lambda texts: np.array([[len(text), text.count("e") + 1.0] for text in texts]))
    model.prompts = {"query": "Q: ", "document": "D: "}
    TripletSetEvaluator(TRIPLETS, "dev", 16, (), ALL)(model)
    others = [*TRIPLETS.positives, *TRIPLETS.negatives]
    assert model.texts == [*(f"Q: {text}" for text in TRIPLETS.anchors), *(f"D: {text}" for text in others)]
