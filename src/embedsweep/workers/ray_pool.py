"""Worker processes on the nodes of a Ray cluster, each the child of an agent in one of Ray's own processes."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

from embedsweep.config.study import EmissionsConfig
from embedsweep.config.workers import RayWorkersConfig
from embedsweep.errors import WorkerError, first_line
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.workers.cluster import Cluster, Node, as_worker_error, kill, on, slots
from embedsweep.workers.job import worker_log
from embedsweep.workers.node import NodeOrder
from embedsweep.workers.ray_agent import WorkerAgent
from embedsweep.workers.ray_meters import RayMeters
from embedsweep.workers.remote_worker import RemoteWorker

LOOK_EVERY_S = 1.0
"""Seconds between two looks at the cluster's nodes."""

HEAD_S = 45.0
"""Seconds without an answer of the cluster's head after which the command gives up; Ray ends the process after 60."""

PLACE_S = 120.0
"""Seconds that a worker may take to start on a node that had room for it; another program may have been faster."""

FAILED_PLACES = 3
"""Workers, one after another, that cannot be started on any node; after these the command gives up."""

CALLS = 4
"""Calls that an agent takes at the same time: one waits for events."""


@dataclass(frozen=True)
class _Starting:
    """A worker whose agent is being started on a node."""

    number: int
    node: Node
    agent: Any
    started: Any
    since: float = field(default_factory=time.monotonic)


