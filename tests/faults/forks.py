"""Start commands as forks of one process that has loaded the libraries, which takes longer than a small study.

``ForkServer.start`` is used like ``subprocess.Popen``. A fork is a process of its own that leaves the interpreter in
the usual way; only the loading is shared. ``python forks.py FD`` is the server, on a socket that it inherits.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

LARGEST_REQUEST = 1 << 18
READY = b"ready"


class ForkedCommand:
    """A running command, with the part of ``subprocess.Popen`` that tests use.

    Attributes:
        pid: its process id.
        stdout: what it prints, stderr included; None if that goes to a file.
        returncode: its exit code, or minus the signal that killed it; None while it runs.
    """

    def __init__(self, status: int, stdout: TextIO | None) -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        line = self._read_line()
        assert line, "the fork server ended"
        self.pid = int(line)

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._status, 1)):
            line += byte
        return line

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, once there is one.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        if self.returncode is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = int(self._read_line())
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, signum: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Return the rest of its output, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        assert self.stdout is not None
        output: list[str] = []
        stdout = self.stdout
        reader = threading.Thread(target=lambda: output.append(stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        self.stdout.close()
        self.wait()
        return output[0], None


class ForkServer:
    """The process that commands are forked from, ready once it is constructed; ends with the process that made it."""

    def __init__(self) -> None:
        # A packet is one request, whole.
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
            )
        assert self._channel.recv(len(READY)) == READY, "the fork server ended"

    def start(
        self,
        program: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path | None = None,
        at: float | None = None,
    ) -> ForkedCommand:
        """Start a command in ``folder``.

        Args:
            program: what would follow ``python``: a script or ``-m`` and a module, and arguments.
            folder: its working directory.
            environment: all of its environment.
            output: the file that gets what it prints; None is a pipe, which somebody has to read.
            at: the moment at which it begins, by ``time.monotonic``; None is at once.
        """
        request = {"program": list(program), "folder": str(folder), "environment": dict(environment), "at": at}
        stdout: TextIO | None = None
        if output is None:
            readable, printed = os.pipe()
            stdout = os.fdopen(readable, encoding="utf-8")
        else:
            printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        status, theirs = os.pipe()
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], [printed, theirs])
        finally:
            os.close(printed)
            os.close(theirs)
        return ForkedCommand(status, stdout)

    def close(self) -> None:
        """End the server; commands that run are left running."""
        self._channel.close()
        self._process.wait()


def serve(channel: socket.socket) -> None:
    """Fork a command for each request, until the other side closes the channel."""
    load_libraries()
    channel.send(READY)
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, LARGEST_REQUEST, 2)
        if not request:
            return
        if os.fork() == 0:
            channel.close()
            watch(json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        reap()


def load_libraries() -> None:
    """Import what a study needs, so that a fork has it."""
    from embedsweep.machine import prepare_process

    prepare_process("cpu")
    import codecarbon  # noqa: F401
    import psycopg  # noqa: F401

    import embedsweep.cli
    import embedsweep.commands.single
    import embedsweep.commands.sweep
    import embedsweep.training.train  # noqa: F401


def reap() -> None:
    """Forget the watchers that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def watch(request: dict[str, Any], output: int, status: int) -> None:
    """Fork the command; report its process id, wait, and report its exit code. Returns in the command only."""
    command = os.fork()
    if command == 0:
        os.close(status)
        run(request, output)
        return
    os.close(output)
    os.write(status, f"{command}\n".encode())
    _, ended = os.waitpid(command, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def run(request: dict[str, Any], output: int) -> None:
    """Become the command, and leave with its exit code as any Python process does."""
    os.chdir(request["folder"])
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    program: list[str] = request["program"]
    if request["at"] is not None:
        time.sleep(max(0.0, request["at"] - time.monotonic()))
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
