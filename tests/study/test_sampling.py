"""Values of a trial: conditional axes, constraints, points that are tried first, and several workers at a time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from embedsweep.config.axes import distributions
from embedsweep.config.study import Axis, Choice, DiscreteAxis, RangeAxis, StudyPlan
from embedsweep.config.trial import SamplerName
from embedsweep.errors import ConfigError, StudyError
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.opening import open_study
from embedsweep.study.sampling import ConstrainedSampler, TrialSampler
from embedsweep.study.study import Study
from embedsweep.validation.sweep import Sweep
from tests.study.test_study import make_request, result

LOSS = DiscreteAxis("loss", ("mnrl", "cosent"), {})
LR = RangeAxis("optimizer.lr", 1e-4, 1e-2, log=True, step=None, integer=False, when={})
WARMUP = RangeAxis("optimizer.warmup", 0.0, 0.2, log=False, step=None, integer=False, when={})
SCALE = RangeAxis("loss.scale", 5, 100, log=True, step=None, integer=False, when={"loss": "mnrl"})
COSENT_SCALE = RangeAxis("loss.scale", 1, 2, log=False, step=None, integer=False, when={"loss": "cosent"})
DIMS = DiscreteAxis("loss.dims", ((8, 4), (8,)), {"loss": "mnrl"})
BATCH = DiscreteAxis("dataloader.batch_size", (16, 32, 64), {})
STEPS = RangeAxis("trainer.max_steps", 2, 8, log=False, step=2, integer=True, when={"loss": "cosent"})
CONDITIONAL: tuple[Axis, ...] = (LOSS, LR, BATCH, SCALE, COSENT_SCALE, DIMS)
GRID: tuple[Axis, ...] = (LOSS, BATCH, DIMS, STEPS)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(axes: tuple[Axis, ...], sampler: SamplerName, n_trials: int, name: str = "drawn", **changes: Any) -> Sweep:
    one = make_request(axes, sampler, n_trials, name)
    assert one.plan is not None
    return replace(one, plan=replace(one.plan, **changes))


def run(study: Study) -> Iterator[OpenTrial]:
    while (trial := study.ask()) is not None:
        study.complete(trial, result(1 - abs(float(str(trial.params.get("optimizer.lr", 0))) - 1e-3)))
        yield trial


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "nsga3"])
def test_a_trial_has_the_axes_of_its_options_and_no_others(sampler: SamplerName) -> None:
    study = open_study(sweep(CONDITIONAL, sampler, 30))
    trials = list(run(study))
    keys = {
        "mnrl": ["loss", "optimizer.lr", "dataloader.batch_size", "loss.scale", "loss.dims"],
        "cosent": ["loss", "optimizer.lr", "dataloader.batch_size", "loss.scale"],
    }
    low, high = {"mnrl": 5, "cosent": 1}, {"mnrl": 100, "cosent": 2}
    for trial, frozen in zip(trials, study.trials, strict=True):
        loss = str(trial.params["loss"])
        assert list(trial.params) == keys[loss]
        scale = trial.params["loss.scale"]
        assert isinstance(scale, float)
        assert low[loss] <= scale <= high[loss]
        assert f"loss.scale [loss={loss}]" in frozen.params
        assert study.params_of(frozen) == trial.params
    dims = {trial.params.get("loss.dims") for trial in trials}
    assert dims == {(8, 4), (8,), None}
    stored = {frozen.params.get("loss.dims [loss=mnrl]") for frozen in study.trials}
    assert stored == {"[8,4]", "[8]", None}


def test_tpe_learns_the_axes_of_an_option_from_the_trials_that_have_them() -> None:
    study = open_study(sweep((LOSS, SCALE), "tpe", 60))
    while (trial := study.ask()) is not None:
        scale = trial.params.get("loss.scale")
        study.complete(trial, result(-abs(float(str(scale)) - 50) / 50 if scale is not None else -1.0))
    late = [study.params_of(trial).get("loss.scale") for trial in study.trials[40:]]
    near = [scale for scale in late if scale is not None and 35 < float(str(scale)) < 70]
    # Evenly in the logarithm a quarter of the scales, and half of the losses, would be there: two or three of 20.
    assert len(near) >= 10


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "nsga2"])
def test_a_cell_that_violates_a_constraint_is_never_sampled(sampler: SamplerName) -> None:
    constraints = ("optimizer.warmup < 0.1", "100 * optimizer.lr + optimizer.warmup <= 0.4")
    trials = list(run(open_study(sweep((LR, WARMUP), sampler, 25, constraints=constraints, groups=(), cells={"": {}}))))
    assert len(trials) == 25
    for trial in trials:
        lr, warmup = float(str(trial.params["optimizer.lr"])), float(str(trial.params["optimizer.warmup"]))
        assert warmup < 0.1
        assert 100 * lr + warmup <= 0.4
    # NSGA's children may be their parents again.
    assert len({str(trial.params) for trial in trials}) == 25 or sampler == "nsga2"


def test_constraints_that_leave_nothing_are_an_error_and_use_no_trial() -> None:
    study = open_study(sweep((LR,), "tpe", 3, constraints=("optimizer.lr > 1",), groups=(), cells={"": {}}))
    with pytest.raises(StudyError, match=r"satisfies the constraints optimizer\.lr > 1: they leave almost nothing"):
        study.ask()


def test_a_constraint_applies_to_fixed_values_too() -> None:
    cells = {"": {"dataloader": {"micro_batch_size": 32}}}
    micro = ("dataloader.micro_batch_size <= dataloader.batch_size",)
    trials = list(run(open_study(sweep((BATCH,), "random", 12, constraints=micro, groups=(), cells=cells))))
    assert {trial.params["dataloader.batch_size"] for trial in trials} == {32, 64}


def test_the_exhaustive_sampler_runs_every_valid_cell_once() -> None:
    constraints = ("trainer.max_steps * 8 <= dataloader.batch_size",)
    expected: list[dict[str, Choice]] = []
    for batch, dims in itertools.product((16, 32, 64), ((8, 4), (8,))):
        expected.append({"loss": "mnrl", "dataloader.batch_size": batch, "loss.dims": dims})
    for batch, steps in ((16, 2), (32, 2), (32, 4), (64, 2), (64, 4), (64, 6), (64, 8)):
        expected.append({"loss": "cosent", "dataloader.batch_size": batch, "trainer.max_steps": steps})
    study = open_study(sweep(GRID, "exhaustive", len(expected), constraints=constraints))
    assert [dict(trial.params) for trial in run(study)] == expected
    with pytest.raises(ConfigError, match=f"the grid has {len(expected)} cells, each run once, but got 40"):
        open_study(replace(sweep(GRID, "exhaustive", 40, constraints=constraints)))


POINTS = (
    {"loss": "mnrl", "optimizer.lr": 2e-3, "dataloader.batch_size": 64, "loss.scale": 30.0, "loss.dims": (8,)},
    {"optimizer.lr": 3e-3},
    {"loss": "cosent"},
)


def test_points_are_tried_first_in_order_and_the_sampler_fills_their_other_axes() -> None:
    trials = list(run(open_study(sweep(CONDITIONAL, "tpe", 5, enqueue=POINTS))))
    assert dict(trials[0].params) == POINTS[0]
    assert trials[1].params["optimizer.lr"] == 3e-3
    assert "loss.scale" in trials[1].params
    assert trials[2].params["loss"] == "cosent"
    assert len({str(trial.params) for trial in trials}) == 5


def test_points_are_tried_once_wherever_the_study_is_interrupted() -> None:
    for stop in range(3):
        study = open_study(sweep(CONDITIONAL, "tpe", 4, enqueue=POINTS))
        trial = study.ask()
        assert trial is not None
        study.complete(trial, result(0.5))
        assert len(study.trials) == stop + 1
    assert [study.params_of(trial).get("optimizer.lr") for trial in study.trials][:2] == [2e-3, 3e-3]
    assert study.params_of(study.trials[2])["loss"] == "cosent"


def test_a_grid_starts_with_its_points_and_runs_no_cell_twice() -> None:
    points = ({"loss": "cosent", "dataloader.batch_size": 64, "trainer.max_steps": 4}, {"loss": "mnrl"})
    trials = list(run(open_study(sweep(GRID, "exhaustive", 18, enqueue=points))))
    assert dict(trials[0].params) == points[0]
    assert dict(trials[1].params) == {"loss": "mnrl", "dataloader.batch_size": 16, "loss.dims": (8, 4)}
    assert Counter(str(sorted(trial.params.items())) for trial in trials).most_common(1)[0][1] == 1
    assert len(trials) == 18


def test_a_trial_whose_worker_died_while_sampling_keeps_the_values_it_has() -> None:
    study = open_study(sweep(CONDITIONAL, "tpe", 3))
    torn = study._study.ask()
    torn.suggest_categorical("loss", ("mnrl", "cosent"))
    loss = torn.params["loss"]
    trial = study.ask()
    assert trial is not None
    assert (trial.number, trial.params["loss"]) == (0, loss)
    assert "loss.scale" in trial.params
    assert len(study.trials) == 1


def test_workers_that_ask_at_the_same_time_do_not_get_the_same_values() -> None:
    studies = [open_study(sweep((BATCH, LOSS), "tpe", 6)) for _ in range(6)]
    trials = [study.ask() for study in studies]
    assert len({str(trial.params) for trial in trials if trial is not None}) >= 5


def test_a_proposal_that_another_worker_runs_is_accepted_if_there_is_no_other() -> None:
    only = DiscreteAxis("dataloader.batch_size", (16,), {})
    plan = sweep((only,), "tpe", 2, groups=(), cells={"": {}}).plan
    assert plan is not None
    seen: list[dict[str, Choice]] = []

    def avoid(cell: dict[str, Choice]) -> bool:
        seen.append(cell)
        return True

    study = optuna.create_study(sampler=ConstrainedSampler(plan, distributions(plan.axes), 0, avoid))
    assert study.ask().relative_params == {"dataloader.batch_size": 16}
    assert len(seen) < 20


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_resumed_study_samples_as_an_undisturbed_one_and_nothing_twice(sampler: SamplerName) -> None:
    def draws(name: str, stops: list[int]) -> list[dict[str, Choice]]:
        trials: list[OpenTrial] = []
        for stop in stops:
            study = open_study(sweep(CONDITIONAL, sampler, 16, name, constraints=("loss.scale < 60",)))
            trials += itertools.islice(run(study), stop)
        return [dict(trial.params) for trial in trials]

    whole = draws("whole", [16])
    assert len({str(params) for params in whole}) == len(whole) == 16
    assert draws("resumed", [3, 5, 8]) == whole


# --- the best of another study


def finished(name: str, axes: tuple[Axis, ...], *points: dict[str, Choice]) -> None:
    """A study of these points, the last of which is the best."""
    study = open_study(sweep(axes, "random", len(points), name, enqueue=points))
    for score in range(len(points)):
        trial = study.ask()
        assert trial is not None
        study.complete(trial, result(score / 10))


def test_a_warm_start_tries_the_values_that_the_other_studys_best_shares() -> None:
    low: dict[str, Choice] = {"loss": "mnrl", "optimizer.lr": 1e-4, "optimizer.warmup": 0.1, "loss.scale": 7.0}
    best: dict[str, Choice] = {"loss": "cosent", "optimizer.lr": 5e-3, "optimizer.warmup": 0.15}
    finished("first", (LOSS, LR, WARMUP, SCALE), low, best)
    narrow = replace(WARMUP, high=0.1)
    second = sweep((LOSS, LR, narrow, COSENT_SCALE), "tpe", 3, warm_start="first", enqueue=({"optimizer.lr": 1e-3},))
    study = open_study(second)
    trial = study.ask()
    assert trial is not None
    assert trial.params["optimizer.lr"] == 1e-3
    # What was taken is the study's own from then on.
    Path("sweeps/first").rename("sweeps/gone")
    trial = open_study(second).ask()
    assert trial is not None
    assert (trial.params["loss"], trial.params["optimizer.lr"]) == ("cosent", 5e-3)
    assert float(str(trial.params["optimizer.warmup"])) <= 0.1


@pytest.mark.parametrize(
    ("warm_start", "axes", "message"),
    [
        ("frist", (LR,), "no study frist (did you mean first?); there are: first"),
        (
            "first",
            (BATCH,),
            "trial 0, the best of study first, has optimizer.lr=0.0001: none of it is in what is searched here, "
            "dataloader.batch_size",
        ),
        (
            "first",
            (replace(LR, low=1e-3),),
            "trial 0, the best of study first, has optimizer.lr=0.0001: none of it is in what is searched here, "
            "optimizer.lr",
        ),
    ],
)
def test_a_warm_start_from_a_study_without_usable_values_is_refused(
    warm_start: str, axes: tuple[Axis, ...], message: str
) -> None:
    finished("first", (LR,), {"optimizer.lr": 1e-4})
    with pytest.raises(ConfigError) as caught:
        open_study(sweep(axes, "tpe", 3, "second", warm_start=warm_start))
    assert str(caught.value) == f"study.warm_start: {message}"
    assert not Path("sweeps/second/study.yaml").exists()
    assert open_study(sweep(axes, "tpe", 3, "second")).plan.warm_start is None


def test_a_trials_values_are_appended_to_the_journal_at_once() -> None:
    study = open_study(sweep(CONDITIONAL, "random", 2))
    appended: list[int] = []
    journal: Any = study._storage
    append = journal._backend._journal.append_logs

    def counting(logs: list[Any]) -> None:
        appended.append(len(logs))
        append(logs)

    journal._backend._journal.append_logs = counting
    assert study.ask() is not None
    # The trial, its values, its lease, its attempt.
    assert len(appended) == 4
    assert appended[1] >= 4
    assert [trial.state for trial in open_study(sweep(CONDITIONAL, "random", 2)).trials] == [TrialState.RUNNING]


def test_asking_returns_a_waiting_trial_with_its_values() -> None:
    plan: StudyPlan | None = sweep(CONDITIONAL, "tpe", 3).plan
    assert plan is not None
    study = optuna.create_study()
    study.enqueue_trial({"loss": "mnrl", "loss.scale [loss=mnrl]": 9.0, "loss.dims [loss=mnrl]": "[8]"})
    trial = TrialSampler(plan, []).ask(study, study.trials, 0)
    assert trial.params["loss.scale [loss=mnrl]"] == 9.0
    assert trial.params["loss.dims [loss=mnrl]"] == "[8]"
    assert set(trial.params) == {
        *("loss", "optimizer.lr", "dataloader.batch_size", "loss.scale [loss=mnrl]", "loss.dims [loss=mnrl]"),
    }
