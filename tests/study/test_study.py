from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from embedsweep.config.finals import NO_FINALS
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import (
    Axis,
    DiscreteAxis,
    EmissionsConfig,
    PruningConfig,
    RangeAxis,
    StudyConfig,
    StudyPlan,
    TrackingConfig,
)
from embedsweep.config.trial import SamplerName
from embedsweep.config.workers import WorkersConfig
from embedsweep.errors import ConfigError, StudyError, TrialTakenError
from embedsweep.lease import Lease
from embedsweep.study.duplicates import CONFIG_HASH
from embedsweep.study.leases import BEAT, LEASE
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.opening import find_study, open_study
from embedsweep.study.record import RUN_ID
from embedsweep.study.study import FAILED_ATTEMPTS, Study
from embedsweep.study.test_scores import TestScores
from embedsweep.study.trial_file import read_trial
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.validation.sweep import Sweep

NO_PRUNING = PruningConfig((), 2, 0, 0, 0.0, 1.0)
LOSS = DiscreteAxis("loss", ("mnrl", "cosent"), {})
BATCH = DiscreteAxis("dataloader.batch_size", (16, 32, 64), {})
LR = RangeAxis("optimizer.lr", 1e-4, 1e-2, log=True, step=None, integer=False, when={})
WARMUP = RangeAxis("optimizer.warmup", 0.0, 0.2, log=False, step=None, integer=False, when={})


def make_request(
    axes: tuple[Axis, ...] = (LOSS, BATCH),
    sampler: SamplerName | None = None,
    n_trials: int | None = None,
    name: str | None = "compare",
    storage: str | None = None,
    lr: float = 1e-3,
) -> Sweep:
    """What a command asks; without a sampler, the grid."""
    cells = {f"loss={loss}": {"loss": {"name": loss}, "optimizer": {"lr": lr}} for loss in ("mnrl", "cosent")}
    objectives = ("dev/spearman_cosine",)
    proposer = sampler or "exhaustive"
    plan = StudyPlan(axes, cells, ("loss",), proposer, 42, objectives, "none", NO_PRUNING, "reuse", (), None, ())
    size = len(list(itertools.product(*(axis.choices for axis in axes if isinstance(axis, DiscreteAxis)))))
    study = StudyConfig(
        name=name,
        n_trials=n_trials,
        budget_hours=None,
        timeout=None,
        patience=None,
        min_delta=0.0,
        objectives=objectives,
        keep=(),
        sampler=sampler or "tpe",
        pruner="none",
        pruning=NO_PRUNING,
        seed=42,
        storage=storage,
        checkpoints=None,
        keep_models="best",
        duplicates="reuse",
        max_retries=1,
        max_deaths=2,
        retry_failed=False,
        enqueue=(),
        warm_start=None,
        finals=NO_FINALS,
        dry_run=False,
    )
    total = n_trials if sampler else n_trials or size
    return Sweep(
        study=study,
        tracking=TrackingConfig("local", "", spool=False),
        emissions=EmissionsConfig("codecarbon", None),
        workers=WorkersConfig("inline", 1, 1, 1, 0, None, mps=False),
        plan=plan,
        n_trials=total,
        words=("trainer.x=1",),
        fixed=("trainer.x=1",),
        overridden=frozenset(),
    )


def by_name(name: str, n_trials: int | None = None) -> Sweep:
    """``-m study.name=NAME``."""
    return replace(make_request(name=name), plan=None, n_trials=n_trials)


def result(objective: float, *, pruned: bool = False) -> TrialResult:
    cost = Emissions(0.001, 0.01, 1.0, "FRA", ())
    return TrialResult(objective, {"dev/spearman_cosine": objective}, {}, {}, {}, 1, 1, cost, pruned, None, None)


def value_of(params: Mapping[str, Any]) -> float:
    """A made-up result that depends on nothing but the values, so that samplers learn the same every time."""
    return float(1 - abs(params["optimizer.lr"] - 1e-3) - params["optimizer.warmup"])


