"""Allocate the time of GPUs to the workers whose trials hold them."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

GPU_TIME, EQUAL_PARTS = "by GPU time", "in equal parts"


class GpuTime:
    """Counts the seconds during which trials hold GPUs; the workers' seconds add up to them.

    A trial that has a GPU to itself gets all of an interval. Trials that share one get parts in proportion to the GPU
    time that the driver reports for their processes, or equal parts if it reports none, as under CUDA MPS, where it
    knows the server's process only. CPU time would be no substitute: a process that waits for its GPU uses as much of
    it as one that keeps the GPU busy.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._trials: Mapping[int, tuple[str, ...]] = {}
        self._seconds: dict[int, float] = {}
        self._methods: dict[int, str] = {}
        self._recent: dict[str, dict[int, float]] = {}

    def allocate(self, times: Mapping[str, Mapping[int, float]]) -> None:
        """Allocate the seconds since the last call to the trials that were under way then.

        Args:
            times: GPU time since then by GPU and worker, as far as the driver reports it.
        """
        now = time.monotonic()
        elapsed_s, self._since = now - self._since, now
        for gpu, workers in self._workers_by_gpu().items():
            used = {worker: times.get(gpu, {}).get(worker, 0.0) for worker in workers}
            recent = self._recent.setdefault(gpu, {})
            for worker, part in fractions(used).items():
                recent[worker] = recent.get(worker, 0.0) + elapsed_s * part
                self._seconds[worker] = self.seconds(worker) + elapsed_s * part
                if len(workers) > 1 and (any(used.values()) or not self.method(worker)):
                    self._methods[worker] = GPU_TIME if any(used.values()) else EQUAL_PARTS

    def set_trials(self, trials: Mapping[int, tuple[str, ...]]) -> None:
        """Set the GPUs that are held from now on, by worker with a trial under way."""
        for worker in trials.keys() - self._trials.keys():
            self._methods.pop(worker, None)
        self._trials = trials

    def seconds(self, worker: int) -> float:
        """Return the seconds allocated to a worker's trials so far, summed over all GPUs."""
        return self._seconds.get(worker, 0.0)

    def method(self, worker: int) -> str:
        """Return how the GPU time of a worker's latest trial was allocated; empty if no other trial held its GPUs."""
        return self._methods.get(worker, "")

    def take_recent(self) -> dict[str, dict[int, float]]:
        """Return the seconds by GPU and worker that were allocated since the last call."""
        recent, self._recent = self._recent, {}
        return {gpu: seconds for gpu, seconds in recent.items() if any(seconds.values())}

    def _workers_by_gpu(self) -> dict[str, list[int]]:
        workers: dict[str, list[int]] = {}
        for worker, gpus in self._trials.items():
            for gpu in dict.fromkeys(gpus):
                workers.setdefault(gpu, []).append(worker)
        return workers


def fractions(weights: Mapping[Key, float]) -> dict[Key, float]:
    """Return parts in proportion to weights, equal ones if all weights are 0; they sum to 1."""
    whole = sum(weights.values())
    return {key: weight / whole if whole else 1 / len(weights) for key, weight in weights.items()}
