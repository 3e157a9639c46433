"""Child processes that exchange pickled messages with this one: start them, hear from them, notice their end, end them.

`ChildProcess` and `ProcessPool` are the parent's side, `ParentChannel` is the child's.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Self

from embedsweep.secrets import redact
from embedsweep.signals import shielded

PYTHON = (sys.executable, "-P", "-m")
"""``-P``: a file of the user's in the working directory must not shadow a library of the same name."""

LAST_LINES = 8
"""Lines of a process's log that are quoted when it ended unexpectedly."""

PIPE_DEADLINE_S = 2.0
"""How long the messages of a process that ended are waited for; its end of the pipe may live on in its own children."""


ALIVE_S = 1.0
"""Seconds between two signs of life of a child, at least."""


def at_most_every(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes a call, unless it did so less than this many seconds ago."""
    last = -seconds

    def limited() -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= seconds:
            last = now
            call()

    return limited


def same_package() -> dict[str, str]:
    """Return the variable by which a child imports this very package where a script or notebook changed ``sys.path``.

    Not where it is installed: in ``PYTHONPATH``, the packages beside it would come before the standard library.
    """
    folder = Path(__file__).resolve().parents[1]
    if folder.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


class ChildProcess:
    """A child process, from its start to its end.

    It runs in a session of its own, so that Ctrl-C in a terminal reaches this process only, which then decides.

    Args:
        number: the process's number in its pool, from 0.
        command: the program and its arguments.
        log: the file that its stderr is appended to, and whatever else it prints.
        environment: variables added to this process's environment.
        inbox: receives ``(process, message)`` for each message, and ``(process, None)`` once the process has ended.

    Attributes:
        is_lost: False: a process on this machine is no machine that went away.

    Raises:
        OSError: the process cannot be started.
    """

    is_lost = False

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        inbox: SimpleQueue[tuple[ChildProcess, Any]],
    ) -> None:
        self.number = number
        self._kill_reason: str | None = None
        self._inbox = inbox
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._log_start = file.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **same_package(), **environment},
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._reader = threading.Thread(target=self._read_messages, daemon=True)
        self._reader.start()
        threading.Thread(target=self._report_end, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or the negative number of the signal that killed the process; None while it runs."""
        return self._process.poll()

    def send(self, message: object) -> None:
        """Send a message; a process that has ended already is reported by its exit code, not here."""
        self.send_pickled(pickle.dumps(message))

    def send_pickled(self, message: bytes) -> None:
        """Send a message that is pickled already."""
        with suppress(BrokenPipeError):
            self._stdin.write(message)
            self._stdin.flush()

    def close_stdin(self) -> None:
        """Close the process's stdin, which tells it that no further message will come."""
        with suppress(BrokenPipeError):  # a message that nobody read
            self._stdin.close()

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""
        self._process.send_signal(signum)

    def kill(self, reason: str | None = None) -> None:
        """Kill the process; ``reason`` replaces the description of its end."""
        self._kill_reason = reason
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the process's end, at most ``seconds``; return whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.exit_code is not None

    def describe_end(self) -> str:
        """Return how the process ended, followed by the last lines of its log if it wrote any."""
        how, lines = self.end_reason(), self.last_lines()
        return "\n  ".join((f"{how}; {self._log} ends" if lines else how, *lines))

    def end_reason(self) -> str:
        """Return in words how the process, which must have ended, came to its end."""
        code = self.exit_code
        assert code is not None
        if self._kill_reason is not None:
            return self._kill_reason
        if code < 0:
            hint = ": perhaps out of memory" if -code == signal.SIGKILL else ""
            return f"was killed by {signal.Signals(-code).name}{hint}"
        return f"was ended by {signal.Signals(code - 128).name}" if code > 128 else f"ended with exit code {code}"

    def last_lines(self, count: int = LAST_LINES) -> list[str]:
        """Return the last lines that are not blank of what this process wrote to its log, without secrets."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        return [redact(line) for line in text.splitlines() if line.strip()][-count:]

    def _read_messages(self) -> None:
        # Closed here, as nothing else may while a read waits: a child of the process may hold the pipe open for long.
        with self._stdout, suppress(EOFError, pickle.UnpicklingError):  # a killed process may leave half a message
            while True:
                self._inbox.put((self, pickle.load(self._stdout)))

    def _report_end(self) -> None:
        self._process.wait()
        self._reader.join(PIPE_DEADLINE_S)
        self._inbox.put((self, None))


class ProcessPool:
    """Child processes with one inbox for the messages of all. On leaving the block, those that still run are killed.

    Attributes:
        processes: those that run, or whose end was not handled yet.
    """

    def __init__(self) -> None:
        self.processes: list[ChildProcess] = []
        self._inbox: SimpleQueue[tuple[ChildProcess, Any]] = SimpleQueue()

    def start(self, number: int, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> ChildProcess:
        """Start a process; see `ChildProcess` for the arguments.

        Raises:
            OSError: the process cannot be started.
        """
        with shielded():  # a signal between the two lines would leave a process that nobody ends
            process = ChildProcess(number, command, log, environment, self._inbox)
            self.processes.append(process)
        return process

    def receive(self, timeout: float) -> tuple[ChildProcess, Any] | None:
        """Return the next message with its sender; the message is None once the sender has ended.

        Args:
            timeout: seconds to wait. A signal that arrives just before the wait is handled only after it.

        Returns:
            None where no message came in time, or only one of a process that was removed.
        """
        try:
            process, message = self._inbox.get(timeout=timeout)
        except Empty:
            return None
        return (process, message) if process in self.processes else None

    def remove(self, process: ChildProcess) -> None:
        """Drop a process that has ended."""
        self.processes.remove(process)
        process.close_stdin()

    def end(self, grace_s: float = 0.0) -> None:
        """End all processes and drop them.

        Args:
            grace_s: seconds that they get, all together, to end by themselves once their stdin is closed; those that
                still run then are killed.
        """
        with shielded():
            if grace_s:
                deadline = time.monotonic() + grace_s
                for process in self.processes:
                    process.close_stdin()
                for process in self.processes:
                    process.wait(max(0.0, deadline - time.monotonic()))
            for process in self.processes:
                process.kill()
            for process in list(self.processes):
                process.wait()
                self.remove(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class ParentChannel:
    """The connection of a child process to its parent.

    It takes over stdin and stdout: whatever the process prints from then on goes to stderr, which is its log.
    """

    def __init__(self) -> None:
        self._incoming: IO[bytes] = os.fdopen(os.dup(0), "rb")
        self._outgoing: IO[bytes] = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    def send(self, message: object) -> None:
        """Send a message. A parent that is gone is ignored: that is noticed by `wait_for_end` or `receive`."""
        with suppress(BrokenPipeError):
            self._outgoing.write(pickle.dumps(message))
            self._outgoing.flush()

    def receive(self) -> Any:
        """Return the next message.

        Raises:
            EOFError: the parent has closed the connection or is gone.
        """
        return pickle.load(self._incoming)

    def wait_for_end(self) -> None:
        """Block until the parent has closed the connection or is gone; no message may come any more."""
        os.read(self._incoming.fileno(), 1)
