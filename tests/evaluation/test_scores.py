"""How well a model does on single items, for each kind of items, against values by hand or by counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from embedsweep.evaluation.scores import ItemScores

TEXTS = {"sentence1": ["a", "b", "c", "d"], "sentence2": ["e", "f", "g", "h"]}
TRIPLETS = {"anchor": ["a", "b"], "positive": ["c", "d"], "negative": ["e", "f"]}
QUERIES = {"query_id": ["1", "2"], "query": ["a", "b"], "relevant": [["x"], ["y"]]}
LABELS, SIMILARITIES = [1, 0, 1, 0], [0.9, 0.3, 0.3, 0.5]


def _of_other_class(index: int) -> float:
    """The share of pairs of the other class on the right side of a pair; of ties a half."""
    sign = 1 if LABELS[index] else -1
    others = [SIMILARITIES[other] for other in range(4) if LABELS[other] != LABELS[index]]
    gaps = [sign * (SIMILARITIES[index] - other) for other in others]
    return sum((gap > 0) + (gap == 0) / 2 for gap in gaps) / len(gaps)


@pytest.mark.parametrize(
    ("columns", "metric", "expected"),
    [
        (
            {**TEXTS, "gold": np.array([0.1, 0.4, 0.2, 0.8]), "predicted_cosine": np.array([0.1, 0.2, 0.3, 0.9])},
            "dev/spearman_cosine",
            [1, 2 / 3, 2 / 3, 1],
        ),
        (
            {**TEXTS, "gold": np.array([0.1, 0.4, 0.2, 0.8]), "predicted_dot": np.array([9.0, 4.0, 3.0, 2.0])},
            "dev/spearman_max",
            [0, 1, 1, 0],
        ),
        (
            {**TEXTS, "label": np.array(LABELS), "predicted_cosine": np.array(SIMILARITIES)},
            "dev/ap_cosine",
            [_of_other_class(index) for index in range(4)],
        ),
        (
            {**TRIPLETS, "positive_cosine": np.array([0.9, 0.2]), "negative_cosine": np.array([0.5, 0.6])},
            "dev/accuracy_cosine",
            [0.4, -0.4],
        ),
        ({**QUERIES, "ndcg_at_10_cosine": np.array([0.25, 1.0])}, "dev/ndcg_at_10_cosine", [0.25, 1.0]),
    ],
    ids=["scored pairs", "the first similarity", "binary pairs", "triplets", "queries"],
)
def test_each_item_has_a_number_that_is_larger_where_a_model_does_better(
    columns: Mapping[str, Sequence[object]], metric: str, expected: Sequence[float]
) -> None:
    values, words = ItemScores(columns).goodness(metric)
    assert values.tolist() == pytest.approx(list(expected))
    assert words
