"""A real Ray cluster on this machine, whose nodes a test adds and kills; it ends with the process that started it.

``python ray_cluster.py`` is the process that Ray's own test cluster lives in: its imports, warnings and signal
handlers are none of pytest's. It reads a JSON request a line: ``["add", NAME, {VARIABLE: VALUE}]``, ``["kill", NAME]``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psutil

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
"""Of the cluster and of commands on it: loopback addresses, nothing in the home folder, no priority below others."""

STORE_BYTES = 80 * 2**20


class RayCluster:
    """A cluster without nodes but its head, which has no CPUs.

    Args:
        folder: for Ray's files; its path must be short.

    Attributes:
        address: HOST:PORT of its head.
        environment: of a command that finds it with ``workers.address=auto``.
    """

    def __init__(self, folder: Path) -> None:
        self.environment = {**ENVIRONMENT, "RAY_TMPDIR": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.environment},
            text=True,
        )
        self.address = self._answer()

    def add(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Add a node with one CPU, and variables of its own, and wait until it lives."""
        self._ask(["add", name, dict(environment or {})])

    def kill(self, name: str) -> None:
        """Kill every process of a node at once, as if its power were cut."""
        self._ask(["kill", name])

    def _ask(self, request: list[Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        """Return the next line that is an answer; Ray prints others."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("answer "):
                return line.split()[1]
        raise AssertionError("the process of the Ray cluster ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with self._process:  # closes its pipes, and waits for its end
            self._process.stdin.close()


def main() -> None:
    """Keep a cluster until stdin ends."""
    from ray.cluster_utils import Cluster

    common = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster: Any = Cluster(
        initialize_head=True,
        connect=False,
        head_node_args={**common, "num_cpus": 0, "node_name": "head"},
    )
    nodes: dict[str, Any] = {}
    print("answer", cluster.address, flush=True)
    for line in sys.stdin:
        deed, name, *rest = json.loads(line)
        if deed == "add":
            environment = {**os.environ, **rest[0]}
            nodes[name] = cluster.add_node(**common, num_cpus=1, node_name=name, env_vars=environment)
        else:
            _kill(cluster, nodes.pop(name))
        print("answer done", flush=True)
    cluster.shutdown()


def _kill(cluster: Any, node: Any) -> None:
    """Kill a node, and wait until its cluster knows."""
    started = [psutil.Process(each.process.pid) for kind in node.all_processes.values() for each in kind]
    family = [each for one in started for each in (one, *one.children(recursive=True))]
    for each in family:  # none may notice the end of another
        each.send_signal(signal.SIGSTOP)
    for each in family:
        each.kill()
    while any(each["Alive"] and each["NodeID"] == node.node_id for each in cluster.global_state.node_table()):
        time.sleep(0.2)


if __name__ == "__main__":
    main()
