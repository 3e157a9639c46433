"""The charts and tables of the report's sections, against the rows of the study and values by hand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from scipy.stats import rankdata

from embedsweep.config.answer import FinalsTest
from embedsweep.config.study import DiscreteAxis, RangeAxis
from embedsweep.evaluation.scores import write_scores
from embedsweep.report.loaded_study import LoadedStudy
from embedsweep.report.page.account import failures, progress
from embedsweep.report.page.build import sections_of
from embedsweep.report.page.certainty import finals, luck
from embedsweep.report.page.first import first_screen
from embedsweep.report.page.importance import importances
from embedsweep.report.page.items import change_of, items
from embedsweep.report.page.space import parallel
from embedsweep.report.page.trials import curves, history, pareto_front, ranking
from embedsweep.report.results import study_results
from embedsweep.report.verdict import look_lines, seed_lines, selection_line, soup_lines, verdict_lines
from embedsweep.study.finals import open_finals
from embedsweep.study.leases import LEASE
from embedsweep.study.opening import open_study
from embedsweep.study.record import RETRY_OF
from embedsweep.validation.sweep import pass_sweep
from tests.report.page.studies import ANSWER, SPEARMAN, trained, whole_study
from tests.report.studies import finish, result, scored_items, study_of


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def traces(figure: Any) -> dict[str, Any]:
    return {trace["name"]: trace for trace in figure["data"]}


def test_plotly_knows_every_property_of_every_figure() -> None:
    study = whole_study()
    study.set_answer(ANSWER)
    charts = [chart for each in sections_of(study_results(study), "e") for chart in each.charts]
    for chart in charts:
        notes = [
            {name: value for name, value in note.items() if name != "bgcolor"}  # a name until the page draws it
            for note in chart.figure["layout"].get("annotations", ())
        ]
        go.Figure({**chart.figure, "layout": {**chart.figure["layout"], "annotations": notes}})
    assert len(charts) > 10


def test_charts_have_the_scores_of_the_api_to_the_digit() -> None:
    study = whole_study()
    results, frame = study_results(study), LoadedStudy(study).trials()
    complete = frame[frame["state"] == "COMPLETE"]
    dots = traces(history(results).charts[0].figure)["complete"]
    assert dict(zip(dots["customdata"], dots["y"], strict=True)) == complete[SPEARMAN].to_dict()
    (bars,) = ranking(results).charts[0].figure["data"]
    best_first = complete.sort_values(SPEARMAN, ascending=False)
    assert bars["x"] == best_first[SPEARMAN].tolist()
    highs = (best_first["high"] - best_first[SPEARMAN]).tolist()
    assert bars["error_x"]["array"] == pytest.approx(highs, abs=1e-12)
    points = LoadedStudy(study).curves().query(f"metric == '{SPEARMAN}'")
    drawn = [
        (number, x, y)
        for trace in curves(results).charts[0].figure["data"]
        if trace["mode"] == "lines"
        for number, x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
        if x is not None
    ]
    assert sorted(drawn) == sorted(points[["trial", "step", "value"]].itertuples(index=False, name=None))


def test_the_best_so_far_never_falls() -> None:
    line = traces(history(study_results(whole_study())).charts[0].figure)["best so far"]
    assert line["y"] == [0.61, *[0.72] * 8]


def test_pruned_trials_are_marked_where_they_ended() -> None:
    ends = traces(curves(study_results(whole_study())).charts[0].figure)["pruned here"]
    assert (ends["customdata"], ends["x"]) == ([9], [20])


def test_every_trial_is_in_a_table() -> None:
    table = ranking(study_results(whole_study())).tables[-1]
    assert [row[0] for row in table.rows] == [str(number) for number in range(12)]
    assert [row[1] for row in table.rows] == [*["complete"] * 9, "pruned", "failed", "running"]


def test_the_front_has_no_point_that_another_beats() -> None:
    source = random.Random(0)
    for size in range(1, 12):
        points = [(source.randint(0, 5), source.randint(0, 5), number) for number in range(size)]
        beaten = {
            one
            for one, other in itertools.permutations(points, 2)
            if other[0] <= one[0] and other[1] >= one[1] and other[:2] != one[:2]
        }
        assert {point[:2] for point in pareto_front(points)} == {point[:2] for point in set(points) - beaten}


def test_every_line_of_the_parallel_coordinates_passes_every_axis() -> None:
    drawn = parallel(study_results(whole_study())).charts[0].figure
    for trace in drawn["data"]:
        assert trace["x"] == [0, 1, 2, 3, None] * (len(trace["x"]) // 5)
    lines = traces(drawn)
    best, others = lines["the best"], lines["other complete trials"]
    assert best["y"][:4] == [0.0, 0.0, 1.0, 1.0]  # the first loss, the lowest rate, the higher warm-up, the best score
    third = others["customdata"].index(2)
    assert others["y"][third : third + 3] == pytest.approx(
        [0.0, 0.5, 0.0]
    )  # 1e-3 is half-way between 1e-4 and 1e-2 by its logarithm


def test_importance_is_of_each_option_by_itself_and_of_what_the_best_have_in_common() -> None:
    """The best trials share their batch size, the worst ones their warm-up, which would count if less were better."""
    words = ["study.name=weighed", "loss=mnrl,cosent", "optimizer.warmup=0.0,0.1", "dataloader.batch_size=16,32"]
    study = open_study(pass_sweep([*words, "study.n_trials=1"]))
    every: dict[str, optuna.distributions.BaseDistribution] = {
        "loss": optuna.distributions.CategoricalDistribution(["mnrl", "cosent"]),
        "optimizer.warmup": optuna.distributions.CategoricalDistribution([0.0, 0.1]),
        "dataloader.batch_size": optuna.distributions.CategoricalDistribution([16, 32]),
    }
    for number in range(80):
        warmup, batch = (0.0, 0.1)[number % 2], (16, 32)[number // 2 % 2]
        if number < 12:
            score, batch = 0.9 + number / 1000, 32
        elif number < 24:
            score, warmup = 0.1 + number / 1000, 0.1
        else:
            score = 0.5 + number / 1000
        params = {"loss": "mnrl", "optimizer.warmup": warmup, "dataloader.batch_size": batch}
        study._study.add_trial(optuna.trial.create_trial(params=params, distributions=every, value=score))
    params = {"loss": "cosent", "optimizer.warmup": 0.0, "dataloader.batch_size": 16}
    study._study.add_trial(optuna.trial.create_trial(params=params, distributions=every, value=0.6))
    mnrl, cosent = importances(study_results(study))
    assert (mnrl.name, mnrl.n_trials, cosent.name, cosent.n_trials) == ("loss=mnrl", 80, "loss=cosent", 1)
    assert next(iter(mnrl.shares)) == "dataloader.batch_size"
    assert sum(mnrl.shares.values()) == pytest.approx(1)
    assert mnrl.shares["dataloader.batch_size"] > 0.9
    assert cosent.shares == {}


def test_items_are_compared_with_those_of_the_untrained_model() -> None:
    results = study_results(whole_study())
    change = change_of(results)
    assert not isinstance(change, str)
    gold = rankdata(scored_items(0.9).columns["gold"])
    near = [
        1 - np.abs(gold - rankdata(scores.columns["predicted_cosine"])) / 199
        for scores in (scored_items(0.9), scored_items(0.2, seed=4))
    ]
    assert change.gain.tolist() == pytest.approx((near[1] - near[0]).tolist())
    first = items(results).tables[0].rows[0]
    assert first[0] == str(int(np.argmax(change.gain)))
    assert first[-1] == f"{change.gain.max():+.4f}"


def test_finals_that_have_not_begun_are_announced() -> None:
    words = ["study.name=early", "optimizer.lr=1e-4,1e-3", "study.finals.top=2", "study.finals.seeds=7"]
    study = finish(open_study(pass_sweep(words)), [trained(0.5)])
    section = finals(study_results(study))
    assert section.sentences == [
        "Once all trials are finished, the best 2 configurations are trained again with 7 other seeds each."
    ]
    assert not section.commands


def test_with_finals_the_items_are_those_of_the_model_that_they_keep() -> None:
    words = ["study.name=decided", "optimizer.lr=1e-4,1e-3", "study.finals.top=2", "study.finals.seeds=2"]
    study = finish(open_study(pass_sweep(words)), [trained(0.5), trained(0.6)])
    held = open_finals(study)
    assert held is not None
    finish(held, [trained(0.55), trained(0.54), trained(0.57), "TrialError: no"])
    study.set_finals_test(FinalsTest(1, 2, {0: {}, 2: {}}, {}))
    write_scores(held.trial_folder(0), scored_items(0.9), "before")  # a worker scores it once, with any training
    write_scores(held.trial_folder(2), scored_items(0.1, seed=9))
    results = study_results(study)
    change = change_of(results)
    assert not isinstance(change, str)
    assert change.model == "final 2"
    gold = rankdata(scored_items(0.1, seed=9).columns["gold"])
    predicted = rankdata(scored_items(0.1, seed=9).columns["predicted_cosine"])
    assert change.after.tolist() == pytest.approx((1 - np.abs(gold - predicted) / 199).tolist())
    assert failures(results).tables[0].rows[0][:3] == ("final 3", "TrialError: no", "")
    assert progress(results) == (
        "2 of 2 trials finished (2 complete), complete; 4 of 4 finals finished (3 complete, 1 failed), complete"
    )


def test_of_finals_that_are_not_over_it_is_said_how_far_they_are_and_nothing_is_the_answer_yet() -> None:
    words = ["study.name=open", "optimizer.lr=1e-4,1e-3", "study.finals.top=2", "study.finals.seeds=2"]
    study = finish(open_study(pass_sweep(words)), [trained(0.5), trained(0.6)])
    results = study_results(study)
    assert progress(results) == "2 of 2 trials finished (2 complete), complete; its finals have not begun"
    held = open_finals(study)
    assert held is not None
    finish(held, ["TrialError: no", trained(0.55)])
    results = study_results(study)
    assert progress(results).endswith("; 2 of 4 finals finished (1 complete, 1 failed), not running")
    assert finals(results).sentences == ["Not decided yet: 2 of 4 finals finished."]
    assert first_screen(results, "e").headline.startswith("Best so far: trial 1")


def test_a_failed_training_of_the_finals_names_the_one_that_retries_it() -> None:
    words = ["study.name=again", "optimizer.lr=1e-4,1e-3", "study.finals.top=1", "study.finals.seeds=2"]
    study = finish(open_study(pass_sweep(words)), ["TrialError: first", trained(0.6)])
    held = open_finals(study)
    assert held is not None
    finish(held, ["TrialError: no", trained(0.55)])
    held._study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={RETRY_OF: 0}))
    rows = failures(study_results(study)).tables[0].rows
    assert [row[:3] for row in rows] == [
        ("0", "TrialError: first", ""),
        ("final 0", "TrialError: no", "final 2"),
    ]


def test_a_trial_of_a_dead_worker_is_interrupted() -> None:
    study = whole_study()
    study._open[11].set_user_attr(LEASE, None)
    (table,) = (table for table in ranking(study_results(study)).tables if table.is_folded)
    assert table.rows[11][1] == "interrupted"


def test_a_key_of_words_under_one_option_and_of_numbers_under_another_has_a_place_for_each() -> None:
    study = finish(open_study(pass_sweep(["study.name=mixed", "loss=mnrl,cosent"])), [result(0.5), result(0.6)])
    numbers = RangeAxis("optimizer.warmup", 0.0, 1.0, False, None, False, {"loss": "mnrl"})
    study.plan = replace(
        study.plan, axes=(numbers, DiscreteAxis("optimizer.warmup", ("none", "half"), {"loss": "cosent"}))
    )
    results = study_results(study)
    values = [{"optimizer.warmup": value} for value in (0.25, "half")]
    rows = [replace(row, values=each) for row, each in zip(results.rows, values, strict=True)]
    drawn = traces(parallel(replace(results, rows=tuple(rows))).charts[0].figure)
    assert drawn["other complete trials"]["y"][0] == 1.0  # the number comes after the words
    assert drawn["the best"]["y"][0] == 0.5


def test_items_of_a_study_without_scores_of_the_untrained_model_are_unknown() -> None:
    words = ["study.name=old", "optimizer.lr=1e-4,1e-3"]
    study = finish(open_study(pass_sweep(words)), [result(0.5), result(0.6)])
    assert items(study_results(study)).sentences[0].startswith("Not known: the scores of single items of trial 1")


def dots(figure: Any) -> dict[str, Sequence[float]]:
    return {trace["name"]: trace["x"] for trace in figure["data"]}


def test_finals_show_every_seed() -> None:
    study = whole_study()
    study.set_answer(ANSWER)
    results = study_results(study)
    drawn = dots(finals(results).charts[0].figure)
    assert ANSWER.verdict is not None
    assert {name: list(x) for name, x in drawn.items()} == {
        "trial 4, every seed": [0.711, 0.7123, 0.7101, 0.713, 0.7144],
        "trial 1, every seed": [0.7, 0.71, 0.709, 0.7, 0.7222],
        "mean": [each.mean for each in ANSWER.verdict.finalists],
    }
    comparison = finals(results).tables[1].rows[0]
    assert comparison == ("trial 1", "0.0040", "0.341", "-0.0080 to 0.0160", "-0.0100 to 0.0200")
    assert finals(results).sentences == verdict_lines(ANSWER)
    assert ANSWER.selection is not None
    assert ANSWER.soup is not None
    assert luck(results).sentences == [
        selection_line(ANSWER.selection, SPEARMAN),
        *seed_lines(ANSWER),
        *soup_lines(ANSWER.soup, SPEARMAN),
        *look_lines(study),  # that no finalist was scored on test
        "No look at test is recorded.",
    ]


def test_a_study_of_failed_trials_says_why_it_has_no_finals() -> None:
    study = study_of("no", words=("study.finals.top=2",))
    assert finals(study_results(study)).sentences == ["No finals: no trial is complete."]
