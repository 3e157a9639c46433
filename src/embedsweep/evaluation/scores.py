"""The scores of single dev items, kept as a parquet file in a trial's folder. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsweep.config.result import Interval
from embedsweep.evaluation.intervals import Floats, correlation, interval_of, resampled

DEV_SCORES = Path("scores") / "dev.parquet"
"""The file with the scores of the dev items, in a trial's folder."""
DEV_TABLE = "scores/dev.json"
"""The artifact with the first of them, as a table that MLflow's pages show."""
_SHOWN = 2000  # items; the page loads the whole table
_TEXTS = ("sentence1", "sentence2")
_PREDICTED = "predicted_"


@dataclass(frozen=True, eq=False)
class ItemScores:
    """The scores of every dev item by one model.

    Attributes:
        items: the texts of each item.
        gold: the gold scores, ``(items,)``.
        predicted: similarity -> the predicted scores, ``(items,)``.
    """

    items: tuple[tuple[str, ...], ...]
    gold: NDArray[Any]
    predicted: Mapping[str, NDArray[Any]]

    def is_of_same_items(self, other: ItemScores) -> bool:
        """Return whether another model was scored on the very same items, in the same order."""
        return self.items == other.items and np.array_equal(self.gold, other.gold)

    def resampled(self, metric: str) -> Floats:
        """Return a dev metric (``dev/spearman_cosine``) of each resample of the items, ``(RESAMPLES,)``."""
        return resampled(correlation(metric.removeprefix("dev/"), self.gold, self.predicted), len(self.gold))

    def interval(self, metric: str) -> Interval | None:
        """Return the 95 % interval of a dev metric; None for so few items that it is not defined."""
        return interval_of(self.resampled(metric))

    def table(self) -> dict[str, list[object]]:
        """Return the first items as columns for MLflow's pages, the scores with four decimal places."""
        return {
            **{name: list(texts) for name, texts in zip(_TEXTS, zip(*self.items[:_SHOWN], strict=True), strict=True)},
            "gold": _rounded(self.gold),
            **{f"{_PREDICTED}{name}": _rounded(values) for name, values in self.predicted.items()},
        }


def _rounded(values: NDArray[Any]) -> list[object]:
    return [round(value, 4) if math.isfinite(value) else None for value in values[:_SHOWN].tolist()]


def write_scores(folder: Path, scores: ItemScores) -> None:
    """Write the dev scores of the trial in ``folder``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        **{name: list(texts) for name, texts in zip(_TEXTS, zip(*scores.items, strict=True), strict=True)},
        "gold": scores.gold,
        **{f"{_PREDICTED}{name}": values for name, values in scores.predicted.items()},
    }
    path = folder / DEV_SCORES
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def read_scores(folder: Path) -> ItemScores | None:
    """Return the dev scores of the trial in ``folder``; None if they are not there or cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / DEV_SCORES)
    except (OSError, pa.ArrowInvalid):
        return None
    texts = [table[name].to_pylist() for name in _TEXTS]
    names = [name for name in table.column_names if name.startswith(_PREDICTED)]
    predicted = {name.removeprefix(_PREDICTED): table[name].to_numpy() for name in names}
    return ItemScores(tuple(zip(*texts, strict=True)), table["gold"].to_numpy(), predicted)
