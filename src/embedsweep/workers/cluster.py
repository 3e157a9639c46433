"""A Ray cluster: the command's connection to it, its nodes, and whether each can run the trials of a study."""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from embedsweep.config.workers import RayWorkersConfig
from embedsweep.errors import ConfigError, Problem, WorkerError, first_line, raise_problems
from embedsweep.files import write_atomically
from embedsweep.lease import Lease
from embedsweep.machine import visible_cores
from embedsweep.secrets import redact
from embedsweep.signals import shielded, take_back
from embedsweep.workers.node import NodeOrder, check_node
from embedsweep.workers.sources import identifier

T = TypeVar("T")

CONNECT_S = 5.0
"""Seconds within which the head of a cluster takes a connection: Ray itself would wait for a minute."""

CHECK_S = 600.0
"""Seconds that the check of a node may take; it reads all data there, which may have to be downloaded."""

SHUTDOWN_S = 30.0
LONGEST_TEMPORARY = 30
"""Characters of the temporary folder's path: the system limits the paths of Ray's sockets in it to 107."""

OWNER = "owner.json"
"""The file in a local cluster's folder that says which process it belongs to."""

STORE_BYTES = 80 * 2**20
"""Memory of a local cluster for objects in transit, of which there are next to none; the smallest that Ray takes."""

LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: Ray's servers then bind to the loopback interface
    "RAY_worker_niceness": "0",  # Ray's own 15 would let any other program of this machine go first
    "RAY_AUTH_MODE": "token",  # said here, Ray neither prints it nor keeps a token in the home folder
}
"""The environment in which a local cluster is started."""


@dataclass(frozen=True)
class Node:
    """A living node of the cluster.

    Attributes:
        id: Ray's id of it.
        name: for people: what Ray calls it, or its host; with the id where several have the same.
        total: its resources (``CPU``, ``GPU``).
        free: those that nobody has reserved, as the cluster's head knows it.
    """

    id: str
    name: str
    total: Mapping[str, float] = field(compare=False)
    free: Mapping[str, float] = field(compare=False)