def run(study: Study, count: int | None = None) -> list[OpenTrial]:
    """Runs trials to their end, all that there are or ``count``."""
    trials: list[OpenTrial] = []
    while len(trials) != count and (trial := study.ask()) is not None:
        study.complete(trial, result(value_of(trial.params) if "optimizer.warmup" in trial.params else 0.5))
        trials.append(trial)
    return trials


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- the grid and the budget


def test_the_grid_runs_every_cell_once_in_order() -> None:
    trials = run(open_study(make_request()))
    expected = [{"loss": loss, "dataloader.batch_size": size} for loss in ("mnrl", "cosent") for size in (16, 32, 64)]
    assert [dict(trial.params) for trial in trials] == expected
    assert [trial.number for trial in trials] == list(range(6))
    assert not any(trial.is_resumed for trial in trials)


def test_a_grid_interrupted_anywhere_continues_with_the_next_cell() -> None:
    seen = []
    for _ in range(6):
        seen += run(open_study(make_request()), 1)
    assert open_study(make_request()).ask() is None
    assert len({json.dumps(dict(trial.params), sort_keys=True) for trial in seen}) == 6


def test_the_budget_is_the_total_over_all_commands() -> None:
    assert len(run(open_study(make_request((LOSS, LR, WARMUP), "random", 3)))) == 3
    assert len(run(open_study(make_request((LOSS, LR, WARMUP), "random", 3)))) == 0
    study = open_study(make_request((LOSS, LR, WARMUP), "random", 5))
    assert [study.is_complete, len(run(study)), study.is_complete] == [False, 2, True]
    assert open_study(by_name("compare")).n_trials == 5
    assert len(run(open_study(by_name("compare", 6)))) == 1


def test_a_part_of_the_grid_may_be_run_first() -> None:
    assert len(run(open_study(make_request(n_trials=2)))) == 2
    assert [trial.number for trial in run(open_study(make_request()))] == [2, 3, 4, 5]


def test_a_grid_has_no_more_trials_than_cells() -> None:
    open_study(make_request())
    with pytest.raises(ConfigError, match="the grid has 6 cells, each run once, but got 7"):
        open_study(by_name("compare", 7))


def test_a_failed_trial_counts_and_is_not_run_again() -> None:
    study = open_study(make_request(n_trials=2))
    trial = study.ask()
    assert trial is not None
    study.fail(trial, "ValueError: no")
    assert [trial.number for trial in run(study)] == [1]
    assert study.is_complete
    assert study.trials[0].user_attrs["embedsweep.failure"] == "ValueError: no"


def test_two_workers_share_one_budget() -> None:
    workers = [open_study(make_request()), open_study(make_request())]
    asked_for = [workers[turn % 2].ask() for turn in range(8)]
    assert [trial.number if trial else None for trial in asked_for] == [0, 1, 2, 3, 4, 5, None, None]
    assert workers[0].unfinished == [0, 1, 2, 3, 4, 5]
    assert not workers[0].is_complete


# --- the best


def test_the_best_is_the_highest_complete_trial_the_first_of_equals() -> None:
    study = open_study(make_request())
    bests: list[int | None] = [study.best.number if study.best else None]
    for objective in (0.5, None, 0.7, 0.7, "pruned", -0.9):
        trial = study.ask()
        assert trial is not None
        if objective is None:
            study.fail(trial, "no")
        elif objective == "pruned":
            study.complete(trial, result(0.9, pruned=True))
        else:
            study.complete(trial, result(float(objective)))
        bests.append(study.best.number if study.best else None)
    assert bests == [None, 0, 0, 2, 2, 2, 2]
    assert study.trials[2].user_attrs["emissions_kg"] == 0.001


COSTS = ("emissions_kg", "energy_kwh", "gpu_h")


def costs_of(study: Study, number: int) -> dict[str, float]:
    return {name: figure for name, figure in study.trials[number].user_attrs.items() if name in COSTS}


