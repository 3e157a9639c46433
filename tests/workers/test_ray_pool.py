"""Workers on a Ray cluster, without a cluster: how many fit, which numbers they get, what they are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from embedsweep.config.study import EmissionsConfig
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers import cluster as cluster_module
from embedsweep.workers.cluster import Cluster, Node, slots
from embedsweep.workers.ray_pool import RayPool, _Starting

CPU, QUARTER = {"CPU": 1.0, "GPU": 0.0}, {"CPU": 1.0, "GPU": 0.25}


def make_pool(needs: Mapping[str, float], *words: str) -> Any:
    """Return a pool on a cluster that is not connected; any, as its inner state is looked at."""
    workers: Any = pass_sweep(["loss=mnrl,cosent", "data=demo", "model=tiny", "workers=ray", *words]).workers
    cluster = Cluster(workers, "auto")
    cluster.needs = needs
    order: Any = type("Order", (), {"folder": "."})
    return RayPool(cluster, workers, order, Path("sweeps/x"), ("cpu", "1", "database"), 9, EmissionsConfig("c", None))


@pytest.mark.parametrize(
    ("resources", "needs", "count"),
    [
        ({"CPU": 4.0}, CPU, 4),
        ({"CPU": 3.5}, CPU, 3),
        ({"memory": 9.0}, CPU, 0),
        ({"CPU": 16.0, "GPU": 2.0}, QUARTER, 8),
        ({"CPU": 3.0, "GPU": 2.0}, QUARTER, 3),
        ({"CPU": 16.0}, QUARTER, 0),
        ({"CPU": 16.0, "GPU": 1.0}, {"CPU": 0.1, "GPU": 0.1}, 10),
    ],
)
def test_as_many_workers_fit_as_each_resource_has_room_for(
    resources: Mapping[str, float], needs: Mapping[str, float], count: int
) -> None:
    assert slots(resources, needs) == count


def test_a_worker_more_gets_the_first_number_that_is_free() -> None:
    pool = make_pool(CPU)
    pool._running = {0: "a", 2: "b"}
    pool.start_worker(4)
    pool.start_more(3)
    assert pool._wanted == [4, 1, 3, 5]


@pytest.mark.parametrize(("words", "room"), [((), 2), (("workers.count=9",), 0)])
def test_there_is_room_for_more_only_where_their_number_is_not_set(words: tuple[str, ...], room: int) -> None:
    pool = make_pool(CPU, *words)
    pool._free_slots = 3
    pool.start_worker(0)
    assert pool.room == room


def test_a_worker_that_waits_says_what_it_needs() -> None:
    pool = make_pool(QUARTER)
    assert not pool.is_starting
    pool.start_worker(0)
    assert (pool.is_starting, pool.waits_for) == (True, "")  # nobody has looked for room yet
    pool._found_no_room = True
    assert "no node of the Ray cluster has room for a worker (1 CPU and 0.25 GPU)" in pool.waits_for


def test_a_worker_that_does_not_start_in_time_is_tried_again_and_what_it_needs_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "wait", lambda answers, **_: ([], answers))
    monkeypatch.setattr("embedsweep.workers.ray_pool.PLACE_S", 0.0)
    pool = make_pool(QUARTER)
    node = Node("1", "a", {"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0})
    monkeypatch.setattr(pool._cluster, "nodes", lambda: [dataclasses.replace(node, free={"CPU": 2.0})])
    for number in (0, 1):
        pool._starting.append(_Starting(number, node, None, None))
        pool._hand_over()
    assert pool._wanted == [0, 1]
    assert pool.take_lines() == [
        "worker 0 has not started on node a for 0 s, and is tried again: it needs 1 CPU and 0.25 GPU, and 2 CPU and 0 "
        "GPU is free there now"
    ]


@pytest.mark.parametrize(
    ("needs", "words", "mine", "expected"),
    [
        (CPU, (), {}, {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}),
        (CPU, ("workers.cpus=4",), {}, {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": ""}),
        (
            QUARTER,
            ("workers.cpus=4", "workers.processes_per_trial=2"),
            {},
            {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        ),
        (
            QUARTER,
            ("workers.cpus=4",),
            {"OMP_NUM_THREADS": "3"},
            {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"},
        ),
    ],
)
def test_a_worker_has_as_many_threads_as_cpus_and_the_gpus_that_ray_gave_it(
    needs: Mapping[str, float],
    words: tuple[str, ...],
    mine: Mapping[str, str],
    expected: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    pool = make_pool(needs, *words)
    assert pool._environment() == {**expected, "OMP_WAIT_POLICY": "PASSIVE"}


def test_a_node_without_the_package_or_with_another_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    order: Any = "order"
    for version, digest, expected in (
        ("1", "same", None),
        ("1", "different", "has embedsweep 1 with other sources, and the command has 1: install the same on all nodes"),
        ("2", "different", "has embedsweep 2, and the command has 1: install the same"),
        ("", "", "has no embedsweep, and the command has 1: install the same on all nodes"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(cluster_module, "identifier", lambda v=version, d=digest: lambda: (v, d))
            patch.setattr(cluster_module, "check_node", list)
            lines = cluster_module._task(order, "1", "same")()
        assert lines == list("order") if expected is None else lines[0].startswith(expected)
