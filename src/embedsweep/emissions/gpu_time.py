"""The time of GPUs, shared out among the workers whose trials hold them.

Owns the rule. Must not know how GPU time is read, or energy.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

GPU_TIME, EQUAL_PARTS = "by GPU time", "in equal parts"


class GpuTime:
    """Counts the seconds of each GPU while trials hold it; what the trials are given adds up to it.

    Of an interval, a trial that has a GPU to itself is given all of it. Trials that share one are given parts by the
    GPU time that the driver tells of their processes, and equal parts where it tells none, as with CUDA MPS, where it
    knows only the server's process: each of the trials occupies the GPU, and no other figure says how much of it. CPU
    time does not: a process that waits for its GPU uses as much of that as one that keeps it busy.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._trials: Mapping[int, tuple[str, ...]] = {}
        self._seconds: dict[int, float] = {}
        self._by: dict[int, str] = {}
        self._recent: dict[str, dict[int, float]] = {}

    def share(self, times: Mapping[str, Mapping[int, float]]) -> None:
        """Shares out the seconds since the last call among the trials that were under way then.

        Args:
            times: GPU time by GPU and worker since then, as far as the driver tells it.
        """
        now = time.monotonic()
        elapsed_s, self._since = now - self._since, now
        for gpu, holders in _holders(self._trials).items():
            told = {worker: times.get(gpu, {}).get(worker, 0.0) for worker in holders}
            recent = self._recent.setdefault(gpu, {})
            for worker, part in fractions(told).items():
                recent[worker] = recent.get(worker, 0.0) + elapsed_s * part
                self._seconds[worker] = self.seconds(worker) + elapsed_s * part
                if len(holders) > 1 and (any(told.values()) or not self.by(worker)):
                    self._by[worker] = GPU_TIME if any(told.values()) else EQUAL_PARTS

    def set_trials(self, trials: Mapping[int, tuple[str, ...]]) -> None:
        """Says which GPUs are held from now on, by the workers that have a trial under way."""
        for worker in trials.keys() - self._trials.keys():
            self._by.pop(worker, None)
        self._trials = trials

    def seconds(self, worker: int) -> float:
        """What a worker's trials were given so far, over all GPUs."""
        return self._seconds.get(worker, 0.0)

    def by(self, worker: int) -> str:
        """How the time of the latest trial's GPUs was shared out, in words; empty where no other trial held them."""
        return self._by.get(worker, "")

    def take_recent(self) -> dict[str, dict[int, float]]:
        """Seconds by GPU and worker that were shared out since the last call of this."""
        recent, self._recent = self._recent, {}
        return {gpu: of for gpu, of in recent.items() if any(of.values())}


def fractions(weights: Mapping[Key, float]) -> dict[Key, float]:
    """Parts in proportion to weights, equal ones where all weigh 0; they sum to 1."""
    whole = sum(weights.values())
    return {key: weight / whole if whole else 1 / len(weights) for key, weight in weights.items()}


def _holders(trials: Mapping[int, tuple[str, ...]]) -> dict[str, list[int]]:
    """The workers whose trials hold each GPU."""
    holders: dict[str, list[int]] = {}
    for worker, gpus in trials.items():
        for gpu in dict.fromkeys(gpus):
            holders.setdefault(gpu, []).append(worker)
    return holders
