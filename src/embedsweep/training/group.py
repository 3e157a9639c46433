"""A group of processes that train one trial together, seen from the process that leads them.

The members start once, stay warm between trials, and are ended with a trial that loses one of them. The leader is not
a member: it waits for messages, so that a signal, an error or a dead member ends training at once, whatever the others
are waiting for on their GPUs. No torch.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.config.result import Decision
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import GroupError, Interrupted
from embedsweep.machine import oom_kills, visible_cores, visible_devices
from embedsweep.processes import PYTHON, ChildProcess, ProcessPool
from embedsweep.signals import Deferral

if TYPE_CHECKING:
    from embedsweep.training.callback import TrainingListener


@dataclass(frozen=True)
class Order:
    """To each member: train this trial."""

    config: TrialConfig
    folder: Path


@dataclass(frozen=True)
class Metrics:
    """From the first member: metrics of training steps."""

    points: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Progress:
    """From the first member: the number of optimizer steps done, and of all."""

    step: int
    total: int


@dataclass(frozen=True)
class Alive:
    """From the first member: a sign of life."""


@dataclass(frozen=True)
class Evaluation:
    """From every member: dev metrics at a step, the same for all. Each then waits for the decision."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Stopped:
    """From every member: it was told to stop, and the checkpoint of its last step is written."""


@dataclass(frozen=True)
class Done:
    """From every member: the training is over."""


@dataclass(frozen=True)
class Failed:
    """From a member: it has failed, and waits for its end.

    Attributes:
        error: the exception; None if it cannot be pickled.
        trace: its traceback.
        lost: whether it is about another member, which died or does not answer.
    """

    error: Exception | None
    trace: str
    lost: bool


_log = logging.getLogger(__name__)

STUCK_S = 600.0
"""Seconds that a member waits for the others before they count as hung: longer than any of them computes by itself."""

FAILURES_S = 2.0
"""Seconds after a failure in which others may report theirs: the first one reported is seldom the cause."""

POLL_S = 1.0
"""Seconds of one wait for a message, after which pending signals are handled at the latest."""


