"""A worker process as its supervisor holds it.

Owns the process's start, its pipes and what can be said of its end. Knows nothing of trials or of other workers.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from embedsweep.errors import WorkerError
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.workers.job import Event, worker_log

PYTHON = (sys.executable, "-P", "-m")
"""``-P``: a file of the user's, in the working directory, must not stand in for a library of its name."""
TOLD_LINES = 8
PIPE_DEADLINE_S = 2.0


class WorkerProcess:
    """A worker process, from its start to its end.

    It imports what takes long at once, and works when it is sent its job.

    Args:
        number: its own among the workers of its command, from 0.
        command: what is started.
        log: where all goes that it prints.
        environment: what is added to this process's environment.
        told: gets the child and each event it tells, and, when it has ended, the child and None.

    Attributes:
        number: its own among the workers.
        trial: the label of the trial that it runs; None while it runs none.
        has_begun: whether it has begun a trial.
        outage: what ails all trials, as it says; None where it says nothing of the kind.
        silent_s: seconds since it last told anything, as its supervisor counts them.

    Raises:
        OSError: no process can be started.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        told: SimpleQueue[tuple[WorkerProcess, Event | None]],
    ) -> None:
        self.number = number
        self.trial: str | None = None
        self.has_begun = False
        self.outage: str | None = None
        self.silent_s = 0.0
        self._killed_for: str | None = None
        self._told = told
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._log_begins = file.tell()
            # In a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which passes it on.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, daemon=True).start()

    def send(self, message: object) -> None:
        """Sends it what it is to do, which it unpickles from its stdin."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which its exit code will say
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def hang_up(self) -> None:
        """Closes its stdin, which stays open otherwise: the end of it says that nobody waits for it any more."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a message that nobody read
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, or the negative number of the signal that killed it; None while it runs."""
        return self._process.poll()

    def send_signal(self, signum: int) -> None:
        """Sends it a signal, unless it has ended."""
        self._process.send_signal(signum)

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for its end, for so many seconds at most; whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.code is not None

    def kill(self, reason: str) -> None:
        """Kills it; ``reason`` is what is said of its end."""
        self._killed_for = reason
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Closes the pipes of a process that has ended."""
        self.hang_up()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def reason(self) -> str:
        """How it ended, and the last lines of its log, for people."""
        code = self.code
        assert code is not None
        if self._killed_for is not None:
            how = self._killed_for
        elif code >= 0:
            how = f"was ended by {signal.Signals(code - 128).name}" if code > 128 else f"ended with exit code {code}"
        else:
            how = f"was killed by {signal.Signals(-code).name}"
            how += ": perhaps out of memory" if -code == signal.SIGKILL else ""
        lines = self._last_lines()
        return "\n  ".join((f"{how}; {self._log} ends" if lines else how, *lines))

    def _last_lines(self) -> list[str]:
        with self._log.open("rb") as log:
            log.seek(self._log_begins)
            text = log.read().decode(errors="replace")
        return [redact(line) for line in text.splitlines() if line.strip()][-TOLD_LINES:]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # not the half of one that it was killed over
                self._told.put((self, Event.of(line.decode())))

    def _wait(self) -> None:
        self._process.wait()
        self._reader.join(PIPE_DEADLINE_S)  # its end of the pipe may have been inherited by what it started
        self._told.put((self, None))


COMMAND = (*PYTHON, "embedsweep.workers.process")


class WorkerPool:
    """Worker processes. Entered, it starts them, and they import what takes long; left, none runs any more.

    Args:
        folder: the study's.
        words: what each is told on its command line: ``trainer.device``, how many processes train a trial, and what
            MLflow's store is.
        environments: what is added to the environment of each; there are as many processes.

    Attributes:
        children: those that run, or ended without that it was heard.
        told: gets each child and each event it tells, and, when it has ended, the child and None.
    """

    def __init__(self, folder: Path, words: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        self.children: list[WorkerProcess] = []
        self.told: SimpleQueue[tuple[WorkerProcess, Event | None]] = SimpleQueue()
        self._folder = folder
        self._words = words
        self._environments = environments

    def start(self, number: int) -> WorkerProcess:
        """Starts the process with a number.

        Raises:
            WorkerError: it cannot be started.
        """
        log, environment = worker_log(self._folder, number), self._environments[number]
        with shielded():  # a signal in between must find it
            try:
                child = WorkerProcess(number, (*COMMAND, *self._words), log, environment, self.told)
            except OSError as error:
                raise WorkerError(f"worker {number} cannot be started: {error}") from None
            self.children.append(child)
        return child

    def remove(self, child: WorkerProcess) -> None:
        """Forgets one that has ended."""
        self.children.remove(child)
        child.close()

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._environments)):
                self.start(number)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        """Those that are left were never sent to work: who sends them ends them."""
        with shielded():
            for child in list(self.children):
                child.send_signal(signal.SIGKILL)
                child.wait()
                self.remove(child)
