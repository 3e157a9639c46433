"""Measure the machine once for several workers, and allocate its energy and the time of its GPUs to them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions.allocation import (
    Allocation,
    allocation_path,
    clear_trial,
    gpus_of_trial,
    take_request,
    write_allocation,
)
from embedsweep.emissions.tracker import Energy, EnergyTracker, Reading
from embedsweep.emissions.usage import Usage

Key = TypeVar("Key", bound=Hashable)

READ_EVERY_S = 5.0
POLL_EVERY_S = 0.05

# `MachineEmissions` reads often itself, and CodeCarbon's own thread counts energy twice if it measures at that moment.
NEVER_S = 7 * 24 * 3600.0

GPU_TIME, EQUAL_PARTS = "by GPU time", "in equal parts"
"""How the time of a GPU that several trials hold is allocated."""

ENERGY_METHODS = {
    "": "by CPU time",
    GPU_TIME: "by CPU and GPU time",
    EQUAL_PARTS: "by CPU time, of GPUs in equal parts",
}
"""How energy is allocated, by how the time of GPUs is."""


class MachineEmissions:
    """Measures the machine while the block runs and allocates its energy, and the time of its GPUs, to workers.

    The energy of an interval in which there is a worker is allocated completely: that of CPU and RAM in proportion to
    the workers' CPU time, or in equal parts if none used any; that of each GPU like its time (`GpuTime`), or by CPU
    time if no trial holds one. As with a single tracker, it includes what the machine drew for other processes.

    Args:
        config: the country whose electricity is used.
        folder: receives one file per worker; files of an earlier command are deleted.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the workers train on, whose energy counts; if
            empty, that of all visible ones does.
    """

    def __init__(self, config: EmissionsConfig, folder: Path, gpus: Sequence[str] = ()) -> None:
        self._tracker = EnergyTracker(config.country_iso_code, gpus, NEVER_S)
        self._folder = folder
        self._usage = Usage()
        self._energy: dict[int, Energy] = {}
        self._total = Energy()
        self._gpu_time = GpuTime()
        self._answered: dict[int, str] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine-emissions", daemon=True)

    def add(self, worker: int, pid: int) -> None:
        """Count a process and its children as a worker's from now on.

        The worker's file exists when this returns. A worker that is restarted continues its sums.
        """
        with self._lock:
            reading = self._tracker.read()
            self._allocate(reading)
            self._usage.add(worker, pid)
            self._energy.setdefault(worker, Energy())
            self._write(reading, worker)

    def remove(self, worker: int) -> None:
        """Stop counting for a worker; call this as soon as its process has ended."""
        with self._lock:
            self._allocate(self._tracker.read())
            self._usage.remove(worker)
            clear_trial(allocation_path(self._folder, worker))  # a killed worker leaves its note
            self._set_trials()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("json", "ask", "trial"):
            for old in self._folder.glob(f"worker-*.{suffix}"):
                old.unlink(missing_ok=True)
        try:
            self._tracker.start()
            self._thread.start()
        except BaseException:
            # A signal that arrives here never reaches __exit__, and the tracker's threads would live on.
            self._tracker.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with self._lock:
            self._allocate(self._tracker.stop())
            self._usage.close()

    def _run(self) -> None:
        read_at = time.monotonic()
        while not self._over.wait(POLL_EVERY_S):
            with self._lock:
                if self._take_requests() or time.monotonic() - read_at >= READ_EVERY_S:
                    self._allocate(self._tracker.read())
                    read_at = time.monotonic()

    def _take_requests(self) -> bool:
        """Return whether a worker requests its allocation; the next reading answers it."""
        taken = {worker: take_request(allocation_path(self._folder, worker)) for worker in self._usage.workers}
        requests = {worker: request for worker, request in taken.items() if request is not None}
        self._answered |= requests
        return bool(requests)

    def _allocate(self, reading: Reading) -> None:
        """Allocate what was measured since the last call, and write the files; the caller holds the lock."""
        self._gpu_time.allocate(self._usage.gpu_times())
        total = reading.energy()
        spent = total - self._total
        workers = self._usage.workers
        if not workers:
            self._total = total
            self._usage.gpu_energy()  # reset the counters: this energy is no worker's, either
        elif spent.total_kwh > 0:  # else CodeCarbon has not measured again, and the usage counts next time
            by_cpu = fractions(self._usage.cpu_s())
            by_gpu = gpu_parts(self._gpu_time.take_recent(), self._usage.gpu_energy(), by_cpu)
            for worker in workers:
                self._energy[worker] += spent.part(by_cpu[worker], by_gpu[worker])
            self._total = total
        self._set_trials()
        for worker in workers:
            self._write(reading, worker)

    def _set_trials(self) -> None:
        """Read which trials are under way from now on."""
        noted = {worker: gpus_of_trial(allocation_path(self._folder, worker)) for worker in self._usage.workers}
        self._gpu_time.set_trials(
            {worker: tuple(map(self._usage.gpu, gpus)) for worker, gpus in noted.items() if gpus is not None}
        )

    def _write(self, reading: Reading, worker: int) -> None:
        parts = {"all": reading.energy_kwh, "cpu": reading.cpu_energy_kwh, "gpu": reading.gpu_energy_kwh}
        method = self._gpu_time.method(worker)
        allocation = Allocation(
            energy=self._energy[worker],
            without=tuple(name for name, figure in parts.items() if figure is None),
            method=ENERGY_METHODS[method],
            gpu_s=self._gpu_time.seconds(worker),
            gpu_method=method,
            cpu_model=reading.cpu_model,
            gpu_model=reading.gpu_model,
            unmeasured=reading.unmeasured,
            answered=self._answered.get(worker, ""),
        )
        try:
            write_allocation(allocation_path(self._folder, worker), allocation)
        except OSError:  # a full disk: the worker reports that it got no answer
            logging.getLogger(__name__).exception("a worker's part of the energy could not be written")


def gpu_parts(
    seconds: Mapping[str, Mapping[int, float]], drawn: Mapping[str, float], by_cpu: Mapping[int, float]
) -> dict[int, float]:
    """Return each worker's part of the energy that GPUs drew; the parts sum to 1.

    Args:
        seconds: allocated seconds by GPU and worker; empty if no trial held a GPU.
        drawn: energy by GPU, in any unit, as far as it is known.
        by_cpu: each worker's part of the energy of CPU and RAM.
    """
    parts = dict.fromkeys(by_cpu, 0.0)
    held = {gpu: {worker: of[worker] for worker in of.keys() & by_cpu.keys()} for gpu, of in seconds.items()}
    held = {gpu: of for gpu, of in held.items() if of}
    if not held:
        return dict(by_cpu)
    weights = {gpu: sum(of.values()) for gpu, of in held.items()}
    if held.keys() <= drawn.keys():  # all counters are known: weigh each GPU by its energy instead of its time
        weights = {gpu: drawn[gpu] for gpu in held}
    for gpu, weight in fractions(weights).items():
        for worker, part in fractions(held[gpu]).items():
            parts[worker] += weight * part
    return parts


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
