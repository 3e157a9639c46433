"""The largest configuration of a study: the one that needs most memory and time a step, as far as a plan tells.

Owns what is compared, and how. Loads no model and no data.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from embedsweep.config.axes import active_axes, completed, probes_of, random_cell
from embedsweep.config.identity import canonical, config_hash
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.data.tokens import model_folder, tokens_read
from embedsweep.errors import ConfigError, WorkerError
from embedsweep.files import write_atomically
from embedsweep.machine import read_gpu
from embedsweep.signals import shielded
from embedsweep.validation.cells import broken_constraint, cell_config
from embedsweep.workers.child import PYTHON, WorkerProcess
from embedsweep.workers.job import Event
from embedsweep.workers.probe import OUT_OF_MEMORY, READY, STEPS

SIZE_KEYS = ("dataloader.batch_size", "model.path", "model.max_seq_length")
"""Keys beside the swept options whose values are all tried; every other axis has its first value."""

DRAWS = 500
"""Random configurations that are compared where none of the others keeps the constraints."""


def largest_cell(plan: StudyPlan) -> tuple[dict[str, Choice], TrialConfig]:
    """The values and the configuration with the most tokens a batch, times its model's weights; the first of equals.

    A sequence is counted as long as the model reads it, however short the texts are. Where the size of a model's
    weights or its length is unknown (it is built here, or not yet downloaded), it counts as 1.

    Args:
        plan: the study's.

    Raises:
        ValueError: no configuration keeps the constraints.
        ConfigError: one cannot be had any more, as a file that it needs is gone.
    """
    for candidates in (_candidates(plan), _draws(plan)):
        cells = {canonical(cell): cell for cell in candidates if broken_constraint(plan, cell) is None}
        if cells:
            pairs = [(cell, cell_config(plan, cell)) for cell in cells.values()]
            return max(pairs, key=lambda pair: _size(pair[1]))
    raise ValueError(f"no trial keeps {' and '.join(plan.constraints)}")


def _candidates(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    """Every combination of swept options with every combination of the values that decide over size."""
    groups = [axis for axis in plan.axes if axis.key in plan.groups]
    for chosen in itertools.product(*map(probes_of, groups)):
        options = dict(zip((axis.key for axis in groups), chosen, strict=True))
        sizes = [axis for axis in active_axes(plan.axes, options) if axis.key in SIZE_KEYS]
        for values in itertools.product(*map(probes_of, sizes)):
            yield completed(plan.axes, {**options, **dict(zip((axis.key for axis in sizes), values, strict=True))})


def _draws(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    source = random.Random(plan.seed)
    return (random_cell(plan.axes, {}, source) for _ in range(DRAWS))


def _size(config: TrialConfig) -> int:
    folder = model_folder(config.model)
    tokens = tokens_read(config.model, folder) if folder is not None else config.model.max_seq_length
    return config.dataloader.batch_size * (tokens or 1) * (_weight_bytes(config.model) or 1)


def _weight_bytes(model: ModelConfig) -> int:
    folder = model_folder(model)
    if folder is None:
        return 0
    return sum(file.stat().st_size for file in (*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")))


LEVELS = (1, 2, 4, 8)
"""Trials at the same time that are measured, in this order."""

LIMIT_S = 120.0
"""What a probe may take; after that it is given up."""

WARM_LINES, WARM_S = 3, 3.0
"""What each process has told, and how long all have run, before their steps count: first steps load and capture."""

COUNTED_LINES, COUNTED_S = 3, 4.0
"""What each process has told, and how long they have been watched, when a level is measured."""

GAIN = 1.1
"""How much faster all trials together must become for more of them to be worth it."""

MEMORY_PART = 0.9
"""How much of the memory that was free trials may take."""

END_S = 10.0
"""How long processes may take to end by themselves: one that is killed may leave others of the same GPU in trouble."""

WAIT_S = 0.1
FILE = "probe.json"
GIB = 2**30

Mark = tuple[int, float]
"""A process's optimizer steps so far, and the moment of the monotonic clock, in seconds."""


