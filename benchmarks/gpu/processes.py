"""Run a command within a time limit, end it with all processes it started, and count MPS clients."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE_S = (8.0, 3.0)
"""Seconds to wait after each SIGTERM: embedsweep's workers stop their trials after the first, exit after the second."""
WAIT_S = 0.1
MPS_EVERY_S = 3.0
MPS_ANSWER_S = 5.0


@dataclass(frozen=True)
class ProcessEnd:
    """How a command ended.

    Attributes:
        begin: seconds since the epoch.
        end: the same.
        code: its exit code, negative where a signal ended it.
        is_timed_out: whether it was ended at its time limit.
        is_interrupted: whether it was ended because this process was interrupted.
    """

    begin: float
    end: float
    code: int
    is_timed_out: bool
    is_interrupted: bool


def run_limited(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    limit_s: float,
    interrupted: threading.Event,
    watch: Callable[[], None],
) -> ProcessEnd:
    """Run a command until it ends, or end it at its limit or when this process is interrupted.

    Args:
        command: program and arguments.
        folder: its working directory.
        environment: its whole environment.
        log: the file that takes what it prints.
        limit_s: seconds until it is ended, which takes up to 12 more.
        interrupted: set when this process is interrupted.
        watch: called several times a second meanwhile.
    """
    begin, deadline = time.time(), time.monotonic() + limit_s
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which ends it
        )
        while process.poll() is None and time.monotonic() < deadline and not interrupted.wait(WAIT_S):
            watch()
        is_running = process.poll() is None
        is_interrupted = is_running and interrupted.is_set()
        stop(process)
    return ProcessEnd(begin, time.time(), process.returncode, is_running and not is_interrupted, is_interrupted)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, its group and its descendants in other groups, unless the process has ended by itself."""
    if process.poll() is not None:
        return
    family = _descendants(process.pid)
    for grace in GRACE_S:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
            break
    for child in family:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


class MpsClients:
    """Count the processes that MPS serves while a way runs.

    Attributes:
        most: the highest number seen at once; None where the control program does not answer.
    """

    def __init__(self, expected: int) -> None:
        self.most: int | None = None
        self._expected = expected
        self._next = time.monotonic() + MPS_EVERY_S
        self._control = os.environ.get("GPU_MPS_CONTROL", "nvidia-cuda-mps-control")

    def watch(self) -> None:
        """Count every few seconds, until as many as expected have been seen."""
        if time.monotonic() < self._next or (self.most or 0) >= self._expected:
            return
        with suppress(OSError, subprocess.SubprocessError):
            servers = self._ask("get_server_list")
            count = sum(len(self._ask(f"get_client_list {server}")) for server in servers)
            self.most = max(self.most or 0, count)
        self._next = time.monotonic() + MPS_EVERY_S

    def _ask(self, question: str) -> list[str]:
        """Return the process ids of an answer."""
        done = subprocess.run(
            [self._control], input=question + "\n", capture_output=True, text=True, timeout=MPS_ANSWER_S, check=True
        )
        return [word for word in done.stdout.split() if word.isdecimal()]
