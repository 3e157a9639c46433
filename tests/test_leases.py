from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import psutil
import pytest

from embedsweep.study import leases
from embedsweep.study.leases import BEAT, LEASE, SILENT_FOR_S, Lease, Leases, Verdict, beating


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("embedsweep.study.leases.time.monotonic", clock)
    return clock


def held(lease: Lease, beat: int | None = None) -> dict[str, Any]:
    return {LEASE: lease.tree(), **({} if beat is None else {BEAT: beat})}


ELSEWHERE = Lease("another-host", 1, 0.0)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "dead"),
        ({LEASE: None}, "dead"),
        (held(Lease.mine()), "alive"),
        (held(replace(Lease.mine(), started=Lease.mine().started + 0.02)), "alive"),
        (held(replace(Lease.mine(), started=Lease.mine().started - 60)), "dead"),
        (held(ELSEWHERE), "unknown"),
    ],
    ids=["none", "given up", "mine", "rounded", "an earlier process of my number", "elsewhere"],
)
def test_a_lease_is_judged(attributes: dict[str, Any], expected: Verdict) -> None:
    assert Leases().judge(0, attributes) == expected


def test_a_process_that_ended_is_dead_a_zombie_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lease = Lease(Lease.mine().host, process.pid, psutil.Process(process.pid).create_time())
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


def test_another_host_whose_beat_moves_is_alive_and_its_silence_counts_anew(clock: Clock) -> None:
    judges = Leases()
    assert judges.judge(0, held(ELSEWHERE)) == "unknown"
    clock.now = 59.0
    assert judges.judge(0, held(ELSEWHERE, 1)) == "alive"
    clock.now = 118.0
    assert judges.judge(0, held(ELSEWHERE, 1)) == "unknown"
    clock.now = 120.0
    assert judges.judge(0, held(ELSEWHERE, 1)) == "dead"


def test_trials_are_judged_each_by_itself(clock: Clock) -> None:
    judges = Leases()
    judges.judge(0, held(ELSEWHERE, 1))
    clock.now = 61.0
    assert judges.judge(1, held(ELSEWHERE, 1)) == "unknown"
    assert judges.judge(0, held(ELSEWHERE, 1)) == "dead"


def test_it_beats_with_a_growing_count_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
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
