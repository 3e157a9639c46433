from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from typing import Any

import psutil
import pytest

from embedsweep.lease import Lease
from embedsweep.study import leases
from embedsweep.study.leases import BEAT, LEASE, SILENT_FOR_S, Leases, Verdict, beating


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("embedsweep.study.leases.time.monotonic", clock)
    monkeypatch.setattr("embedsweep.study.leases.answers_since", lambda: -math.inf)
    return clock


def held(lease: Lease, beat: int | None = None) -> dict[str, Any]:
    return {LEASE: asdict(lease), **({} if beat is None else {BEAT: beat})}


ELSEWHERE = Lease("another-host", "another-boot 1", 1, 0.0)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "dead"),
        ({LEASE: None}, "dead"),
        (held(Lease.mine()), "alive"),
        (held(replace(Lease.mine(), host="renamed")), "alive"),
        (held(replace(Lease.mine(), system="another-boot 1")), "unknown"),
        (held(replace(Lease.mine(), started=Lease.mine().started - 60)), "dead"),
        (held(ELSEWHERE), "unknown"),
    ],
    ids=[
        "none",
        "released",
        "mine",
        "of a renamed host",
        "of a container of my name",
        "an earlier process of my number",
        "elsewhere",
    ],
)
def test_a_lease_is_alive_dead_or_unknown(attributes: dict[str, Any], expected: Verdict) -> None:
    assert Leases().judge(0, attributes) == expected


def test_a_process_stays_the_same_when_the_wall_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    attributes = [held(Lease.mine()), held(Lease.of(process.pid))]
    # As psutil sees a clock that was set an hour ahead: Linux tells the time of the boot by the wall clock.
    create_time, now = psutil.Process.create_time, time.time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + 3600)
    monkeypatch.setattr("embedsweep.study.leases.time.time", lambda: now() + 3600)
    assert [Leases().judge(0, each) for each in attributes] == ["alive", "alive"]
    process.communicate()
    assert Leases().judge(0, attributes[1]) == "dead"


def test_a_process_that_is_hidden_is_judged_by_its_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = held(Lease.mine())
    monkeypatch.setattr("embedsweep.lease._start_time", hide)
    assert Leases().judge(0, attributes) == "unknown"


def hide(pid: int) -> float:
    """As ``/proc`` mounted with ``hidepid`` answers for another user's process."""
    raise psutil.NoSuchProcess(pid)


def test_a_process_in_another_container_of_this_machine_has_another_system() -> None:
    unshared = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", SHOW_SYSTEM],
        capture_output=True,
        text=True,
        check=False,
    )
    if unshared.returncode:
        pytest.skip(f"no namespaces here: {unshared.stderr.strip()}")
    boot, _, namespace = unshared.stdout.strip().partition(" ")
    mine, _, my_namespace = Lease.mine().system.partition(" ")
    assert boot == mine
    assert namespace != my_namespace


SHOW_SYSTEM = "from embedsweep.lease import Lease; print(Lease.mine().system)"


def test_a_process_that_ended_is_dead_a_zombie_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lease = Lease.of(process.pid)
    assert Leases().judge(0, held(lease)) == "alive"
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # over, and not waited for
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert Leases().judge(0, held(lease)) == "dead"
    process.wait()
    assert Leases().judge(0, held(lease)) == "dead"


def test_another_host_is_dead_after_a_minute_of_silence_and_no_sooner(clock: Clock) -> None:
    judges = Leases()
    verdicts: list[Verdict] = []
    for now in (0.0, 30.0, SILENT_FOR_S, SILENT_FOR_S + 1):
        clock.now = now
        verdicts.append(judges.judge(0, held(ELSEWHERE, 7)))
    assert verdicts == ["unknown", "unknown", "unknown", "dead"]


def test_another_host_whose_beat_moves_is_alive_and_its_silence_restarts(clock: Clock) -> None:
    judges = Leases()
    assert judges.judge(0, held(ELSEWHERE)) == "unknown"
    clock.now = 59.0
    assert judges.judge(0, held(ELSEWHERE, 1)) == "alive"
    clock.now = 118.0
    assert judges.judge(0, held(ELSEWHERE, 1)) == "unknown"
    clock.now = 120.0
    assert judges.judge(0, held(ELSEWHERE, 1)) == "dead"


def test_silence_while_the_storage_was_away_does_not_count(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    judges = Leases()
    assert judges.judge(0, held(ELSEWHERE, 7)) == "unknown"
    monkeypatch.setattr("embedsweep.study.leases.answers_since", lambda: 55.0)
    verdicts: list[Verdict] = []
    for clock.now in (61.0, 115.0, 116.0):
        verdicts.append(judges.judge(0, held(ELSEWHERE, 7)))
    assert verdicts == ["unknown", "unknown", "dead"]


def test_trials_are_judged_each_by_itself(clock: Clock) -> None:
    judges = Leases()
    judges.judge(0, held(ELSEWHERE, 1))
    clock.now = 61.0
    assert judges.judge(1, held(ELSEWHERE, 1)) == "unknown"
    assert judges.judge(0, held(ELSEWHERE, 1)) == "dead"


def test_beats_count_up_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_EVERY_S", 0.01)
    third = threading.Event()
    counts: list[int] = []

    def beat(count: int) -> None:
        counts.append(count)
        if count == 3:
            third.set()

    before = threading.active_count()
    with beating(beat):
        assert third.wait(20)
    assert threading.active_count() == before
    assert counts == list(range(1, len(counts) + 1))