class TrainingGroup:
    """Processes that train together, one GPU each if there are GPUs.

    Args:
        size: number of processes, at least 2.
        device: ``trainer.device``; GPUs are assigned in the order in which this process sees them now.
        stuck_s: seconds after which a member that does not answer the others counts as hung.
    """

    def __init__(self, size: int, device: str, stuck_s: float = STUCK_S) -> None:
        self.size = size
        self._gpus = visible_devices() if device not in ("cpu", "mps") else []
        self._stuck_s = stuck_s
        self._pool = ProcessPool()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def train(self, config: TrialConfig, folder: Path, listener: TrainingListener) -> None:
        """Train a trial to its end, from its last whole checkpoint if there is one.

        A signal makes the members stop after a step, with a checkpoint of it.

        Args:
            config: the trial.
            folder: the trial's own; holds its checkpoints.
            listener: receives progress and metrics, and decides for all.

        Raises:
            GroupError: a member died or hung; caused by a MemoryError if the kernel killed it for lack of memory.
            MemoryError: memory was too small for a member's share.
            Interrupted: a signal came, to this process or to the members.
            Exception: what a member or the listener raised.
        """
        is_complete = False
        kills_before = oom_kills()
        try:
            self._start()
            for member in self._pool.processes:
                member.send(Order(config, folder.absolute()))
            with Deferral() as deferral:
                self._follow(listener, kills_before, deferral)
            is_complete = True
        finally:
            if not is_complete:
                self.close()  # the others wait for a message that will not come; the next trial starts them anew

    def close(self) -> None:
        """Kill the members, whatever they are doing."""
        self._pool.end()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def gpus(self) -> list[str]:
        """Names of the GPUs that the members train on, as in ``CUDA_VISIBLE_DEVICES``; empty on a CPU."""
        return self._gpus[: self.size]

    def _start(self) -> None:
        if self._pool.processes:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="embedsweep-group-")
        folder = Path(self._folder.name)
        arguments = (str(os.getpid()), str(folder / "store"), f"{self._stuck_s:g}")
        for rank in range(self.size):
            environment = _environment(rank, self.size, self._gpus[rank] if self._gpus else None)
            command = (*PYTHON, "embedsweep.training.member", *arguments)
            self._pool.start(rank, command, folder / f"member-{rank}.log", environment)

    def _follow(self, listener: TrainingListener, kills_before: int | None, deferral: Deferral) -> None:
        """Pass messages of members to the listener, and decisions and signals back, until all are done."""
        done: set[int] = set()
        was_stopped = False
        decisions: dict[int, Decision] = {}
        waiting: list[tuple[ChildProcess, int]] = []
        while len(done) < self.size:
            if deferral.signum is not None:
                self._stop()
            if (received := self._pool.receive(POLL_S)) is None:
                continue
            member, message = received
            deferral.is_on = True  # the members have met, and heed signals
            match message:
                case Metrics(points):
                    listener.on_metrics(points)
                case Alive():
                    listener.on_alive()
                case Progress(step, total):
                    listener.on_progress(step, total)
                case Evaluation(step, metrics):
                    waiting.append((member, step))
                    if member.number == 0:
                        decisions[step] = listener.on_evaluation(step, metrics)
                case Done() | Stopped():
                    done.add(member.number)
                    was_stopped |= isinstance(message, Stopped)
                case _:
                    self._raise_cause(member, message, kills_before)
            for member, step in [pair for pair in waiting if pair[1] in decisions]:
                waiting.remove((member, step))
                member.send(decisions[step])
        if was_stopped:
            raise Interrupted(deferral.signum or signal.SIGTERM)

    def _stop(self) -> None:
        """Tell the members to stop, which may be told more than once."""
        for member in self._pool.processes:
            member.send_signal(signal.SIGTERM)

    def _raise_cause(self, member: ChildProcess, message: Failed | None, kills_before: int | None) -> None:
        """Raise the cause of a failure, as far as the members report it; ``message`` is None from one that died."""
        reports = {member.number: message}
        deadline = time.monotonic() + FAILURES_S
        while len(reports) < self.size and None not in reports.values() and (left := deadline - time.monotonic()) > 0:
            if (received := self._pool.receive(left)) is None:
                continue
            other, report = received
            if report is None or isinstance(report, Failed):
                reports.setdefault(other.number, report)
        failures = {rank: report for rank, report in sorted(reports.items()) if report is not None}
        for rank, failure in failures.items():
            _log.error("process %d of the group of %d: %s", rank, self.size, failure.trace)
        if (dead := next((rank for rank, report in reports.items() if report is None), None)) is not None:
            self._raise_death(self._pool.processes[dead], kills_before)
        own = next(((rank, failure) for rank, failure in failures.items() if not failure.lost), None)
        if own is None:
            silent = [str(rank) for rank in range(self.size) if rank not in failures] or ["another"]
            raise GroupError(
                f"process {' and '.join(silent)} of the group of {self.size} did not answer the others for "
                f"{self._stuck_s:g} s: it hangs"
            )
        rank, failure = own
        if failure.error is None:
            raise RuntimeError(f"process {rank} of the group of {self.size} failed: {failure.trace.splitlines()[-1]}")
        raise failure.error

    def _raise_death(self, member: ChildProcess, kills_before: int | None) -> None:
        how = f"process {member.number} of the group of {self.size} {member.end_reason()}"
        code = member.exit_code
        if code == -signal.SIGKILL and kills_before is not None and (oom_kills() or 0) > kills_before:
            raise GroupError(how) from MemoryError("the kernel killed the process")
        raise GroupError(": ".join((how, *member.last_lines(1))) if code is not None and code >= 0 else how)


def _environment(rank: int, size: int, gpu: str | None) -> dict[str, str]:
    """Return what torch and accelerate read; each member sees one GPU only, the first of its own."""
    # A number of threads that the user has set, or that the cores were divided by among workers, is each process's.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, visible_cores() // size))
    return {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0" if gpu is not None else str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}),
    }


def open_group(size: int, device: str) -> AbstractContextManager[TrainingGroup | None]:
    """Return the group that trains the trials of a block; None for one process, which is this one.

    Args:
        size: ``workers.processes_per_trial``.
        device: ``trainer.device``.
    """
    return nullcontext() if size == 1 else closing(TrainingGroup(size, device))
