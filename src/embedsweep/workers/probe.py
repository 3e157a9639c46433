"""The probe: measure how many trials share a GPU best, by training the largest configuration several times at once."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from embedsweep.config.axes import active_axes, completed, probes_of
from embedsweep.config.identity import config_hash
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.data.tokens import tokens_read
from embedsweep.errors import ConfigError, WorkerError
from embedsweep.files import write_atomically
from embedsweep.hub import local_model
from embedsweep.machine import Gpu, read_gpu
from embedsweep.models.layout import weight_files
from embedsweep.processes import PYTHON, ChildProcess, ProcessPool
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.search import sound_cells
from embedsweep.workers.probe_process import OUT_OF_MEMORY, READY, STEPS

LEVELS = (1, 2, 4, 8)
"""Numbers of concurrent trials that are measured, in this order."""

LIMIT_S = 120.0
"""How long a probe may take before it is given up."""

WARM_LINES, WARM_S = 3, 3.0
"""Messages from each process, and seconds, before steps count: the first ones load and capture."""

COUNTED_LINES, COUNTED_S = 3, 4.0
"""Messages from each process, and seconds, after which a level is measured."""

GAIN = 1.1
"""Factor by which the total speed must rise for more concurrent trials to be worth it."""

MEMORY_PART = 0.9
"""Fraction of the GPU's free memory that trials may take."""

END_S = 10.0
"""How long processes may take to end by themselves: killing one may break others on the same GPU."""

WAIT_S = 0.1
FILE = "probe.json"
GIB = 2**30

SIZE_KEYS = ("dataloader.batch_size", "model.path", "model.max_seq_length")
"""Keys beside the swept options whose values are all compared; every other axis keeps its first value."""

Mark = tuple[int, float]
"""A process's optimizer steps so far, and the time of the monotonic clock, in seconds."""

ReadGpu = Callable[[], Gpu]


@dataclass(frozen=True)
class Findings:
    """The result of a probe.

    Attributes:
        steps_per_s: number of concurrent trials -> optimizer steps per second of all of them together, rising.
        trial_bytes: GPU memory that one trial takes at most.
        free_bytes: GPU memory that was free.
        unfit: the number of concurrent trials that memory was too small for; None if none was met.
    """

    steps_per_s: Mapping[int, float]
    trial_bytes: int
    free_bytes: int
    unfit: int | None

    @property
    def per_device(self) -> int:
        """How many trials share a GPU best: as many as fit in memory and make all of them together faster; at least 1.

        Going up, it is the first level that the next one is not at least 10 % faster than.
        """
        fitting = [level for level in sorted(self.steps_per_s) if fits(level, self.trial_bytes, self.free_bytes)]
        chosen = 1
        for level in fitting:
            if level > 1 and self.steps_per_s[level] < GAIN * self.steps_per_s[chosen]:
                break
            chosen = level
        return chosen

    def __str__(self) -> str:
        rates = [f"{level}: {rate:.3g}" for level, rate in sorted(self.steps_per_s.items())]
        if not rates:
            return "probe: memory is too small for the largest configuration: one trial per GPU"
        rates[0] = f"1 worker {self.steps_per_s[1]:.3g} steps/s"
        unfit = f", {self.unfit} do not fit" if self.unfit is not None else ""
        choice = f"{self.per_device} share a GPU" if self.per_device > 1 else "one trial per GPU"
        return f"probe: {', '.join(rates)}{unfit} ({self.trial_bytes / GIB:.1f} GiB per trial): {choice}"


def fits(trials: int, trial_bytes: int, free_bytes: int) -> bool:
    """Return whether that many trials leave a tenth of the memory that was free."""
    return trials * trial_bytes <= MEMORY_PART * free_bytes


def rate(marks: Sequence[Mark], start: float) -> float:
    """Return the optimizer steps per second of one process since a point in time.

    Args:
        marks: its marks, in order; at least two since ``start``.
        start: time of the monotonic clock.
    """
    counted = [mark for mark in marks if mark[1] >= start]
    (first, began), (last, ended) = counted[0], counted[-1]
    return (last - first) / (ended - began)


