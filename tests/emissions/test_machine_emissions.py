"""The machine's energy and GPU time are allocated to its workers; nothing is lost or counted twice."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions import allocation, machine_emissions, usage
from embedsweep.emissions.allocation import (
    allocation_path,
    clear_trial,
    gpus_of_trial,
    note_trial,
    read_allocation,
    request_allocation,
)
from embedsweep.emissions.machine_emissions import EQUAL_PARTS, GPU_TIME, MachineEmissions, fractions, gpu_parts
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.emissions.tracker import Energy, Reading
from embedsweep.emissions.usage import Usage, gpu_indexes

WORLD = EmissionsConfig(name="world", country_iso_code=None)
KG_PER_KWH = 0.5


@dataclass
class FakeTracker:
    """Reports the energy that a test draws."""

    cpu: float = 0.0
    gpu: float = 0.0
    ram: float = 0.0
    failure: str | None = None

    def draw(self, cpu: float, gpu: float = 0.0, ram: float = 0.0) -> None:
        self.cpu, self.gpu, self.ram = self.cpu + cpu, self.gpu + gpu, self.ram + ram

    def start(self) -> None: ...

    def stop(self) -> Reading:
        return self.read()

    def read(self) -> Reading:
        energy = self.cpu + self.gpu + self.ram
        if self.failure is not None and not energy:
            return Reading(9.0, (self.failure,))
        remarks = ("ram power estimated", *([self.failure] if self.failure else []))
        return Reading(9.0, remarks, energy, energy * KG_PER_KWH, self.cpu, self.gpu, self.ram, "a cpu", "a gpu")


@dataclass
class FakeUsage:
    """Reports the times and GPU energy that a test sets, since the last reading."""

    used: dict[int, float] = field(default_factory=dict)
    times: dict[str, dict[int, float]] = field(default_factory=dict)
    drawn: dict[str, float] = field(default_factory=dict)

    @property
    def workers(self) -> list[int]:
        return list(self.used)

    def add(self, worker: int, pid: int) -> None:  # noqa: ARG002
        self.used[worker] = 0.0

    def remove(self, worker: int) -> None:
        del self.used[worker]

    def cpu_s(self) -> dict[int, float]:
        used, self.used = self.used, dict.fromkeys(self.used, 0.0)
        return used

    def gpu_times(self) -> dict[str, dict[int, float]]:
        times, self.times = self.times, {}
        return times

    def gpu_energy(self) -> dict[str, float]:
        drawn, self.drawn = self.drawn, {}
        return drawn

    def gpu(self, name: str) -> str:
        return f"GPU-{name}"

    def close(self) -> None: ...


@dataclass
class Clock:
    """A clock that a test advances."""

    now: float = 100.0
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def monotonic(self) -> float:
        return self.now


@dataclass
class Machine:
    """A supervisor's `MachineEmissions`, with a fake tracker, usage and clock."""

    shared: MachineEmissions
    tracker: FakeTracker
    usage: FakeUsage
    folder: Path
    clock: Clock

    def draw(self, cpu: float, *, gpu: float = 0.0, ram: float = 0.0, **cpu_s: float) -> None:
        """Draw energy while workers (``w0=2.0``) use seconds of CPU time."""
        for worker, used in cpu_s.items():
            self.usage.used[int(worker[1:])] += used
        self.tracker.draw(cpu, gpu, ram)

    def energy(self, worker: int) -> Energy:
        """Return the worker's energy, as the worker would request it; after its end, its last one."""
        found = read_allocation(allocation_path(self.folder, worker))
        if worker in self.usage.used:
            found, is_fresh = request_allocation(allocation_path(self.folder, worker))
            assert is_fresh
        assert found is not None
        return found.energy

    def pass_s(self, seconds: float, **gpu_times: dict[int, float]) -> None:
        """Let seconds pass, for which the driver reports GPU time of workers (``a={0: 3}``)."""
        self.usage.times = {f"GPU-{name}": times for name, times in gpu_times.items()}
        self.clock.now += seconds

    def begin(self, worker: int, *gpus: str) -> EmissionsMeter:
        """Start a trial of a worker and return its meter."""
        path = self.folder / f"trial-{next(self.clock.numbers)}" / "emissions.csv"
        meter = EmissionsMeter(WORLD, path, allocation_path(self.folder, worker), gpus)
        meter.start()
        return meter


