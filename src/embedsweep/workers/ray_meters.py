"""The meters of a Ray cluster's nodes: one on each node that has workers of a command."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from embedsweep.config.study import EmissionsConfig
from embedsweep.workers.cluster import Cluster, Node, kill, on
from embedsweep.workers.ray_agent import NodeMeter

STOP_S = 10.0
"""Seconds that meters may take to end; those of nodes that are gone never do."""


class RayMeters:
    """Starts meters and keeps to which of them each worker belongs; see `embedsweep.workers.pool.Meter`.

    Args:
        cluster: the connection.
        folder: the command's working directory.
        emissions: where the electricity comes from.
    """

    def __init__(self, cluster: Cluster, folder: str, emissions: EmissionsConfig) -> None:
        self._cluster = cluster
        self._folder = folder
        self._emissions = emissions
        self._meters: dict[str, Any] = {}
        self._nodes: dict[int, str] = {}

    def of(self, node: Node, worker: int) -> Any:
        """Return the handle of a node's meter, to which a worker will add itself; it is started for the first."""
        import ray

        self._nodes[worker] = node.id
        if node.id not in self._meters:
            meter = ray.remote(num_cpus=0)(NodeMeter).options(scheduling_strategy=on(node))
            has_gpus = bool(self._cluster.needs["GPU"])
            self._meters[node.id] = meter.remote(self._folder, self._emissions, has_gpus)
        return self._meters[node.id]

    def add(self, worker: int, pid: int) -> None:
        """Do nothing: the worker's agent has added it."""

    def remove(self, worker: int) -> None:
        """Stop counting for a worker."""
        if (meter := self._meters.get(self._nodes.get(worker, ""))) is not None:
            self._cluster.post(lambda: meter.remove.remote(worker))

    def forget(self, node: Node) -> None:
        """Let the next worker of a node have another meter."""
        self._meters.pop(node.id, None)

    def end(self) -> None:
        """End all meters, which delete their folders."""
        meters, self._meters = list(self._meters.values()), {}
        if meters:
            with suppress(Exception):  # the connection is gone
                self._cluster.call(lambda: _stop(meters))


def _stop(meters: list[Any]) -> None:
    import ray

    ray.wait([meter.stop.remote() for meter in meters], num_returns=len(meters), timeout=STOP_S)
    for meter in meters:
        kill(meter)
