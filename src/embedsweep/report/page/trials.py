"""Sections on the trials: the ranking, options against each other, history, learning curves, emissions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from embedsweep.config.result import Interval
from embedsweep.config.values import shown
from embedsweep.console import short_params
from embedsweep.report.page.content import Chart, DataTable, Section
from embedsweep.report.page.figures import (
    DASHES,
    MUTED,
    SYMBOLS,
    Figure,
    Trace,
    axis,
    error_bars,
    figure,
    joined,
    line,
    markers,
    plain,
    visible,
)
from embedsweep.report.results import ConfigurationRow, StudyResults, TrialRow
from embedsweep.report.tables import FIGURES, interval_text, score_text, shown_states

MOST_RANKED = 20
"""Configurations in the chart and in the open table of the ranking; another table has every trial."""
WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
"""Optuna's states in words."""


def _states(results: StudyResults) -> list[str]:
    """Return the state of each trial in words; nobody runs one of a dead worker."""
    return [WORDS.get(state, state) for state in shown_states(results)]


def scored(results: StudyResults, *states: str) -> list[TrialRow]:
    """Return the trials of some states that were trained and have a score."""
    metric = results.study.plan.objective
    return [row for row in results.rows if row.state in states and metric in row.objectives and not row.is_reused]


def best_marks(results: StudyResults, x: object, y: object) -> Iterator[Trace]:
    """Yield the mark of the best trial at a place; nothing without a best trial."""
    if results.best is not None:
        hover = f"best: trial {results.best.number}"
        yield markers("best", [x], [y], hover, color=1, symbol="star", size=15)


def ranking(results: StudyResults) -> Section:
    """Return the section with the best configurations, and every trial in a table."""
    rows = results.configurations[:MOST_RANKED]
    sentences = []
    if not rows:
        sentences.append(f"There is no ranking yet: {results.study.why_no_best}.")
    elif (rest := len(results.configurations) - len(rows)) > 0:
        sentences.append(f"The best {len(rows)} configurations; {rest} more are in the table of all trials.")
    tables = [_ranked(results, rows)] if rows else []
    return Section("ranking", "Ranking", sentences, [_forest(results, rows)] if rows else [], [*tables, _all(results)])


def _forest(results: StudyResults, rows: Sequence[ConfigurationRow]) -> Chart:
    metric = results.study.plan.objective
    means = [row.mean[metric] for row in rows]
    ends = [_ends(row, metric) for row in rows]
    places = list(range(len(rows), 0, -1))  # the best at the top
    hover = f"%{{customdata}}<br>{plain(metric)} %{{x:.4f}}"
    labels = [_label(rank, row) for rank, row in enumerate(rows, start=1)]
    trace = markers("configurations", means, places, hover, custom=[_values(row) for row in rows])
    low, high = ([None if each is None else each[side] for each in ends] for side in (0, 1))
    trace["error_x"] = error_bars(low, high, means)
    ticks = {"tickvals": places, "ticktext": labels}
    text = f"{metric} of the best {len(rows)} configurations, the best first, from {means[0]:.4f} to {means[-1]:.4f}"
    bars = "bars: 95 % interval over the dev items, or of several seeds ± one standard deviation"
    drawn = figure([trace], axis(metric), axis("", **ticks), height=120 + 22 * len(rows))
    return Chart(f"Configurations by {metric}; {bars}", f"{text}. The table below has the figures.", drawn)


def _ends(row: ConfigurationRow, metric: str) -> Interval | None:
    if row.n == 1:
        return row.rows[0].interval
    mean, spread = row.mean[metric], row.spread[metric]
    return mean - spread, mean + spread


def _label(rank: int, row: ConfigurationRow) -> str:
    return f"{rank}. trial {_numbers(row)}"


def _numbers(row: ConfigurationRow) -> str:
    return ",".join(str(trial.number) for trial in sorted(row.rows, key=lambda trial: trial.number))


def _values(row: ConfigurationRow) -> str:
    return plain(short_params(row.values))


