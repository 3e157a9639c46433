"""Would a recipe win again? What seeds say about finalists; the items of dev have no part in it.

A finalist is the winner if it differs from every other one by the exact permutation test. As it must differ from all,
no correction for several comparisons is needed. Seeds may be added, but they are looked at only when there are 5, 10
and 20 of them: each look tests at a third of .05 (Bonferroni), so that all looks together name a false winner in at
most 5 % of cases. Fewer than 5 seeds a side cannot reach that level; see `smallest_p`.

Scores are given so that larger ones are better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsweep.config.result import Interval

Floats = NDArray[np.float64]

LOOKS = (5, 10, 20)
"""Numbers of seeds at which finalists are compared."""
LEVEL = 0.05 / len(LOOKS)
"""The level of each test of a look."""
CONFIDENCE = 0.95
POWER = 0.8
"""In this share of cases the number of seeds that is said to be needed names the winner."""
SIMULATIONS = 1000
SPLITS = 1000
SEED = 0
_TIE = 1e-9
_ROUNDING = 1e-12
"""Sums are equal if they differ by less than this share of the scores' span and of their size."""


@dataclass(frozen=True)
class Decision:
    """What the seeds say about the finalists, which are given by their indices.

    Attributes:
        look: how many seeds, the first ones, count; 0 where there was no look yet and all count.
        best: the winner, or the finalist with the best mean of those that count.
        winner: the finalist that differed from every other one at a look; None without one.
        named_at: the first look at which it did.
        p: p-value of the best against each finalist, of the seeds that count; NaN of itself and of those without a
            score.
    """

    look: int
    best: int
    winner: int | None
    named_at: int | None
    p: tuple[float, ...]

    @property
    def group(self) -> tuple[int, ...]:
        """The best, and those that it cannot be told apart from; only the best with a winner."""
        if self.winner is not None:
            return (self.winner,)
        least = LEVEL if self.look else 0.0
        return tuple(i for i, p in enumerate(self.p) if i == self.best or p > least)


def decide(scores: Floats) -> Decision | None:
    """Return which finalist is the winner, if any is; None if no score counts.

    At the last look the seeds of the earlier ones count, too. A winner that an earlier look named stays, unless a later
    one names another.

    Args:
        scores: ``(finalists, seeds)``, NaN of trainings without a score.
    """
    winner = named_at = None
    looks = [n for n in LOOKS if n <= scores.shape[1]]
    for n in looks:
        named = winner_of(scores[:, :n])
        if named is not None and named != winner:
            winner, named_at = named, n
    look = looks[-1] if looks else 0
    samples = _samples(scores[:, : look or None])
    order = _order(samples)
    if not order:
        return None
    best = winner if winner is not None else order[0]
    p = tuple(
        permutation_p(samples[best], samples[i]) if i in order and i != best else math.nan for i in range(len(samples))
    )
    return Decision(look, best, winner, named_at, p)


def winner_of(scores: Floats) -> int | None:
    """Return the finalist that differs from every other one at a look; None without one.

    Args:
        scores: ``(finalists, seeds of the look)``, NaN of trainings without a score. Finalists without any are left
            out.
    """
    samples = _samples(scores)
    order = _order(samples)
    # The nearest is the hardest to tell apart, and one that cannot be is enough.
    is_winner = len(order) > 1 and all(permutation_p(samples[order[0]], samples[i]) <= LEVEL for i in order[1:])
    return order[0] if is_winner else None


def _samples(scores: Floats) -> list[Floats]:
    return [row[~np.isnan(row)] for row in scores]


def _order(samples: Sequence[Floats]) -> list[int]:
    """Return the indices of the samples with a score, the best mean first."""
    known = [i for i, each in enumerate(samples) if len(each)]
    return sorted(known, key=lambda i: -float(samples[i].mean()))


def smallest_p(first: int, second: int) -> float:
    """Return the smallest two-sided p-value that samples of these sizes can reach in the permutation test."""
    return min(1.0, 2 / math.comb(first + second, first))


