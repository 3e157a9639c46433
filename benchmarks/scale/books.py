"""What workers waited for their books: the time that they neither slept nor were told to end."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scale.plan import Order, Timed, timeline


@dataclass(frozen=True)
class Books:
    """What all workers saw.

    Attributes:
        order: what they were told.
        waits: number of a trial -> the seconds from the end of its worker's last training to the end of this one, less
            those that it slept. The first trial of a worker is left out.
        rate: trials that were begun a second, before the last ones.
        mib: memory that a worker shares with no other, in MiB, the largest.
    """

    order: Order
    waits: dict[int, float]
    rate: float
    mib: float

    @property
    def share(self) -> float:
        """The share of books in the time of the trials of a minute."""
        waits = [wait for number, wait in self.waits.items() if self.order.is_minute(number)]
        return sum(waits) / (sum(waits) + len(waits) * self.order.minute_s)

    def lines(self, seconds: float) -> Iterator[str]:
        """Yield what was seen, in words.

        Args:
            seconds: how long all took.
        """
        order = self.order
        minute = [wait for number, wait in self.waits.items() if order.is_minute(number)]
        short = [wait for number, wait in self.waits.items() if order.trials - number > 2 * order.workers]
        yield f"{order.trials} trials by {order.workers} workers in {seconds:.0f} s"
        yield (
            f"trials of {order.minute_s:g} s, of which {order.workers / order.minute_s:.2f} a second begin and end: a "
            f"worker waits {_figures(minute)} s a trial"
        )
        yield (
            f"before that, trials of {order.short_s:g} s, of which {self.rate:.1f} a second begin and end: "
            f"{_figures(short)} s a trial"
        )
        yield f"a worker has {self.mib:.0f} MiB of its own"


def _figures(waits: Sequence[float]) -> str:
    ordered = sorted(waits)
    return f"{statistics.median(ordered):.2f} (mean {statistics.mean(ordered):.2f}, most {ordered[-1]:.2f})"


def read_books(folder: Path, order: Order) -> Books:
    """Read what every worker left."""
    records: list[dict[str, Any]] = [
        json.loads(timeline(folder, worker).read_text(encoding="utf-8")) for worker in range(order.workers)
    ]
    waits: dict[int, float] = {}
    begun: list[float] = []
    for record in records:
        trials = [Timed(**each) for each in record["trials"]]
        for before, trial in itertools.pairwise(trials):
            waits[trial.number] = trial.ended - before.ended - trial.slept
        begun += [each.began for each in trials if order.trials - each.number > 2 * order.workers]
    return Books(
        order,
        waits,
        rate=len(begun) / (max(begun) - min(begun)),
        mib=max(record["mib"] for record in records),
    )
