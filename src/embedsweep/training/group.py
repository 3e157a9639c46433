"""Processes that train one trial together, seen from the process that leads them.

Owns their life - started once, warm between trials, ended with the trial that lost one of them - and what is said
between them and their leader. The leader is no member: it waits for messages, so that a signal, an error or a lost
member ends the training at once, whatever the others are waiting for on their GPUs. Knows neither studies nor MLflow.
No torch.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, TYPE_CHECKING

import embedsweep
from embedsweep.config.result import Decision
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import GroupError
from embedsweep.machine import oom_kills, visible_cores, visible_devices

if TYPE_CHECKING:
    from embedsweep.training.callback import TrainingListener


@dataclass(frozen=True)
class Order:
    """To each member: train this."""

    config: TrialConfig
    folder: Path


@dataclass(frozen=True)
class Trained:
    """From the first member: metrics of training steps."""

    points: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Progressed:
    """From the first member: how many optimizer steps of how many are done."""

    step: int
    total: int


@dataclass(frozen=True)
class Evaluated:
    """From every member: dev metrics at a step, the same for all. Each then waits for the decision."""

    step: int
    metrics: Mapping[str, float]
    last: bool


@dataclass(frozen=True)
class Done:
    """From every member: the training is over."""


@dataclass(frozen=True)
class Failed:
    """From a member: it cannot go on, and waits for its end.

    Attributes:
        error: what was raised; None where that cannot be told to another process.
        trace: the same as text.
        lost: whether it is about another member, which was lost or does not answer.
    """

    error: Exception | None
    trace: str
    lost: bool


_log = logging.getLogger(__name__)

STUCK_S = 600.0
"""Seconds that a member waits for the others before they count as hung: longer than any of them computes by itself."""

LAST_WORDS_S = 2.0
"""Seconds after a failure in which others may tell theirs: the first to be heard of is seldom the cause."""


class TrainingGroup:
    """Processes that train together, one GPU each where there are GPUs.

    Args:
        size: how many, at least 2.
        device: ``trainer.device``; GPUs are dealt in the order this process sees them when the group is made.
        stuck_s: seconds after which a member that does not answer the others counts as hung.
    """

    def __init__(self, size: int, device: str, stuck_s: float = STUCK_S) -> None:
        self.size = size
        self._gpus = visible_devices() if device not in ("cpu", "mps") else []
        self._stuck_s = stuck_s
        self._oom_kills: int | None = None
        self._members: list[_Member] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def train(self, config: TrialConfig, folder: Path, listener: TrainingListener) -> None:
        """Trains a trial to its end, from its last whole checkpoint if there is one.

        Args:
            config: the trial.
            folder: the trial's own; holds its checkpoints.
            listener: who is told, and decides for all.

        Raises:
            GroupError: a member died or hung; caused by a MemoryError where the kernel killed it for want of memory.
            MemoryError: memory did not do for a member's share.
            Exception: what a member raised, or the listener.
        """
        whole = False
        self._oom_kills = oom_kills()
        try:
            self._start()
            for member in self._members:
                member.send(Order(config, folder.absolute()))
            self._follow(listener)
            whole = True
        finally:
            if not whole:
                self.close()  # the others wait for what will never come; the next trial starts them anew

    def close(self) -> None:
        """Ends the members, wherever they are."""
        for member in self._members:
            member.end()
        self._members = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def gpus(self) -> list[str]:
        """Names of the GPUs that the members train on, as in ``CUDA_VISIBLE_DEVICES``; none on a CPU."""
        return self._gpus[: self.size]

    @property
    def pids(self) -> list[int]:
        """Process ids of the members, by rank; none before the first trial."""
        return [member.process.pid for member in self._members if member.process is not None]

    def _start(self) -> None:
        if self._members:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="embedsweep-group-")
        for rank in range(self.size):
            gpu = self._gpus[rank] if self._gpus else None
            # Known before it is started: a signal in between must find it.
            self._members.append(_Member(rank, Path(self._folder.name)))
            self._members[rank].start(_environment(rank, self.size, gpu), self._stuck_s)

    def _follow(self, listener: TrainingListener) -> None:
        """Passes on what members tell, and decisions back, until all are done."""
        done: set[int] = set()
        decisions: dict[int, Decision] = {}
        asking: list[tuple[_Member, int]] = []
        while len(done) < self.size:
            for member, message in self._heard():
                match message:
                    case Trained(points):
                        listener.on_metrics(points)
                    case Progressed(step, total):
                        listener.on_progress(step, total)
                    case Evaluated(step, metrics, last):
                        asking.append((member, step))
                        if member.rank == 0:
                            decisions[step] = listener.on_evaluation(step, metrics, last=last)
                    case Done():
                        done.add(member.rank)
                    case _:
                        self._raise(member, message)
            for member, step in [asked for asked in asking if asked[1] in decisions]:
                asking.remove((member, step))
                member.send(decisions[step])

    def _heard(self, timeout: float | None = None) -> Iterator[tuple[_Member, object]]:
        """What members say; None from one that died."""
        by_connection = {member.connection: member for member in self._members}
        for connection in wait(list(by_connection), timeout):
            assert isinstance(connection, Connection)
            try:
                yield by_connection[connection], connection.recv()
            except (EOFError, ConnectionError):
                yield by_connection[connection], None

    def _raise(self, member: _Member, message: object) -> None:
        """Raises the cause of a failure, as far as the members' last words tell."""
        last_words = {member.rank: message}
        until = time.monotonic() + LAST_WORDS_S
        while len(last_words) < self.size and (left := until - time.monotonic()) > 0:
            for other, said in self._heard(left):
                if said is None or isinstance(said, Failed):
                    last_words.setdefault(other.rank, said)
                if said is None:
                    left = 0.0
            if None in last_words.values():
                break
        failures = {rank: said for rank, said in sorted(last_words.items()) if isinstance(said, Failed)}
        for rank, said in failures.items():
            _log.error("process %d of the group of %d: %s", rank, self.size, said.trace)
        if (dead := next((rank for rank, said in last_words.items() if said is None), None)) is not None:
            how = f"process {dead} of the group of {self.size} {self._members[dead].how_it_died()}"
            was_killed = self._members[dead].code == -signal.SIGKILL
            if was_killed and self._oom_kills is not None and (oom_kills() or 0) > self._oom_kills:
                raise GroupError(how) from MemoryError("the kernel killed the process")
            raise GroupError(how)
        own = next(((rank, said) for rank, said in failures.items() if not said.lost), None)
        if own is None:
            silent = [str(rank) for rank in range(self.size) if rank not in failures] or ["another"]
            raise GroupError(
                f"process {' and '.join(silent)} of the group of {self.size} did not answer the others for "
                f"{self._stuck_s:g} s: it hangs"
            )
        rank, said = own
        if said.error is None:
            raise GroupError(f"process {rank} of the group of {self.size} failed: {said.trace.splitlines()[-1]}")
        raise said.error


