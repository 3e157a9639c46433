"""What runs in Ray's own processes on the nodes: an agent for each worker process, and a meter for each node.

Ray may kill its processes at any moment. The agent's child, this project's own worker process, notices that and
releases its trial; the agent only passes on what parent and child say to each other.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from embedsweep.config.study import EmissionsConfig
from embedsweep.environment import drop_empty, drop_launcher
from embedsweep.processes import PYTHON, ChildProcess

COMMAND = (*PYTHON, "embedsweep.workers.process")

POLL_S = 10.0
"""Seconds after which an agent without events answers, so that a call never waits for long."""

MOST_EVENTS = 1000
"""Events in one answer, at most."""

METER_S = 60.0
"""Seconds that a node's meter may take to answer."""

End = tuple[int, str]
"""A worker's exit code and the description of its end."""


def enter(folder: str) -> None:
    """Work in a folder, as the command does, but import nothing from it: its files may have names of libraries.

    Ray puts the command's working directory in front of everything that is imported.
    """
    os.chdir(folder)
    sys.path[:] = [path for path in sys.path if path and Path(path) != Path(folder)]
    drop_launcher(os.environ)
    drop_empty(os.environ)


class WorkerAgent:
    """The parent of one worker process on a node.

    Args:
        folder: the command's working directory.
    """

    def __init__(self, folder: str) -> None:
        enter(folder)
        self._inbox: SimpleQueue[tuple[ChildProcess, Any]] = SimpleQueue()
        self._child: ChildProcess | None = None
        self._unseen: list[Any] = []
        self._first = 0
        self._end: End | None = None
        self._lock = threading.Lock()

    def start(
        self, number: int, arguments: Sequence[str], log: str, environment: Mapping[str, str], meter: Any
    ) -> tuple[int, str]:
        """Start the worker process, and have it measured.

        Args:
            number: the worker's number.
            arguments: its command line.
            log: the file for what it prints.
            environment: variables added to those that Ray gives this process; among these are its devices.
            meter: the node's `NodeMeter`.

        Returns:
            The process id, and the folder with its part of the node's energy.

        Raises:
            OSError: the process cannot be started.
        """
        import ray

        self._child = ChildProcess(number, (*COMMAND, *arguments), Path(log), environment, self._inbox)
        folder = ray.get(meter.add.remote(number, self._child.pid), timeout=METER_S)
        return self._child.pid, folder

    def send(self, message: bytes) -> None:
        """Pass on a pickled message."""
        if self._child is not None:
            self._child.send_pickled(message)

    def send_signal(self, signum: int, reason: str | None = None) -> None:
        """Send the process a signal; ``reason`` replaces the description of its end where that is a kill."""
        if self._child is None:
            return
        if signum == signal.SIGKILL:
            self._child.kill(reason)
        else:
            self._child.send_signal(signum)

    def events(self, seen: int) -> tuple[list[Any], End | None]:
        """Return the process's next messages, and its end once it has ended and all were returned.

        Args:
            seen: how many messages the caller has; others are returned again if an answer was lost on its way.
        """
        with self._lock:
            self._unseen = self._unseen[seen - self._first :]
            self._first = seen
            with suppress(Empty):
                if not self._unseen and self._end is None:
                    self._take(self._inbox.get(timeout=POLL_S))
                while len(self._unseen) < MOST_EVENTS and self._end is None:
                    self._take(self._inbox.get_nowait())
            return list(self._unseen), self._end

    def _take(self, received: tuple[ChildProcess, Any]) -> None:
        child, message = received
        if message is not None:
            self._unseen.append(message)
        else:
            assert child.exit_code is not None
            self._end = child.exit_code, child.describe_end()


class NodeMeter:
    """Measures a node and splits its energy between the workers of a command that run there.

    Args:
        folder: the command's working directory.
        emissions: where the electricity comes from.
        has_gpus: whether workers train on GPUs: all of the node's count then, as Ray deals them out later.
    """

    def __init__(self, folder: str, emissions: EmissionsConfig, has_gpus: bool) -> None:
        enter(folder)
        from embedsweep.emissions.machine_emissions import MachineEmissions

        if has_gpus:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides all GPUs from a process that holds none
        self._folder = tempfile.TemporaryDirectory(prefix="embedsweep-")
        self._machine = MachineEmissions(emissions, Path(self._folder.name))
        self._machine.__enter__()

    def add(self, worker: int, pid: int) -> str:
        """Count a process as a worker's; return the folder with the worker's part."""
        self._machine.add(worker, pid)
        return self._folder.name

    def remove(self, worker: int) -> None:
        """Stop counting for a worker."""
        self._machine.remove(worker)

    def stop(self) -> None:
        """End the measuring and delete the folder."""
        self._machine.__exit__()
        self._folder.cleanup()
