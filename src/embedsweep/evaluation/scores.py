"""The scores of single items, kept as parquet files in a trial's folder. Does not import torch.

What an item is depends on the family of the evaluation: a pair, a query, a triplet. A file says it by its columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsweep.config.result import Interval
from embedsweep.evaluation.intervals import (
    RESAMPLES,
    Floats,
    Statistic,
    accuracy_of_triplets,
    classification,
    correlation,
    interval_of,
    left_out,
    mean,
    resampled,
)

SCORES = "scores"
"""The folder with the scores of items, in a trial's folder and among its run's artifacts."""
DEV_TABLE = "scores/dev.json"
"""The artifact with the first dev items, as a table that MLflow's pages show."""
_ROWS = 2000  # items; the page loads the whole table

PREDICTED = "predicted_"
POSITIVE, NEGATIVE = "positive_", "negative_"
"""Prefixes of columns with similarities: of a pair, of an anchor with its positive and with its negative."""
FIRST_RELEVANT, TOP = "first_relevant_", "top_"
"""Prefixes of columns of a query: the rank of the first relevant document, and the ids of the best documents."""
SHOWN = 10
"""Documents whose ids are kept for each query."""

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]
Scored = Literal["dev", "test", "before"]
"""What was scored: dev or test by the trained model, or dev by the untrained one."""


@dataclass(frozen=True, eq=False)
class ItemScores:
    """The scores of every item of dev or test by one model.

    Attributes:
        columns: name -> the value of every item, in a sequence of texts or lists or an array of numbers. Those that say
            what the items are come first: ``sentence1``, ``sentence2`` and ``gold`` of scored pairs, ``label`` of
            binary pairs; ``anchor``, ``positive`` and ``negative`` of triplets; ``query_id``, ``query`` and
            ``relevant`` of retrieval and reranking.
    """

    columns: Columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def is_of_same_items(self, other: ItemScores) -> bool:
        """Return whether another model was scored on the very same items, in the same order."""
        names = _kind(self.columns).items
        return all(name in other.columns and list(self.columns[name]) == list(other.columns[name]) for name in names)

    def statistic(self, metric: str) -> Statistic:
        """Return a metric (``dev/spearman_cosine``) as a function of how often each item counts."""
        return _kind(self.columns).statistic(metric.rpartition("/")[2], self.columns)

    def resampled(self, metric: str, resamples: int = RESAMPLES) -> Floats:
        """Return a metric of each resample of the items, ``(resamples,)``."""
        return resampled(self.statistic(metric), len(self), resamples)

    def left_out(self, metric: str, which: NDArray[np.bool_]) -> Floats:
        """Return a metric of the items that a resample does not have, for those ``which`` selects."""
        return left_out(self.statistic(metric), len(self), which)

    def goodness(self, metric: str) -> tuple[Floats, str]:
        """Return how well the model does on each item, ``(items,)``, more is better, and in words what that is."""
        kind = _kind(self.columns)
        return kind.goodness(metric.rpartition("/")[2], self.columns), kind.words

    def interval(self, metric: str) -> Interval | None:
        """Return the 95 % interval of a metric; None for so few items that it is not defined."""
        return interval_of(self.resampled(metric))

    def table(self) -> dict[str, list[object]]:
        """Return the first items as columns for MLflow's pages, numbers with four decimal places."""
        return {name: [_shown(value) for value in values[:_ROWS]] for name, values in self.columns.items()}


def _shown(value: Any) -> object:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


@dataclass(frozen=True)
class _Kind:
    """A kind of items.

    Attributes:
        items: the columns that say what an item is; the last one is of this kind alone.
        statistic: returns the statistic that a metric of such items is.
        goodness: returns how well a model does on each item by a metric; more is better.
        words: what that is, after "measured by".
    """

    items: tuple[str, ...]
    statistic: Callable[[str, Columns], Statistic]
    goodness: Callable[[str, Columns], Floats]
    words: str


