"""A worker's part of the machine's energy, in a file that `MachineEmissions` writes and the worker's meter reads.

Beside ``worker-0.json`` lie ``worker-0.ask``, the worker's request for a new measurement, and ``worker-0.trial``, its
note that a trial is under way, with the GPUs that it holds.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embedsweep.emissions.tracker import NO_GPU_FOUND, SHORTEST_MEASURED_S, Energy, Reading, torch_has_gpu
from embedsweep.files import write_atomically

ANSWERED_WITHIN_S = 2.0
POLL_EVERY_S = 0.01

SHARED = "approximate: this worker's part of the machine's energy"
NO_ALLOCATION = "nobody measured the machine for this worker"
NO_ANSWER = "counted up to the last reading of the machine, nobody answered at the end"
NO_ENERGY = "no energy was measured for this worker"
NO_GPU_TIME = "no time of a GPU was counted for this worker"


@dataclass(frozen=True)
class Allocation:
    """A worker's part of the machine's energy since the measuring began.

    Attributes:
        energy: the worker's energy and emissions.
        without: parts of the machine that are not measured: ``cpu``, ``gpu``, or ``all``.
        method: how energy is allocated, in words.
        gpu_s: the worker's seconds of GPUs while its trials held them, summed over GPUs.
        gpu_method: how the GPU time of the latest trial was allocated, in words; empty if no other trial held its GPUs.
        cpu_model: the machine's CPU.
        gpu_model: the machine's GPUs.
        unmeasured: what was only estimated or not measured, in words.
        answered: the last request that this answers.
    """

    energy: Energy
    without: tuple[str, ...]
    method: str
    gpu_s: float
    gpu_method: str
    cpu_model: str
    gpu_model: str
    unmeasured: tuple[str, ...]
    answered: str


def allocation_path(folder: Path, worker: int) -> Path:
    """Return the file of a worker's allocation."""
    return folder / f"worker-{worker}.json"


def write_allocation(path: Path, allocation: Allocation) -> None:
    """Replace the file in one step.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, json.dumps(asdict(allocation)))


def read_allocation(path: Path) -> Allocation | None:
    """Return the allocation in a file, or None if there is no valid one."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(tree[name]) for name in ("without", "unmeasured")}
        return Allocation(**{**tree, **lists, "energy": Energy(**tree["energy"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def request_allocation(path: Path) -> tuple[Allocation | None, bool]:
    """Request an allocation that is measured now, and wait for it at most ``ANSWERED_WITHIN_S`` seconds.

    Returns:
        The allocation, None if there is none; and whether it is the answer, or else an earlier one.
    """
    request = uuid.uuid4().hex
    try:
        write_atomically(_request_path(path), request)
    except OSError:
        return read_allocation(path), False
    until = time.monotonic() + ANSWERED_WITHIN_S
    while True:
        allocation = read_allocation(path)
        if allocation is not None and allocation.answered == request:
            return allocation, True
        if time.monotonic() > until:
            _request_path(path).unlink(missing_ok=True)
            return allocation, False
        time.sleep(POLL_EVERY_S)


def take_request(path: Path) -> str | None:
    """Return and remove the request for the allocation in ``path``; None if there is none."""
    try:
        request = _request_path(path).read_text(encoding="utf-8")
        _request_path(path).unlink()
    except OSError:
        return None
    return request


def note_trial(path: Path, gpus: Sequence[str]) -> None:
    """Note beside the allocation in ``path`` that a trial of its worker is under way.

    Args:
        path: the worker's allocation.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the trial holds; empty on a CPU.

    Raises:
        OSError: the note cannot be written.
    """
    write_atomically(_trial_path(path), json.dumps(list(gpus)))


def clear_trial(path: Path) -> None:
    """Remove the note of `note_trial`, if there is one."""
    _trial_path(path).unlink(missing_ok=True)


def gpus_of_trial(path: Path) -> tuple[str, ...] | None:
    """Return the names of the GPUs that a noted trial holds; None without a trial."""
    try:
        return tuple(json.loads(_trial_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _trial_path(path: Path) -> Path:
    return path.with_suffix(".trial")


def _request_path(path: Path) -> Path:
    return path.with_suffix(".ask")


class AllocationTracker:
    """Measures an attempt by the growth of its worker's allocation; replaces an `EnergyTracker` of its own.

    Args:
        path: the worker's allocation.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the attempt holds; empty on a CPU.
    """

    def __init__(self, path: Path, gpus: Sequence[str] = ()) -> None:
        self._path = path
        self._gpus = gpus
        self._before: Allocation | None = None
        self._is_noted = False
        self._started = time.perf_counter()

    def start(self) -> None:
        """Start to count."""
        self._started = time.perf_counter()
        with suppress(OSError):  # then the GPUs' time is not counted, which the readings report
            note_trial(self._path, self._gpus)
            self._is_noted = True
        self._before, _ = request_allocation(self._path)

    def read(self) -> Reading:
        """Return the cost up to the machine's last reading, which is at most a few seconds old."""
        return self._reading(read_allocation(self._path))

    def stop(self) -> Reading:
        """Return the cost up to now."""
        with suppress(OSError):
            clear_trial(self._path)
        allocation, is_fresh = request_allocation(self._path)
        reading = self._reading(allocation)
        return reading if is_fresh else replace(reading, unmeasured=(*reading.unmeasured, NO_ANSWER))

    def _reading(self, now: Allocation | None) -> Reading:
        duration_s = time.perf_counter() - self._started
        if now is None or self._before is None:
            return Reading(duration_s, (NO_ALLOCATION,))
        energy, gpu_s = now.energy - self._before.energy, now.gpu_s - self._before.gpu_s
        # A trial that shared its GPU may have been idle all the time; one that had it to itself has used it.
        gpu_h = gpu_s / 3600 if self._is_noted and (gpu_s > 0 or now.gpu_method) else None
        unmeasured = list(now.unmeasured)
        if self._gpus and gpu_h is None:
            unmeasured.append(NO_GPU_TIME)
        if gpu_h is not None and now.gpu_method:
            unmeasured.insert(0, f"approximate: this worker's part of the GPU's time, {now.gpu_method}")
        if "all" in now.without or energy.total_kwh <= 0:
            return Reading(duration_s, (*unmeasured, NO_ENERGY), gpu_h=gpu_h)
        without = set(now.without)
        unmeasured.insert(0, f"{SHARED}, {now.method}")
        if energy.gpu_kwh <= 0 and duration_s >= 1 and "gpu" not in without and torch_has_gpu():
            # The process that measures has not imported torch and cannot check this.
            unmeasured.append(NO_GPU_FOUND)
            without.add("gpu")
        if duration_s < SHORTEST_MEASURED_S:
            unmeasured.append(f"an attempt under {SHORTEST_MEASURED_S:g} s is too short to measure")
        return Reading(
            duration_s=duration_s,
            unmeasured=tuple(unmeasured),
            energy_kwh=energy.total_kwh,
            co2eq_kg=energy.co2eq_kg,
            cpu_energy_kwh=None if "cpu" in without else energy.cpu_kwh,
            gpu_energy_kwh=None if "gpu" in without else energy.gpu_kwh,
            ram_energy_kwh=energy.ram_kwh,
            gpu_h=gpu_h,
            cpu_model=now.cpu_model,
            gpu_model=now.gpu_model,
        )
