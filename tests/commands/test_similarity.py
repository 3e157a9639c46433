from __future__ import annotations

import numpy as np
import pytest

from embedsweep.commands.similarity import Comparison, compared, correlations, normalized_text
from embedsweep.errors import TrialError


@pytest.mark.parametrize(
    ("by", "first", "second", "expected"),
    [
        ("cosine", [3, 4], [4, 3], 24 / 25),
        ("cosine", [1, 0], [-2, 0], -1.0),
        ("euclidean", [3, 4], [0, 0], 1 / 6),
        ("euclidean", [1, 2], [1, 2], 1.0),
    ],
)
def test_similarities_follow_the_textbook(
    by: Comparison, first: list[float], second: list[float], expected: float
) -> None:
    similarities = compared(np.array([first], dtype=np.float32), np.array([second], dtype=np.float32), by)
    assert similarities == pytest.approx([expected], abs=1e-12)


def test_normalising_lowers_and_replaces_tabs_newlines_and_commas() -> None:
    assert normalized_text("Un\tGATO,\nnegro; ÁRBOL") == "un gato  negro; árbol"


def test_correlations_and_p_values_equal_those_computed_by_hand() -> None:
    # Ranks of the prediction: 2 1 3 5 4, so rho = 1 - 6 * (1 + 1 + 0 + 1 + 1) / (5 * 24); the p-value is that of
    # t = rho * sqrt(3 / (1 - rho ** 2)) = 2.3094 with 3 degrees of freedom, two-sided.
    result = correlations([0.0, 0.25, 0.5, 0.75, 1.0], np.array([0.2, 0.1, 0.3, 0.5, 0.4]))
    assert (result.spearman, result.pearson) == pytest.approx((0.8, 0.8))
    assert (result.spearman_p, result.pearson_p) == pytest.approx((0.10409, 0.10409), abs=1e-4)


@pytest.mark.parametrize("predicted", [[0.5, 0.5, 0.5], [0.1, np.nan, 0.3], [0.1, np.inf, 0.3]])
def test_constant_or_invalid_scores_have_no_correlation(predicted: list[float]) -> None:
    with pytest.raises(TrialError, match="constant or not numbers"):
        correlations([0.0, 0.5, 1.0], np.array(predicted))


def test_an_embedding_of_zeros_has_no_cosine() -> None:
    assert np.isnan(compared(np.zeros((1, 2)), np.ones((1, 2)), "cosine")).all()
