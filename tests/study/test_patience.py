"""When a study stops because its trials no longer improve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from embedsweep.cli import main
from embedsweep.errors import ConfigError
from embedsweep.study.opening import open_study
from embedsweep.study.patience import Patience
from embedsweep.study.reading import read_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import finish, result

NOON = datetime(2026, 1, 1, 12)
Ended = float | str
"""A score; ``pruned``, ``failed`` or ``running``."""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trials_of(outcomes: Sequence[Ended]) -> list[FrozenTrial]:
    """Trials that ended so, a minute after one another."""
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING}
    trials = []
    for number, outcome in enumerate(outcomes):
        state = states[outcome] if isinstance(outcome, str) else TrialState.COMPLETE
        trial = optuna.trial.create_trial(state=state, value=outcome if isinstance(outcome, float) else None)
        trial.number = number
        trial.datetime_complete = NOON + timedelta(minutes=number) if state.is_finished() else None
        trials.append(trial)
    return trials


@pytest.mark.parametrize(
    ("outcomes", "patience", "min_delta", "is_over"),
    [
        ([0.5, 0.4, 0.3], 2, 0.0, True),
        ([0.5, 0.4], 2, 0.0, False),
        ([0.5, 0.4, 0.6], 2, 0.0, False),
        ([0.5, 0.5, 0.5], 2, 0.0, True),
        ([0.5, 0.4, 0.6, 0.6], 2, 0.0, False),
        ([0.5, 0.4, 0.6, 0.6, 0.5], 2, 0.0, True),
        ([0.5, "pruned", "pruned"], 2, 0.0, True),
        ([0.5, "failed", "failed"], 2, 0.0, False),
        ([0.5, "failed", 0.4, "failed", 0.3], 2, 0.0, True),
        ([0.5, "running", 0.4, "running"], 2, 0.0, False),
        (["pruned", "pruned", "pruned"], 2, 0.0, False),
        (["pruned", "pruned", 0.5], 2, 0.0, False),
        # Each rises by .006, both together by more than .01.
        ([0.5, 0.506, 0.512], 2, 0.01, False),
        ([0.5, 0.504, 0.508], 2, 0.01, True),
        ([0.5, 0.51], 1, 0.0, False),
        ([], 1, 0.0, False),
    ],
)
def test_it_is_over_after_so_many_finished_trials_without_an_improvement(
    outcomes: Sequence[Ended], patience: int, min_delta: float, is_over: bool
) -> None:
    rule = Patience(patience, min_delta)
    assert rule.is_over(trials_of(outcomes), StudyDirection.MAXIMIZE) is is_over
    lower = [-outcome if isinstance(outcome, float) else outcome for outcome in outcomes]
    assert rule.is_over(trials_of(lower), StudyDirection.MINIMIZE) is is_over


def test_trials_count_in_the_order_in_which_they_ended() -> None:
    trials = trials_of([0.6, 0.5, 0.4])
    assert Patience(2, 0.0).is_over(trials, StudyDirection.MAXIMIZE)
    trials[0].datetime_complete = NOON + timedelta(hours=1)
    assert not Patience(2, 0.0).is_over(trials, StudyDirection.MAXIMIZE)


def test_a_trial_that_forgets_too_much_is_no_improvement() -> None:
    trials = trials_of([0.5, 0.4, 0.6])
    assert not Patience(2, 0.0).is_over(trials, StudyDirection.MAXIMIZE)
    trials[2] = optuna.trial.create_trial(state=TrialState.COMPLETE, value=0.6, constraints={"stsb-en-dev": 0.01})
    trials[2].number, trials[2].datetime_complete = 2, NOON + timedelta(hours=1)
    assert Patience(2, 0.0).is_over(trials, StudyDirection.MAXIMIZE)


@pytest.mark.parametrize(
    ("outcomes", "min_delta", "numbers"),
    [
        ([0.5, 0.4, 0.6, 0.6, 0.55], 0.0, (2, 0)),
        ([0.5, "pruned", "failed", 0.7, 0.6, 0.8], 0.0, (5, 3)),
        ([0.5, 0.4], 0.0, None),
        ([], 0.0, None),
        # .505 and .605 are higher than what is before them, by no more than .01.
        ([0.5, 0.505, 0.6, 0.605, 0.604], 0.01, (2, 1)),
        ([0.5, 0.505], 0.01, None),
    ],
)
def test_the_last_improvement_is_over_the_best_trial_before_it(
    outcomes: Sequence[Ended], min_delta: float, numbers: tuple[int, int] | None
) -> None:
    assert Patience(1, min_delta).last_improvement(trials_of(outcomes), StudyDirection.MAXIMIZE) == numbers


def opened(*words: str, n_trials: int = 9) -> Study:
    rates = ",".join(f"{number + 1}e-4" for number in range(n_trials))
    return open_study(pass_sweep(("study.name=calm", f"optimizer.lr={rates}", *words)))


def test_a_stopped_study_is_complete_and_more_patience_goes_on() -> None:
    study = finish(opened("study.patience=2"), (0.5, 0.6, 0.55, 0.54))
    assert study.ask() is None
    assert (study.is_stopped, study.is_complete, study.n_left, study.n_expected) == (True, True, 0, 4)
    assert read_study("calm").is_stopped  # whoever reads it agrees
    assert opened("study.patience=2").ask() is None
    longer = finish(opened("study.patience=3"), (0.53,))
    assert study.ask() is None
    assert (longer.is_complete, study.n_expected) == (True, 5)  # both workers follow the last command
    endless = opened()
    assert (endless.is_stopped, endless.n_left) == (False, 4)


def test_a_dry_run_says_why_no_trial_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    finish(opened("study.patience=2"), (0.5, 0.6, 0.55, 0.54))
    assert main(["train", "-m", "study.name=calm", "study.dry_run=true"]) == 0
    line = "no trial is left to run: 4 of 9 trials finished, stopped by study.patience"
    assert line in capsys.readouterr().out.splitlines()


def test_a_command_that_names_the_study_keeps_its_patience_unless_it_gives_another() -> None:
    finish(opened("study.patience=2", "study.min_delta=0.01"), (0.5, 0.505, 0.509))
    assert open_study(pass_sweep(("study.name=calm",))).is_stopped
    assert not open_study(pass_sweep(("study.name=calm", "study.min_delta=0"))).is_stopped
    again = open_study(pass_sweep(("study.name=calm", "study.patience=1"))).patience
    assert again == Patience(1, 0.0)
    assert open_study(pass_sweep(("study.name=calm", "study.patience=null"))).patience is None


def test_trials_that_still_run_end_and_may_lift_the_stop() -> None:
    study = opened("study.patience=2")
    last = [trial for trial in (study.ask() for _ in range(5)) if trial is not None]
    for trial, value in zip(last[:3], (0.5, 0.4, 0.3), strict=True):
        study.complete(trial, result(value))
    assert study.ask() is None
    assert (study.is_stopped, study.is_complete, study.unfinished) == (True, False, [3, 4])
    study.release(last[3])
    resumed = study.ask()
    assert resumed is not None
    assert resumed.number == 3
    study.complete(resumed, result(0.7))
    assert not study.is_stopped


def test_points_that_are_tried_first_are_all_tried_and_failed_ones_retried() -> None:
    points = "study.enqueue=[{optimizer.lr:9e-4},{optimizer.lr:8e-4},{optimizer.lr:7e-4}]"
    study = opened("study.patience=1", points)
    stops = [finish(study, (outcome,)).is_stopped for outcome in (0.5, 0.4, "broken")]
    assert stops == [False, False, True]
    assert study.retry_failed() == [2]
    assert study.n_left == 1
    finish(study, (0.2,))
    assert (study.is_complete, study.ask()) == (True, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("study.patience=2", "study.objective=[dev/spearman_cosine,emissions/co2eq_kg]"),
            "study.patience: several objectives have no one best score to wait for: leave it out, or set "
            "study.objective to one",
        ),
        (
            ("study.patience=9",),
            "study.patience: 9 is never reached in a study of 9 trials: set less, or leave it out",
        ),
        (("study.patience=0",), "study.patience: must be a whole number of at least 1, or null, but got 0"),
        (
            ("study.patience=null", "study.min_delta=0.1"),
            "study.min_delta: is for study.patience, which is not set: add study.patience=20, a number of trials",
        ),
        (("study.min_delta=-1",), "study.min_delta: must be a number of at least 0, but got -1"),
    ],
)
def test_what_cannot_stop_a_study_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        opened(*words)
    assert message in str(error.value)


def test_a_study_of_several_objectives_that_is_only_named_refuses_patience() -> None:
    opened("study.objective=[dev/spearman_cosine,emissions/co2eq_kg]")
    with pytest.raises(ConfigError, match=r"study\.patience: is for one objective, and this study has dev/spearman"):
        open_study(pass_sweep(("study.name=calm", "study.patience=2")))
