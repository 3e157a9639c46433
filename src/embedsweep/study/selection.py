"""How much of the best trial's dev score was luck of the draw, and how good the best of n trials is to be expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedsweep.config.metrics import direction_of
from embedsweep.config.result import Interval
from embedsweep.evaluation.intervals import RESAMPLES, Floats, interval_of
from embedsweep.evaluation.scores import ItemScores

FEWEST_RESAMPLES = 199
TRIALS_IN_FULL = 100
"""For so many trials the selection is repeated on all resamples; for more, on as many as take the same time."""
MOST_NUMBERS = 50
"""For about so many numbers of trials the expected best score is given."""


def resamples_for(n_trials: int) -> int:
    """Return how often the selection among so many trials is repeated: 1,999 times, of many trials less often.

    Fewer resamples make the corrected score and its interval rougher, and neither larger nor smaller. To leave out the
    trials with the lowest scores would: those that are left have been selected on all items.
    """
    return min(RESAMPLES, max(FEWEST_RESAMPLES, RESAMPLES * TRIALS_IN_FULL // max(1, n_trials)))


def score_elsewhere(
    read: Sequence[Callable[[], ItemScores]], metric: str, resamples: int
) -> tuple[float, Interval | None]:
    """Return the score that the best of several trials is expected to have on other items, and its 95 % interval.

    The selection is bootstrapped: of each resample of the items the best trial is taken, and scored on the items that
    the resample does not have. The mean of these scores lacks the luck of having been selected on the items that it is
    scored on. It errs on the low side, as a resample has 63 % of the items and selects worse than all of them do; the
    interval errs on the wide side, as it is that of scores on 37 % of them (BBC-CV; Tsamardinos, Greasidou and
    Borboudakis, Machine Learning 107, 2018, 1895-1922; the predictions of one dev split stand for those of
    cross-validation).

    No more than the items of one trial are in memory; it takes about .08 s for each trial, 1,500 items and 1,999
    resamples.

    Args:
        read: for each trial, what reads its scores of the same items, in the same order.
        metric: the metric that is selected by and scored (``dev/spearman_cosine``).
        resamples: how many, from `resamples_for`.

    Raises:
        ValueError: the metric is not defined on any resample.
    """
    sign = 1.0 if direction_of(metric) == "maximize" else -1.0
    best = np.full(resamples, -np.inf)
    selected = np.full(resamples, -1)
    for index, scores in enumerate(each() for each in read):
        found = sign * scores.resampled(metric, resamples)
        is_better = found > best  # never of NaN
        best[is_better], selected[is_better] = found[is_better], index
    elsewhere = np.full(resamples, np.nan)
    for index in np.unique(selected[selected >= 0]):
        which: NDArray[np.bool_] = selected == index
        elsewhere[which] = read[index]().left_out(metric, which)
    defined = elsewhere[np.isfinite(elsewhere)]
    if not len(defined):
        raise ValueError(f"{metric} is not defined on any resample")
    return float(defined.mean()), interval_of(elsewhere)


def expected_best(scores: Floats, *, larger_is_better: bool) -> dict[int, float]:
    """Return the expected best score of n trials, for n from 1 to the number of scores.

    The scores are independent draws, or all cells of a grid in any order. It is the mean of the best over all subsets
    of n of them, which is unbiased: V_n = sum_i C(i - 1, n - 1) v_(i) / C(N, n), v_(i) the i-th smallest of N (Tang et
    al., Showing Your Work Doesn't Always Work, ACL 2020, section 4; arXiv:2004.13705).

    Args:
        scores: one for each trial, ``(trials,)``.
        larger_is_better: which way of the metric is better.
    """
    from scipy.special import gammaln

    sign = 1.0 if larger_is_better else -1.0
    ordered = np.sort(sign * scores)
    total = len(ordered)
    at = np.arange(1, total + 1)
    numbers = at if total <= MOST_NUMBERS else np.unique(np.geomspace(1, total, MOST_NUMBERS).round().astype(int))
    found = {}
    for n in map(int, numbers):
        rank = at[n - 1 :]  # of smaller ones the best of n is none
        log_share = gammaln(rank) - gammaln(rank - n + 1) - gammaln(n)
        log_share -= gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1)
        found[n] = sign * float(np.exp(log_share) @ ordered[n - 1 :])
    return found
