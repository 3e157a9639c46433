"""The estimate of the time that is left, on a clock that the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from embedsweep.report.estimate import Estimate


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Story:
    """An estimate to which things happen at given seconds."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.estimate = Estimate(self.clock)

    def at(self, second: float) -> Estimate:
        self.clock.now = 1000.0 + second
        return self.estimate


@pytest.fixture
def story() -> Story:
    return Story()


def left(story: Story, n_new: int, workers: int = 1, elsewhere: int = 0, **recorded: float) -> float | None:
    by_label: Mapping[str, float] = {label.lstrip("t"): seconds for label, seconds in recorded.items()}
    return story.estimate.study_left(workers, n_new, elsewhere, by_label)


def test_nothing_is_estimated_until_something_is_known(story: Story) -> None:
    assert left(story, 20) is None
    assert story.estimate.trials_per_s() is None
    story.at(0).begin("0")
    story.at(30).progress("0", 0.25)
    # One report says when the trial loaded its model, not how fast it trains.
    assert story.estimate.trial_left("0") is None
    assert left(story, 19) is None
    assert left(story, 0) is None


def test_a_trials_pace_is_that_between_its_reports(story: Story) -> None:
    story.at(0).begin("0")
    story.at(20).progress("0", 0.1)  # 20 s for imports and the first tenth
    story.at(24).progress("0", 0.3)
    assert story.estimate.trial_left("0") == pytest.approx(14)  # 0.7 at 0.05 a second
    assert story.at(30).trial_left("0") == pytest.approx(8)
    assert story.at(90).trial_left("0") == 0


def test_a_resumed_trial_is_not_taken_for_a_fast_one(story: Story) -> None:
    story.at(0).begin("3")
    story.at(1).progress("3", 0.8)  # where its checkpoint was
    assert story.estimate.trial_left("3") is None
    story.at(11).progress("3", 0.9)
    assert story.estimate.trial_left("3") == pytest.approx(10)


def test_the_first_running_trial_tells_what_the_others_will_take(story: Story) -> None:
    story.at(0).begin("0")
    story.at(10).progress("0", 0.5)
    story.at(12).progress("0", 0.6)
    assert story.estimate.trial_left("0") == pytest.approx(8)
    assert left(story, 3) == pytest.approx(8 + 3 * 20)  # it will have taken 12 + 8


@pytest.mark.parametrize(
    ("workers", "n_new", "expected"),
    [
        (1, 0, 0.0),
        (1, 5, 50.0),
        (2, 5, 30.0),  # 3 and 2 of them
        (4, 5, 20.0),
        (8, 5, 10.0),
    ],
)
def test_new_trials_are_dealt_to_the_workers(story: Story, workers: int, n_new: int, expected: float) -> None:
    assert left(story, n_new, workers, t0=10.0, t1=6.0, t2=14.0) == pytest.approx(expected)


def test_new_trials_wait_for_the_running_ones(story: Story) -> None:
    for label in ("5", "6"):
        story.at(0).begin(label)
        story.at(1).progress(label, 0.1)
    story.at(2).progress("5", 0.2)  # 8 s left
    story.at(2).progress("6", 0.5)  # 1.25 s left
    # Worker 1 takes both: 1.25 + 3 + 3 is below 8.
    assert left(story, 2, 2, t0=3.0) == pytest.approx(8)
    assert left(story, 3, 2, t0=3.0) == pytest.approx(1.25 + 3 * 3)


def test_a_running_trial_without_a_pace_is_expected_to_take_what_others_took(story: Story) -> None:
    story.at(0).begin("5")
    story.at(4).begin("6")
    assert left(story, 0, 2, t0=10.0) == pytest.approx(10)
    story.at(8)
    assert left(story, 0, 2, t0=10.0) == pytest.approx(6)


def test_pruned_and_reused_trials_are_expected_as_often_as_there_were(story: Story) -> None:
    story.at(0).begin("0")
    story.at(40).end("0", is_finished=True)  # complete
    story.at(40).begin("1")
    story.at(50).end("1", is_finished=True)  # pruned after a quarter
    story.at(50).begin("2")
    story.at(50).end("2", is_finished=True)  # reused: no time at all
    assert left(story, 6, t0=38.0, t1=9.0, t2=0.0) == pytest.approx(6 * (38 + 10 + 0) / 3)
    assert story.estimate.trials_per_s() == pytest.approx(3 / 50)


def test_only_the_first_trial_of_a_command_imports_libraries(story: Story) -> None:
    story.at(0).begin("0")
    story.at(60).end("0", is_finished=True)
    assert left(story, 2, t0=15.0) == pytest.approx(30)
    story.at(60).begin("1")
    story.at(78).end("1", is_finished=True)  # 3 s of which its run was opened
    assert left(story, 2, t0=15.0, t1=15.0) == pytest.approx(15 + 18)


def test_a_resumed_trial_took_all_its_attempts(story: Story) -> None:
    story.at(0).begin("0")
    story.at(5).end("0", is_finished=True)  # its last part; it is recorded with 30 s
    assert left(story, 2, t0=30.0) == pytest.approx(60)


def test_an_attempt_that_was_interrupted_is_no_finished_trial(story: Story) -> None:
    story.at(0).begin("0")
    assert story.at(3).end("0", is_finished=False) == pytest.approx(3)
    assert left(story, 1) is None
    assert story.estimate.trials_per_s() is None


def test_trials_that_other_commands_run_occupy_their_workers(story: Story) -> None:
    # Both take 10 s, and then one of the three workers takes the new one while it is waited for.
    assert left(story, 1, 1, 2, t0=10.0) == pytest.approx(10)
    assert left(story, 4, 1, 2, t0=10.0) == pytest.approx(20)


def test_nothing_is_estimated_before_the_number_of_workers_is_known(story: Story) -> None:
    assert left(story, 4, 0, t0=10.0) is None


def test_finished_trials_of_an_earlier_command_give_the_first_estimate(story: Story) -> None:
    assert left(story, 12, 2, t0=20.0, t1=10.0) == pytest.approx(90)
    assert story.estimate.trials_per_s() is None


def test_a_trial_may_end_in_another_thread_while_the_time_left_is_computed(story: Story) -> None:
    for label in ("0", "1"):
        story.at(0).begin(label)
        story.at(10).progress(label, 0.25)
        story.at(20).progress(label, 0.5)
    ended: list[str] = []

    def clock() -> float:
        if not ended:  # as a thread that is scheduled at this moment does
            ended.append("0")
            story.estimate.end("0", is_finished=True)
        return story.clock()

    story.estimate._clock = clock
    assert left(story, n_new=0, workers=2) == 20
    assert story.estimate.trial_left("0") is None
    assert story.estimate.trial_left("1") == 20