def test_a_trials_cost_is_recorded_however_it_ended() -> None:
    study = open_study(make_request(n_trials=4))
    on_cpu = Emissions(0.001, 0.01, 1.0, "FRA", ())
    on_gpu = replace(on_cpu, gpu_h=0.25)
    trials = [study.ask() for _ in range(4)]
    first, second, third, fourth = (trial for trial in trials if trial is not None)
    study.complete(first, replace(result(0.5), emissions=on_gpu))
    study.complete(second, replace(result(0.5, pruned=True), emissions=on_cpu))
    study.fail(third, "no", on_gpu)
    study.fail(fourth, "never ran")
    assert [costs_of(study, number) for number in range(4)] == [
        {"emissions_kg": 0.001, "energy_kwh": 0.01, "gpu_h": 0.25},
        {"emissions_kg": 0.001, "energy_kwh": 0.01},
        {"emissions_kg": 0.001, "energy_kwh": 0.01, "gpu_h": 0.25},
        {},
    ]


@pytest.mark.parametrize("gpu_h", [None, 0.25])
def test_a_trial_that_repeats_another_costs_nothing(gpu_h: float | None) -> None:
    study = open_study(make_request(n_trials=2))
    first, second = study.ask(), study.ask()
    assert first is not None
    assert second is not None
    study.complete(first, replace(result(0.5), emissions=Emissions(0.001, 0.01, 1.0, "FRA", (), gpu_h)))
    study.reuse(second, study.trials[0], None)
    assert costs_of(study, 1) == {"emissions_kg": 0.0, "energy_kwh": 0.0} | ({} if gpu_h is None else {"gpu_h": 0.0})


def test_a_study_whose_only_complete_trial_is_negative_has_a_best() -> None:
    study = open_study(make_request(n_trials=2))
    first, second = study.ask(), study.ask()
    assert first is not None
    assert second is not None
    study.fail(first, "no")
    study.complete(second, result(-0.2))
    assert study.best is not None
    assert study.best.number == 1


def test_test_scores_are_kept_in_the_study() -> None:
    study = open_study(make_request())
    assert study.test_scores is None
    cost = Emissions(0.001, 0.002, 3.0, "FRA", ("cpu power estimated",), 0.5)
    before = {"test/spearman_cosine": 0.1}
    tested = TestScores(3, {"test/spearman_cosine": 0.5}, {"es/spearman_cosine": 0.4}, before, 20, cost, (0.4, 0.6))
    study.set_test_scores(tested)
    assert open_study(by_name("compare")).test_scores == tested


def test_test_scores_of_older_versions_are_read() -> None:
    scores = {"test/spearman_cosine": 0.5, "test-64/spearman_cosine": 0.4, "testing/spearman_cosine": 0.3}
    tested = TestScores.of({"trial": 3, "scores": scores})
    assert tested.scores == scores
    assert tested.benchmarks == {"testing/spearman_cosine": 0.3}
    assert (tested.before, tested.n_trials, tested.cost, tested.interval) == ({}, None, None, None)


# --- trials whose worker died


def lease_of_a_dead_process() -> Lease:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return Lease.of(process.pid)


def another_process_of_my_number() -> Lease:
    return replace(Lease.mine(), started=Lease.mine().started - 3600)


LEFT = {
    "no lease, killed right after the ask": lambda: None,
    "a dead process": lease_of_a_dead_process,
    "a number that another process has now": another_process_of_my_number,
}


