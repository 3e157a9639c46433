"""Several objectives: the values of a trial, the best trial, and the Pareto front."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.study import StudyDirection

from embedsweep.config.metrics import COSTS
from embedsweep.config.result import Decision, Emissions, TrialResult
from embedsweep.errors import ConfigError
from embedsweep.study.objectives import best_of, better, directions_of, values_of
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep

SPEARMAN, PEARSON = "dev/spearman_cosine", "dev/pearson_cosine"
CO2, RATE = "emissions/co2eq_kg", "throughput/examples_per_s"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def result(spearman: float, co2eq_kg: float, rate: float | None = 50.0) -> TrialResult:
    cost = Emissions(co2eq_kg, 0.5, 60.0, "FRA", ())
    dev = {SPEARMAN: spearman, PEARSON: spearman / 2}
    return TrialResult(spearman, dev, {}, {}, {}, 1, 1, cost, False, None, rate)


def study_of(*objectives: str, name: str = "several", n_trials: int = 6) -> Study:
    rates = ",".join(f"{number + 1}e-4" for number in range(n_trials))
    words = [f"study.name={name}", f"optimizer.lr={rates}", f"study.objective=[{','.join(objectives)}]"]
    return open_study(pass_sweep(words))


def fill(study: Study, rows: list[tuple[float, float]]) -> Study:
    for row in rows:
        trial = study.ask()
        assert trial is not None
        study.complete(trial, result(*row))
    return study


def test_every_objective_has_optunas_direction() -> None:
    assert directions_of([SPEARMAN, CO2, RATE]) == [
        StudyDirection.MAXIMIZE,
        StudyDirection.MINIMIZE,
        StudyDirection.MAXIMIZE,
    ]
    assert directions_of(list(COSTS)).count(StudyDirection.MINIMIZE) == 3


def test_a_result_has_a_value_of_each_objective_in_order() -> None:
    objectives = ("emissions/energy_kwh", SPEARMAN, "emissions/duration_s", CO2, RATE, PEARSON)
    study = fill(study_of(*objectives), [(0.5, 0.002)])
    assert study.trials[0].values == [0.5, 0.5, 60.0, 0.002, 50.0, 0.25]
    assert study.plan.objective == SPEARMAN  # the first dev metric chooses the checkpoint


def test_a_result_of_an_older_version_has_no_throughput() -> None:
    assert values_of(result(0.5, 0.1, None), (SPEARMAN,)) == [0.5]
    with pytest.raises(ValueError, match="of an older version has no throughput/examples_per_s"):
        values_of(result(0.5, 0.1, None), (SPEARMAN, RATE))


def test_evaluations_of_several_objectives_are_not_reported_and_prune_no_trial() -> None:
    study = study_of(SPEARMAN, CO2)
    trial = study.ask()
    assert trial is not None
    assert study.report(trial, 10, {SPEARMAN: 0.1}, 80) is Decision.CONTINUE
    assert study.trials[0].intermediate_values == {}


# Spearman up, grams down. 0 and 5 are as good as each other; 2 is cheaper than all; 4 is worse than 3 by both.
ROWS = [(0.7, 0.005), (0.7, 0.006), (0.2, 0.001), (0.6, 0.002), (0.5, 0.003), (0.7, 0.005)]


@pytest.mark.parametrize("objectives", [(SPEARMAN, CO2), (CO2, SPEARMAN)])
def test_the_pareto_front_and_its_best_trial_on_dev(objectives: tuple[str, str]) -> None:
    study = fill(study_of(*objectives), ROWS)
    assert study.front == {0, 2, 3, 5}
    assert study.best is not None
    assert study.best.number == 0  # 1 has the same score and cost more; 5 came later
    assert best_of(study.trials[1:], objectives) == study.trials[5]
    assert best_of([], objectives) is None


def test_trials_are_sorted_by_the_objective_that_counts_first() -> None:
    study = fill(study_of(SPEARMAN, CO2), ROWS)
    order = {
        first: [trial.number for trial in sorted(study.trials, key=better(study.plan.objectives, first))]
        for first in (0, 1)
    }
    assert order == {0: [0, 5, 1, 3, 4, 2], 1: [2, 3, 4, 0, 5, 1]}


@pytest.mark.parametrize("other", [(SPEARMAN,), (CO2, SPEARMAN), (SPEARMAN, RATE)])
def test_a_request_with_other_objectives_is_refused(other: tuple[str, ...]) -> None:
    study_of(SPEARMAN, CO2)
    with pytest.raises(ConfigError, match="objectives was"):
        study_of(*other)
    assert study_of(SPEARMAN, CO2).plan.objectives == (SPEARMAN, CO2)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_samplers_propose_for_several_objectives(sampler: str) -> None:
    words = ["search=lr_warmup_batch", "dataloader.batch_size=16", f"study.objective=[{SPEARMAN},{CO2}]"]
    study = open_study(pass_sweep([*words, "study.n_trials=14", f"study.sampler={sampler}"]))
    fill(study, [(number % 5 / 10, 0.001 * (number % 3)) for number in range(14)])
    assert len({str(trial.params) for trial in study.trials}) == 14


def test_validation_requires_a_dev_metric_among_the_objectives() -> None:
    with pytest.raises(ConfigError, match=r"study.objective: must have a dev metric"):
        pass_sweep(["optimizer.lr=1e-4,1e-3", f"study.objective=[{CO2},{RATE}]"])


def test_a_single_run_takes_the_first_dev_metric() -> None:
    assert pass_single([f"study.objective=[{CO2},{PEARSON},{SPEARMAN}]"]).config.objective == PEARSON