class Cluster:
    """A connection to a Ray cluster, for the block.

    All calls of Ray are made in a thread of its own: in the main thread Ray would swallow the exception by which a
    signal interrupts the command, and a local cluster ends with the thread that started it.

    Args:
        workers: where the cluster is, and what each worker reserves.
        device: ``trainer.device``.

    Attributes:
        needs: what each worker reserves: ``CPU`` and ``GPU``.
    """

    def __init__(self, workers: RayWorkersConfig, device: str) -> None:
        self.needs: Mapping[str, float] = {}
        self._workers = workers
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._folder: Path | None = None
        self._is_own = False
        self._checks: dict[str, Any] = {}
        self._sound: set[str] = set()

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ConfigError: there is no such cluster, or no node that could ever hold a worker.
        """
        try:
            self.call(self._connect)
            take_back()
            self._find_needs(self.call(self.nodes))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with shielded():
            with suppress(TimeoutError):
                self._thread.submit(self._disconnect).result(SHUTDOWN_S)
            self._thread.shutdown(wait=False)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns in the thread of Ray's calls."""
        return self._thread.submit(function).result()

    def post(self, function: Callable[[], object]) -> Future[object]:
        """Call a function in the thread of Ray's calls, later and in order, and go on."""
        return self._thread.submit(function)

    def _connect(self) -> None:
        address = self._workers.address
        former = dict(os.environ)
        try:
            if address == "none":
                token = {"RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)}
                os.environ.update({**LOCAL, **token})
            import ray

            logging.getLogger("ray").setLevel(logging.ERROR)  # which importing it has set
            if ray.is_initialized():  # the program that calls embedsweep is connected already
                return
            self._is_own = True
            if address == "none":
                self._start_local()
            else:
                _require_reachable(address)
                ray.init(address=address, log_to_driver=False, configure_logging=False)
            _print_nothing(True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError.single("workers.address", _no_cluster(address, error)) from None
        finally:
            _restore(former)

    def _start_local(self) -> None:
        import ray

        parent = tempfile.gettempdir()
        parent = parent if len(parent) <= LONGEST_TEMPORARY else "/tmp"
        _remove_abandoned(Path(parent))
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
        write_atomically(self._folder / OWNER, json.dumps(asdict(Lease.mine())))
        wanted = int(-(-(self._workers.count or 0) * self._workers.cpus // 1))
        ray.init(
            address="local",
            num_cpus=max(
                visible_cores(), wanted
            ),  # a number of workers that is set runs at once, as with workers=local
            num_gpus=0 if self._device in ("cpu", "mps") else None,
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(self._folder),
        )

    def _disconnect(self) -> None:
        if self._is_own:
            import ray

            ray.shutdown()
            _print_nothing(False)

    def _find_needs(self, nodes: Sequence[Node]) -> None:
        """Find out what each worker reserves, and refuse what no node has."""
        gpus = self._workers.gpus
        if gpus is None:
            has_gpus = self._device not in ("cpu", "mps") and any(node.total.get("GPU", 0) for node in nodes)
            gpus = self._workers.processes_per_trial if has_gpus else 0
        self.needs = {"CPU": self._workers.cpus, "GPU": gpus}
        for key, resource in (("workers.cpus", "CPU"), ("workers.gpus", "GPU")):
            most = max((node.total.get(resource, 0) for node in nodes), default=0)
            if most < self.needs[resource]:
                message = (
                    f"no node of the cluster has {self.needs[resource]:g} {resource}s, and the largest has {most:g}"
                )
                raise ConfigError.single(key, f"{message}: set less")
        if not any(slots(node.total, self.needs) for node in nodes):
            needs = " and ".join(f"{number:g} {resource}" for resource, number in self.needs.items())
            raise ConfigError.single("workers.cpus", f"no node of the cluster has {needs} together: set less")

    def nodes(self) -> list[Node]:
        """Return the living nodes, and what of each is free."""
        import ray

        state: Any = ray._private.state  # its functions have no types
        free = state.available_resources_per_node()
        living = [node for node in state.nodes() if node["Alive"]]
        names = {node["NodeID"]: _name(node) for node in living}
        count = Counter(names.values())
        unique = {key: name if count[name] == 1 else f"{name}-{key[:6]}" for key, name in names.items()}
        return [
            Node(node["NodeID"], unique[node["NodeID"]], node["Resources"], free.get(node["NodeID"], {}))
            for node in living
        ]

    def check(self, order: NodeOrder) -> None:
        """Check all nodes of this moment, at the same time, unless that was done before.

        Raises:
            ConfigError: everything that keeps any of them from running trials of the study, by node.
        """
        if self._sound:
            return
        nodes = [node for node in self.call(self.nodes) if slots(node.total, self.needs)]
        answers = self.call(lambda: {node.id: self._ask(node, order) for node in nodes})
        problems: list[Problem] = []
        until = time.monotonic() + CHECK_S
        while self.call(lambda: _are_pending(list(answers.values()))) and time.monotonic() < until:
            pass  # in short calls, between which a signal may end the command
        for node in nodes:
            problems += self.call(partial(self._answer, node, answers[node.id]))
        raise_problems(problems)

    def sound(self, order: NodeOrder, say: Callable[[str], None]) -> list[Node]:
        """Return the living nodes that can run trials of the study; one that has joined is checked, and reported."""
        import ray

        nodes = [node for node in self.nodes() if slots(node.total, self.needs)]
        for node in nodes:
            if node.id in self._sound:
                continue
            if node.id not in self._checks:
                self._checks[node.id] = self._ask(node, order)
            elif (answer := self._checks[node.id]) is not None and ray.wait([answer], timeout=0)[0]:
                self._checks[node.id] = None  # asked once
                problems = self._answer(node, answer)
                joined = f"node {node.name} joined the cluster"
                say(f"{joined} and is not used: {'; '.join(map(str, problems))}" if problems else joined)
        return [node for node in nodes if node.id in self._sound]

    def is_alive(self, node: Node) -> bool:
        """Return whether a node is still a part of the cluster."""
        return any(each.id == node.id for each in self.nodes())

    def _ask(self, node: Node, order: NodeOrder) -> Any:
        """Begin the check of a node; one call compares the sources, with code that is sent along."""
        import ray

        task = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_task(order, *identifier()()))
        return task.options(scheduling_strategy=on(node)).remote()

    def _answer(self, node: Node, answer: Any) -> list[Problem]:
        """Return the problems of a node that was asked; without any it is sound."""
        import ray

        try:
            lines = ray.get(answer, timeout=0)
        except ray.exceptions.GetTimeoutError:
            lines = [f"did not answer for {CHECK_S:g} s"]
        except ray.exceptions.RayError as error:
            lines = [f"cannot be checked: {type(error).__name__}: {first_line(error)}"]
        if not lines:
            self._sound.add(node.id)
        return [Problem(f"node {node.name}", redact(line)) for line in lines]


def _task(order: NodeOrder, version: str, digest: str) -> Callable[[], list[str]]:
    """Return the check of a node. It is sent as code, and imports this package only once that is known to be equal."""
    identify, pickled = identifier(), pickle.dumps(partial(check_node, order))

    def check() -> list[str]:
        import pickle

        found, sources = identify()
        if (found, sources) != (version, digest):
            what = f"has embedsweep {found}{' with other sources' if found == version else ''}"
            what = what if sources else "has no embedsweep"
            return [f"{what}, and the command has {version}: install the same on all nodes"]
        return list(pickle.loads(pickled)())

    return check


def on(node: Node) -> Any:
    """Return Ray's strategy that runs something on this node or not at all."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def kill(actor: Any) -> None:
    """End an actor at once."""
    import ray

    with suppress(Exception):  # it is dead already
        ray.kill(actor)


def slots(resources: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Return how many workers fit into resources."""
    fits = [int((resources.get(name, 0.0) + 1e-6) // need) for name, need in needs.items() if need]
    return min(fits)


def _are_pending(answers: list[Any]) -> bool:
    """Wait a second for answers; return whether some are missing still."""
    import ray

    return bool(answers) and bool(ray.wait(answers, num_returns=len(answers), timeout=1.0)[1])


def _remove_abandoned(parent: Path) -> None:
    """Delete the folders of local clusters whose commands were killed on this system; Ray's processes end with them."""
    for file in parent.glob(f"ray-*/{OWNER}"):
        with suppress(OSError, ValueError, TypeError):  # another user's, or deleted by another command in this moment
            if Lease(**json.loads(file.read_text(encoding="utf-8"))).runs() is False:
                shutil.rmtree(file.parent)


def _restore(former: Mapping[str, str]) -> None:
    """Give the environment the values that it had: what Ray sets for itself is not for the command's other children."""
    for name in os.environ.keys() - former.keys():
        del os.environ[name]
    for name, value in former.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _print_nothing(is_quiet: bool) -> None:
    """Keep Ray's messages about dying nodes from between the command's lines, as Ray's own debugger does."""
    import ray

    printing: Any = ray._private.worker
    printing._worker_logs_enabled = not is_quiet


def _name(node: Mapping[str, Any]) -> str:
    given = str(node["NodeName"])
    return given if given != node["NodeManagerAddress"] else str(node["NodeManagerHostname"])


def _require_reachable(address: str) -> None:
    """Raise a ConnectionError if nobody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host:  # auto
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise ConnectionError(f"nobody answers there ({error.strerror or error})") from None


def _no_cluster(address: str, error: Exception) -> str:
    start = "start one (ray start --head), or use workers.address=none for one on this machine alone"
    if address == "auto":
        return f"auto finds no Ray cluster that this machine is a node of: {start} ({first_line(error)})"
    if address == "none":
        return f"a local Ray cluster cannot be started: {first_line(error)}"
    join = f"this machine must be a node of it (ray start --address={address})"
    return f"{address} is no Ray cluster that can be used: {first_line(error)}; {join}"


def lines_of(error: Exception) -> Iterator[str]:
    """Yield the lines of one of Ray's errors that say something, without secrets."""
    yield from (redact(line.strip()) for line in str(error).splitlines() if line.strip())


def as_worker_error(error: Exception) -> WorkerError:
    """Return what ends the command where Ray fails as a whole."""
    return WorkerError(f"the Ray cluster cannot be used any more: {' '.join(lines_of(error))[:500]}")
