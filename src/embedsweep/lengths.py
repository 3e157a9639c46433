"""Lengths that batches are padded to, so that a few CUDA graphs serve all of them.

The edges are quantiles of the data's own: of the longest text of a random batch, not of single texts, which are
shorter. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILES = ((0.75, 1.0), (0.5, 0.8, 1.0), (0.25, 0.5, 0.75, 0.9, 1.0))
"""Of a batch's longest text. Each is an edge, for which a graph is captured: the first of these that costs little."""

LITTLE = 0.2
"""Of the tokens of a batch: what padding may add before there are more edges."""

MULTIPLE = 8
"""Edges are rounded up to multiples of it, as matrix products on tensor cores like them."""


@dataclass(frozen=True)
class Lengths:
    """Edges in tokens, rising, and what padding to them costs.

    Attributes:
        edges: a batch is padded to the smallest that holds its longest text.
        cost: tokens of a padded batch over those of one padded to its own longest text, minus 1; expected over random
            batches.
    """

    edges: tuple[int, ...]
    cost: float

    def edge(self, longest: int) -> int | None:
        """What a batch whose longest text has ``longest`` tokens is padded to; None if it is beyond all edges."""
        return next((edge for edge in self.edges if longest <= edge), None)


def lengths_of(tokens: Sequence[int] | NDArray[np.int64], texts_a_batch: int, most: int | None) -> Lengths:
    """The edges for batches of ``texts_a_batch`` texts, over all their columns.

    The longest of n texts is at most l with probability F(l)^n, where F is the distribution of single texts; so its
    p-quantile is the texts' p^(1/n)-quantile.

    Args:
        tokens: of each text, special ones included; at least one text.
        texts_a_batch: at least 1.
        most: tokens that the model reads at most: no edge is beyond; None sets no limit.
    """
    rising = np.sort(np.asarray(tokens, dtype=np.int64))
    limit = None if most is None else max(most, int(rising[-1]))
    tried = [_lengths(rising, texts_a_batch, limit, quantiles) for quantiles in QUANTILES]
    return next((lengths for lengths in tried if lengths.cost <= LITTLE), tried[-1])


def _lengths(rising: NDArray[np.int64], texts_a_batch: int, limit: int | None, quantiles: tuple[float, ...]) -> Lengths:
    levels = np.array(quantiles) ** (1 / texts_a_batch)
    ranks = np.ceil(levels * len(rising)).astype(np.int64) - 1
    edges = tuple(sorted({_raised(int(rising[rank]), limit) for rank in ranks}))
    below = (np.arange(1, len(rising) + 1) / len(rising)) ** texts_a_batch
    chance = np.diff(below, prepend=0.0)
    padded = np.array(edges)[np.searchsorted(edges, rising)]
    return Lengths(edges, float((chance * padded).sum() / (chance * rising).sum() - 1))


def _raised(length: int, limit: int | None) -> int:
    multiple = -(-length // MULTIPLE) * MULTIPLE
    return multiple if limit is None else min(multiple, limit)
