"""The rows of a study's results, of trials in all states, against values by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from embedsweep.config.identity import config_hash
from embedsweep.evaluation.scores import write_scores
from embedsweep.report.results import COMPARED, StudyResults, study_results
from embedsweep.study.duplicates import Duplicate
from embedsweep.study.opening import open_study
from embedsweep.study.record import RESULT
from embedsweep.study.test_scores import TestScores
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import COST, Outcome, finish, keep_scores, result, scored_items, study_of

SPEARMAN, CO2 = "dev/spearman_cosine", "emissions/co2eq_kg"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_study_without_trials_has_no_rows_and_no_best() -> None:
    results = study_results(study_of(words=("study.n_trials=2",), rates=2))
    assert (results.rows, results.ranked, results.best, results.before) == ((), (), None, None)
    assert (results.groups, results.configurations, results.undecided) == ({}, (), ())


def test_every_trial_has_a_row_also_while_the_study_runs() -> None:
    study = study_of(
        replace(result(0.5, interval=(0.4, 0.6), steps=8), before={SPEARMAN: 0.3}),
        replace(result(0.7, interval=(0.6, 0.8), steps=9), before={SPEARMAN: 0.35}),
        "TrialError: no",
        "pruned",
        name="running",
        words=("study.n_trials=6",),
        rates=7,
    )
    running = study.ask()
    assert running is not None
    study.set_test_scores(TestScores(1, {"test/spearman_cosine": 0.6}, {"sts/spearman_cosine": 0.5}, {}, 5, None))
    results = study_results(study)
    assert [row.number for row in results.rows] == [0, 1, 2, 3, 4]
    assert [row.state for row in results.rows] == ["COMPLETE", "COMPLETE", "FAIL", "PRUNED", "RUNNING"]
    assert [row.objectives for row in results.rows] == [{SPEARMAN: 0.5}, {SPEARMAN: 0.7}, {}, {}, {}]
    assert [row.interval for row in results.rows] == [(0.4, 0.6), (0.6, 0.8), None, None, None]
    assert [row.values["optimizer.lr"] for row in results.rows] == [1e-4, 2e-4, 3e-4, 4e-4, 5e-4]
    assert [row.steps for row in results.rows] == [8, 9, None, 1, None]
    assert [row.reason for row in results.rows] == [None, None, "TrialError: no", None, None]
    assert [row.cost.duration_s for row in results.rows] == [1.0, 1.0, None, 1.0, None]
    assert results.rows[0].cost.co2eq_kg == 0.002
    assert results.rows[4].cost.energy_kwh is None
    assert [row.number for row in results.ranked] == [1, 0]
    assert results.best is results.rows[1]
    assert results.best.test == {"test/spearman_cosine": 0.6, "sts/spearman_cosine": 0.5}
    assert results.rows[0].test == {}
    assert results.before == 0.35
    assert results.rows[4].folder == study.trial_folder(4)


def test_an_option_has_the_best_and_the_median_of_its_trained_trials_and_their_mean_cost() -> None:
    words = ["study.name=groups", "loss=mnrl,cosent,cosine", "optimizer.lr=1e-5,2e-5,3e-5,4e-5"]
    study = open_study(pass_sweep(words))
    outcomes: list[Outcome] = [
        *(result(value, steps=steps, co2eq_kg=cost) for value, steps, cost in ((0.5, 10, 1.0), (0.6, 20, 2.0))),
        result(0.9, steps=60, co2eq_kg=6.0),
        "pruned",
        *(result(value, steps=7) for value in (0.7, 0.95)),
        "failed",
        "pruned",
        *(["failed"] * 4),
    ]
    groups = study_results(finish(study, outcomes)).groups
    assert list(groups) == ["loss"]
    rows = [
        (row.option, row.trials, row.complete, row.pruned, row.failed, row.best, row.median, row.steps, row.co2eq_kg)
        for row in groups["loss"]
    ]
    assert rows == [
        ("cosent", 4, 2, 1, 1, 0.95, pytest.approx(0.825), 7, 0.002),
        ("mnrl", 4, 3, 1, 0, 0.9, 0.6, 30, 3.0),
        ("cosine", 4, 0, 0, 4, None, None, None, None),
    ]


def test_seeds_and_replicates_of_a_configuration_are_one_row() -> None:
    words = ["study.name=seeds", "optimizer.lr=1e-5,2e-5", "trainer.seed=1,2,3", "study.n_trials=6"]
    study = finish(open_study(pass_sweep(words)), [0.5, 0.6, 0.7, 0.65, "failed", 0.63])
    first, second = study_results(study).configurations
    assert ([row.number for row in first.rows], first.n) == ([3, 5], 2)
    assert first.values == {"optimizer.lr": 2e-5}
    assert first.mean[SPEARMAN] == pytest.approx(0.64)
    assert first.spread[SPEARMAN] == pytest.approx(np.std([0.65, 0.63], ddof=1))
    assert ([row.number for row in second.rows], second.reused) == ([2, 1, 0], ())
    assert second.mean[SPEARMAN] == pytest.approx(0.6)
    assert study_results(study).best is not None  # the single trial with the best score keeps the model
    assert study_results(study).best.number == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["replicate", "reuse"])
def test_a_repeated_configuration_counts_once_more_only_where_it_was_trained(kind: str) -> None:
    words = ["study.name=repeated", "trainer.max_steps=int(interval(1,2))", "study.n_trials=3", "study.sampler=random"]
    study = open_study(pass_sweep([*words, f"study.duplicates={kind}"]))
    for value in (0.5, 0.7, 0.6):
        trial = study.ask()
        assert trial is not None
        config = cell_config(study.plan, trial.params)
        found = study.duplicate(trial, config)
        study.set_run(trial, f"run{trial.number}", config_hash(config))
        if found is not None and found.replicate is None:
            study.reuse(trial, study.trials[found.original], result(0.5))
        else:
            study.complete(trial, result(value))
    results = study_results(study)
    repeats = [row for row in results.rows if row.duplicate is not None]
    assert repeats
    assert sum(each.n for each in results.configurations) == (3 if kind == "replicate" else 3 - len(repeats))
    assert len(results.configurations) == 3 - len(repeats)
    reused = [number for each in results.configurations for number in each.reused]
    assert reused == ([row.number for row in repeats] if kind == "reuse" else [])
    assert all(isinstance(row.duplicate, Duplicate) for row in repeats)
    assert [row.run_id for row in results.rows] == ["run0", "run1", "run2"]


def compared(*noises: float | None, name: str = "compared") -> StudyResults:
    study = study_of(*(0.9 - number / 100 for number in range(len(noises))), name=name)
    keep_scores(study, noises)
    return study_results(study)


def test_trials_whose_paired_interval_contains_zero_cannot_be_told_apart_from_the_best() -> None:
    results = compared(0.2, 0.205, 0.6, None)
    intervals = results.differences
    assert list(intervals) == [1, 2, 3]
    assert intervals[3] is None  # its folder is on another machine
    assert intervals[2] is not None
    assert intervals[2][0] > 0
    difference = scored_items(0.2).resampled(SPEARMAN) - scored_items(0.6).resampled(SPEARMAN)
    assert intervals[2] == pytest.approx(tuple(np.quantile(difference, [0.025, 0.975])))
    assert 2 not in results.undecided
    assert compared(0.2, 0.2, name="equal").undecided == (1,)
    close = study_of(0.9, 0.8, name="close")
    keep_scores(close, (0.2,))
    write_scores(close.trial_folder(1), scored_items(0.2, seed=4))
    low, high = study_results(close).differences[1] or (0, 0)
    assert low < 0 < high
    assert study_results(close).undecided == (1,)


def test_only_the_next_best_trials_are_compared_and_none_without_the_scores_of_the_best() -> None:
    assert len(compared(*[0.2] * (COMPARED + 3)).differences) == COMPARED - 1
    results = compared(None, 0.2, name="elsewhere")
    assert (results.differences, results.undecided) == ({1: None}, ())


def test_differences_that_another_machine_could_not_know_are_computed_where_the_items_are() -> None:
    study = study_of(0.9, 0.8, 0.7, name="shared")
    study.keep_differences(0, 3, {1: None, 2: (0.1, 0.2)})  # by a command on a machine without the folder of trial 1
    assert study_results(study).differences == {1: None, 2: (0.1, 0.2)}
    keep_scores(study, (0.2, 0.6))
    results = study_results(study)
    difference = scored_items(0.2).resampled(SPEARMAN) - scored_items(0.6).resampled(SPEARMAN)
    assert results.differences[1] == pytest.approx(tuple(np.quantile(difference, [0.025, 0.975])))
    assert results.differences[2] == (0.1, 0.2)
    assert results.kept_differences == {1: None, 2: (0.1, 0.2)}


def test_scores_of_other_items_are_not_compared() -> None:
    study = study_of(0.9, 0.8)
    keep_scores(study, (0.2,))
    write_scores(study.trial_folder(1), scored_items(0.2, n_items=199))
    assert study_results(study).differences == {1: None}


def test_several_objectives_rank_by_the_first_and_the_best_is_of_the_first_dev_metric() -> None:
    words = ("study.objective=[emissions/co2eq_kg,dev/spearman_cosine]", "study.n_trials=3")
    results = study_results(study_of(result(0.7), result(0.8, co2eq_kg=0.003), result(0.1), words=words, rates=3))
    assert [row.number for row in results.ranked] == [0, 2, 1]
    assert [each.mean for each in results.configurations] == [
        {CO2: 0.002, SPEARMAN: 0.7},
        {CO2: 0.002, SPEARMAN: 0.1},
        {CO2: 0.003, SPEARMAN: 0.8},
    ]
    assert results.best is results.rows[1]
    assert list(results.differences) == [0, 2]


def test_the_interval_is_kept_in_the_storage_and_unknown_in_results_of_older_versions() -> None:
    study = study_of(result(0.5, interval=(0.4, 0.6)), 0.4, name="kept", words=("study.n_trials=3",), rates=3)
    old = study.ask()
    assert old is not None
    tree = json.loads(json.dumps(asdict(result(0.3))))
    del tree["interval"]
    study._open[old.number].set_user_attr(RESULT, tree)
    study._study.tell(old.number, 0.3)
    again = open_study(pass_sweep(["study.name=kept"]))
    assert [row.interval for row in study_results(again).rows] == [(0.4, 0.6), None, None]
    assert [row.result.emissions for row in study_results(again).rows if row.result] == [COST] * 3


def test_of_options_with_the_same_best_score_that_of_the_best_trial_is_first() -> None:
    study = open_study(pass_sweep(["study.name=tied", "optimizer.lr=1e-4,2e-4", "loss=mnrl,cosent"]))
    results = study_results(finish(study, [0.5, 0.7, 0.7, 0.6]))
    assert [(row.option, row.best_trial) for row in results.groups["loss"]] == [("cosent", 1), ("mnrl", 2)]
    assert results.best is results.rows[1]
    assert 2 in results.differences