def _closeness(metric: str, columns: Columns) -> Floats:
    """Return 1 where the rank of the similarity is that of the gold score, 0 where it is at the other end."""
    from scipy.stats import rankdata

    gold, predicted = np.asarray(columns["gold"]), _by_similarity(metric, columns, PREDICTED)
    distances: Floats = np.abs(rankdata(gold) - rankdata(predicted)) / max(1, len(gold) - 1)
    return 1 - distances


def _separation(metric: str, columns: Columns) -> Floats:
    """Return the share of the pairs of the other class that are on the right side; of ties a half."""
    label, scores = np.asarray(columns["label"]), _by_similarity(metric, columns, PREDICTED)
    shares = np.empty(len(scores))
    for value, sign in ((1, 1), (0, -1)):
        others = np.sort(sign * scores[label != value])
        mine = sign * scores[label == value]
        below, not_above = (np.searchsorted(others, mine, side) for side in ("left", "right"))
        shares[label == value] = (below + not_above) / 2 / max(1, len(others))
    return shares


def _margin(metric: str, columns: Columns) -> Floats:
    return _by_similarity(metric, columns, POSITIVE) - _by_similarity(metric, columns, NEGATIVE)


def _by_similarity(metric: str, columns: Columns, prefix: str) -> Floats:
    """Return the similarities that a metric is made of; those of the first one where it is the largest over all."""
    known = _with_prefix(columns, prefix)
    name = metric.rpartition("_")[2]
    return np.asarray(known[name] if name in known else next(iter(known.values())), dtype=np.float64)


_KINDS = (
    _Kind(
        ("sentence1", "sentence2", "gold"),
        lambda metric, columns: correlation(metric, np.asarray(columns["gold"]), _with_prefix(columns, PREDICTED)),
        _closeness,
        "how near the rank of its similarity is to that of its gold score, 1 at most",
    ),
    _Kind(
        ("sentence1", "sentence2", "label"),
        lambda metric, columns: classification(metric, np.asarray(columns["label"]), _with_prefix(columns, PREDICTED)),
        _separation,
        "the share of pairs of the other class that it is told apart from",
    ),
    _Kind(
        ("anchor", "positive", "negative"),
        lambda metric, columns: accuracy_of_triplets(
            metric, _with_prefix(columns, POSITIVE), _with_prefix(columns, NEGATIVE)
        ),
        _margin,
        "how much more similar the positive is to the anchor than the negative",
    ),
    _Kind(
        ("query_id", "query", "relevant"),
        lambda metric, columns: mean(np.asarray(columns[metric])),
        lambda metric, columns: np.asarray(columns[metric], dtype=np.float64),
        "the query's own value of the metric",
    ),
)


def _kind(columns: Columns) -> _Kind:
    return next(kind for kind in _KINDS if kind.items[-1] in columns)


def _with_prefix(columns: Columns, prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): np.asarray(values) for name, values in columns.items() if name.startswith(prefix)
    }


def scores_path(folder: Path, split: Scored) -> Path:
    """Return the file with the scores of the items of a split of the trial in ``folder``."""
    return folder / SCORES / f"{split}.parquet"


def write_scores(folder: Path, scores: ItemScores, split: Scored = "dev") -> None:
    """Write the scores of the items of a split of the trial in ``folder``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = scores_path(folder, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(scores.columns)), path)


def read_scores(folder: Path, split: Scored = "dev") -> ItemScores | None:
    """Return the scores of the items of a split of the trial in ``folder``; None if they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(scores_path(folder, split))
    except (OSError, pa.ArrowInvalid):
        return None
    columns: dict[str, Sequence[Any] | NDArray[Any]] = {}
    for field in table.schema:
        is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        columns[field.name] = table[field.name].to_numpy() if is_number else table[field.name].to_pylist()
    return ItemScores(columns)