def levels_for(trials: int) -> tuple[int, ...]:
    """Return the levels to measure for a number of trials per GPU: up to the first that has room for all of them."""
    return tuple(level for level in LEVELS if level == 1 or level // 2 < trials)


class Probed(Protocol):
    """A study, as far as its trials are measured."""

    @property
    def plan(self) -> StudyPlan:
        """Its plan."""

    @property
    def folder(self) -> Path:
        """Its folder, where the result is kept."""


def find_per_device(
    study: Probed,
    device: str,
    gpu: str,
    trials: int,
    environment: Callable[[int], Mapping[str, str]],
    say: Callable[[str], None],
    *,
    mps: bool,
) -> int:
    """Return how many trials share a GPU best, as measured now or by an earlier command; 1 if the probe fails.

    The result is printed in one line and kept in the study's folder.

    Args:
        study: the study.
        device: ``trainer.device``.
        gpu: the GPU to measure on, one of those of the workers; a name as in ``CUDA_VISIBLE_DEVICES``.
        trials: number of trials per GPU.
        environment: number of processes on the GPU -> variables added to the environment of each.
        say: prints a line.
        mps: whether processes share the GPU through MPS.
    """
    levels = levels_for(trials)
    try:
        values, config = largest_cell(study.plan)
        now = _read_gpu(gpu)
        probed = {"gpu": now.name, "configuration": config_hash(config), "mps": mps}
        findings = _read_file(study.folder / FILE, probed, levels)
        if findings is not None:
            findings = replace(findings, free_bytes=now.total_bytes - now.used_bytes)  # other processes may hold some
            say(f"{findings}, as measured before")
            return findings.per_device
        with tempfile.TemporaryDirectory(prefix="embedsweep-probe-") as scratch:
            probe = Probe((*PYTHON, "embedsweep.workers.probe_process", device, scratch), study.folder / "workers")
            findings = probe.measure(config, levels, environment(levels[-1]), lambda: _read_gpu(gpu))
        tree = {**probed, "values": values, "levels": levels, **asdict(findings), "per_device": findings.per_device}
        write_atomically(study.folder / FILE, json.dumps(tree, indent=2) + "\n")
    except (ConfigError, WorkerError, ValueError) as error:
        say(f"probe: one trial per GPU, as the probe failed: {error}")
        return 1
    say(str(findings))
    return findings.per_device


def _read_gpu(name: str) -> Gpu:
    """Return the state of a GPU.

    Raises:
        WorkerError: the driver does not report it.
    """
    gpu = read_gpu(name)
    if gpu is None:
        raise WorkerError(f"the driver reports nothing about GPU {name}")
    return gpu


def _read_file(file: Path, probed: Mapping[str, object], levels: Sequence[int]) -> Findings | None:
    """Return an earlier command's findings; None if it measured something else, or fewer levels."""
    try:
        kept: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if any(kept[key] != value for key, value in probed.items()) or not set(levels) <= set(kept["levels"]):
            return None
        rates = {int(level): float(rate) for level, rate in kept["steps_per_s"].items()}
        return Findings(rates, kept["trial_bytes"], kept["free_bytes"], kept["unfit"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # there is none, or it is not whole


class Probe:
    """A measurement. All processes import and prepare at the same time; each trains from the start of its level on.

    Args:
        command: the command of each process.
        logs: the folder of their logs.
        limit_s: seconds after which the probe is given up.
    """

    def __init__(self, command: Sequence[str], logs: Path, limit_s: float = LIMIT_S) -> None:
        self._command = command
        self._logs = logs
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._pool = ProcessPool()
        self._ready: set[int] = set()
        self._marks: dict[int, list[Mark]] = {}

    def measure(
        self, config: TrialConfig, levels: Sequence[int], environment: Mapping[str, str], read: ReadGpu
    ) -> Findings:
        """Measure level after level, as long as memory suffices and more trials pay off; leave no process running.

        Args:
            config: what each process trains.
            levels: numbers of concurrent trials, rising from 1.
            environment: variables added to the environment of each process.
            read: returns the state of the GPU.

        Raises:
            WorkerError: a process cannot be started or failed, or the time limit was reached.
        """
        before = read()
        try:
            for number in range(levels[-1]):
                self._start(number, config, environment)
            return self._climb(levels, before, read)
        finally:
            self._pool.end(END_S)

    def _start(self, number: int, config: TrialConfig, environment: Mapping[str, str]) -> None:
        try:
            process = self._pool.start(number, self._command, self._logs / f"probe-{number}.log", environment)
        except OSError as error:
            raise WorkerError(f"a process cannot be started: {error}") from None
        self._marks[number] = []
        process.send(config)

    def _climb(self, levels: Sequence[int], before: Gpu, read: ReadGpu) -> Findings:
        # Processes that still import would slow the first level down, and the next one would seem to gain.
        self._receive_until(lambda: len(self._ready) == levels[-1])
        findings = Findings({}, 0, before.total_bytes - before.used_bytes, None)
        for level in levels:
            if level > 1 and not fits(level, findings.trial_bytes, findings.free_bytes):
                return replace(findings, unfit=level)
            try:
                rates = {**findings.steps_per_s, level: self._measure_level(level)}
            except _OutOfMemoryError:
                return replace(findings, unfit=level)
            # Of the first process only: GPU memory that a process has taken it keeps until it ends.
            trial_bytes = max(0, read().used_bytes - before.used_bytes) if level == 1 else findings.trial_bytes
            findings = replace(findings, steps_per_s=rates, trial_bytes=trial_bytes)
            if findings.per_device < level:
                break
        return findings

    def _measure_level(self, level: int) -> float:
        """Return the optimizer steps per second of a number of concurrent trials together."""
        numbers = range(level)
        for process in self._pool.processes[:level]:
            if not self._marks[process.number]:
                process.send("train")
        self._receive_until(lambda: all(len(self._marks[number]) >= WARM_LINES for number in numbers))
        warm = time.monotonic() + WARM_S
        self._receive_until(lambda: time.monotonic() >= warm)
        start = time.monotonic()
        self._receive_until(lambda: time.monotonic() >= start + COUNTED_S and self._is_counted(numbers, start))
        return sum(rate(self._marks[number], start) for number in numbers)

    def _is_counted(self, numbers: Sequence[int], start: float) -> bool:
        return all(sum(mark[1] >= start for mark in self._marks[number]) >= COUNTED_LINES for number in numbers)

    def _receive_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if time.monotonic() > self._deadline:
                raise WorkerError(f"it took over {self._limit_s:g} s")
            if (received := self._pool.receive(WAIT_S)) is not None:
                self._handle(*received)

    def _handle(self, process: ChildProcess, message: Any) -> None:
        match message:
            case None:
                raise WorkerError(f"a process {process.describe_end()}")
            case (str(name),) if name == OUT_OF_MEMORY:
                raise _OutOfMemoryError
            case (str(name),) if name == READY:
                self._ready.add(process.number)
            case (str(name), step, moment) if name == STEPS:
                self._marks[process.number].append((step, moment))


class _OutOfMemoryError(Exception):
    """Memory was too small for one of the processes."""


def largest_cell(plan: StudyPlan) -> tuple[dict[str, Choice], TrialConfig]:
    """Return the values and the configuration with the most tokens per batch times the bytes of its model's weights.

    A sequence counts as long as the model reads it, however short the texts are. Where the size of a model's weights
    or its length is unknown (it is built here, or not downloaded yet), it counts as 1. Ties go to the first.

    Raises:
        ValueError: no configuration satisfies the constraints.
        ConfigError: a file that one needs is gone.
    """
    pairs = [(cell, cell_config(plan, cell)) for cell in sound_cells(plan, _candidates(plan))]
    if not pairs:
        raise ValueError(f"no trial satisfies {' and '.join(plan.constraints)}")
    return max(pairs, key=lambda pair: _size(pair[1]))


def _candidates(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    """Yield every combination of swept options with every combination of values that decide the size."""
    groups = [axis for axis in plan.axes if axis.key in plan.groups]
    for chosen in itertools.product(*map(probes_of, groups)):
        options = dict(zip((axis.key for axis in groups), chosen, strict=True))
        sizes = [axis for axis in active_axes(plan.axes, options) if axis.key in SIZE_KEYS]
        for values in itertools.product(*map(probes_of, sizes)):
            yield completed(plan.axes, {**options, **dict(zip((axis.key for axis in sizes), values, strict=True))})


def _size(config: TrialConfig) -> int:
    folder = local_model(config.model.path, config.model.revision)
    tokens = tokens_read(config.model, folder)
    weight_bytes = sum(file.stat().st_size for file in weight_files(folder)) if folder is not None else 0
    return config.dataloader.batch_size * (tokens or 1) * (weight_bytes or 1)