class _Member:
    """One process of the group."""

    def __init__(self, rank: int, folder: Path) -> None:
        self.rank = rank
        self.process: subprocess.Popen[bytes] | None = None
        self.connection, self._theirs = multiprocessing.Pipe()
        self._store = folder / "store"
        self._errors: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # open as long as the process is

    def start(self, environment: dict[str, str], stuck_s: float) -> None:
        words = (str(self._theirs.fileno()), str(os.getpid()), str(self._store), f"{stuck_s:g}")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "embedsweep.training.member", *words],
            env=environment,
            pass_fds=(self._theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,  # a terminal's Ctrl-C is for the leader, who ends the members itself
        )
        self._theirs.close()  # so that it is heard when the process ends

    def send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except ConnectionError:
            return  # it died, which is heard next

    def end(self) -> None:
        self.connection.close()
        self._theirs.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._errors.close()

    @property
    def code(self) -> int | None:
        """Its exit code, or the negative number of the signal that killed it; None while it runs."""
        return self.process.poll() if self.process is not None else None

    def how_it_died(self) -> str:
        assert self.process is not None
        try:
            code = self.process.wait(timeout=LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return f"ended with exit code {code}: " + next((line for line in reversed(lines) if line.strip()), "")


def _environment(rank: int, size: int, gpu: str | None) -> dict[str, str]:
    """What torch and accelerate read; each member sees one GPU only, so that it is the first of its own."""
    # What the user has set of threads, or who dealt the machine's cores out among workers, is each process's.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, visible_cores() // size))
    paths = [str(Path(embedsweep.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0" if gpu is not None else str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}),
    }


@contextmanager
def open_group(size: int, device: str) -> Iterator[TrainingGroup | None]:
    """The group that trains the trials of a block; None of one process, which is this one.

    Args:
        size: ``workers.processes_per_trial``.
        device: ``trainer.device``.
    """
    if size == 1:
        yield None
        return
    group = TrainingGroup(size, device)
    try:
        yield group
    finally:
        group.close()
