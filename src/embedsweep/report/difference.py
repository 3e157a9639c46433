"""Two trials of a study side by side: keys with different values, scores, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embedsweep.report.results import StudyResults, TrialRow, paired_differences, study_results
from embedsweep.report.tables import FIGURES, aligned, how_certain, interval_text, score_text
from embedsweep.study.duplicates import has_values, trained_config
from embedsweep.study.keep import forgets_text
from embedsweep.study.record import StudyRecord
from embedsweep.tracking.names import flatten

MOST_ROWS = 24
"""How many evaluations of a curve are listed."""
CHART = 32
"""Characters of the chart."""


def difference(study: StudyRecord, first: int, second: int) -> list[str]:
    """Return the lines; of an unfinished trial what is known so far.

    Args:
        study: the study.
        first: the number of a trial.
        second: the number of another.
    """
    results = study_results(study)
    pair = (results.rows[first], results.rows[second])
    trials = [study.trials[row.number] for row in pair]
    known = [trial for trial in trials if has_values(study.plan, trial)]
    configs = [flatten(trained_config(study.plan, trial)) for trial in known] if len(known) == len(pair) else [{}, {}]
    keys = [key for key in dict.fromkeys((*configs[0], *configs[1])) if configs[0].get(key) != configs[1].get(key)]
    table = [*_scores(study, pair), *((key, *(config.get(key, "-") for config in configs)) for key in keys)]
    header = ("", *(f"trial {row.number}" for row in pair))
    lines = aligned(header, table, left={0, 1, 2})
    if len(known) < len(pair):
        lines.append("the values of one of them are not known: it begins, or they were lost")
    elif not keys:
        lines.append("no key differs")
    lines += _verdict(results, pair)
    curves = [dict(results.curve(row).get(study.plan.objective, ())) for row in pair]
    return lines + (["", *_chart(study.plan.objective, pair, curves)] if any(curves) else [])


def _scores(study: StudyRecord, pair: Sequence[TrialRow]) -> list[tuple[str, ...]]:
    """Return the rows of states, scores, intervals, steps and costs; those that are known of neither are left out."""
    scores = {
        metric: [score_text(metric, row.objectives[metric]) if row.objectives else "-" for row in pair]
        for metric in study.plan.objectives
    }
    kept = {each.score: [_dev_text(row, each.score) for row in pair] for each in study.plan.keep}
    forgets = [forgets_text(row.forgets).removeprefix("forgets: ") or "-" for row in pair]
    costs = {
        figure.header: ["-" if (value := figure.read(row.cost)) is None else figure.text(value) for row in pair]
        for figure in FIGURES
    }
    rows = {
        "state": [row.state for row in pair],
        **scores,
        "95 % interval": [interval_text(row.interval) for row in pair],
        **{score: cells for score, cells in kept.items() if score not in scores},
        "forgets": forgets,
        "steps": ["-" if row.steps is None else str(row.steps) for row in pair],
        **costs,
    }
    return [(name, *cells) for name, cells in rows.items() if set(cells) != {"-"}]


def _dev_text(row: TrialRow, metric: str) -> str:
    value = None if row.result is None else row.result.dev.get(metric)
    return "-" if value is None else f"{value:.4f}"


def _verdict(results: StudyResults, pair: Sequence[TrialRow]) -> list[str]:
    metric = results.study.plan.objective
    if not all(row.state == "COMPLETE" for row in pair):
        return []
    better, worse = sorted(pair, key=lambda row: -row.objectives[metric])
    gap = better.objectives[metric] - worse.objectives[metric]
    first, second = (_trained(results, row) for row in (better, worse))
    interval = paired_differences(first, [second], metric)[second.number]
    lines = ["", f"trial {better.number} is {gap:.4f} above trial {worse.number}{how_certain(interval)}"]
    ruled_out = [
        f"trial {row.number} forgets too much and cannot be the best (study.keep)" for row in pair if row.forgets
    ]
    return lines + ruled_out


def _trained(results: StudyResults, row: TrialRow) -> TrialRow:
    """Return the trial that has the scores of single items: of one that reuses the scores of another, that one."""
    return results.rows[row.duplicate.original] if row.duplicate is not None and row.is_reused else row


def _chart(metric: str, pair: Sequence[TrialRow], curves: Sequence[Mapping[int, float]]) -> list[str]:
    """Return both curves as columns, with a mark at each value: ``a`` for the first trial, ``b`` for the second."""
    steps = sorted({step for curve in curves for step in curve})
    if len(steps) > MOST_ROWS:
        last = len(steps) - 1
        steps = [steps[round(index * last / (MOST_ROWS - 1))] for index in range(MOST_ROWS)]
    values = [value for curve in curves for value in curve.values()]
    low, high = min(values), max(values)
    rows = [
        (
            str(step),
            *(f"{curve[step]:.4f}" if step in curve else "" for curve in curves),
            _marks(step, curves, low, high),
        )
        for step in steps
    ]
    scale = f"{low:.4f}".ljust(CHART - 6) + f"{high:.4f}"
    header = ("step", *(f"{mark}: trial {row.number}" for mark, row in zip("ab", pair, strict=True)), scale)
    return [metric, *aligned(header, rows, left={3})]


def _marks(step: int, curves: Sequence[Mapping[int, float]], low: float, high: float) -> str:
    line = ["."] * CHART
    for mark, curve in zip("ab", curves, strict=True):
        if step in curve:
            place = round((CHART - 1) * (curve[step] - low) / (high - low)) if high > low else 0
            line[place] = "*" if line[place] != "." else mark  # both at one place
    return "".join(line)
