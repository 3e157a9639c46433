"""A worker's share of the machine's energy, in a file that one process writes and another reads.

Owns the figures that are shared, the file's form, the way to ask for it to be written anew, and the note that a trial
is under way. Must not know how energy is measured or shared out.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from embedsweep.emissions.tracker import NO_GPU_FOUND, SHORTEST_MEASURED_S, Reading, torch_has_gpu
from embedsweep.files import write_atomically

ANSWERED_WITHIN_S = 2.0
LOOK_EVERY_S = 0.01


@dataclass(frozen=True)
class Energy:
    """Energy by part of the machine, and what it emitted. ``rest`` is what no part is named for.

    Attributes:
        cpu_kwh, gpu_kwh, ram_kwh, rest_kwh: kilowatt-hours.
        co2eq_kg: kilograms of CO2 equivalent.
    """

    cpu_kwh: float = 0.0
    gpu_kwh: float = 0.0
    ram_kwh: float = 0.0
    rest_kwh: float = 0.0
    co2eq_kg: float = 0.0

    @property
    def total_kwh(self) -> float:
        """All parts together."""
        return self.cpu_kwh + self.gpu_kwh + self.ram_kwh + self.rest_kwh

    def __add__(self, other: Energy) -> Energy:
        return Energy(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def __sub__(self, other: Energy) -> Energy:
        return Energy(*(getattr(self, part.name) - getattr(other, part.name) for part in fields(self)))

    def part(self, by_cpu: float, by_gpu: float) -> Energy:
        """The part of one of several: ``by_gpu`` of the GPUs' energy, ``by_cpu`` of all other; both in [0, 1]."""
        mine = Energy(self.cpu_kwh * by_cpu, self.gpu_kwh * by_gpu, self.ram_kwh * by_cpu, self.rest_kwh * by_cpu)
        # What was emitted goes with the energy; where none arrived, as good as nothing was.
        portion = mine.total_kwh / self.total_kwh if self.total_kwh else by_cpu
        return replace(mine, co2eq_kg=self.co2eq_kg * portion)


@dataclass(frozen=True)
class Share:
    """What a worker's share has come to since the measuring began.

    Attributes:
        energy: the figures.
        without: parts that are not measured: ``cpu``, ``gpu``, or ``all``.
        by: what it was shared out by, in words.
        gpu_s: seconds of GPUs, each counted by itself, that were this worker's part while its trials held them.
        gpu_by: what the time of the latest trial's GPUs was shared out by, in words; empty where no other held them.
        cpu_model: the machine's.
        gpu_model: the machine's.
        unmeasured: what could only be estimated or not be measured at all, in words.
        answered: the last question that had been asked when it was measured.
    """

    energy: Energy
    without: tuple[str, ...]
    by: str
    gpu_s: float
    gpu_by: str
    cpu_model: str
    gpu_model: str
    unmeasured: tuple[str, ...]
    answered: str


def share_path(folder: Path, worker: int) -> Path:
    """Where a worker's share is written."""
    return folder / f"worker-{worker}.json"