def _ranked(results: StudyResults, rows: Sequence[ConfigurationRow]) -> DataTable:
    objectives = results.study.plan.objectives
    front = results.study.front if len(objectives) > 1 else frozenset()
    cells = []
    for rank, row in enumerate(rows, start=1):
        mark = "*" if any(trial.number in front for trial in row.rows) else ""
        spread = f" ± {score_text(objectives[0], row.spread[objectives[0]])}" if row.spread else ""
        scores = [score_text(name, row.mean[name]) for name in objectives]
        scores[0] += spread
        sure = interval_text(row.rows[0].interval) if row.n == 1 else f"{row.n} seeds"
        cells.append((f"{rank}{mark}", _numbers(row), *scores, sure, short_params(row.values)))
    header = ("rank", "trial", *objectives, "95 % interval", "values")
    star = "; * is on the Pareto front" if front else ""
    return DataTable(f"The best configurations{star}", header, cells, frozenset({len(header) - 1}))


def _all(results: StudyResults) -> DataTable:
    objectives = results.study.plan.objectives
    keys = list(dict.fromkeys(key for row in results.rows for key in row.values))
    figures = [each for each in FIGURES if any(each.read(row.cost) is not None for row in results.rows)]
    header = (
        "trial",
        "state",
        *objectives,
        "95 % interval",
        "steps",
        *(each.header for each in figures),
        *keys,
        "note",
    )
    states = _states(results)
    cells = [
        (
            str(row.number),
            states[row.number],
            *(score_text(name, row.objectives[name]) if name in row.objectives else "-" for name in objectives),
            interval_text(row.interval),
            "-" if row.steps is None else str(row.steps),
            *("-" if (value := each.read(row.cost)) is None else each.text(value) for each in figures),
            *(shown(row.values[key]) if key in row.values else "" for key in keys),
            _note(row),
        )
        for row in results.rows
    ]
    return DataTable(f"All {len(cells)} trials", header, cells, frozenset({1, len(header) - 1}), is_folded=True)


def _note(row: TrialRow) -> str:
    repeats = f"repeats trial {row.duplicate.original}" if row.duplicate is not None else ""
    return "; ".join(filter(None, (row.reason, repeats)))


def options(results: StudyResults) -> Section:
    """Return the section with the options of each swept group beside each other."""
    groups = results.groups
    charts = [chart for group in groups if (chart := _option_chart(results, group)) is not None]
    header = ("trials", "complete", "pruned", "failed", "best", "its trial", "median", "steps", "g CO2eq")
    tables = []
    for group, each in groups.items():
        cells = [
            (
                row.option,
                *map(str, (row.trials, row.complete, row.pruned, row.failed)),
                *(
                    "-" if value is None else form.format(value)
                    for form, value in (
                        ("{:.4f}", row.best),
                        ("{}", row.best_trial),
                        ("{:.4f}", row.median),
                        ("{:.0f}", row.steps),
                        ("{:.3g}", None if row.co2eq_kg is None else 1000 * row.co2eq_kg),
                    )
                ),
            )
            for row in each
        ]
        tables.append(
            DataTable(f"Options of {group}; steps and CO2 are means", (group, *header), cells, frozenset({0}))
        )
    none = [] if groups else ["No group of options was swept: all trials have the same model, loss and data."]
    return Section("options", "Options against each other", none, charts, tables)


def _option_chart(results: StudyResults, group: str) -> Chart | None:
    metric, rows = results.study.plan.objective, scored(results, "COMPLETE")
    names = [row.option for row in results.groups[group]]
    traces = []
    for index, name in enumerate(names):
        mine = [row for row in rows if row.options.get(group) == name]
        if mine:
            scores = [row.objectives[metric] for row in mine]
            hover, symbol = f"trial %{{customdata}}: {plain(metric)} %{{y:.4f}}", SYMBOLS[index % len(SYMBOLS)]
            marks = markers(name, [], scores, hover, color=index, symbol=symbol, custom=[row.number for row in mine])
            del marks["x"], marks["mode"]
            box = {"type": "box", "boxpoints": "all", "pointpos": 0, "jitter": 0.5, "hoveron": "points"}
            traces.append({**marks, **box, "showlegend": False})
    if not traces:
        return None
    text = "; ".join(
        f"{row.option}: best {row.best:.4f}, median {row.median:.4f}"
        for row in results.groups[group]
        if row.best is not None and row.median is not None
    )
    return Chart(
        f"Complete trials by {group}", f"{metric} by {group}: {text}.", figure(traces, axis(group), axis(metric))
    )