THREAD = "machine-emissions"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    tracker, use, clock = FakeTracker(), FakeUsage(), Clock()
    monkeypatch.setattr(machine_emissions, "time", clock)
    monkeypatch.setattr(machine_emissions, "EnergyTracker", lambda *_: tracker)
    monkeypatch.setattr(machine_emissions, "Usage", lambda: use)
    monkeypatch.setattr(machine_emissions, "READ_EVERY_S", 1e9)  # read on request only
    monkeypatch.setattr(machine_emissions, "POLL_EVERY_S", 0.005)
    with MachineEmissions(WORLD, tmp_path / "workers") as sharing:
        assert THREAD in [thread.name for thread in threading.enumerate()]
        yield Machine(sharing, tracker, use, tmp_path / "workers", clock)
    assert THREAD not in [thread.name for thread in threading.enumerate()]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([3, 1], [0.75, 0.25]), ([0, 0], [0.5, 0.5]), ([0], [1]), ([0, 4, 0], [0, 1, 0])],
    ids=["in proportion", "nobody used any", "alone", "others idle"],
)
def test_parts_are_in_proportion_to_what_was_used(weights: list[float], expected: list[float]) -> None:
    assert list(fractions(dict(enumerate(weights))).values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "drawn", "expected"),
    [
        ({}, {"a": 5}, [0.75, 0.25, 0]),
        ({"a": {1: 2}}, {}, [0, 1, 0]),
        ({"a": {0: 1, 1: 3}}, {"a": 7}, [0.25, 0.75, 0]),
        ({"a": {0: 1, 1: 1}, "b": {2: 2}}, {"a": 300, "b": 100}, [0.375, 0.375, 0.25]),
        ({"a": {0: 1, 1: 1}, "b": {2: 6}}, {"a": 300}, [0.125, 0.125, 0.75]),
        ({"a": {0: 1}, "b": {2: 3}}, {"a": 0, "b": 0}, [0.5, 0, 0.5]),
        ({"a": {0: 1, 7: 9}, "b": {7: 1}}, {"a": 1, "b": 1}, [1, 0, 0]),
    ],
    ids=[
        "no trial on a GPU: by CPU time",
        "alone",
        "by the GPU's time",
        "each GPU's own energy",
        "one without a counter: by time",
        "counters that stand still",
        "a worker that is gone",
    ],
)
def test_energy_of_gpus_goes_to_the_trials_that_held_them(
    seconds: dict[str, dict[int, float]], drawn: dict[str, float], expected: list[float]
) -> None:
    parts = gpu_parts(seconds, drawn, {0: 0.75, 1: 0.25, 2: 0.0})
    assert list(parts.values()) == pytest.approx(expected)