@pytest.mark.parametrize("left", LEFT)
def test_a_dead_workers_trial_is_resumed_with_its_number_values_and_run(left: str) -> None:
    before = open_study(make_request((LOSS, LR, WARMUP), "random", 3))
    first, killed = before.ask(), before.ask()
    assert first is not None
    assert killed is not None
    before.set_run(killed, "run-1", "abc")
    kept = read_trial(killed.folder)
    assert kept is not None
    assert (kept.user_attrs[RUN_ID], kept.user_attrs[CONFIG_HASH]) == ("run-1", "abc")
    lease = LEFT[left]()
    before._open[killed.number].set_user_attr(LEASE, asdict(lease) if lease else None)
    before.complete(first, result(0.5))

    after = open_study(by_name("compare"))
    taken = after.ask()
    assert taken is not None
    assert (taken.number, taken.params, taken.folder) == (killed.number, killed.params, killed.folder)
    assert taken.run_id == "run-1"
    assert taken.is_resumed
    after.complete(taken, result(0.4))
    assert [trial.number for trial in run(after)] == [2]
    assert len(after.trials) == 3


def test_attempts_are_counted_before_they_start_and_interrupted_ones_are_not() -> None:
    counted = []
    for give_up in (True, True, False, False):
        study = open_study(make_request(n_trials=1))
        trial = study.ask()
        assert trial is not None
        counted.append((trial.attempt, study.trials[0].user_attrs["embedsweep.attempts"]))
        if give_up:
            study.release(trial)
        else:
            study._open[0].set_user_attr(LEASE, asdict(lease_of_a_dead_process()))
    assert counted == [(1, 1), (1, 1), (1, 1), (2, 2)]
    over = open_study(make_request(n_trials=1)).ask()
    assert over is not None
    assert (over.attempt, over.failures, over.deaths.count) == (2, (), 2)
    assert over.why_over is not None
    start = "its worker died 2 times, one after another, before its first checkpoint (study.max_deaths=2; the last sign"
    assert over.why_over.startswith(f"{start} of life of process ")


def die(study: Study, trial: OpenTrial) -> None:
    study._open[trial.number].set_user_attr(LEASE, asdict(lease_of_a_dead_process()))


def test_deaths_cost_a_trial_nothing_while_it_gets_further() -> None:
    for step in (None, 10, 20, 30, 30):
        study = open_study(make_request(n_trials=1))
        trial = study.ask()
        assert trial is not None
        assert (trial.why_over, trial.deaths.count) == (None, min(trial.attempt - 1, 1))
        if step is not None:
            checkpoints = Checkpoints(trial.folder / CHECKPOINTS)
            checkpoints.path(step).mkdir(parents=True, exist_ok=True)
            checkpoints.seal(step, {})
        die(study, trial)
    over = open_study(make_request(n_trials=1)).ask()
    assert over is not None
    assert over.why_over is not None
    assert "died 2 times, one after another, before it got past the checkpoint of step 30 (study.max" in over.why_over


def test_deaths_use_up_no_retry_and_retries_no_death() -> None:
    for deed in (die, die, Study.release, Study.retry, Study.release_after_death, Study.retry):
        study = open_study(make_request(n_trials=1))
        study.services = replace(study.services, max_deaths=4)
        trial = study.ask()
        assert trial is not None
        assert trial.why_over is None
        deed(study, trial, *(("no",) if deed in (Study.retry, Study.release_after_death) else ()))
    last = study.ask()
    assert last is not None
    assert (last.failures, last.deaths.count, last.deaths.reason) == (("no", "no"), 3, "no")
    assert last.why_over == "no (in each of 2 attempts)"


def test_deaths_that_an_older_version_counted_as_attempts_cost_nothing() -> None:
    study = open_study(make_request(n_trials=1))
    trial = study.ask()
    assert trial is not None
    for name, value in (
        ("embedsweep.attempts", 2),
        (FAILED_ATTEMPTS, {"1": "its worker died (x)", "2": "its worker died (y)"}),
    ):
        study._open[0].set_user_attr(name, value)
    die(study, trial)
    again = open_study(make_request(n_trials=1)).ask()
    assert again is not None
    assert (again.why_over, again.failures, again.attempt, again.deaths.count) == (None, (), 3, 1)


