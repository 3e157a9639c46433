"""Percentile bootstrap over the scored items: the uncertainty of a score that comes from the choice of dev items.

The items are drawn again with replacement 1,999 times, 9,999 in finals, and the statistic is computed on each resample
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16). A resample is given by how often it
has each item, so that a statistic of all resamples is a few matrix operations. The resamples depend on the number of
items only: two models that were scored on the same items are compared on the same resamples.

What another seed of the training would change is not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsweep.config.result import Interval

RESAMPLES = 1999
RESAMPLES_OF_FINALS = 9999
CONFIDENCE = 0.95
SEED = 0
MOST_CELLS = 200_000
"""Numbers of a matrix of resamples and items that are in memory at once."""

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Takes how often each resample has each item, ``(resamples, items)``; returns the statistic of each resample, NaN
where it is not defined. A resample has any number of items."""
OfCounts = Callable[[Floats, Floats], Floats]
"""Takes how many positives, and how many items, each resample has at or above each score, ``(resamples, scores)``, the
highest score first; returns the statistic of each resample."""


def resampled(statistic: Statistic, n_items: int, resamples: int = RESAMPLES) -> Floats:
    """Return a statistic of each resample of ``n_items`` items, ``(resamples,)``."""
    return np.concatenate([statistic(counts) for counts in _counts(n_items, resamples)])


def left_out(statistic: Statistic, n_items: int, which: NDArray[np.bool_]) -> Floats:
    """Return a statistic of the items that a resample does not have, for some of the resamples.

    Args:
        statistic: the statistic; NaN where the items that were left out do not define it.
        n_items: how many items there are.
        which: for which of the resamples, ``(resamples,)``.
    """
    found, start = [], 0
    for counts in _counts(n_items, len(which)):
        rows = which[start : start + len(counts)]
        start += len(counts)
        if rows.any():
            with np.errstate(invalid="ignore", divide="ignore"):  # a resample may have every item
                found.append(statistic((counts[rows] == 0).astype(np.float64)))
    return np.concatenate(found) if found else np.empty(0)