class RayPool:
    """Worker processes on a cluster; see `embedsweep.workers.pool.Pool`.

    A thread looks at the cluster every second: it checks nodes that join, starts workers where there is room for those
    that are wanted, and hands them over once they run.

    Args:
        cluster: the connection.
        workers: how many workers there are, and what each reserves.
        order: what a node is checked for.
        folder: the study's folder.
        arguments: the command line of each; see `embedsweep.workers.local_pool.WorkerPool`.
        most: how many workers there are at most at the start: one for each trial that is left.
        emissions: where the electricity comes from.

    Attributes:
        processes: the workers that run, or whose end was not handled yet.
        size: how many run at the same time, as far as is known at the start.
    """

    def __init__(
        self,
        cluster: Cluster,
        workers: RayWorkersConfig,
        order: NodeOrder,
        folder: Path,
        arguments: Sequence[str],
        most: int,
        emissions: EmissionsConfig,
    ) -> None:
        self.processes: list[RemoteWorker] = []
        self.size = 0
        self._cluster = cluster
        self._workers = workers
        self._order = order
        self._folder = folder
        self._arguments = tuple(arguments)
        self._most = most
        self._inbox: SimpleQueue[tuple[RemoteWorker, Any]] = SimpleQueue()
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._arrived: SimpleQueue[RemoteWorker] = SimpleQueue()
        self._lock = threading.Lock()  # of the next four
        self._wanted: list[int] = []
        self._starting: list[_Starting] = []
        self._running: dict[int, str] = {}  # number -> id of its node
        self._free_slots = 0
        self._n_nodes = 0
        self._found_no_room = False
        self._said_unplaced = False
        self._failed = 0
        self._failure: WorkerError | None = None
        self._looked_at = time.monotonic()
        self._meters = RayMeters(cluster, order.folder, emissions)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray-nodes", daemon=True)

    def __enter__(self) -> Self:
        """Check the nodes and begin to start workers; without trials nothing is done.

        Raises:
            ConfigError: everything that keeps nodes from running trials, by node.
        """
        if not self._most:
            return self
        self._cluster.check(self._order)
        self._free_slots = sum(slots(node.free, self._cluster.needs) for node in self._cluster.call(self._nodes))
        self.size = min(self._most, self._workers.count or max(1, self._free_slots))
        self._wanted = list(range(self.size))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _nodes(self) -> list[Node]:
        return self._cluster.sound(self._order, self._lines.put)

    @property
    def room(self) -> int:
        """How many more workers can be started now; 0 where their number is set."""
        with self._lock:
            return max(0, self._free_slots - len(self._wanted)) if self._workers.count is None else 0

    @property
    def is_starting(self) -> bool:
        """Whether a worker is to start, once there is room for it."""
        with self._lock:
            return bool(self._wanted or self._starting) or not self._arrived.empty()

    @property
    def waits_for(self) -> str:
        """What workers wait for that are to start, in words; empty where none waits."""
        if not self._found_no_room:
            return ""
        needs = _in_words(self._cluster.needs, self._cluster.needs)
        return f"trials are left, and no node of the Ray cluster has room for a worker ({needs}): waiting for one"

    def take_started(self) -> list[RemoteWorker]:
        """Return the workers that have started since the last call."""
        started = []
        with shielded(), suppress(Empty):
            while True:
                started.append(self._arrived.get_nowait())
                self.processes.append(started[-1])
        return started

    def take_lines(self) -> list[str]:
        """Return what is new about nodes.

        Raises:
            WorkerError: the cluster cannot be used any more.
        """
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive() and time.monotonic() - self._looked_at > HEAD_S:
            raise WorkerError(f"the head of the Ray cluster has not answered for {HEAD_S:g} s")
        lines = []
        with suppress(Empty):
            while True:
                lines.append(self._lines.get_nowait())
        return lines

    def receive(self, timeout: float) -> tuple[RemoteWorker, Any] | None:
        """Return the next message with its sender; see `embedsweep.processes.ProcessPool.receive`."""
        try:
            worker, message = self._inbox.get(timeout=timeout)
        except Empty:
            return None
        return (worker, message) if worker in self.processes else None

    def start_worker(self, number: int) -> None:
        """Start the worker with a number as soon as a node has room for it."""
        with self._lock:
            self._wanted.append(number)
            self._found_no_room = False

    def start_more(self, count: int) -> None:
        """Start more workers, on nodes that have room."""
        with self._lock:
            taken = {*self._wanted, *self._running, *(each.number for each in self._starting)}
            free = [number for number in range(len(taken) + count) if number not in taken]
            self._wanted += free[:count]

    def remove(self, worker: RemoteWorker) -> None:
        """Drop a worker that has ended; what it reserved is free again."""
        self.processes.remove(worker)
        with self._lock:
            self._running.pop(worker.number, None)
        self._cluster.post(partial(kill, worker.agent))

    @contextmanager
    def measured(self, _: EmissionsConfig) -> Iterator[tuple[RayMeters, None]]:
        """Measure each node that has workers; each worker is told its folder, which its node's meter made."""
        try:
            yield self._meters, None
        finally:
            self.end()

    def end(self) -> None:
        """Start no more workers and kill those that still run."""
        with shielded():
            self._over.set()
            if self._thread.is_alive():
                self._thread.join(LOOK_EVERY_S + HEAD_S)
            agents = [*(each.agent for each in self._starting), *(each.agent for each in self.processes)]
            while not self._arrived.empty():
                agents.append(self._arrived.get().agent)
            self._starting, self._wanted, self.processes = [], [], []
            for agent in agents:
                self._cluster.post(partial(kill, agent))
            self._meters.end()

    def _watch(self) -> None:
        while True:
            try:
                self._look()
            except WorkerError as error:
                self._failure = error
            except Exception as error:
                self._failure = as_worker_error(error)
            self._looked_at = time.monotonic()
            if self._failure is not None or self._over.wait(LOOK_EVERY_S):
                return

    def _look(self) -> None:
        """Hand over workers that have started, and start those that are wanted where there is room."""
        self._hand_over()
        nodes = self._nodes()
        self._n_nodes = len(nodes)
        with self._lock:
            room = self._room_of(nodes)
            while self._wanted and room:
                node = max(room, key=lambda each: room[each])
                self._starting.append(self._start(self._wanted.pop(0), node))
                room[node] -= 1
                room = {each: count for each, count in room.items() if count}
            self._free_slots = sum(room.values())
            self._found_no_room = bool(self._wanted) and not self._starting and not self._running

    def _room_of(self, nodes: Sequence[Node]) -> dict[Node, int]:
        """Return how many workers each node has room for; what was begun just now is not yet among what is reserved."""
        needs = self._cluster.needs
        own = Counter([*self._running.values(), *(each.node.id for each in self._starting)])
        room = {node: min(slots(node.free, needs), slots(node.total, needs) - own[node.id]) for node in nodes}
        return {node: count for node, count in room.items() if count > 0}

    def _start(self, number: int, node: Node) -> _Starting:
        import ray

        needs, folder = self._cluster.needs, self._order.folder
        agent: Any = (
            ray.remote(WorkerAgent)
            .options(num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_concurrency=CALLS, scheduling_strategy=on(node))
            .remote(folder)
        )
        log = str(worker_log(self._folder, number))
        started = agent.start.remote(number, self._arguments, log, self._environment(), self._meters.of(node, number))
        return _Starting(number, node, agent, started)

    def _environment(self) -> dict[str, str]:
        """Return what is added to a worker's environment; all get equally many threads, wherever they run."""
        threads = str(max(1, int(self._workers.cpus // self._workers.processes_per_trial)))
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        added = {name: os.environ.get(name, os.environ.get("OMP_NUM_THREADS", threads)) for name in names}
        added["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
        return added if self._cluster.needs["GPU"] else {**added, "CUDA_VISIBLE_DEVICES": ""}

    def _hand_over(self) -> None:
        """Hand over the workers that have started; one that could not is wanted again."""
        import ray

        for each in list(self._starting):
            is_ready = bool(ray.wait([each.started], timeout=0)[0])
            if not is_ready and time.monotonic() - each.since < PLACE_S:
                continue
            if not is_ready:
                self._say_unplaced(each)
            worker = self._worker_of(each) if is_ready else None
            with self._lock:
                self._starting.remove(each)
                if worker is None:
                    self._wanted.append(each.number)
                else:
                    self._running[each.number] = each.node.id
            if worker is None:
                kill(each.agent)
                continue
            self._said_unplaced = False
            self._arrived.put(worker)
            if self._n_nodes > 1:
                self._lines.put(f"worker {each.number} runs on node {each.node.name}")

    def _say_unplaced(self, each: _Starting) -> None:
        """Say once, until a worker starts again, what one waits for that has not started in time."""
        if self._said_unplaced:
            return
        self._said_unplaced = True
        needs = self._cluster.needs
        free = next((node.free for node in self._cluster.nodes() if node.id == each.node.id), {})
        late = f"worker {each.number} has not started on node {each.node.name} for {PLACE_S:g} s, and is tried again"
        self._lines.put(f"{late}: it needs {_in_words(needs, needs)}, and {_in_words(free, needs)} is free there now")

    def _worker_of(self, each: _Starting) -> RemoteWorker | None:
        """Return a worker whose agent has answered; None if it could not start there.

        Raises:
            WorkerError: the same happened to those before it.
        """
        import ray

        try:
            started = ray.get(each.started)
        except ray.exceptions.RayError as error:
            if not self._cluster.is_alive(each.node):
                self._lines.put(f"worker {each.number} did not start on node {each.node.name}, which left the cluster")
                return None
            self._failed += 1
            reason = f"worker {each.number} cannot be started on node {each.node.name}: {redact(_cause(error))}"
            if self._failed == FAILED_PLACES:
                raise WorkerError(reason) from None
            self._meters.forget(each.node)
            self._lines.put(reason)
            return None
        self._failed = 0
        return RemoteWorker(each.number, each.node, each.agent, started, self._cluster, self._inbox)


def _in_words(resources: Mapping[str, float], needs: Mapping[str, float]) -> str:
    """Return how much there is of each resource that a worker needs: ``1 CPU and 0.25 GPU``."""
    return " and ".join(f"{resources.get(name, 0.0):g} {name}" for name, number in needs.items() if number)


def _cause(error: Exception) -> str:
    """Return in a line what an error of an agent was: Ray puts a whole traceback in front of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)