def test_a_death_that_was_recorded_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(make_request(n_trials=1))
    assert study.ask() is not None
    study._open[0].set_user_attr(LEASE, asdict(lease_of_a_dead_process()))
    study._open[0].set_user_attr(BEAT, 3)
    monkeypatch.setattr(study._storage, "set_trial_state_values", lambda *_: pytest.fail("killed while reclaiming"))
    with pytest.raises(pytest.fail.Exception):
        study._reclaim(study.trials)
    again = open_study(make_request(n_trials=1)).ask()
    assert again is not None
    assert (again.failures, again.deaths.count) == ((), 1)
    assert again.deaths.reason.endswith("came 45 s after the attempt had started")
    assert BEAT in study.trials[0].user_attrs
    assert study.trials[0].user_attrs[BEAT] == 0  # of the attempt that begins


TELLS: dict[str, Callable[[Study, OpenTrial], None]] = {
    "complete": lambda study, trial: study.complete(trial, result(0.9)),
    "fail": lambda study, trial: study.fail(trial, "no"),
    "retry": lambda study, trial: study.retry(trial, "no"),
    "release": lambda study, trial: study.release(trial),
    "release after a death": lambda study, trial: study.release_after_death(trial, "no"),
    "reuse": lambda study, trial: study.reuse(trial, study.trials[0], None),
}


@pytest.mark.parametrize("tell", TELLS)
@pytest.mark.parametrize("is_ended", [False, True], ids=["running there", "ended there"])
def test_a_reclaimed_trial_is_ended_by_its_new_worker_only(tell: str, is_ended: bool) -> None:
    here = open_study(make_request())
    trial = here.ask()
    assert trial is not None
    here._open[0].set_user_attr(LEASE, asdict(lease_of_a_dead_process()))  # as the other one took it for dead
    there = open_study(make_request())
    taken = there.ask()
    assert taken is not None
    assert (taken.number, taken.attempt) == (0, 2)
    if is_ended:
        there.complete(taken, result(0.5))
    before = there.trials[0]
    with pytest.raises(TrialTakenError, match="another worker has reclaimed trial 0"):
        TELLS[tell](here, trial)
    assert open_study(make_request()).trials[0] == before


def test_only_one_process_reclaims_a_dead_workers_trial() -> None:
    study = open_study(make_request(n_trials=1))
    assert study.ask() is not None
    study._open[0].set_user_attr(LEASE, asdict(lease_of_a_dead_process()))
    others = [open_study(make_request(n_trials=1)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda other: other.ask(), others))
    assert sorted(trial.attempt for trial in taken if trial is not None) == [2]


def test_a_killed_trial_of_the_grid_is_resumed_and_no_cell_runs_twice() -> None:
    before = open_study(make_request())
    killed = before.ask()
    assert killed is not None
    before._open[0].set_user_attr(LEASE, asdict(lease_of_a_dead_process()))
    trials = run(open_study(make_request()))
    assert trials[0].params == killed.params
    assert len(trials) == len({json.dumps(dict(trial.params), sort_keys=True) for trial in trials}) == 6


def test_a_released_trial_is_resumed() -> None:
    study = open_study(make_request())
    trial = study.ask()
    assert trial is not None
    study.release(trial)
    again = open_study(make_request()).ask()
    assert again is not None
    assert (again.number, again.is_resumed) == (0, True)


def test_a_living_workers_trial_is_left_alone() -> None:
    assert open_study(make_request()).ask() is not None  # this process's own, and it lives
    other = open_study(make_request()).ask()
    assert other is not None
    assert other.number == 1


