"""A worker process on a node of a Ray cluster, as the command sees it."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from embedsweep.secrets import redact
from embedsweep.workers.cluster import Cluster, Node
from embedsweep.workers.job import Job

RETRY_S = 1.0
"""Seconds between two questions to an agent that does not answer."""

LOST = -1
"""The exit code of a worker whose agent is gone; nobody knows the process's own."""


class RemoteWorker:
    """A worker process on a node; see `embedsweep.workers.pool.WorkerProcess`.

    Args:
        number: its number.
        node: where it runs.
        agent: the handle of its `WorkerAgent`.
        started: its process id, and the folder with its part of the node's energy.
        cluster: the connection.
        inbox: receives ``(worker, message)`` for each message, and ``(worker, None)`` once the process has ended.

    Attributes:
        pid: its process id on the node.
        exit_code: its exit code; None while it runs.
        is_lost: whether it ended with its node.
    """

    def __init__(
        self,
        number: int,
        node: Node,
        agent: Any,
        started: tuple[int, str],
        cluster: Cluster,
        inbox: SimpleQueue[tuple[RemoteWorker, Any]],
    ) -> None:
        self.number = number
        self.node = node
        self.pid, self._folder = started
        self.exit_code: int | None = None
        self.is_lost = False
        self.agent = agent
        self._cluster = cluster
        self._inbox = inbox
        self._end = ""
        threading.Thread(target=self._read_events, name=f"worker-{number}", daemon=True).start()

    def send(self, message: object) -> None:
        """Send a message; a job names the folder of the node's meter."""
        if isinstance(message, Job):
            message = replace(message, allocation_folder=Path(self._folder))
        pickled = pickle.dumps(message)
        self._cluster.post(lambda: self.agent.send.remote(pickled))

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""
        self._cluster.post(lambda: self.agent.send_signal.remote(int(signum)))

    def kill(self, reason: str | None = None) -> None:
        """Kill the process; ``reason`` replaces the description of its end."""
        self._cluster.post(lambda: self.agent.send_signal.remote(int(signal.SIGKILL), reason))

    def describe_end(self) -> str:
        """Return how the process ended, followed by the last lines of its log if it wrote any."""
        return self._end

    def _read_events(self) -> None:
        """Pass on what the agent has, until the process has ended or the agent is gone."""
        import ray

        seen = 0
        while self.exit_code is None:
            try:
                events, end = ray.get(self.agent.events.remote(seen))
            except ray.exceptions.ActorUnavailableError:  # until Ray knows whether it is dead
                time.sleep(RETRY_S)
                continue
            except Exception as error:
                self._set_lost(error)
                break
            seen += len(events)
            for event in events:
                self._inbox.put((self, event))
            if end is not None:
                self._end = end[1]
                self.exit_code = end[0]
        self._inbox.put((self, None))

    def _set_lost(self, error: Exception) -> None:
        try:
            self.is_lost = not self._cluster.is_alive(self.node)
        except Exception:  # the connection is closed
            self.is_lost = True
        lost = f"lost its agent on node {self.node.name}: {' '.join(str(error).split())}"
        self._end = f"ended with its node {self.node.name}" if self.is_lost else redact(lost)
        self.exit_code = LOST