def history(results: StudyResults) -> Section:
    """Return the section with every score in the order of the trials, and the best so far."""
    metric, complete = results.study.plan.objective, scored(results, "COMPLETE")
    rivals = [row for row in complete if not row.forgets]
    best_so_far: list[float] = []
    for row in rivals:
        best_so_far.append(max([*best_so_far[-1:], row.objectives[metric]]))
    answer = results.study.answer
    expected = answer.expected_best if answer is not None else None
    if not complete:
        return Section("history", "History of the best score", ["No trial is complete yet."])
    hover = f"trial %{{customdata}}: {plain(metric)} %{{y:.4f}}"
    traces = [_dots(results, complete, "complete", hover, 0, "circle")]
    if pruned := scored(results, "PRUNED"):
        traces.append(_dots(results, pruned, "pruned, its last score", hover, MUTED, "x"))
    numbers = [row.number for row in rivals]
    traces.append(line("best so far", numbers, best_so_far, color=1, shape="hv"))
    if expected:
        label = "expected best after as many trials, drawn anew"
        traces.append(line(label, [n - 1 for n in expected], expected.values(), color=2, dash="dash"))
    first, last = (best_so_far[0], best_so_far[-1]) if best_so_far else (None, None)
    rose = f"from {first:.4f} to {last:.4f}" if first is not None and last is not None else "by no trial"
    rises = sum(after > before for before, after in itertools.pairwise(best_so_far))
    text = f"The best {metric} rose {rose}, in {rises} steps after the first of {len(complete)} complete trials."
    drawn = figure(traces, axis("trial", **({"dtick": 1} if len(results.rows) <= 20 else {})), axis(metric))
    return Section("history", "History of the best score", [], [Chart("Scores by trial", text, drawn)])


def _dots(
    results: StudyResults, rows: Sequence[TrialRow], name: str, hover: str, color: int | str, symbol: str
) -> Trace:
    metric, numbers = results.study.plan.objective, [row.number for row in rows]
    scores = [row.objectives[metric] for row in rows]
    return markers(name, numbers, scores, hover, color=color, symbol=symbol, custom=numbers)


def curves(results: StudyResults) -> Section:
    """Return the section with the dev score over the steps of every trial; those that were pruned are marked."""
    metric = results.study.plan.objective
    points = {row.number: results.curve(row).get(metric, ()) for row in results.rows if not row.is_reused}
    best = results.best.number if results.best is not None else None
    hover = f"trial %{{customdata}}, step %{{x}}: {plain(metric)} %{{y:.4f}}"
    traces, words = [], _states(results)
    for state, color, dash in (("COMPLETE", 0, "solid"), ("PRUNED", 2, "dot"), ("RUNNING", 3, "dash")):
        rows = [row for row in results.rows if row.state == state and points.get(row.number) and row.number != best]
        if rows:
            x, y, numbers = joined((row.number, points[row.number]) for row in rows)
            name = ", ".join(dict.fromkeys(words[row.number] for row in rows))
            lines = line(name, x, y, hover, color=color, dash=dash, width=1, custom=numbers)
            traces.append({**lines, "opacity": visible(len(rows))})
        if rows and state == "PRUNED":
            ends = [points[row.number][-1] for row in rows]
            numbers = [row.number for row in rows]
            x, y = [step for step, _ in ends], [score for _, score in ends]
            traces.append(markers("pruned here", x, y, hover, color=2, symbol="x", custom=numbers))
    if best is not None and points.get(best):
        x, y, numbers = joined([(best, points[best])])
        traces.append(line(f"best: trial {best}", x, y, hover, color=1, width=3, custom=numbers))
    if not traces:
        return Section("curves", "Learning curves", ["No curve is known: the trials are not here, or have not begun."])
    drawn = [row for row in results.rows if points.get(row.number)]
    n_pruned = sum(row.state == "PRUNED" for row in drawn)
    text = f"{metric} over the optimizer steps of {len(drawn)} trials; {n_pruned} of them were pruned."
    chart = Chart("Dev score while training", text, figure(traces, axis("step"), axis(metric)))
    cells = [
        (str(row.number), words[row.number], ", ".join(f"{step}: {value:.4f}" for step, value in points[row.number]))
        for row in drawn
    ]
    header = ("trial", "state", "step: score")
    table = DataTable(f"Every evaluation of {len(drawn)} trials", header, cells, frozenset({1, 2}), is_folded=True)
    return Section("curves", "Learning curves", [], [chart], [table])