def test_a_beat_in_the_moment_in_which_its_trial_is_told_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = open_study(make_request())
    trial = study.ask()
    assert trial is not None
    asked = threading.Event()

    def holds(_: object) -> bool:  # as a beat saw it before the trial was told
        asked.set()
        return True

    study.fail(trial, "no")
    monkeypatch.setattr(study, "holds", holds)
    monkeypatch.setattr("embedsweep.study.leases.BEAT_EVERY_S", 0.01)
    with study.alive(trial):
        assert asked.wait(20)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_trial_on_another_host_is_resumed_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedsweep.study.leases.time.monotonic", clock := Clock())
    there = open_study(make_request(n_trials=1))
    trial = there.ask()
    assert trial is not None
    there._open[0].set_user_attr(LEASE, asdict(Lease("another-host", "another-boot 1", os.getpid(), 0.0)))
    there._open[0].set_user_attr(BEAT, 4)

    here = open_study(make_request(n_trials=1))
    assert here.ask() is None
    assert here.doubtful == [0]
    clock.now += 50
    there._open[0].set_user_attr(BEAT, 5)  # it lives
    assert here.ask() is None
    assert here.doubtful == [0]  # unknown once more, until its next beat
    clock.now += 55
    assert here.ask() is None
    clock.now += 10  # 65 s without a beat
    taken = here.ask()
    assert taken is not None
    assert (taken.number, taken.is_resumed) == (0, True)
    assert here.doubtful == []


def test_an_evaluation_that_an_earlier_attempt_reported_stays() -> None:
    study = open_study(make_request(n_trials=1))
    trial = study.ask()
    assert trial is not None
    study.report(trial, 10, {"dev/spearman_cosine": 0.5}, 30)
    study.release(trial)
    after = open_study(make_request(n_trials=1))
    again = after.ask()
    assert again is not None
    after.report(again, 10, {"dev/spearman_cosine": 0.9}, 30)
    after.report(again, 20, {"dev/spearman_cosine": 0.6}, 30)
    assert after.trials[0].intermediate_values == {10: 0.5, 20: 0.6}


# --- samplers after a resume


def draws(sampler: SamplerName, name: str, stops: list[int]) -> list[dict[str, Any]]:
    """The values of 8 trials of a study that is opened anew after each of ``stops`` trials."""
    axes: tuple[Axis, ...] = (LOSS, LR, WARMUP) if sampler in ("tpe", "random", "gp") else (LR, WARMUP)
    trials: list[OpenTrial] = []
    for stop in (*stops, 8):
        trials += run(open_study(make_request(axes, sampler, 8, name)), stop - len(trials))
    return [dict(trial.params) for trial in trials]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "cmaes"])
def test_a_resumed_study_samples_as_an_undisturbed_one_and_nothing_twice(sampler: SamplerName) -> None:
    whole = draws(sampler, "whole", [])
    assert len({json.dumps(params, sort_keys=True) for params in whole}) == 8
    assert draws(sampler, "resumed", [1, 4]) == whole


# --- identity


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"axes": (LOSS, DiscreteAxis(BATCH.key, (16, 32), {}))}, "sweep of dataloader.batch_size was 16,32,64"),
        ({"axes": (LOSS,)}, "sweep of dataloader.batch_size was 16,32,64 and is now absent"),
        ({"lr": 2e-3}, "optimizer.lr was 0.001 and is now 0.002"),
        ({"sampler": "tpe", "n_trials": 6}, "sampler was exhaustive and is now tpe"),
    ],
)
def test_a_request_with_another_plan_is_refused_with_the_difference(changed: dict[str, Any], message: str) -> None:
    open_study(make_request())
    with pytest.raises(ConfigError) as caught:
        open_study(make_request(**changed))
    (problem,) = caught.value.problems
    assert problem.where == "study compare"
    assert message in problem.message
    assert open_study(make_request()).n_trials == 6  # nothing was changed


MAY_DIFFER: dict[str, dict[str, Any]] = {
    "max_retries": {"max_retries": 5},
    "max_deaths": {"max_deaths": 9},
    "retry_failed": {"retry_failed": True},
    "timeout": {"timeout": 60.0},
    "dry_run": {"dry_run": True},
    "n_trials": {"n_trials": 2},
}


