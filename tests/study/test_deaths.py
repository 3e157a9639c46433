"""Deaths of a trial's workers are counted only while the trial gets no further."""

from __future__ import annotations

import pytest

from embedsweep.study.deaths import DEATHS, Deaths, failure_of, failures_in

A, B = "no sign", "no sign either"


@pytest.mark.parametrize(
    ("checkpoints", "count", "place"),
    [
        ([None], 1, None),
        ([None, None, None], 3, None),
        ([None, 10], 1, 10),
        ([10, 10, 10], 3, 10),
        ([None, None, 10, 20, 30], 1, 30),
        ([10, 10, 20, 20], 2, 20),
        ([20, 10], 2, 20),  # the last checkpoint was torn, or the folder is on another machine
        ([20, None, 20], 3, 20),
    ],
)
def test_deaths_are_counted_until_the_trial_has_a_newer_checkpoint(
    checkpoints: list[int | None], count: int, place: int | None
) -> None:
    deaths = Deaths.of({})
    for attempt, checkpoint in enumerate(checkpoints, start=1):
        deaths = deaths.after(attempt, checkpoint, A)
    assert (deaths.count, deaths.checkpoint, deaths.attempt) == (count, place, len(checkpoints))


def test_a_death_that_is_noted_twice_counts_once() -> None:
    deaths = Deaths.of({}).after(1, None, A)
    assert deaths.after(1, None, B) == deaths
    stored = {"count": 1, "checkpoint": None, "attempt": 1, "reason": A}
    assert Deaths.of({DEATHS: stored}) == deaths


@pytest.mark.parametrize(
    ("count", "limit", "checkpoint", "expected"),
    [
        (1, 1, None, "its worker died before its first checkpoint (study.max_deaths=1; no sign)"),
        (
            5,
            4,
            40,
            "its worker died 5 times, one after another, before it got past the checkpoint of step 40 "
            "(study.max_deaths=4; no sign)",
        ),
    ],
)
def test_the_reason_says_how_often_and_where_a_worker_died(
    count: int, limit: int, checkpoint: int | None, expected: str
) -> None:
    assert Deaths(count, checkpoint, 9, A).as_failure(limit) == expected


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["no"], "no"),
        (["no", "no"], "no (in each of 2 attempts)"),
        (["no", "never", "out"], "out; attempt 1: no; attempt 2: never"),
    ],
)
def test_the_reason_of_a_failure_covers_all_attempts(reasons: list[str], expected: str) -> None:
    assert failure_of(reasons) == expected


def test_deaths_that_older_versions_noted_as_failed_attempts_are_none() -> None:
    attempts = {
        "1": "its worker died (the last sign of life of process 7 on host came 30 s after the attempt had started)",
        "2": "RuntimeError: no",
        "3": "its worker died (the last sign of life of process 8 on host came less than 15 s after the attempt ...)",
    }
    assert failures_in(attempts) == ("RuntimeError: no",)