def _counts(n_items: int, resamples: int) -> Iterator[Floats]:
    """Yield how often each resample has each item, for a part of the resamples at a time."""
    generator = np.random.default_rng(SEED)
    at_once = max(1, min(resamples, MOST_CELLS // n_items))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(n_items, size=(size, n_items))
        drawn += n_items * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n_items).reshape(size, n_items).astype(np.float64)


def interval_of(statistics: Floats) -> Interval | None:
    """Return the percentile interval of the statistics of all resamples; None if most of them are not defined.

    A few items may yield a resample whose scores are all the same: it has no correlation and is left out.
    """
    defined = statistics[np.isfinite(statistics)]
    if len(defined) <= len(statistics) / 2:
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def correlation(metric: str, gold: NDArray[Any], predicted: Mapping[str, NDArray[Any]]) -> Statistic:
    """Return the statistic that a correlation metric is.

    Args:
        metric: ``spearman_cosine``, ``pearson_dot``; ``spearman_max`` is the largest over all similarities.
        gold: gold scores, ``(items,)``.
        predicted: similarity -> predicted scores, ``(items,)``.
    """
    kind, _, similarity = metric.partition("_")
    names = list(predicted) if similarity == "max" else [similarity]
    make = {"pearson": _pearson, "spearman": _spearman}[kind]
    each = [make(gold.astype(np.float64), predicted[name].astype(np.float64)) for name in names]
    return lambda counts: np.max([statistic(counts) for statistic in each], axis=0)


def mean(values: NDArray[Any]) -> Statistic:
    """Return the mean of a number that every item has, ``(items,)``."""
    exact = values.astype(np.float64)
    return lambda counts: counts @ exact / counts.sum(axis=1)


def accuracy_of_triplets(
    metric: str, positive: Mapping[str, NDArray[Any]], negative: Mapping[str, NDArray[Any]]
) -> Statistic:
    """Return the share of triplets whose positive is more similar to the anchor than their negative.

    Args:
        metric: ``accuracy_cosine``; ``accuracy_max`` is the largest over all similarities.
        positive: similarity -> that of anchor and positive, ``(items,)``.
        negative: similarity -> that of anchor and negative, ``(items,)``.
    """
    similarity = metric.removeprefix("accuracy_")
    names = list(positive) if similarity == "max" else [similarity]
    each = [mean(positive[name] > negative[name]) for name in names]
    return lambda counts: np.max([statistic(counts) for statistic in each], axis=0)


def classification(metric: str, labels: NDArray[Any], predicted: Mapping[str, NDArray[Any]]) -> Statistic:
    """Return the statistic that a metric of binary pairs is; each resample has the threshold that is best for it.

    It is NaN where a resample has no pair of a class that the metric needs.

    Args:
        metric: ``ap_cosine``, ``accuracy_dot``, also ``f1``, ``precision``, ``recall`` and ``mcc``, all three at the
            threshold of the best F1; ``ap_max`` is the largest over all similarities.
        labels: 0 and 1, ``(items,)``.
        predicted: similarity -> predicted scores, ``(items,)``.
    """
    kind, _, similarity = metric.partition("_")
    names = list(predicted) if similarity == "max" else [similarity]
    each = [_thresholded(_CLASSIFICATION[kind], labels, predicted[name]) for name in names]
    return lambda counts: np.max([statistic(counts) for statistic in each], axis=0)


def _thresholded(
    of_counts: Callable[[Floats, Floats], Floats], labels: NDArray[Any], scores: NDArray[Any]
) -> Statistic:
    """Return a statistic of how many positives, and items, each resample has above each threshold."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores all or none are above
    is_positive = labels[order].astype(np.float64)

    def statistic(counts: Floats) -> Floats:
        drawn = counts[:, order]
        return of_counts(np.cumsum(drawn * is_positive, axis=1)[:, last], np.cumsum(drawn, axis=1)[:, last])

    return statistic


def _average_precision(hits: Floats, above: Floats) -> Floats:
    gained = np.diff(hits, axis=1, prepend=0.0)
    precision = np.where(gained > 0, _divided(hits, above), 0.0)
    return _divided((gained * precision).sum(axis=1), hits[:, -1])


def _best_accuracy(hits: Floats, above: Floats) -> Floats:
    n, negatives = above[:, -1], above[:, -1] - hits[:, -1]
    right = (hits + negatives[:, None] - (above - hits)).max(axis=1)
    return np.maximum(right, negatives) / n  # or every pair counts as dissimilar


def _precision_recall_f1(hits: Floats, above: Floats) -> tuple[Floats, Floats, Floats]:
    """Return all three at each threshold, computed as the library does: equal values of F1 differ by rounding."""
    precision, recall = _divided(hits, above), _divided(hits, hits[:, -1:])
    return precision, recall, np.where(hits > 0, _divided(2 * precision * recall, precision + recall), 0.0)


def _at_best_f1(values: Floats, hits: Floats, above: Floats) -> Floats:
    """Return what ``values`` has at the first threshold with the best F1, ``(resamples,)``."""
    best = _precision_recall_f1(hits, above)[2].argmax(axis=1)
    return np.where(hits[:, -1] > 0, np.take_along_axis(values, best[:, None], axis=1)[:, 0], np.nan)


def _mcc(hits: Floats, above: Floats) -> Floats:
    n, positives = above[:, -1], hits[:, -1]
    hit, chosen = _at_best_f1(hits, hits, above), _at_best_f1(above, hits, above)
    product = chosen * (n - chosen) * positives * (n - positives)
    # A threshold that all pairs are above tells nothing: 0, as in scikit-learn.
    mcc = np.where(product > 0, _divided(n * hit - chosen * positives, np.sqrt(product)), 0.0)
    return np.where((positives > 0) & (positives < n), mcc, np.nan)


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = numerator / denominator
    return ratio


_CLASSIFICATION: Mapping[str, OfCounts] = {
    "ap": _average_precision,
    "accuracy": _best_accuracy,
    "precision": lambda hits, above: _at_best_f1(_precision_recall_f1(hits, above)[0], hits, above),
    "recall": lambda hits, above: _at_best_f1(_precision_recall_f1(hits, above)[1], hits, above),
    "f1": lambda hits, above: _at_best_f1(_precision_recall_f1(hits, above)[2], hits, above),
    "mcc": _mcc,
}


def _pearson(first: Floats, second: Floats) -> Statistic:
    # Without their means the sums of squares do not cancel.
    x, y = first - first.mean(), second - second.mean()
    powers = np.stack([x, y, x * y, x * x, y * y], axis=1)

    def statistic(counts: Floats) -> Floats:
        mean_x, mean_y, xy, xx, yy = (counts @ powers).T / counts.sum(axis=1)
        # Of equal values it is 0, and not a rounding error.
        variances = (
            np.where(var > 1e-12 * square, var, 0.0) for var, square in ((xx - mean_x**2, xx), (yy - mean_y**2, yy))
        )
        return _ratio(xy - mean_x * mean_y, *variances)

    return statistic


def _spearman(first: Floats, second: Floats) -> Statistic:
    """Pearson's correlation of ranks; equal values have the mean of their ranks, as in scipy's ``spearmanr``."""
    ranks_of_first, ranks_of_second = _ranks(first), _ranks(second)

    def statistic(counts: Floats) -> Floats:
        x, y = ranks_of_first(counts), ranks_of_second(counts)
        weighted_x, weighted_y = counts * x, counts * y
        products = (np.einsum("ij,ij->i", *pair) for pair in ((weighted_x, y), (weighted_x, x), (weighted_y, y)))
        return _ratio(*products)

    return statistic


def _ranks(values: Floats) -> Statistic:
    """Return a function from counts to the rank of every item in every resample, less the mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    order, last = np.argsort(group, kind="stable"), np.cumsum(sizes) - 1

    def ranks(counts: Floats) -> Floats:
        up_to = np.cumsum(counts[:, order], axis=1)[:, last]  # items of a resample up to each group of equal values
        below = np.concatenate([np.zeros((len(counts), 1)), up_to[:, :-1]], axis=1)
        middle: Floats = (up_to + below) / 2 - up_to[:, -1:] / 2
        return middle[:, group]

    return ranks


def _ratio(covariance: Floats, first: Floats, second: Floats) -> Floats:
    """Return covariance over the root of both variances; NaN where one of them is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = covariance / np.sqrt(first * second)
    return np.where((first > 0) & (second > 0), ratio, np.nan)
