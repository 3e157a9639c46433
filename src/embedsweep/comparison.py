"""How models are compared on pairs, as eduardofv's sts_eval did: one similarity, two correlations, their p-values.

Owns the formulas, the optional normalisation of texts among them. Knows neither models nor files. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from embedsweep.errors import TrialError

Comparison = Literal["cosine", "euclidean"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)

_TO_SPACE = str.maketrans({"\t": " ", "\n": " ", ",": " "})


def compared(first: np.ndarray, second: np.ndarray, by: Comparison) -> np.ndarray:
    """The similarity of every pair: the cosine, in [-1, 1], or ``1 / (1 + Euclidean distance)``, in (0, 1].

    Args:
        first: ``(pairs, dim)``.
        second: ``(pairs, dim)``.
        by: which of the two.

    Returns:
        ``(pairs,)``, computed in double precision; NaN where an embedding is zero and ``by`` the cosine.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    if by == "euclidean":
        return np.asarray(1 / (1 + np.linalg.norm(first - second, axis=1)))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    dots = np.einsum("pd,pd->p", first, second)
    return np.divide(dots, norms, out=np.full(len(dots), np.nan), where=norms > 0)


def normalized_text(text: str) -> str:
    """sts_eval's normalisation: lower case; tab, newline and comma become a space."""
    return text.lower().translate(_TO_SPACE)


@dataclass(frozen=True)
class Correlations:
    """How well predicted scores follow gold ones, with the two-sided p-values of no correlation at all."""

    pearson: float
    pearson_p: float
    spearman: float
    spearman_p: float


def correlations(gold: Sequence[float], predicted: np.ndarray) -> Correlations:
    """Correlates predicted with gold scores.

    Args:
        gold: at least two different scores.
        predicted: as many, ``(pairs,)``.

    Raises:
        TrialError: the predicted scores are constant or not numbers.
    """
    from scipy.stats import pearsonr, spearmanr

    if not np.isfinite(predicted).all() or np.ptp(predicted) < 1e-12:
        raise TrialError("there is no correlation: the embeddings are constant or not numbers")
    pearson, spearman = pearsonr(gold, predicted), spearmanr(gold, predicted)
    return Correlations(float(pearson[0]), float(pearson[1]), float(spearman[0]), float(spearman[1]))
