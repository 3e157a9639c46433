"""The evaluator of every family, by the data and keys it is made of."""

from __future__ import annotations

import pytest
from sentence_transformers import SentenceTransformer

from embedsweep.config.metrics import BinaryScoring, RerankingScoring, Scoring, StsScoring, TripletScoring
from embedsweep.data.scored import BinaryPairs, Pairs, Retrieval, Scored, TripletSet
from embedsweep.evaluation.evaluator import evaluator_of, scores_of
from embedsweep.models.tiny import tiny_model_path
from tests.evaluation.embedders import RETRIEVAL

FIRST = ("The cat sleeps.", "Dogs run in the park.", "He reads a book.")
SECOND = ("A cat is asleep.", "A dog is running outside.", "She cooks dinner.")
THIRD = ("The train is late.", "The soup is hot.", "It rains.")
JUDGED = {"0": {"0": 2.0, "1": 0.0}, "1": {"1": 1.0, "2": 0.0}, "2": {"2": 1.0, "0": 0.0}}
SEARCHED = Retrieval(("0", "1", "2"), FIRST, ("0", "1", "2"), SECOND, JUDGED, "here")

CASES: list[tuple[Scored, Scoring]] = [
    (Pairs(FIRST, SECOND, (1.0, 0.8, 0.1), "here"), StsScoring("sts")),
    (SEARCHED, RETRIEVAL),
    (TripletSet(FIRST, SECOND, THIRD, "here"), TripletScoring("triplets", ("cosine", "euclidean"))),
    (BinaryPairs(FIRST, SECOND, (1, 1, 0), "here"), BinaryScoring("pairs", ("cosine",))),
    (SEARCHED, RerankingScoring("reranking", 2)),
]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.mark.parametrize(("scored", "scoring"), CASES, ids=[scoring.family for _, scoring in CASES])
def test_an_evaluator_gives_the_metrics_that_its_family_names(
    scored: Scored, scoring: Scoring, model: SentenceTransformer
) -> None:
    evaluator = evaluator_of(scored, "dev", scoring, 8, (32,))
    scores = scores_of(evaluator, model)
    assert {f"{split}/{name}" for split in ("dev", "dev-32") for name in scoring.metrics} <= scores.keys()
    items = evaluator.item_scores()
    assert evaluator.has_scored
    assert len(items) == len(scored)
    assert items.statistic(f"dev/{scoring.main_metric}") is not None


def test_data_of_one_family_is_not_scored_by_another() -> None:
    with pytest.raises(TypeError, match="TripletSet cannot be scored by StsScoring"):
        evaluator_of(CASES[2][0], "dev", CASES[0][1], 8, ())