def permutation_p(first: Floats, second: Floats) -> float:
    """Return the two-sided p-value of the exact permutation test of the difference of two means.

    It is twice the smaller one-sided p-value, as in ``scipy.stats.permutation_test``. All ways to split the scores are
    counted, also the 1.4e11 of 20 against 20: a sample's sum is that of some of the first half of all scores and that
    of some of the second half, so that the sorted sums of both halves are enough (Horowitz and Sahni, Journal of the
    ACM 21, 1974, 277-292).

    Args:
        first: the scores of one sample, at least one.
        second: those of the other.
    """
    scores = np.concatenate([first, second])
    span = float(np.ptp(scores))
    tolerance = _TIE * span + _ROUNDING * float(np.abs(scores).max())
    centred, n = scores - scores.mean(), len(first)
    observed = float(centred[:n].sum())
    half = len(scores) // 2
    left, right = _sums_by_size(centred[:half]), _sums_by_size(centred[half:])
    above = below = 0
    for size, sums in enumerate(left):
        if 0 <= n - size < len(right):
            others = np.sort(right[n - size])
            needed = observed - np.sort(sums)
            above += len(sums) * len(others) - int(np.searchsorted(others, needed - tolerance).sum())
            below += int(np.searchsorted(others, needed + tolerance, side="right").sum())
    return min(1.0, 2 * min(above, below) / math.comb(len(scores), n))


def _sums_by_size(values: Floats) -> list[Floats]:
    """Return the sums of all subsets of the values, by the sizes of the subsets from 0."""
    sums = [np.zeros(1)]
    for value in values:
        larger = [np.zeros(0), *(each + value for each in sums)]
        sums = [np.concatenate(pair) for pair in zip([*sums, np.zeros(0)], larger, strict=True)]
    return sums


def welch(first: Floats, second: Floats) -> Interval | None:
    """Return Welch's 95 % interval of the difference of two means (Welch, Biometrika 34, 1947, 28-35).

    None where a sample has fewer than two scores. Of two constant samples it is the difference itself.
    """
    from scipy.special import stdtrit

    if min(len(first), len(second)) < 2:
        return None
    difference = float(first.mean() - second.mean())
    parts = [float(each.var(ddof=1)) / len(each) for each in (first, second)]
    if not sum(parts):
        return difference, difference
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True)
    )
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(sum(parts))
    return difference - half, difference + half


def seeds_needed(scores: Floats, decision: Decision) -> int | None:
    """Return the first later look by which the best finalist is named in 80 % of cases; None if not even the last does.

    The cases are simulated: normal scores, with each finalist's mean and standard deviation as observed. With 10 and 20
    seeds the permutation test is of random splits, which for normal scores rejects nearly as often as the exact one.
    The observed difference is itself uncertain, so that the number is a rough one.

    Args:
        scores: ``(finalists, seeds)``, as `decide` got them.
        decision: its decision.
    """
    samples = [each for each in _samples(scores[:, : decision.look or None]) if len(each)]
    if decision.winner is not None or len(samples) < 2 or min(map(len, samples)) < 2:
        return None
    generator = np.random.default_rng(SEED)
    means, spreads = (np.array([of(each) for each in samples]) for of in (np.mean, lambda each: np.std(each, ddof=1)))
    drawn = generator.normal(size=(SIMULATIONS, len(samples), LOOKS[-1])) * spreads[:, None] + means[:, None]
    best = int(np.argmax(means))
    is_named = np.zeros(SIMULATIONS, dtype=bool)
    for n in LOOKS:
        is_named |= _are_named(drawn[:, :, :n], best, _splits(n, generator))
        if n > decision.look and is_named.mean() >= POWER:
            return n
    return None


def _are_named(scores: Floats, best: int, splits: Floats) -> NDArray[np.bool_]:
    """Return in which simulations a finalist is named at one look.

    Args:
        scores: ``(simulations, finalists, seeds)``.
        best: the finalist.
        splits: as `_splits` returns them.
    """
    means = scores.mean(axis=2)
    is_named = means.argmax(axis=1) == best
    for other in set(range(scores.shape[1])) - {best}:
        both = np.concatenate([scores[:, best], scores[:, other]], axis=1)
        sums = np.abs((both - both.mean(axis=1, keepdims=True)) @ splits)
        observed = sums[:, :1]
        p = (sums >= observed * (1 - _TIE)).mean(axis=1)
        is_named &= p <= LEVEL
    return is_named


def _splits(n: int, generator: np.random.Generator) -> Floats:
    """Return splits of ``2 n`` scores into two samples, 1 for the first and -1 for the second, ``(2 n, splits)``.

    The first split is the observed one. All are returned where they are not more than `SPLITS`, else random ones.
    """
    signs = np.repeat([1.0, -1.0], n)
    if math.comb(2 * n, n) > SPLITS:
        return np.stack([signs, *(generator.permutation(signs) for _ in range(SPLITS - 1))], axis=1)
    rows = np.array(list(itertools.combinations(range(2 * n), n)))
    splits = np.full((2 * n, len(rows)), -1.0)
    splits[rows.T, np.arange(len(rows))] = 1
    return splits