@dataclass(frozen=True)
class Findings:
    """What a probe measured.

    Attributes:
        steps_per_s: trials at the same time -> optimizer steps a second of all of them together, rising.
        trial_bytes: what one trial takes of the GPU's memory, at most.
        free_bytes: what was free of it.
        unfit: how many trials at the same time memory did not do for, or would not; None where that was not reached.
    """

    steps_per_s: Mapping[int, float]
    trial_bytes: int
    free_bytes: int
    unfit: int | None

    @property
    def per_device(self) -> int:
        """How many trials share a GPU best: as many as fit in memory and make all of them together faster; at least 1.

        Going up, it is the first number that the next one is not at least 10 % faster than.
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
            return "probe: memory does not do for the largest configuration: one trial a GPU"
        rates[0] = f"1 worker {self.steps_per_s[1]:.3g} steps/s"
        unfit = f", {self.unfit} do not fit" if self.unfit is not None else ""
        choice = f"{self.per_device} share a GPU" if self.per_device > 1 else "one trial a GPU"
        return f"probe: {', '.join(rates)}{unfit} ({self.trial_bytes / GIB:.1f} GiB a trial): {choice}"


def fits(trials: int, trial_bytes: int, free_bytes: int) -> bool:
    """Whether so many trials leave a tenth of the memory that was free."""
    return trials * trial_bytes <= MEMORY_PART * free_bytes


def rate(marks: Sequence[Mark], begin: float) -> float:
    """Optimizer steps a second of one process from a moment on, by the first and the last thing it told since.

    Args:
        marks: what it told, in order; at least two since ``begin``.
        begin: a moment of the monotonic clock.
    """
    counted = [mark for mark in marks if mark[1] >= begin]
    (first, began), (last, ended) = counted[0], counted[-1]
    return (last - first) / (ended - began)


def levels_for(trials: int) -> tuple[int, ...]:
    """The levels to measure for so many trials a GPU: up to the first that has room for all of them."""
    return tuple(level for level in LEVELS if level == 1 or level // 2 < trials)


def find_per_device(
    plan: StudyPlan,
    folder: Path,
    device: str,
    gpu: str,
    trials: int,
    environment: Callable[[int], Mapping[str, str]],
    say: Callable[[str], None],
    *,
    mps: bool,
) -> int:
    """How many trials share a GPU best, as measured now or by an earlier command; 1 where that cannot be measured.

    It is said in one line.

    Args:
        plan: the study's.
        folder: the study's.
        device: ``trainer.device``.
        gpu: the name of the GPU to measure on, one of those that workers will get.
        trials: how many trials there are for each GPU.
        environment: what is added to the environment of a process that shares the GPU with so many, itself among them.
        say: is told the line.
        mps: whether processes share the GPU through MPS.
    """
    levels = levels_for(trials)
    try:
        values, config = largest_cell(plan)
        read = read_gpu(gpu)
        if read is None:
            raise WorkerError(f"the driver tells nothing of GPU {gpu}")
        probed = {"gpu": read.name, "configuration": config_hash(config), "mps": mps}
        findings = _read(folder / FILE, probed, levels)
        if findings is not None:
            findings = replace(findings, free_bytes=read.total_bytes - read.used_bytes)  # others may hold some by now
            say(f"{findings}, as measured before")
            return findings.per_device
        with tempfile.TemporaryDirectory(prefix="embedsweep-probe-") as scratch:
            processes = Processes((*PYTHON, "embedsweep.workers.probe", device, scratch), folder / "workers")
            findings = processes.measure(config, levels, environment(levels[-1]), lambda: _memory(gpu))
        _write(folder / FILE, {**probed, "values": values, "levels": levels}, findings)
    except (ConfigError, WorkerError, ValueError) as error:
        say(f"probe: one trial a GPU, as it failed: {error}")
        return 1
    say(str(findings))
    return findings.per_device


def _memory(gpu: str) -> tuple[int, int]:
    """Bytes in use of a GPU's memory, by whomever, and bytes there are.

    Raises:
        WorkerError: the driver does not tell.
    """
    read = read_gpu(gpu)
    if read is None:
        raise WorkerError(f"the driver tells nothing of GPU {gpu}")
    return read.used_bytes, read.total_bytes


def _read(file: Path, probed: Mapping[str, object], levels: Sequence[int]) -> Findings | None:
    """What an earlier command found of the same; None where it measured something else, or fewer levels."""
    try:
        kept: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if any(kept[key] != value for key, value in probed.items()) or not set(levels) <= set(kept["levels"]):
            return None
        rates = {int(level): float(rate) for level, rate in kept["steps_per_s"].items()}
        return Findings(rates, kept["trial_bytes"], kept["free_bytes"], kept["unfit"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none yet, or cut off while it was written


def _write(file: Path, probed: Mapping[str, object], findings: Findings) -> None:
    tree = {**probed, **asdict(findings), "per_device": findings.per_device}
    write_atomically(file, json.dumps(tree, indent=2) + "\n")


class Processes:
    """The processes of a probe; they import and prepare at the same time, and go when it is their turn.

    Args:
        command: what each is.
        logs: the folder of their logs.
        limit_s: seconds after which the probe is given up.
    """

    def __init__(self, command: Sequence[str], logs: Path, limit_s: float = LIMIT_S) -> None:
        self._command = command
        self._logs = logs
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._children: list[WorkerProcess] = []
        self._told: SimpleQueue[tuple[WorkerProcess, Event | None]] = SimpleQueue()
        self._ready: set[int] = set()
        self._marks: dict[int, list[Mark]] = {}

    def measure(
        self,
        config: TrialConfig,
        levels: Sequence[int],
        environment: Mapping[str, str],
        memory: Callable[[], tuple[int, int]],
    ) -> Findings:
        """Measures level after level, as far as memory does and more trials are worth it; then no process is left.

        Args:
            config: what each process trains.
            levels: trials at the same time, rising from 1.
            environment: what is added to the environment of each.
            memory: reads the bytes in use of the GPU's memory, and the bytes there are.

        Raises:
            WorkerError: a process cannot be started or failed, or the time was over.
        """
        used, total = memory()
        try:
            for number in range(levels[-1]):
                self._start(number, config, environment)
            return self._climb(levels, used, total - used, memory)
        finally:
            self._end()

    def _start(self, number: int, config: TrialConfig, environment: Mapping[str, str]) -> None:
        with shielded():  # a signal in between must find it
            try:
                child = WorkerProcess(
                    number, self._command, self._logs / f"probe-{number}.log", environment, self._told
                )
            except OSError as error:
                raise WorkerError(f"a process cannot be started: {error}") from None
            self._children.append(child)
            self._marks[number] = []
        child.send(config)

    def _climb(self, levels: Sequence[int], used: int, free: int, memory: Callable[[], tuple[int, int]]) -> Findings:
        findings = Findings({}, 0, free, None)
        for level in levels:
            if level > 1 and not fits(level, findings.trial_bytes, free):
                return replace(findings, unfit=level)
            try:
                rates = {**findings.steps_per_s, level: self._rate(level)}
            except _OutOfMemoryError:
                return replace(findings, unfit=level)
            # The first one alone: what a process has taken of a GPU's memory it keeps until it ends.
            trial_bytes = max(0, memory()[0] - used) if level == 1 else findings.trial_bytes
            findings = replace(findings, steps_per_s=rates, trial_bytes=trial_bytes)
            if findings.per_device < level:
                break
        return findings

    def _rate(self, level: int) -> float:
        """Optimizer steps a second of so many trials together."""
        numbers = range(level)
        self._listen(lambda: self._ready.issuperset(numbers))
        for number in numbers:
            if not self._marks[number]:
                self._children[number].send("go")
        self._listen(lambda: all(len(self._marks[number]) >= WARM_LINES for number in numbers))
        warm = time.monotonic() + WARM_S
        self._listen(lambda: time.monotonic() >= warm)
        begin = time.monotonic()
        self._listen(lambda: time.monotonic() >= begin + COUNTED_S and self._is_counted(numbers, begin))
        return sum(rate(self._marks[number], begin) for number in numbers)

    def _is_counted(self, numbers: Sequence[int], begin: float) -> bool:
        return all(sum(mark[1] >= begin for mark in self._marks[number]) >= COUNTED_LINES for number in numbers)

    def _listen(self, until: Callable[[], bool]) -> None:
        while not until():
            if time.monotonic() > self._deadline:
                raise WorkerError(f"it took over {self._limit_s:g} s")
            with suppress(Empty):
                self._take(*self._told.get(timeout=WAIT_S))

    def _take(self, child: WorkerProcess, event: Event | None) -> None:
        if event is None:
            raise WorkerError(f"a process {child.reason()}")
        if event.name == OUT_OF_MEMORY:
            raise _OutOfMemoryError
        if event.name == READY:
            self._ready.add(child.number)
        elif event.name == STEPS:
            step, moment = event.arguments
            self._marks[child.number].append((step, moment))

    def _end(self) -> None:
        with shielded():
            for child in self._children:
                child.hang_up()
            until = time.monotonic() + END_S
            for child in self._children:
                if not child.wait(max(0.0, until - time.monotonic())):
                    child.kill("did not end")
                    child.wait()
                child.close()


class _OutOfMemoryError(Exception):
    """Memory did not do for one of the processes."""
