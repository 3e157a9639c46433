"""Families of evaluations: their metrics by name, the main one, and which way is better."""

from __future__ import annotations

import pytest

from embedsweep.config.metrics import (
    COSTS,
    FAMILIES,
    SCORINGS,
    BinaryScoring,
    RerankingScoring,
    RetrievalScoring,
    Scoring,
    StsScoring,
    TripletScoring,
    dev_metrics,
    direction_of,
    is_dev_metric,
)
from embedsweep.config.trial import EVALUATIONS

RETRIEVAL = RetrievalScoring("retrieval", (1, 3), (5,), (10,), (5, 10), (100,), ("dot", "cosine"), 100, None, 0)

OF_FAMILY = [
    (
        StsScoring("sts"),
        "spearman_cosine",
        {"pearson_cosine", "pearson_max", "spearman_dot", "spearman_euclidean", "spearman_manhattan"},
        10,
    ),
    (
        RETRIEVAL,
        "ndcg_at_10_dot",
        {"accuracy_at_1_dot", "accuracy_at_3_cosine", "precision_at_5_dot", "recall_at_5_dot", "mrr_at_10_cosine"}
        | {"ndcg_at_5_cosine", "ndcg_at_10_dot", "map_at_100_dot"},
        16,
    ),
    (TripletScoring("triplets", ("dot",)), "accuracy_dot", {"accuracy_dot"}, 1),
    (
        TripletScoring("triplets", ("cosine", "manhattan")),
        "accuracy_cosine",
        {"accuracy_cosine", "accuracy_manhattan", "accuracy_max"},
        3,
    ),
    (
        BinaryScoring("pairs", ("euclidean", "cosine")),
        "ap_euclidean",
        {"accuracy_cosine", "f1_max", "precision_euclidean", "recall_max", "ap_cosine", "mcc_cosine"},
        18,
    ),
    (RerankingScoring("reranking", 5), "ndcg_at_5", {"map", "mrr_at_5", "ndcg_at_5"}, 3),
]


@pytest.mark.parametrize(("scoring", "main", "some", "count"), OF_FAMILY)
def test_the_metrics_of_a_family_follow_from_its_keys(scoring: Scoring, main: str, some: set[str], count: int) -> None:
    assert some <= set(scoring.metrics)
    assert len(set(scoring.metrics)) == len(scoring.metrics) == count
    assert scoring.main_metric == main
    assert {main, *scoring.headlines} <= set(scoring.metrics)
    assert dev_metrics(scoring)[0] == f"dev/{scoring.metrics[0]}"


def test_every_family_has_a_class_of_keys_and_one_of_evaluations() -> None:
    assert [kind.family for kind in SCORINGS] == list(EVALUATIONS) == list(FAMILIES)
    assert all(issubclass(EVALUATIONS[kind.family], kind) for kind in SCORINGS)


def test_an_option_of_any_other_name_scores_pairs_as_all_once_did() -> None:
    assert Scoring.variant("mine") is Scoring.variant(None) is StsScoring
    assert Scoring.variant("pairs") is BinaryScoring


def test_scores_rise_and_costs_fall() -> None:
    names = ("dev/ndcg_at_10_cosine", "emissions/co2eq_kg", "throughput/examples_per_s")
    assert [direction_of(name) for name in names] == ["maximize", "minimize", "maximize"]
    assert [is_dev_metric(name) for name in names] == [True, False, False]
    assert not any(map(is_dev_metric, COSTS))