def test_each_interval_is_allocated_by_the_cpu_time_used_in_it(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(4.0, ram=8.0, w0=3.0, w1=1.0)
    assert machine.energy(0).total_kwh == pytest.approx(9.0)
    machine.draw(4.0, ram=8.0, w0=0.0, w1=5.0)
    assert machine.energy(0) == Energy(3.0, 0.0, 6.0, 0.0, 9.0 * KG_PER_KWH)
    assert machine.energy(1) == Energy(5.0, 0.0, 10.0, 0.0, 15.0 * KG_PER_KWH)


def test_energy_of_workers_sums_to_what_was_measured_while_they_were_there(machine: Machine) -> None:
    chance = random.Random(7)
    expected, idle_draws = {"cpu": 0.0, "gpu": 0.0, "ram": 0.0}, 0
    for _ in range(60):
        worker = chance.randrange(5)
        if worker in machine.usage.workers:
            machine.shared.remove(worker)
        else:
            machine.shared.add(worker, pid=worker)
        used = {f"w{number}": chance.choice([0.0, chance.random()]) for number in machine.usage.workers}
        drawn = {"cpu": chance.random(), "gpu": chance.random(), "ram": chance.random()}
        if used:
            expected = {part: expected[part] + kwh for part, kwh in drawn.items()}
        else:
            idle_draws += 1
        machine.draw(**drawn, **used)
    for worker in machine.usage.workers:
        machine.shared.remove(worker)
    parts = [machine.energy(worker) for worker in range(5)]
    assert all(part.total_kwh > 0 for part in parts)
    assert idle_draws > 0
    whole = sum(parts, Energy())
    assert (whole.cpu_kwh, whole.gpu_kwh, whole.ram_kwh) == pytest.approx(tuple(expected.values()), rel=1e-12)
    assert whole.co2eq_kg == pytest.approx(KG_PER_KWH * sum(expected.values()), rel=1e-12)


def test_energy_drawn_without_workers_is_not_allocated(machine: Machine) -> None:
    machine.draw(1.0)
    machine.shared.add(0, pid=1)
    machine.draw(2.0, w0=1.0)
    machine.shared.remove(0)
    machine.draw(4.0)
    machine.shared.add(0, pid=2)
    assert machine.energy(0).cpu_kwh == pytest.approx(2.0)


def test_a_restarted_worker_continues_its_sums(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(4.0, w0=1.0, w1=1.0)
    machine.shared.remove(0)
    machine.draw(10.0, w1=1.0)
    machine.shared.add(0, pid=3)
    assert machine.energy(0).cpu_kwh == pytest.approx(2.0)
    machine.draw(4.0, w0=3.0, w1=1.0)
    assert machine.energy(0).cpu_kwh == pytest.approx(5.0)
    assert machine.energy(1).cpu_kwh == pytest.approx(13.0)


def test_usage_counts_when_its_energy_is_measured(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(0.0, w0=3.0)  # CodeCarbon does not measure again at once
    assert machine.energy(0).total_kwh == 0
    machine.draw(4.0, w1=1.0)
    assert machine.energy(0).total_kwh == pytest.approx(3.0)


def test_trials_are_measured_by_their_workers_allocation(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(100.0, w0=1.0, w1=1.0)  # before the trial, which is on a CPU
    path = tmp_path / "trial" / "emissions.csv"
    with EmissionsMeter(WORLD, path, allocation_path(machine.folder, 0)) as first:
        machine.draw(4.0, gpu=8.0, ram=2.0, w0=3.0, w1=1.0)
        first.flush()
    total = first.total()
    assert total.energy_kwh == pytest.approx(3.0 + 6.0 + 1.5)
    assert total.co2eq_kg == pytest.approx(KG_PER_KWH * 10.5)
    assert 0 < total.duration_s < 10
    assert total.unmeasured[0] == "approximate: this worker's part of the machine's energy, by CPU time"
    assert total.unmeasured[1] == "ram power estimated"
    assert total.gpu_h is None
    (row,) = rows_of(path)
    figures = [float(row[f"{part}_energy_kwh"]) for part in ("cpu", "gpu", "ram")]
    assert figures == pytest.approx([3.0, 6.0, 1.5])
    assert (row["attempt"], row["country"], row["cpu_model"]) == ("1", "world average", "a cpu")

    machine.draw(100.0, w0=1.0)  # between attempts
    with EmissionsMeter(WORLD, path, allocation_path(machine.folder, 0)) as second:
        machine.draw(4.0, w0=1.0, w1=3.0)
    assert second.total().energy_kwh == pytest.approx(10.5 + 1.0)
    assert [row["attempt"] for row in rows_of(path)] == ["1", "2"]


def test_a_flush_uses_the_last_reading_without_waiting(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", allocation_path(machine.folder, 0)) as meter:
        machine.draw(2.0, w0=1.0)
        machine.energy(0)
        machine.draw(4.0, w0=1.0)
        meter.flush()
        (row,) = rows_of(tmp_path / "emissions.csv")
        assert float(row["energy_kwh"]) == pytest.approx(2.0)
        assert "attempt 1 counted up to its last flush" in row["unmeasured"]
    assert meter.total().energy_kwh == pytest.approx(6.0)


def test_the_machine_is_read_at_intervals_without_a_request(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.shared.add(0, pid=1)
    machine.draw(2.0, w0=1.0)
    monkeypatch.setattr(machine_emissions, "READ_EVERY_S", 0.05)
    monkeypatch.setattr(machine_emissions, "time", time)  # intervals are of the real clock
    until = time.monotonic() + 10
    while not (found := read_allocation(allocation_path(machine.folder, 0))) or not found.energy.cpu_kwh:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert found.energy.cpu_kwh == pytest.approx(2.0)


def test_a_tracker_that_did_not_start_is_reported_as_unmeasured(machine: Machine, tmp_path: Path) -> None:
    machine.tracker.failure = "codecarbon did not start"
    machine.shared.add(0, pid=1)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", allocation_path(machine.folder, 0)) as meter:
        pass
    assert meter.total().unmeasured == ("attempt 1 not measured", "codecarbon did not start", allocation.NO_ENERGY)
    assert rows_of(tmp_path / "emissions.csv")[0]["energy_kwh"] == ""


def test_a_tracker_that_dies_leaves_later_trials_unmeasured(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    machine.draw(2.0, w0=1.0)
    machine.energy(0)
    machine.tracker.failure = "codecarbon stopped measuring after 9.0 s"
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", allocation_path(machine.folder, 0)) as meter:
        pass
    assert "attempt 1 not measured" in meter.total().unmeasured
    assert machine.tracker.failure in meter.total().unmeasured


# --- the time of GPUs


def test_a_trial_alone_on_its_gpu_gets_all_of_its_time_and_is_not_approximate(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.pass_s(50)  # before the trial
    trial = machine.begin(0, "a")
    other = machine.begin(1, "b")
    machine.draw(1.0, gpu=2.0, w0=1.0, w1=3.0)
    machine.pass_s(7.2, a={0: 5.0}, b={1: 90.0})
    cost = trial.stop()
    assert cost.gpu_h == pytest.approx(0.002)
    assert [word for word in cost.unmeasured if "time" in word] == [
        "approximate: this worker's part of the machine's energy, by CPU time"
    ]
    machine.pass_s(7.2)
    assert other.stop().gpu_h == pytest.approx(0.004)
    machine.pass_s(50)  # after it
    again = machine.begin(0, "a")
    machine.pass_s(3.6)
    assert again.stop().gpu_h == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("times", "hours", "how"),
    [
        ({"a": {0: 30.0, 1: 10.0}}, [0.003, 0.001], GPU_TIME),
        ({"a": {1: 10.0}}, [0.0, 0.004], GPU_TIME),
        ({}, [0.002, 0.002], EQUAL_PARTS),
        ({"b": {0: 50.0}}, [0.002, 0.002], EQUAL_PARTS),
    ],
    ids=["by GPU time", "one idle", "MPS: no worker reported", "reported on another GPU"],
)
def test_trials_that_share_a_gpu_share_its_time_and_energy(
    machine: Machine, times: dict[str, dict[int, float]], hours: list[float], how: str
) -> None:
    for worker in (0, 1, 2):
        machine.shared.add(worker, pid=worker)
    trials = [machine.begin(0, "a"), machine.begin(1, "a")]  # the third holds it, too, but has no trial
    machine.draw(0.0, gpu=8.0, w0=1.0, w1=1.0, w2=9.0)
    machine.pass_s(14.4, **times)
    costs = [trial.stop() for trial in trials]
    assert [cost.gpu_h for cost in costs] == pytest.approx(hours)
    assert [cost.energy_kwh for cost in costs] == pytest.approx([8.0 * each / 0.004 for each in hours])
    energy = {
        GPU_TIME: "approximate: this worker's part of the machine's energy, by CPU and GPU time",
        EQUAL_PARTS: "approximate: this worker's part of the machine's energy, by CPU time, of GPUs in equal parts",
    }
    assert costs[1].unmeasured[:2] == (energy[how], f"approximate: this worker's part of the GPU's time, {how}")


def test_a_trial_that_the_driver_reports_sometimes_is_marked_by_gpu_time(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    trial = machine.begin(0, "a")
    machine.begin(1, "a")
    machine.draw(1.0)
    machine.pass_s(3.6)
    machine.energy(0)
    machine.pass_s(3.6, a={0: 9.0, 1: 3.0})
    machine.energy(0)
    machine.pass_s(3.6)
    cost = trial.stop()
    assert cost.gpu_h == pytest.approx(0.0005 + 0.00075 + 0.0005)
    assert cost.unmeasured[1].endswith("of the GPU's time, by GPU time")


def test_energy_of_a_gpu_goes_by_its_time_since_the_energy_before(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    first = machine.begin(0, "a")
    machine.draw(0.0, gpu=5.0)
    machine.pass_s(100)
    assert first.stop().energy_kwh == pytest.approx(5.0)
    second = machine.begin(1, "a")
    machine.draw(0.0, gpu=3.0)
    machine.pass_s(1)
    machine.energy(0)
    machine.draw(0.0, gpu=1.0)
    assert second.stop().energy_kwh == pytest.approx(3.5)  # no time went by, and both used no CPU


def test_gpu_energy_before_the_first_worker_is_discarded(machine: Machine) -> None:
    machine.usage.drawn = {"GPU-a": 9e9, "GPU-b": 1.0}
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    assert machine.usage.drawn == {}


def test_the_gpus_that_count_are_those_of_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(machine_emissions, "EnergyTracker", lambda *arguments: made.append(arguments))
    MachineEmissions(EmissionsConfig("fra", "FRA"), tmp_path, ["0", "3"])
    assert made == [("FRA", ["0", "3"], machine_emissions.NEVER_S)]


def test_energy_of_two_gpus_is_not_mixed_up(machine: Machine) -> None:
    for worker in (0, 1, 2):
        machine.shared.add(worker, pid=worker)
    trials = [machine.begin(0, "a"), machine.begin(1, "a"), machine.begin(2, "b")]
    machine.draw(0.0, gpu=8.0)
    machine.usage.drawn = {"GPU-a": 6e6, "GPU-b": 2e6}
    machine.pass_s(3.6, a={0: 20.0, 1: 60.0}, b={2: 1.0})
    costs = [trial.stop() for trial in trials]
    assert [cost.energy_kwh for cost in costs] == pytest.approx([1.5, 4.5, 2.0])
    assert [cost.gpu_h for cost in costs] == pytest.approx([0.00025, 0.00075, 0.001])


def test_gpu_hours_of_trials_add_up_to_the_time_gpus_were_held(machine: Machine) -> None:
    chance = random.Random(11)
    dealt = {0: ("a",), 1: ("a",), 2: ("b",), 3: ("a", "b"), 4: ()}
    for worker in dealt:
        machine.shared.add(worker, pid=worker)
    under_way: dict[int, EmissionsMeter] = {}
    held_s = given_h = 0.0
    shares: list[float] = []
    for _ in range(80):
        worker = chance.randrange(5)
        if worker in under_way:
            shares.append(under_way.pop(worker).stop().gpu_h or 0.0)
        else:
            under_way[worker] = machine.begin(worker, *dealt[worker])
        seconds = chance.random()
        held_s += seconds * len({gpu for each in under_way for gpu in dealt[each]})
        reported = {gpu: {each: chance.random() for each in dealt if chance.random() < 0.5} for gpu in ("a", "b")}
        machine.draw(chance.choice([0.0, 1.0]), gpu=chance.random())  # CodeCarbon may not have measured
        machine.pass_s(seconds, **reported)
    shares += [trial.stop().gpu_h or 0.0 for trial in under_way.values()]
    given_h = sum(shares)
    assert held_s > 20
    assert given_h * 3600 == pytest.approx(held_s, rel=1e-9)


def test_a_killed_workers_trial_no_longer_holds_its_gpu(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.begin(0, "a")
    trial = machine.begin(1, "a")
    machine.pass_s(7.2)
    machine.shared.remove(0)
    machine.pass_s(7.2)
    machine.shared.add(0, pid=3)  # restarted, and its trial not started yet
    machine.energy(1)
    machine.pass_s(7.2)
    assert trial.stop().gpu_h == pytest.approx(0.001 + 0.002 + 0.002)


def test_attempts_on_a_gpu_are_summed_and_only_shared_time_is_approximate(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    path = tmp_path / "trial" / "emissions.csv"
    other = machine.begin(1, "a")
    with EmissionsMeter(WORLD, path, allocation_path(machine.folder, 0), ["a"]):
        machine.draw(1.0)
        machine.pass_s(7.2)
    other.stop()
    with EmissionsMeter(WORLD, path, allocation_path(machine.folder, 0), ["a"]) as second:
        machine.draw(1.0)
        machine.pass_s(3.6)
    assert [float(row["gpu_h"]) for row in rows_of(path)] == pytest.approx([0.001, 0.001])
    assert second.total().gpu_h == pytest.approx(0.002)
    marked = ["of the GPU's time" in row["unmeasured"] for row in rows_of(path)]
    assert marked == [True, False]


def test_gpu_hours_are_counted_if_no_energy_is_measured(machine: Machine) -> None:
    machine.tracker.failure = "codecarbon did not start"
    machine.shared.add(0, pid=1)
    trial = machine.begin(0, "a")
    machine.pass_s(3.6)
    cost = trial.stop()
    assert cost.gpu_h == pytest.approx(0.001)
    assert allocation.NO_ENERGY in cost.unmeasured


def test_a_trial_whose_gpu_was_not_noted_reports_that(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, gpus: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(allocation, "note_trial", full)
    machine.shared.add(0, pid=1)
    trial = machine.begin(0, "a")
    machine.draw(1.0)
    machine.pass_s(3.6)
    cost = trial.stop()
    assert cost.gpu_h is None
    assert allocation.NO_GPU_TIME in cost.unmeasured


@pytest.mark.parametrize(
    ("content", "expected"), [('["0", "1"]', ("0", "1")), ("[]", ()), (None, None), ("", None), ("3", None)]
)
def test_an_invalid_note_of_a_trial_counts_as_none(
    tmp_path: Path, content: str | None, expected: tuple[str, ...] | None
) -> None:
    path = allocation_path(tmp_path, 0)
    if content is not None:
        note_trial(path, json.loads(content) if content.startswith("[") else [])
        path.with_suffix(".trial").write_text(content)
    assert gpus_of_trial(path) == expected
    clear_trial(path)
    clear_trial(path)
    assert gpus_of_trial(path) is None


@pytest.mark.parametrize("content", [None, "", "{}", '{"energy": 1}', "\x00"])
def test_a_trial_without_a_measuring_supervisor_reports_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(allocation, "ANSWERED_WITHIN_S", 0.05)
    path = allocation_path(tmp_path, 0)
    if content is not None:
        path.write_text(content)
    with EmissionsMeter(WORLD, tmp_path / "trial" / "emissions.csv", path) as meter:
        time.sleep(0.05)
        meter.flush()
    assert meter.total().unmeasured[:2] == ("attempt 1 not measured", allocation.NO_ALLOCATION)
    assert meter.total().duration_s >= 0.05
    assert not list(tmp_path.glob("*.ask"))


def test_a_missing_folder_does_not_stop_the_trial(tmp_path: Path) -> None:
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", allocation_path(tmp_path / "nowhere", 0)) as meter:
        pass
    assert "attempt 1 not measured" in meter.total().unmeasured


def test_a_trial_whose_supervisor_dies_keeps_what_was_measured(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.shared.add(0, pid=1)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", allocation_path(machine.folder, 0)) as meter:
        machine.draw(2.0, w0=1.0)
        machine.energy(0)
        monkeypatch.setattr(allocation, "ANSWERED_WITHIN_S", 0.05)
        machine.shared._over.set()
        machine.shared._thread.join()
    assert meter.total().energy_kwh == pytest.approx(2.0)
    assert allocation.NO_ANSWER in meter.total().unmeasured


def test_files_of_an_earlier_command_are_deleted(tmp_path: Path) -> None:
    for name in ("worker-0.json", "worker-7.ask", "worker-2.trial"):
        (tmp_path / name).write_text("old")
    with MachineEmissions(WORLD, tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_full_disk_does_not_stop_the_measurement(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, text: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(machine_emissions, "write_allocation", full)
        machine.shared.add(0, pid=1)
        machine.draw(2.0, w0=1.0)
        machine.shared.add(1, pid=2)
    assert "could not be written" in caplog.text
    assert machine.energy(0).cpu_kwh == pytest.approx(2.0)


PARENT_OF_A_BURNER = """if True:
    import subprocess, sys, time
    burn = "import time\\nwhile time.process_time() < .5: pass"
    subprocess.run([sys.executable, "-c", burn])
    print("burnt", flush=True)
    sys.stdin.read()
"""


def test_children_count_while_they_run_and_after_they_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT_OF_A_BURNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        use = Usage()
        use.add(3, child.pid)
        assert child.stdout is not None
        assert child.stdin is not None
        used = 0.0
        for _ in range(3):
            time.sleep(0.05)
            used += use.cpu_s()[3]
        assert child.stdout.readline() == "burnt\n"
        used += use.cpu_s()[3]
        assert 0.45 < used < 1.0
        assert use.cpu_s()[3] < 0.05
        child.stdin.close()
    assert use.cpu_s() == {3: 0.0}
    use.remove(3)
    assert use.cpu_s() == {}
    use.close()


def test_a_worker_of_several_processes_uses_what_they_all_use(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {os.getpid(): 1.0, os.getppid(): 10.0}
    monkeypatch.setattr(usage, "_with_children", lambda process: [process])
    monkeypatch.setattr(usage, "_cpu_s", lambda process: seconds[process.pid])
    use = Usage()
    for pid in seconds:
        use.add(0, pid)
    seconds.update({os.getpid(): 3.0, os.getppid(): 40.0})
    assert use.cpu_s()[0] == pytest.approx(32.0)


class FakeNvml:
    """Two GPUs whose driver reports what a test sets."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.samples: dict[int, list[Any]] = {0: [], 1: []}
        self.counters: dict[int, int] = {0: 5000, 1: 9000}
        self.refuses: set[int] = set()
        self.is_open = 0

    def sample(self, gpu: int, pid: int, *used: int) -> None:
        """Add samples of a process, one per time stamp."""
        begin = max((sample.timeStamp for samples in self.samples.values() for sample in samples), default=0) + 1
        self.samples[gpu] += [
            SimpleNamespace(pid=pid, timeStamp=stamp, smUtil=each) for stamp, each in enumerate(used, begin)
        ]

    def nvmlInit(self) -> None:  # noqa: N802
        self.is_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, gpu: int) -> str:  # noqa: N802
        return ("GPU-aa11", "GPU-bb22")[gpu]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int) -> int:  # noqa: N802
        if gpu in self.refuses:
            raise RuntimeError("Not Supported")
        return self.counters[gpu]

    def nvmlDeviceGetProcessUtilization(self, gpu: int, since: int) -> list[Any]:  # noqa: ARG002, N802
        if gpu in self.refuses or not self.samples[gpu]:
            raise RuntimeError("Not Found")
        return self.samples[gpu]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_gpu_time_is_what_the_driver_reports_for_workers_processes(nvml: FakeNvml) -> None:
    nvml.sample(0, os.getpid(), 90)
    use = Usage()
    use.add(0, os.getpid())
    assert use.gpu_times() == {}  # its only sample is of before
    nvml.sample(0, os.getpid(), 20, 20)
    nvml.sample(0, 1, 70)  # nobody's
    assert use.gpu_times() == {"GPU-aa11": {0: 40.0}}
    assert use.gpu_times() == {}
    nvml.sample(1, os.getpid(), 10)
    nvml.sample(0, os.getpid(), 0)
    assert use.gpu_times() == {"GPU-bb22": {0: 10.0}}
    use.close()
    assert nvml.is_open == 0


def test_gpu_time_of_a_workers_children_counts_for_the_worker(nvml: FakeNvml) -> None:
    use = Usage()
    use.add(4, os.getppid())
    nvml.sample(0, os.getpid(), 30)
    assert use.gpu_times() == {"GPU-aa11": {4: 30.0}}


def test_gpu_time_of_the_mps_server_and_of_ended_processes_is_ignored(nvml: FakeNvml) -> None:
    use = Usage()
    use.add(0, os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        nvml.sample(1, ended.pid, 50)  # a child of this worker's
        assert use.gpu_times() == {"GPU-bb22": {0: 50.0}}
        assert ended.stdin is not None
        ended.stdin.close()
    nvml.sample(0, os.getppid(), 95, 95)
    nvml.sample(1, ended.pid, 50)
    assert use.gpu_times() == {}


def test_a_gpu_that_the_driver_refuses_does_not_affect_the_other(nvml: FakeNvml) -> None:
    nvml.refuses = {1}
    use = Usage()
    use.add(0, os.getpid())
    nvml.sample(0, os.getpid(), 20)
    nvml.sample(1, os.getpid(), 20)
    nvml.counters = {0: 7500, 1: 99_000}
    assert use.gpu_times() == {"GPU-aa11": {0: 20.0}}
    assert use.gpu_energy() == {"GPU-aa11": 2500.0}


def test_the_energy_of_each_gpu_is_what_its_counter_grew_by(nvml: FakeNvml) -> None:
    use = Usage()
    nvml.counters = {0: 5100, 1: 9700}
    assert use.gpu_energy() == {"GPU-aa11": 100.0, "GPU-bb22": 700.0}
    nvml.counters = {0: 20, 1: 9700}  # the driver was loaded again
    assert use.gpu_energy() == {"GPU-aa11": 0.0, "GPU-bb22": 0.0}
    nvml.counters[0] = 50
    assert use.gpu_energy()["GPU-aa11"] == 30.0


def test_without_a_driver_there_is_no_gpu(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise RuntimeError("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", absent)
    use = Usage()
    assert (use.gpu_times(), use.gpu_energy(), use.gpu("0")) == ({}, {}, "0")
    use.close()
    assert nvml.is_open == 0


@pytest.mark.parametrize(
    ("name", "uuid", "index"),
    [
        ("0", "GPU-aa11", 0),
        ("1", "GPU-bb22", 1),
        ("GPU-bb22", "GPU-bb22", 1),
        ("GPU-b", "GPU-bb22", 1),
        ("2", "2", None),
        ("GPU-cc", "GPU-cc", None),
        ("MIG-aa11", "MIG-aa11", None),
        ("", "", None),
    ],
)
def test_a_gpu_is_found_by_each_name_that_cuda_accepts(nvml: FakeNvml, name: str, uuid: str, index: int | None) -> None:
    assert Usage().gpu(name) == uuid
    assert gpu_indexes([name, "0"]) == ([] if index is None else [index, 0])
    assert nvml.is_open == 1  # the Usage's own


TRIAL = """if True:
    import sys, time
    from pathlib import Path
    from embedsweep.emissions.meter import EmissionsMeter
    from embedsweep.config.study import EmissionsConfig
    share, path, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    with EmissionsMeter(EmissionsConfig("world", None), path, share) as meter:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
        print("burnt", flush=True)
        sys.stdin.readline()
    assert "codecarbon" not in sys.modules
"""


def test_energy_of_two_processes_is_in_proportion_to_their_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_emissions, "READ_EVERY_S", 1e9)  # one interval, whoever else keeps the cores busy
    seconds, folder = (1.5, 0.5), tmp_path / "workers"
    rows = [tmp_path / f"{worker}.csv" for worker in (0, 1)]
    before: Energy | None = None
    with MachineEmissions(WORLD, folder) as sharing:
        words = [
            [sys.executable, "-c", TRIAL, str(allocation_path(folder, worker)), str(rows[worker]), str(seconds[worker])]
            for worker in (0, 1)
        ]
        children = [subprocess.Popen(word, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for word in words]

        def wait_for(word: str) -> None:
            assert [child.stdout and child.stdout.readline() for child in children] == [f"{word}\n"] * 2

        def go_on() -> None:
            for child in children:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()

        wait_for("ready")
        for worker, child in enumerate(children):
            sharing.add(worker, child.pid)
            before = before or sharing._total
        go_on()
        wait_for("burnt")
        go_on()
        assert [child.wait(30) for child in children] == [0, 0]
        for worker in (0, 1):
            sharing.remove(worker)
        after = sharing._total
    for child in children:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.close()

    trials = [EmissionsMeter(WORLD, path).total() for path in rows]
    assert all(trial.unmeasured[0].startswith("approximate") for trial in trials)
    assert trials[0].energy_kwh / trials[1].energy_kwh == pytest.approx(3.0, rel=0.2)
    shares = [read_allocation(allocation_path(folder, worker)) for worker in (0, 1)]
    energies = [found.energy for found in shares if found is not None]
    allocated = sum(energies, Energy())
    assert sum(trial.energy_kwh for trial in trials) <= allocated.total_kwh
    assert before is not None
    while_there = after - before
    assert allocated.total_kwh == pytest.approx(while_there.total_kwh, rel=1e-9)
    assert allocated.co2eq_kg == pytest.approx(while_there.co2eq_kg, rel=1e-9)
    measured = sharing._tracker._tracker.final_emissions_data
    assert sharing._total.total_kwh == pytest.approx(measured.energy_consumed, rel=1e-9)
    assert sharing._total.co2eq_kg == pytest.approx(measured.emissions, rel=1e-9)
    # Between a watt and ten kilowatts.
    assert 1 < sharing._total.total_kwh * 1000 * 3600 / measured.duration < 10_000
