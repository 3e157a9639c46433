"""Measure what a study will cost: time a few steps of each kind of trial, in as many workers as the study has."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedsweep.config.study import EmissionsConfig, StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.config.workers import WorkersConfig
from embedsweep.emissions.allocation import allocation_path
from embedsweep.emissions.machine_emissions import MachineEmissions
from embedsweep.errors import WorkerError
from embedsweep.machine import cuda_devices_of
from embedsweep.processes import PYTHON, ChildProcess, ProcessPool
from embedsweep.study.quote import Kind, TimedKind, Timing, kinds_of
from embedsweep.workers.environments import open_environments
from embedsweep.workers.job import QuoteOrder
from embedsweep.workers.quote_process import BEGUN, FAILED, READY, TIMED

COMMAND = (*PYTHON, "embedsweep.workers.quote_process")

WAIT_S = 0.5
"""Seconds to wait for the next message, and so the longest delay of a signal."""


@dataclass(frozen=True)
class Scratch:
    """A study that does not exist, for measuring its trials.

    Attributes:
        plan: its plan.
        folder: takes its files while it is measured.
    """

    plan: StudyPlan
    folder: Path


@dataclass
class _Progress:
    """What a process has done.

    Attributes:
        left: index of a kind -> the trial of it that is not timed yet.
        current: the index of the one that is being timed.
    """

    left: dict[int, TrialConfig]
    current: int | None = None


@dataclass
class _Timer:
    """Has several processes time all kinds of trials at the same time; a process that dies goes on with the next kind.

    Attributes:
        configs: a trial of each kind.
        arguments: the command line of each process.
        environments: variables added to the environment of each; one process for each.
        folder: for their files.
        emissions: where the electricity comes from.
        shared: measures the machine for several workers; None lets the one process do so.
        is_sampled: whether trials follow one another in no order, and not as the cells of a grid.
        say: prints a line.
    """

    configs: Sequence[TrialConfig]
    arguments: Sequence[str]
    environments: Sequence[Mapping[str, str]]
    folder: Path
    emissions: EmissionsConfig
    shared: MachineEmissions | None
    is_sampled: bool
    say: Callable[[str], None]
    timings: dict[int, list[Timing]] = field(default_factory=dict, init=False)
    problems: dict[int, str] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Time all kinds.

        Raises:
            WorkerError: a process cannot be started.
        """
        with ProcessPool() as pool:
            at = {n: _Progress(dict(enumerate(self.configs))) for n in range(len(self.environments))}
            for number in at:
                self._start(pool, number)
            while pool.processes:
                if (received := pool.receive(WAIT_S)) is not None:
                    process, message = received
                    if message is not None:
                        self._handle(process, message, at[process.number])
                    else:
                        self._end(pool, process, at[process.number])

    def _start(self, pool: ProcessPool, number: int) -> None:
        log = self.folder / f"{number}.log"
        try:
            pool.start(number, (*COMMAND, *self.arguments), log, self.environments[number])
        except OSError as error:
            raise WorkerError(f"a process cannot be started: {error}") from None

    def _handle(self, process: ChildProcess, message: Any, at: _Progress) -> None:
        match message:
            case (str(name),) if name == READY:
                allocation = None
                if self.shared is not None:
                    self.shared.add(process.number, process.pid)
                    allocation = allocation_path(self.folder, process.number)
                folder = self.folder / f"trials-{process.number}"
                mixes_models = self.is_sampled and len({repr(config.model) for config in self.configs}) > 1
                process.send(QuoteOrder(dict(at.left), folder, self.emissions, allocation, mixes_models))
            case (str(name), index) if name == BEGUN:
                at.current = index
                if process.number == 0:
                    self.say(f"timing kind {index + 1} of {len(self.configs)}")
            case (str(name), index, timing) if name == TIMED:
                self.timings.setdefault(index, []).append(timing)
                self._done(at, index)
            case (str(name), index, reason) if name == FAILED:
                self.problems.setdefault(index, reason)
                self._done(at, index)

    def _done(self, at: _Progress, index: int) -> None:
        del at.left[index]
        at.current = None

    def _end(self, pool: ProcessPool, process: ChildProcess, at: _Progress) -> None:
        """Remove a process that ended; if a trial killed it, start another for those that are left."""
        pool.remove(process)
        if self.shared is not None:
            self.shared.remove(process.number)
        if not at.left:
            return
        if at.current is None:
            raise WorkerError(f"a process of the quote {process.describe_end()}")
        self.problems.setdefault(at.current, f"its process {process.end_reason()}")
        self._done(at, at.current)
        if at.left:
            self._start(pool, process.number)


def time_kinds(
    plan: StudyPlan,
    workers: WorkersConfig,
    emissions: EmissionsConfig,
    device: str,
    n_trials: int,
    say: Callable[[str], None],
) -> tuple[dict[Kind, TimedKind], int]:
    """Return every kind of trial of a study with what a few of its steps took, and how many workers ran them.

    Args:
        plan: the study's plan.
        workers: who will run its trials.
        emissions: where the electricity comes from.
        device: ``trainer.device``.
        n_trials: how many trials are left.
        say: prints a line.

    Raises:
        ConfigError: there are too many kinds.
        WorkerError: a process cannot be started, or no kind of trial can be trained here.
    """
    kinds = kinds_of(plan)
    configs = [config for _, config in kinds.values()]
    with _environments(plan, workers, device, n_trials, say) as (folder, environments), ExitStack() as stack:
        shared: MachineEmissions | None = None
        if workers.name != "inline":
            gpus = cuda_devices_of(device)[: len(environments) * workers.processes_per_trial]
            shared = stack.enter_context(MachineEmissions(emissions, folder, gpus))
        arguments = (device, str(workers.processes_per_trial))
        is_sampled = plan.sampler != "exhaustive"
        timer = _Timer(configs, arguments, environments, folder, emissions, shared, is_sampled, say)
        timer.run()
    timed = {
        kind: TimedKind(values, tuple(timer.timings.get(index, ())), timer.problems.get(index))
        for index, (kind, (values, _)) in enumerate(kinds.items())
    }
    if all(kind.problem is not None for kind in timed.values()):
        raise WorkerError(f"no trial of this study can be trained here: {next(iter(timed.values())).problem}")
    return timed, len(environments)


@contextmanager
def _environments(
    plan: StudyPlan, workers: WorkersConfig, device: str, n_trials: int, say: Callable[[str], None]
) -> Iterator[tuple[Path, Sequence[Mapping[str, str]]]]:
    """Yield a folder that is deleted at the end, and the environment of each worker."""
    with tempfile.TemporaryDirectory(prefix="embedsweep-quote-") as name:
        study = Scratch(plan, Path(name))
        with open_environments(workers, device, n_trials, study, say) as environments:
            yield study.folder, environments or [{}]  # inline is one process, which adds nothing
