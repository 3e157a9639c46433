"""The view of a study that MLflow's pages open on: the columns and order of the table of its trials, and its charts.

MLflow 3 opens an experiment on pages for language models. A view that somebody shares is kept in an experiment's tag,
``mlflow.sharedViewState.<key>``, and an address that names the key opens on it; this is such a view. Its form is that
of MLflow's pages (their sources: ``ExperimentPageUIState``, ``RunsChartsCardConfig``); what they do not know of it,
they ignore.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from embedsweep.config.metrics import direction_of, is_dev_metric
from embedsweep.config.study import StudyPlan
from embedsweep.tracking.names import FORGETS, KIND, OPTION, STATE, best_metric, best_metrics

VIEW = "embedsweep"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
"""Tag of a study's experiment."""

CO2, DURATION = "metrics.`emissions/co2eq_kg`", "duration"
RUN_NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
_WIDTHS = {RUN_NAME: 180, CREATED: 115, CO2: 145, DURATION: 80}
_METRIC_WIDTH, _WIDTH = 165, 90  # pixels
_SECTION = "embedsweep"
_SINGLE_KEYS = ("model.name", "loss.name", "data.name", "optimizer.lr", "dataloader.batch_size")
_MOST_KEYS = 40
"""Searched keys in a view: each takes some 150 characters, and MLflow refuses a tag of more than 20,000."""


def runs_path(experiment_id: str) -> str:
    """Return the address of an experiment's runs as anybody last saw them, below that of the store's pages."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def view_path(experiment_id: str) -> str:
    """Return the address of an experiment's view, below that of the store's pages."""
    return f"{runs_path(experiment_id)}&viewStateShareKey={VIEW}"


def run_path(experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page, below that of the store's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def shared_view(plan: StudyPlan) -> str:
    """Return a study's view as the value of `VIEW_TAG`: its trials, the best first by the first objective.

    Columns are the objectives, what was forgotten that ``study.keep`` keeps, the searched options and keys, the scores
    that it keeps, state, test score, CO2 and duration, and last the keys that are searched with some options only.
    Charts are the curve of each objective and of each score that is kept, the best values of the objectives, the
    searched keys beside the objective, and the objective over CO2.
    """
    return _view(plan.objectives, *_searched(plan), [kept.score for kept in plan.keep])


def single_view(objective: str) -> str:
    """Return the view of all runs without a study, the best first by the objective of the latest."""
    return _view((objective,), [f"params.`{key}`" for key in _SINGLE_KEYS], [], [])


def _view(names: tuple[str, ...], shared: list[str], conditional: list[str], kept: list[str]) -> str:
    """Return a view of trials with these objectives, with columns for all trials and for some, and of kept scores."""
    watched = [f"metrics.`{name}`" for name in best_metrics(dict.fromkeys(kept, 0.0))]
    objectives = [f"metrics.`{best_metric(name)}`" for name in names]
    tests = [f"metrics.`{name.replace('dev', 'test', 1)}`" for name in names if is_dev_metric(name)]
    forgets = [f"tags.`{FORGETS}`"] if kept else []  # beside the scores: the first trial need not be the best
    figures = [*watched, f"tags.`{STATE}`", *tests, CO2, DURATION]
    columns = list(dict.fromkeys([*objectives, *forgets, *shared, *figures, *conditional]))
    widths = {column: _METRIC_WIDTH if column in (*objectives, *tests, *watched) else _WIDTH for column in columns}
    return json.dumps(
        {
            "searchFilter": f"tags.`{KIND}` = 'trial'",
            "orderByKey": objectives[0],
            "orderByAsc": direction_of(names[0]) == "minimize",
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": [column for column in columns if column != DURATION],  # which is always shown
            "columnOrder": [RUN_NAME, CREATED, *columns],
            "columnWidths": widths | _WIDTHS,
            "runsHiddenMode": "SHOW_ALL",  # else charts show the first ten
            "isAccordionReordered": True,  # else sections are sorted by their names
            "compareRunSections": [
                {"uuid": _SECTION, "name": "Comparison", "display": True, "isReordered": True, "deleted": False}
            ],
            "compareRunCharts": list(_charts(names, shared, kept)),
        }
    )


def _searched(plan: StudyPlan) -> tuple[list[str], list[str]]:
    """Return the columns of searched options and keys: those of all trials, and those of some options' trials."""
    options = {group: _option_column(plan, group) for group in plan.groups}
    everywhere = {axis.key for axis in plan.axes if not axis.when}
    keys = list(dict.fromkeys(axis.key for axis in plan.axes if axis.key not in options))[:_MOST_KEYS]
    shared = [*options.values(), *(f"params.`{key}`" for key in keys if key in everywhere)]
    return shared, [f"params.`{key}`" for key in keys if key not in everywhere]


def _option_column(plan: StudyPlan, group: str) -> str:
    """Return the column of a group's options: the param with their names, or the tag if one name has several."""
    place = group.rpartition("@")[2]
    for cell, tree in plan.cells.items():
        options = dict(word.partition("=")[::2] for word in cell.split(","))
        if _at(tree, f"{place}.name") != options.get(group):
            return f"tags.`{OPTION}{place}`"
    return f"params.`{place}.name`"


def _at(tree: Mapping[str, Any], key: str) -> object:
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _charts(objectives: tuple[str, ...], shared: list[str], kept: list[str]) -> Iterator[dict[str, object]]:
    first = best_metric(objectives[0])
    for name in (*objectives, *kept):
        if is_dev_metric(name):
            yield _chart(f"curve-{name}", "LINE", metricKey=name, selectedMetricKeys=[name], **_LINE)
    for name in objectives:
        yield _chart(f"best-{name}", "BAR", metricKey=best_metric(name))
    params = [column[len("params.`") : -1] for column in shared if column.startswith("params.")]
    if params:
        yield _chart(
            "searched",
            "PARALLEL",
            selectedParams=params,
            selectedMetrics=[best_metric(name) for name in objectives],
            showAllRuns=True,
        )
    if (co2 := CO2.split("`")[1]) != first:
        yield _chart("cost", "SCATTER", xaxis={"key": co2, "type": "METRIC"}, yaxis={"key": first, "type": "METRIC"})


_LINE: Mapping[str, Any] = {
    "lineSmoothness": 0,
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def _chart(name: str, kind: str, **fields: object) -> dict[str, object]:
    common = {"metricSectionId": _SECTION, "deleted": False, "isGenerated": False, "runsCountToCompare": 100}
    return {"uuid": f"{_SECTION}-{name}", "type": kind, **common, **fields}