def write_share(path: Path, share: Share) -> None:
    """Writes the file anew, in one step.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, json.dumps(asdict(share)))


def read_share(path: Path) -> Share | None:
    """The share in a file; None where there is none that can be understood."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(tree[name]) for name in ("without", "unmeasured")}
        return Share(**{**tree, **lists, "energy": Energy(**tree["energy"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask_share(path: Path) -> tuple[Share | None, bool]:
    """Asks for a share that is measured now and waits for it, at most ``ANSWERED_WITHIN_S`` seconds.

    Returns:
        The share, None without one; and whether it is the answer, or else what was there before.
    """
    question = uuid.uuid4().hex
    try:
        write_atomically(_question_path(path), question)
    except OSError:
        return read_share(path), False
    until = time.monotonic() + ANSWERED_WITHIN_S
    while True:
        share = read_share(path)
        if share is not None and share.answered == question:
            return share, True
        if time.monotonic() > until:
            _question_path(path).unlink(missing_ok=True)
            return share, False
        time.sleep(LOOK_EVERY_S)


def take_question(path: Path) -> str | None:
    """The question that was asked of the share in ``path``, which is taken away; None without one."""
    question = _question_path(path)
    try:
        asked = question.read_text(encoding="utf-8")
        question.unlink()
    except OSError:
        return None
    return asked


def begin_trial(path: Path, gpus: Sequence[str]) -> None:
    """Notes beside the share in ``path`` that a trial of its worker is under way.

    Args:
        path: the worker's share.
        gpus: the names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the trial holds; none on a CPU.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(_trial_path(path), json.dumps(list(gpus)))


def end_trial(path: Path) -> None:
    """Takes the note of `begin_trial` away, if it is there."""
    _trial_path(path).unlink(missing_ok=True)


def gpus_of_trial(path: Path) -> tuple[str, ...] | None:
    """The names of the GPUs that a trial under way holds, as it was noted; None without a trial."""
    try:
        return tuple(json.loads(_trial_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _trial_path(path: Path) -> Path:
    return path.with_suffix(".trial")


def _question_path(path: Path) -> Path:
    return path.with_suffix(".ask")


NO_SHARE = "nobody measured the machine for this worker"
NO_ANSWER = "counted up to the last reading of the machine, nobody answered at the end"
NO_ENERGY = "no energy was measured for this worker"
NO_GPU_TIME = "no time of a GPU was counted for this worker"


class Portion:
    """What a worker's share grew by since the start; stands in for a `Tracker` of an attempt's own.

    Args:
        path: the worker's share.
        gpus: names of the GPUs that the attempt holds, as in ``CUDA_VISIBLE_DEVICES``; none on a CPU.
    """

    def __init__(self, path: Path, gpus: Sequence[str] = ()) -> None:
        self._path = path
        self._gpus = gpus
        self._before: Share | None = None
        self._is_noted = False
        self._started = time.perf_counter()

    def start(self) -> None:
        """Begins to count."""
        self._started = time.perf_counter()
        with suppress(OSError):  # then the GPUs' time is not counted, which the readings say
            begin_trial(self._path, self._gpus)
            self._is_noted = True
        self._before, _ = ask_share(self._path)

    def read(self) -> Reading:
        """Up to the machine's last reading, which is a few seconds old at most."""
        return self._reading(read_share(self._path))

    def stop(self) -> Reading:
        """Up to now."""
        with suppress(OSError):
            end_trial(self._path)
        share, is_fresh = ask_share(self._path)
        reading = self._reading(share)
        return reading if is_fresh else replace(reading, unmeasured=(*reading.unmeasured, NO_ANSWER))

    def _reading(self, share: Share | None) -> Reading:
        duration_s = time.perf_counter() - self._started
        if share is None or self._before is None:
            return Reading(duration_s, (NO_SHARE,))
        energy, gpu_s = share.energy - self._before.energy, share.gpu_s - self._before.gpu_s
        # One that shared its GPU may have been idle all the time; one that had it to itself has used it.
        gpu_h = gpu_s / 3600 if self._is_noted and (gpu_s > 0 or share.gpu_by) else None
        unmeasured = list(share.unmeasured)
        if self._gpus and gpu_h is None:
            unmeasured.append(NO_GPU_TIME)
        if gpu_h is not None and share.gpu_by:
            unmeasured.insert(0, f"approximate: this worker's part of the GPU's time, {share.gpu_by}")
        if "all" in share.without or energy.total_kwh <= 0:
            return Reading(duration_s, (*unmeasured, NO_ENERGY), gpu_h=gpu_h)
        without = set(share.without)
        unmeasured.insert(0, f"approximate: this worker's part of the machine's energy, {share.by}")
        if energy.gpu_kwh <= 0 and duration_s >= 1 and "gpu" not in without and torch_has_gpu():
            # The process that measures has no torch to ask.
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
            cpu_model=share.cpu_model,
            gpu_model=share.gpu_model,
        )