def emissions(results: StudyResults) -> Section:
    """Return the section with emissions against score and the Pareto front, and any other objectives."""
    metric, title = results.study.plan.objective, "Emissions against score"
    rows = [row for row in scored(results, "COMPLETE") if row.cost.co2eq_kg is not None]
    if not rows:
        return Section("emissions", title, ["No emissions are known of a complete trial."])
    front = pareto_front([(1000 * (row.cost.co2eq_kg or 0.0), row.objectives[metric], row.number) for row in rows])
    hover = f"trial %{{customdata}}: {plain(metric)} %{{y:.4f}} for %{{x:.3g}} g CO2eq"
    grams = [1000 * (row.cost.co2eq_kg or 0.0) for row in rows]
    scores, numbers = [row.objectives[metric] for row in rows], [row.number for row in rows]
    traces = [markers("complete trials", grams, scores, hover, custom=numbers)]
    x, y, on_front = zip(*front, strict=True)
    edge = line("Pareto front", x, y, hover, color=1, dash=DASHES[1], shape="hv", custom=on_front)
    traces.append({**edge, "mode": "lines+markers", "marker": {"symbol": "diamond-open", "size": 12}})
    names = ", ".join(str(number) for number in on_front)
    text = f"On the Pareto front, where no other trial scores more for less CO2: trials {names}, cheapest first."
    charts = [Chart("Emissions and score of complete trials", text, figure(traces, axis("g CO2eq"), axis(metric)))]
    others = [name for name in results.study.plan.objectives if name not in (metric, "emissions/co2eq_kg")]
    return Section("emissions", title, [text], [*charts, *(_objectives(results, name) for name in others)])


def pareto_front(points: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Return the points with the best score for their cost, cheapest first.

    Args:
        points: cost, of which less is better, score, of which more is, and a number.
    """
    front: list[tuple[float, float, int]] = []
    for point in sorted(points, key=lambda each: (each[0], -each[1], each[2])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _objectives(results: StudyResults, other: str) -> Chart:
    metric, front = results.study.plan.objective, results.study.front
    rows = scored(results, "COMPLETE")
    hover = f"trial %{{customdata}}: {plain(metric)} %{{y:.4f}}, {plain(other)} %{{x:.4g}}"
    traces = []
    for name, is_on, color, symbol in (("other trials", False, 0, "circle"), ("Pareto front", True, 1, "diamond")):
        mine = [row for row in rows if (row.number in front) == is_on]
        x, y = ([row.objectives[key] for row in mine] for key in (other, metric))
        traces.append(markers(name, x, y, hover, color=color, symbol=symbol, custom=[row.number for row in mine]))
    drawn: Figure = figure(traces, axis(other), axis(metric))
    numbers = ", ".join(map(str, sorted(front)))
    return Chart(f"{other} and {metric}", f"On the Pareto front of all objectives: trials {numbers}.", drawn)
