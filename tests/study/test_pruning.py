"""Which trials are pruned where, and the reason given: decisions computed by hand, made through a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from embedsweep.config.result import Decision, Emissions, TrialResult
from embedsweep.config.training import rung_steps
from embedsweep.config.trial import PrunerName, SamplerName
from embedsweep.errors import ConfigError
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.opening import open_study
from embedsweep.study.pruning import PRUNED, PRUNERS, REASONS, report_steps
from embedsweep.study.study import Study
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep

METRIC = "dev/spearman_cosine"
COST = Emissions(0.002, 0.01, 1.0, "world average", ())
STEPS = 80
"""Of every trial here; rungs at 10, 20 and 40 unless a test says otherwise."""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def study_of(pruner: str, *words: str, n_trials: int = 30) -> Study:
    rates = ",".join(f"{number + 1}e-5" for number in range(n_trials))
    return open_study(pass_sweep(["study.name=s", f"study.pruner={pruner}", f"optimizer.lr={rates}", *words]))


def result(value: float, *, pruned: bool = False) -> TrialResult:
    return TrialResult(value, {METRIC: value}, {}, {}, {}, 1, 1, COST, pruned, None, None)


def run(study: Study, values: Sequence[float], steps: Sequence[int] = (10, 20, 40)) -> int | None:
    """Runs a trial with these values at its rungs; the step it is pruned at, None where it survives."""
    trial = study.ask()
    assert trial is not None
    for step, value in zip(steps, values, strict=True):
        if study.report(trial, step, {METRIC: value}, STEPS) is Decision.PRUNE:
            study.complete(trial, result(value, pruned=True))
            return step
    assert study.report(trial, STEPS, {METRIC: values[-1]}, STEPS) is Decision.CONTINUE
    study.complete(trial, result(values[-1]))
    return None


def test_every_pruner_of_the_schema_is_there() -> None:
    assert set(PRUNERS) == set(get_args(PrunerName))
    assert set(REASONS) == set(PRUNERS) - {"none"}
    assert len(PRUNERS) == 6


# --- where rungs lie


@pytest.mark.parametrize(
    ("rungs", "total", "expected"),
    [
        ((0.125, 0.25, 0.5), 360, (45, 90, 180)),
        ((0.125, 0.25, 0.5), 359, (45, 90, 180)),  # 44.875, 89.75, 179.5
        ((0.125, 0.25, 0.5), 4, (1, 1, 2)),
        ((0.07,), 100, (7,)),  # not 8: 0.07 * 100 is 7.000000000000001
        ((0.99,), 2, (2,)),
        ((), 10, ()),
    ],
)
def test_a_rung_is_its_fraction_of_all_steps_rounded_up(
    rungs: tuple[float, ...], total: int, expected: tuple[int, ...]
) -> None:
    assert rung_steps(rungs, total) == expected


@pytest.mark.parametrize(
    ("pruner", "expected"),
    [
        ("successive_halving", (1, 3, 9)),
        ("hyperband", (1, 3, 9)),
        ("median", (1, 2, 3)),
        ("wilcoxon", (1, 2, 3)),
        ("patience", (1, 2, 3)),
    ],
)
def test_a_rung_is_reported_under_the_same_step_in_every_trial(pruner: str, expected: tuple[int, ...]) -> None:
    study = study_of(pruner, "study.pruning.reduction_factor=3")
    assert report_steps(study.plan) == expected
    for total in (8, 80, 81):
        trial = study.ask()
        assert trial is not None
        for step in range(1, total + 1):
            study.report(trial, step, {METRIC: 0.9}, total)
        assert tuple(study.trials[trial.number].intermediate_values) == expected


def test_without_a_pruner_evaluations_are_reported_by_their_step_and_no_trial_is_pruned() -> None:
    study = study_of("none", n_trials=6)
    for value in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        assert run(study, (value, value, value)) is None
    assert {tuple(trial.intermediate_values) for trial in study.trials} == {(10, 20, 40, 80)}


# --- decisions

Rows = list[tuple[tuple[float, ...], int | None, str]]

HALVING: Rows = [
    ((0.50, 0.60, 0.70), None, ""),  # the first has no rival
    ((0.40, 0.0, 0.0), 10, "at step 10 of 80 (rung 0.125): {} 0.4000 is not among the best 1 (1/2) of 2 trials there"),
    ((0.45, 0.0, 0.0), 10, "is not among the best 1 (1/2) of 3 trials there (successive_halving)"),
    ((0.45, 0.65, 0.0), 40, "at step 40 of 80 (rung 0.5): {} 0.0000 is not among the best 1 (1/2) of 2"),  # ties pass
    ((0.60, 0.55, 0.0), 20, "at step 20 of 80 (rung 0.25): {} 0.5500 is not among the best 1 (1/2) of 3 trials there"),
    ((0.55, 0.70, 0.80), None, ""),  # second of 6, three continue; first of 4; first of 3
    ((0.52, 0.64, 0.0), 20, "is not among the best 2 (1/2) of 5"),  # third of 7, three continue; third of 5
]

MEDIAN: Rows = [
    ((0.10, 0.20, 0.30), None, ""),
    ((0.50, 0.60, 0.70), None, ""),  # of n_startup_trials=2, the second is not compared yet
    ((0.29, 0.0, 0.0), 10, "{} 0.2900 is below the median 0.3000 of 2 complete trials there (median)"),
    ((0.30, 0.39, 0.0), 20, "at step 20 of 80 (rung 0.25): {} 0.3900 is below the median 0.4000 of 2 complete"),
    ((0.45, 0.0, 0.0), 40, "{} 0.0000 is below the median 0.5000 of 2"),  # until then its best so far is above
    ((0.40, 0.50, 0.50), None, ""),
    ((0.39, 0.0, 0.0), 10, "is below the median 0.4000 of 3 complete trials there"),
]

WILCOXON: Rows = [
    ((0.50, 0.60, 0.70), None, ""),
    (
        (0.49, 0.58, 0.67),
        40,
        "{} 0.6700 is the last of 3 rungs that are worse than those of trial 0, p < 0.2 (wilcoxon)",
    ),
    ((0.49, 0.58, 0.75), None, ""),  # better once
    ((0.40, 0.50, 0.60), 40, "than those of trial 2"),
    ((0.48, 0.59, 0.75), None, ""),  # equal once
]

PATIENCE: Rows = [
    ((0.50, 0.40, 0.40), 40, "{} 0.4000 is the last of 2 below the 0.5000 of an earlier rung (patience)"),
    ((0.50, 0.40, 0.50), None, ""),  # as good again
    ((0.10, 0.20, 0.19), None, ""),  # one step back only
    ((0.50, 0.60, 0.40), None, ""),
    ((0.90, 0.89, 0.89), 40, "0.8900 is the last of 2 below the 0.9000"),
]

DECISIONS: list[tuple[str, list[str], Rows]] = [
    ("successive_halving", [], HALVING),
    ("median", ["study.pruning.n_startup_trials=2"], MEDIAN),
    ("wilcoxon", [], WILCOXON),
    ("patience", [], PATIENCE),
    (
        "patience",
        ["study.pruning.patience=0", "study.pruning.min_delta=0.1"],
        [
            ((0.50, 0.45, 0.41), None, ""),
            ((0.50, 0.38, 0.0), 20, "is the last of 1 below the 0.5000 of an earlier rung by more than 0.1 (patience)"),
        ],
    ),
    (
        "successive_halving",
        ["study.pruning.reduction_factor=3", "study.pruning.rungs=[0.125]"],
        [
            ((0.9,), None, ""),
            ((0.8,), 10, "the best 1 (1/3) of 2"),
            ((0.7,), 10, "the best 1 (1/3) of 3"),
            ((0.7,), 10, "the best 1 (1/3) of 4"),
            ((0.91,), None, ""),
            ((0.9,), None, ""),  # 0.91, 0.9, 0.9: the second of 6
        ],
    ),
]


@pytest.mark.parametrize(("pruner", "words", "rows"), DECISIONS, ids=[f"{row[0]}{row[1]}" for row in DECISIONS])
def test_decisions_equal_those_computed_by_hand(pruner: str, words: list[str], rows: Rows) -> None:
    study = study_of(pruner, *words)
    for number, (values, pruned_at, reason) in enumerate(rows):
        assert run(study, values, (10, 20, 40)[: len(values)]) == pruned_at, number
        trial = study.trials[number]
        assert trial.state.name == ("PRUNED" if pruned_at else "COMPLETE")
        assert reason.format(METRIC) in trial.user_attrs.get(PRUNED, "")
        # What Optuna holds as its value is what it was pruned by, which its run shows as well.
        expected = values[-1] if pruned_at is None else dict(zip((10, 20, 40), values, strict=False))[pruned_at]
        assert trial.value == expected
    counts = [rung for rung, step in ((0.125, 10), (0.25, 20), (0.5, 40)) for row in rows if row[1] == step]
    assert study.pruned_at == {rung: counts.count(rung) for rung in counts}


def test_hyperband_halves_in_each_bracket_from_its_own_rung_on() -> None:
    study = study_of("hyperband", n_trials=30)
    pruner: Any = study._study.pruner
    met: dict[int, dict[int, list[float]]] = {}  # bracket -> step -> values that were compared there
    pruned = 0
    for number in range(30):
        # Bracket 0 decides at steps 10, 20 and 40, bracket 1 at 20 and 40, 2 at 40, and 3 nowhere.
        trial = study.ask()
        assert trial is not None
        value = (number * 7 % 30) / 30
        for index, step in enumerate((10, 20, 40)):
            decision = study.report(trial, step, {METRIC: value}, STEPS)
            bracket = pruner._get_bracket_id(study._study, study.trials[number])  # known once it has decided
            if index >= bracket:
                rivals = met.setdefault(bracket, {}).setdefault(step, [])
                rivals.append(value)
                goes_on = value in sorted(rivals, reverse=True)[: max(1, len(rivals) // 2)]
                assert (decision is Decision.CONTINUE) is goes_on
                if not goes_on:
                    words = f"is not among the best {max(1, len(rivals) // 2)} (1/2) of {len(rivals)} "
                    assert f"{words}trials of bracket {bracket} there (hyperband)" in (study.prune_reason(trial) or "")
                    pruned += 1
                    break
            else:
                assert decision is Decision.CONTINUE
        study.complete(trial, result(value, pruned=study.prune_reason(trial) is not None))
    assert set(met) == {0, 1, 2}
    assert 10 < pruned < 28


@pytest.mark.parametrize(("factor", "rungs"), [(2, 3), (3, 5), (5, 3), (10, 3)])
def test_hyperband_has_a_bracket_for_each_rung_and_one_without(factor: int, rungs: int) -> None:
    fractions = ",".join(str(0.1 * (1 + index)) for index in range(rungs))
    study = study_of("hyperband", f"study.pruning.reduction_factor={factor}", f"study.pruning.rungs=[{fractions}]")
    trial = study.ask()
    assert trial is not None
    study.report(trial, rung_steps(study.plan.pruning.rungs, STEPS)[0], {METRIC: 0.5}, STEPS)
    pruner: Any = study._study.pruner
    assert pruner._n_brackets == rungs + 1


# --- short trainings, several rungs on one step, the last step


def test_rungs_on_one_step_are_decided_in_turn_and_the_last_step_prunes_no_trial() -> None:
    study = study_of("successive_halving", n_trials=4)

    def short(value: float, total: int) -> dict[int, Decision]:
        trial = study.ask()
        assert trial is not None
        decisions: dict[int, Decision] = {}
        for step in range(1, total + 1):
            decisions[step] = study.report(trial, step, {METRIC: value}, total)
            if decisions[step] is Decision.PRUNE:
                break
        return decisions

    assert set(short(0.5, 4).values()) == {Decision.CONTINUE}
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.5, 4: 0.5}
    assert short(0.4, 4)[1] is Decision.PRUNE
    assert study.trials[1].intermediate_values == {1: 0.4}  # the second rung on that step was not reached
    assert short(0.1, 1) == {1: Decision.CONTINUE}
    assert study.trials[2].intermediate_values == {1: 0.1, 2: 0.1, 4: 0.1}


# --- resuming


def taken_up(study: Study, trial: OpenTrial) -> tuple[Study, OpenTrial]:
    """What the next command makes of a trial that was cut off."""
    study.release(trial)
    after = open_study(pass_sweep(["study.name=s"]))
    again = after.ask()
    assert again is not None
    assert (again.number, again.is_resumed) == (trial.number, True)
    return after, again


@pytest.mark.parametrize("pruner", ["successive_halving", "median", "patience", "wilcoxon"])
def test_a_decision_stands_after_a_resume_and_nothing_is_reported_twice(pruner: str) -> None:
    study = study_of(pruner, "study.pruning.n_startup_trials=1")
    run(study, (0.5, 0.6, 0.7))
    trial = study.ask()
    assert trial is not None
    values = (0.4, 0.35, 0.3)
    steps = [10, 20, 40]
    pruned_at = next(
        step
        for step, value in zip(steps, values, strict=True)
        if study.report(trial, step, {METRIC: value}, STEPS) is Decision.PRUNE
    )
    reason, reported = study.prune_reason(trial), dict(study.trials[1].intermediate_values)
    assert reason is not None

    study, trial = taken_up(study, trial)  # its last checkpoint is from before the rungs
    for step in range(5, pruned_at, 5):
        assert study.report(trial, step, {METRIC: -1.0}, STEPS) is Decision.CONTINUE
    assert study.report(trial, pruned_at, {METRIC: 0.99}, STEPS) is Decision.PRUNE
    assert study.prune_reason(trial) == reason
    assert study.trials[1].intermediate_values == reported


def test_a_trial_killed_between_report_and_decision_is_decided_on_resume() -> None:
    study = study_of("median", "study.pruning.n_startup_trials=1")
    run(study, (0.5, 0.6, 0.7))
    trial = study.ask()
    assert trial is not None
    study._open[1].report(0.4, 1)
    study, trial = taken_up(study, trial)
    assert study.report(trial, 10, {METRIC: 0.99}, STEPS) is Decision.PRUNE
    assert study.trials[1].intermediate_values == {1: 0.4}


# --- with samplers


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "qmc"])
def test_a_resumed_study_samples_the_same_under_hyperband(
    sampler: SamplerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draws(folder: str, stops: Sequence[int]) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        words = ["study.name=s", "search=lr_warmup_batch", "dataloader.batch_size=16", f"study.sampler={sampler}"]
        study = open_study(pass_sweep([*words, "study.pruner=hyperband", "study.n_trials=14"]))
        drawn = []
        for number in range(14):
            if number in stops:
                study = open_study(pass_sweep(["study.name=s"]))
            trial = study.ask()
            assert trial is not None
            drawn.append(dict(trial.params))
            value = 1 - abs(float(str(trial.params["optimizer.warmup"])) - 0.1)
            pruned = any(study.report(trial, step, {METRIC: value}, STEPS) is Decision.PRUNE for step in (10, 20, 40))
            study.complete(trial, result(value, pruned=pruned))
        assert study.pruned_at
        return drawn

    # Both studies have one name, by which Optuna deals the brackets.
    whole = draws("whole", [])
    assert len({str(params) for params in whole}) == 14
    assert draws("resumed", [5, 11]) == whole


# --- the gate


@pytest.mark.parametrize(
    ("words", "where", "message"),
    [
        (
            ["study.pruner=median", "study.pruning.rungs=[]"],
            "study.pruning.rungs",
            "median decides at rungs, and there",
        ),
        (["study.pruner=wilcoxon", "study.pruning.p_threshold=0.125"], "study.pruning.rungs", "raise that above 0.125"),
        (
            ["study.pruner=wilcoxon", "study.pruning.rungs=[0.5]"],
            "study.pruning.rungs",
            "raise that above 0.25 or give",
        ),
        (["study.pruner=patience", "study.pruning.patience=2"], "study.pruning.rungs", "rung 4 is the first that can"),
        (
            ["study.pruner=median", f"study.objective=[{METRIC},emissions/co2eq_kg]"],
            "study.pruner",
            "several objectives cannot be pruned; set it to none",
        ),
        (
            ["study.sampler=cmaes", f"study.objective=[{METRIC},emissions/co2eq_kg]"],
            "study.sampler",
            "cmaes optimises one objective",
        ),
    ],
)
def test_validation_refuses_a_pruner_that_cannot_prune(words: list[str], where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pass_sweep(["optimizer.lr=1e-3,1e-4", *words])
    (problem,) = caught.value.problems
    assert problem.where == where
    assert message in problem.message


def test_a_pruner_without_rungs_is_fine_where_there_is_no_pruner() -> None:
    assert pass_sweep(["optimizer.lr=1e-3,1e-4", "study.pruning.rungs=[]"]).plan is not None


def test_a_single_run_at_the_rungs_of_a_study_is_the_same_trial_and_without_a_pruner_has_none() -> None:
    assert pass_single(["study.pruner=median", "study.pruning.rungs=[0.3]"]).config.rungs == (0.3,)
    assert pass_single(["study.pruning.rungs=[0.3]"]).config.rungs == ()