@pytest.mark.parametrize("key", MAY_DIFFER)
def test_keys_that_decide_no_result_may_differ_between_commands(key: str) -> None:
    open_study(make_request())
    command = make_request(n_trials=MAY_DIFFER[key].get("n_trials"))
    command = replace(command, study=replace(command.study, **MAY_DIFFER[key]))
    for again in (command, replace(command, plan=None, overridden=frozenset({f"study.{key}"}))):
        study = open_study(again)
        assert study.services.max_retries == MAY_DIFFER[key].get("max_retries", 1)
        assert study.services.max_deaths == MAY_DIFFER[key].get("max_deaths", 2)
        assert study.n_trials == MAY_DIFFER[key].get("n_trials", 6)


def test_workers_and_tracking_may_differ_between_commands() -> None:
    open_study(make_request())
    workers = WorkersConfig("local", 4, 2, 1, 3, None, mps="auto")
    tracking = TrackingConfig("local", "http://127.0.0.1:5000", spool=True)
    assert open_study(replace(make_request(), workers=workers, tracking=tracking)).services.tracking == tracking


FROZEN: dict[str, tuple[dict[str, Any], str]] = {
    "study.seed": ({"seed": 1}, "is 42 in this study and cannot be changed to 1"),
    "study.sampler": ({"sampler": "gp"}, "is exhaustive in this study and cannot be changed to gp"),
    "study.pruner": ({"pruner": "median"}, "is none in this study and cannot be changed to median"),
    "study.pruning.rungs": (
        {"pruning": replace(NO_PRUNING, rungs=(0.5,))},
        "is [] in this study and cannot be changed to [0.5]",
    ),
    "study.duplicates": ({"duplicates": "replicate"}, "is reuse in this study and cannot be changed to replicate"),
    "study.enqueue": ({"enqueue": ({"a": 1},)}, "is [] in this study and cannot be changed to [{a:1}]"),
    "study.warm_start": ({"warm_start": "other"}, "is null in this study and cannot be changed to other"),
    "study.objective": (
        {"objectives": ("dev/spearman_dot",)},
        "is [dev/spearman_cosine] in this study and cannot be changed to [dev/spearman_dot]",
    ),
    "study.keep_models": ({"keep_models": "all"}, "is best in this study and cannot be changed to all"),
}


@pytest.mark.parametrize("key", FROZEN)
def test_frozen_keys_cannot_be_changed_when_only_the_name_is_given(key: str) -> None:
    open_study(make_request())
    changed, message = FROZEN[key]
    command = by_name("compare")
    command = replace(command, study=replace(command.study, **changed), overridden=frozenset({"study.name", key}))
    with pytest.raises(ConfigError) as caught:
        open_study(command)
    (problem,) = caught.value.problems
    assert problem.where == key
    assert message in problem.message


