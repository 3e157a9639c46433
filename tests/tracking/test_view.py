"""The view of a study in MLflow's pages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from embedsweep.config.study import Axis, DiscreteAxis, KeepConfig, PruningConfig, RangeAxis, StudyPlan
from embedsweep.tracking.view import shared_view, single_view, view_path

RATE = RangeAxis("optimizer.lr", 1e-6, 1e-4, True, None, False, {})
SCALE = RangeAxis("loss.scale", 5.0, 100.0, True, None, False, {"loss": "mnrl"})
PLAN = StudyPlan(
    axes=(DiscreteAxis("loss", ("mnrl", "cosent"), {}), RATE, SCALE),
    cells={"loss=mnrl": {"loss": {"name": "mnrl"}}, "loss=cosent": {"loss": {"name": "cosent"}}},
    groups=("loss",),
    sampler="tpe",
    seed=42,
    objectives=("dev/spearman_cosine",),
    pruner="none",
    pruning=PruningConfig((), 3, 5, 1, 0.0, 0.1),
    duplicates="reuse",
    enqueue=(),
    warm_start=None,
    constraints=(),
)


def _view(plan: StudyPlan) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(shared_view(plan))
    return view


def test_the_trials_are_sorted_by_the_objective_and_shown_with_what_was_searched() -> None:
    view = _view(PLAN)
    assert view["searchFilter"] == "tags.`embedsweep.kind` = 'trial'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best/spearman_cosine`", False)
    assert view["selectedColumns"] == [
        "metrics.`best/spearman_cosine`",
        "params.`loss.name`",
        "params.`optimizer.lr`",
        "tags.`embedsweep.state`",
        "metrics.`test/spearman_cosine`",
        "metrics.`emissions/co2eq_kg`",
        "params.`loss.scale`",  # of some trials only
    ]
    assert view["columnOrder"][2:] == [*view["selectedColumns"][:6], "duration", view["selectedColumns"][6]]
    assert {"attributes.`Run Name`", *view["selectedColumns"]} <= view["columnWidths"].keys()


def test_scores_that_are_kept_have_a_column_and_a_curve() -> None:
    view = _view(replace(PLAN, keep=(KeepConfig("stsb-en-dev", "spearman_cosine", 0.01),)))
    assert view["selectedColumns"][:2] == ["metrics.`best/spearman_cosine`", "tags.`embedsweep.forgets`"]
    assert view["selectedColumns"][4:6] == ["metrics.`best/stsb-en-dev/spearman_cosine`", "tags.`embedsweep.state`"]
    curves = [chart["metricKey"] for chart in view["compareRunCharts"] if chart["type"] == "LINE"]
    assert curves == ["dev/spearman_cosine", "dev/stsb-en-dev/spearman_cosine"]


def test_the_objective_is_the_first_chart() -> None:
    charts = _view(PLAN)["compareRunCharts"]
    assert [(chart["type"], chart.get("metricKey")) for chart in charts] == [
        ("LINE", "dev/spearman_cosine"),
        ("BAR", "best/spearman_cosine"),
        ("PARALLEL", None),
        ("SCATTER", None),
    ]
    assert charts[2]["selectedParams"] == ["loss.name", "optimizer.lr"]
    assert {chart["metricSectionId"] for chart in charts} == {_view(PLAN)["compareRunSections"][0]["uuid"]}


def test_a_minimised_objective_is_sorted_upwards_and_has_no_curve() -> None:
    view = _view(replace(PLAN, objectives=("emissions/co2eq_kg", "dev/spearman_cosine")))
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`emissions/co2eq_kg`", True)
    assert view["selectedColumns"].count("metrics.`emissions/co2eq_kg`") == 1
    assert [chart["type"] for chart in view["compareRunCharts"]] == ["LINE", "BAR", "BAR", "PARALLEL"]


@pytest.mark.parametrize(
    ("group", "cells", "column"),
    [
        ("loss", {"loss=mnrl": {"loss": {"name": "mnrl"}}, "loss=sharp": {"loss": {"name": "mnrl"}}}, "tag"),
        ("loss@loss.inner", {"loss@loss.inner=mnrl": {"loss": {"name": "m", "inner": {"name": "mnrl"}}}}, "param"),
    ],
)
def test_options_that_share_a_name_are_told_apart_by_their_tag(group: str, cells: dict[str, Any], column: str) -> None:
    options = tuple(name.partition("=")[2] for name in cells)
    view = _view(replace(PLAN, axes=(DiscreteAxis(group, options, {}),), groups=(group,), cells=cells))
    place = group.rpartition("@")[2]
    expected = f"tags.`embedsweep.option.{place}`" if column == "tag" else f"params.`{place}.name`"
    assert expected in view["selectedColumns"]


def test_runs_without_a_study_are_compared_by_model_loss_and_data() -> None:
    view: dict[str, Any] = json.loads(single_view("dev/pearson_cosine"))
    assert view["orderByKey"] == "metrics.`best/pearson_cosine`"
    assert view["selectedColumns"][:4] == [
        "metrics.`best/pearson_cosine`",
        "params.`model.name`",
        "params.`loss.name`",
        "params.`data.name`",
    ]


def test_a_view_of_hundreds_of_keys_fits_a_tag() -> None:
    axes: tuple[Axis, ...] = tuple(replace(RATE, key=f"data.where.a_rather_long_key_{number}") for number in range(300))
    assert len(shared_view(replace(PLAN, axes=axes, groups=(), cells={"": {}}))) < 20_000


def test_the_address_names_the_view() -> None:
    assert view_path("7") == "#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=embedsweep"