# --- a study that is only looked at


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_finding_a_missing_study_creates_nothing(storage: str, tmp_path: Path) -> None:
    url = None if storage == "journal" else f"sqlite:///{tmp_path / 'optuna.db'}"
    assert find_study(make_request(storage=url)) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="no study gamma"):
        find_study(by_name("gamma"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_an_existing_study_is_found_unchanged(storage: str, tmp_path: Path) -> None:
    url = None if storage == "journal" else f"sqlite:///{tmp_path / 'optuna.db'}"
    run(open_study(make_request(storage=url)), 3)
    before = every_file(tmp_path)
    for command in (make_request(n_trials=5, storage=url), by_name("compare", 5)):
        study = find_study(command)
        assert study is not None
        assert (study.n_trials, len(study.trials), study.fixed) == (5, 3, ["trainer.x=1"])
    with pytest.raises(ConfigError, match="exists with a different plan"):
        find_study(make_request(lr=2e-3, storage=url))
    assert every_file(tmp_path) == before
    assert open_study(by_name("compare")).n_trials == 6


def test_a_study_without_a_name_is_identified_by_its_plan() -> None:
    first = open_study(make_request(name=None))
    assert open_study(make_request(name=None)).name == first.name
    assert open_study(make_request(name=None, lr=2e-3)).name != first.name
    assert open_study(make_request(name=None, n_trials=2)).name == first.name


def test_an_unknown_name_lists_the_existing_studies() -> None:
    for name in ("beta", "alpha"):
        open_study(make_request(name=name))
    with pytest.raises(ConfigError, match=r"^study.name: no study gamma; there are: alpha, beta$"):
        open_study(by_name("gamma"))
    assert not Path("sweeps/gamma").exists()


def test_an_unknown_name_in_an_empty_folder_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_study(by_name("gamma"))
    assert f"there are: none in {tmp_path / 'sweeps'}" in str(caught.value)


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.create_study(study_name="theirs", storage=url)
    with pytest.raises(StudyError, match="was not made by embedsweep"):
        open_study(make_request(name="theirs", storage=url))


def test_a_study_in_a_database_is_found_again_by_its_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert len(run(open_study(make_request(storage=url)), 4)) == 4
    assert not Path("sweeps/compare/journal.log").exists()
    study = open_study(by_name("compare"))
    assert len(run(study)) == 2
    assert Counter(trial.state.name for trial in optuna.load_study(study_name="compare", storage=url).trials) == {
        "COMPLETE": 6
    }


def test_a_storage_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"the study's storage sqlite:.* cannot be opened"):
        open_study(make_request(storage=f"sqlite:///{tmp_path / 'nowhere' / 'optuna.db'}"))


def test_a_journal_with_an_incomplete_line_is_opened_and_the_line_kept(caplog: pytest.LogCaptureFixture) -> None:
    run(open_study(make_request()), 2)
    journal = Path("sweeps/compare/journal.log")
    with journal.open("ab") as file:
        file.write(b'{"op_code": 6, "wor')
    study = open_study(by_name("compare"))
    messages = [record.getMessage() for record in caplog.records if record.name == "embedsweep.study.storage"]
    assert messages == [
        "a crash left the last line of sweeps/compare/journal.log incomplete; its 19 bytes were removed and are kept "
        "in sweeps/compare/journal.log.torn"
    ]
    assert len(study.trials) == 2
    assert len(run(study)) == 4
    assert b'"wor' in journal.with_name("journal.log.torn").read_bytes()
    assert len(open_study(by_name("compare")).trials) == 6


def test_the_frozen_plan_is_in_the_storage_and_in_the_folder() -> None:
    study = open_study(make_request())
    Path("sweeps/compare/study.yaml").write_text("storage: null\n", encoding="utf-8")
    again = open_study(by_name("compare"))
    assert again.plan == study.plan == make_request().plan
    assert again.fixed == ["trainer.x=1"]


def test_a_study_stays_in_the_storage_it_was_made_in(tmp_path: Path) -> None:
    open_study(make_request())
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    with pytest.raises(ConfigError, match=r"study compare is stored in the journal in sweeps/compare, but got sqlite"):
        open_study(make_request(storage=url))


def test_an_unknown_name_lists_the_studies_of_its_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    open_study(make_request(name="alpha", storage=url))
    shutil.rmtree("sweeps")  # as on another machine
    with pytest.raises(ConfigError, match=r"no study gamma; there are: alpha"):
        open_study(replace(by_name("gamma"), study=replace(by_name("gamma").study, storage=url)))


def test_a_study_whose_creator_was_killed_before_the_plan_was_written_is_created_by_the_same_command(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.create_study(study_name="compare", storage=url, direction="maximize")
    study = open_study(make_request(storage=url))
    assert study.plan == make_request().plan
    assert len(run(study)) == 6


def test_trials_that_are_left_are_new_ones_and_those_of_dead_workers() -> None:
    study = open_study(make_request())
    assert study.n_left == 6
    mine, theirs, done = (study.ask() for _ in range(3))
    assert mine is not None
    assert theirs is not None
    assert done is not None
    study.complete(done, result(0.5))
    assert study.n_left == 3
    study.release(theirs)
    assert study.n_left == 4
    assert open_study(by_name("compare", n_trials=3)).n_left == 1
