"""Tables of a study's results as lines of text: its options, its ranking, the trials without a rank."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from embedsweep.config.metrics import COSTS
from embedsweep.config.result import Interval
from embedsweep.console import duration, short_params
from embedsweep.data.negatives import AT_RANDOM, counts_in
from embedsweep.report.results import ConfigurationRow, Cost, GroupRow, StudyResults, TrialRow

INDENT = 6
"""Blanks before what stands on a line of its own below its row."""


@dataclass(frozen=True)
class Figure:
    """A figure of what a trial cost, as a column.

    Attributes:
        header: the column's name, with its unit.
        metric: the objective that is the same figure, which has a column of its own where it is one.
        read: returns it from a cost; None where it is not known.
        text: writes it.
        unit: follows it outside the table.
    """

    header: str
    metric: str
    read: Callable[[Cost], float | None]
    text: Callable[[float], str]
    unit: str

    def total(self, value: float) -> str:
        """Return a sum with its unit."""
        return f"{self.text(value)}{self.unit}"


def _scaled(factor: float) -> Callable[[float], str]:
    return lambda value: f"{factor * value:.3g}" if abs(factor * value) < 1000 else f"{factor * value:.0f}"


FIGURES = (
    Figure("training", "emissions/duration_s", lambda cost: cost.duration_s, duration, ""),
    Figure("g CO2eq", "emissions/co2eq_kg", lambda cost: cost.co2eq_kg, _scaled(1000), " g CO2eq"),
    Figure("Wh", "emissions/energy_kwh", lambda cost: cost.energy_kwh, _scaled(1000), " Wh"),
    Figure("GPU h", "time/gpu_h", lambda cost: cost.gpu_h, _scaled(1), " GPU h"),
)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = ()) -> list[str]:
    """Return the lines of a table, the header first; columns are to the right but for those of ``left``."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = (
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def score_text(metric: str, value: float) -> str:
    """Return a value of an objective as text; costs may be very small."""
    return f"{value:.4g}" if metric in COSTS else f"{value:.4f}"


def interval_text(interval: Interval | None) -> str:
    """Return an interval as text; a dash if it is not known."""
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def how_certain(difference: Interval | None) -> str:
    """Return in brackets whether a trial is better than another, by the interval of the difference of their scores.

    The interval is of the choice of dev items; what another seed would change is not part of it.
    """
    if difference is None:
        return " (how certain that is, is not known: the scores of single items are not both on this machine)"
    verdict = "not certain" if difference[0] <= 0 else "certain as far as dev items go"
    return f" ({verdict}: 95 % interval of the difference {interval_text(difference)})"


def option_tables(results: StudyResults) -> list[str]:
    """Return a table for each swept group of which an option has several trials; without, the ranking says it all."""
    lines: list[str] = []
    for group, options in results.groups.items():
        if any(option.trials > 1 for option in options):
            header = (group, "trials", "complete", "pruned", "failed", "best", "median", "steps", "g CO2eq")
            lines += ["", *aligned(header, [_option_cells(option) for option in options], left={0})]
    if lines:
        lines.append(f"best and median: {results.study.plan.objective}; steps and CO2: means of complete trials")
    return lines


def _option_cells(row: GroupRow) -> tuple[str, ...]:
    counts = (row.trials, row.complete, row.pruned, row.failed)
    scores = ("-" if value is None else f"{value:.4f}" for value in (row.best, row.median))
    steps = "-" if row.steps is None else f"{row.steps:.0f}"
    co2 = "-" if row.co2eq_kg is None else f"{1000 * row.co2eq_kg:.3g}"
    return (row.option, *map(str, counts), *scores, steps, co2)


def ranking_table(results: StudyResults, most: int | None, width: int) -> list[str]:
    """Return the ranking of configurations, best first.

    Args:
        results: the study's results.
        most: how many configurations are listed; None lists all.
        width: of the terminal, in characters; swept values that do not fit are on a line of their own.
    """
    objectives, rows = results.study.plan.objectives, results.configurations[:most]
    if not rows:
        return []
    front = results.study.front if len(objectives) > 1 else frozenset()
    with_interval = any(each.interval is not None for row in rows for each in row.rows)
    figures = [figure for figure in FIGURES if figure.metric not in objectives and _is_known(results, figure)]
    header = [
        "",
        "trial",
        *objectives,
        *(["95 % interval"] if with_interval else []),
        *(each.header for each in figures),
    ]
    cells = []
    for rank, row in enumerate(rows, start=1):
        mark = "*" if any(trial.number in front for trial in row.rows) else ""
        interval = [_certainty(row)] if with_interval else []
        scores = (_score(row, metric) for metric in objectives)
        numbers = ",".join(str(trial.number) for trial in sorted(row.rows, key=lambda trial: trial.number))
        cells.append((f"{rank}{mark}", numbers, *scores, *interval, *(_mean(row, figure) for figure in figures)))
    if len(aligned(header, cells)[0]) > width:
        header = [name.rpartition("/")[2] for name in header]
    return _with_values(aligned(header, cells, left={0}), [_values(row) for row in rows], width)


def _is_known(results: StudyResults, figure: Figure) -> bool:
    return any(figure.read(row.cost) is not None for row in results.ranked)


def _score(row: ConfigurationRow, metric: str) -> str:
    spread = f" ± {score_text(metric, row.spread[metric])}" if row.spread else ""
    return score_text(metric, row.mean[metric]) + spread


def _certainty(row: ConfigurationRow) -> str:
    return interval_text(row.rows[0].interval) if row.n == 1 else f"{row.n} seeds"


def _mean(row: ConfigurationRow, figure: Figure) -> str:
    known = [value for trial in row.rows if (value := figure.read(trial.cost)) is not None]
    return figure.text(statistics.fmean(known)) if known else "-"


def _values(row: ConfigurationRow) -> str:
    result = row.rows[0].result
    counts = counts_in(result.conversion or "") if result is not None else None
    is_told = counts is not None and (AT_RANDOM in counts or any(".negatives." in key for key in row.values))
    forgets = "; ".join(
        f"{each.reason}{f' (trial {each.number})' if row.n > 1 else ''}" for each in row.rows if each.forgets
    )
    notes = (
        f"negatives: {counts}" if is_told else "",
        f"also trial {', '.join(map(str, row.reused))}" if row.reused else "",
        forgets,
    )
    return short_params(row.values) + "".join(f" ({note})" for note in notes if note)


def _with_values(lines: Sequence[str], values: Sequence[str], width: int) -> list[str]:
    """Return the lines of a table with the values of each row, in a last column or below the row."""
    column = max(map(len, lines)) + 2
    if all(column + len(each) <= width for each in values):
        return [line.ljust(column) + each for line, each in zip(lines, ("values", *values), strict=True)]
    blanks, (head, *rows) = " " * INDENT, lines
    folded = (textwrap.wrap(each, width - INDENT, break_on_hyphens=False) for each in values)
    below = ([row, *(blanks + line for line in each)] for row, each in zip(rows, folded, strict=True))
    return [head, *(line for each in below for line in each)]


INTERRUPTED = "interrupted"


def shown_states(results: StudyResults) -> list[str]:
    """Return the state of each trial as people see it: Optuna's, but that nobody runs one of a dead worker."""
    interrupted = results.study.interrupted
    return [INTERRUPTED if row.number in interrupted else row.state for row in results.rows]


def unranked_table(results: StudyResults, width: int) -> list[str]:
    """Return every trial that has no rank, with its state, why it failed or was pruned, and its values."""
    rows = [row for row in results.rows if row.state != "COMPLETE"]
    if not rows:
        return []
    states = shown_states(results)
    cells = [(str(row.number), states[row.number], _last_score(results, row)) for row in rows]
    lines = aligned(("trial", "state", results.study.plan.objective), cells, left={1})
    values = [" ".join(filter(None, (short_params(row.values), row.reason and f"({row.reason})"))) for row in rows]
    return ["", *_with_values(lines, values, width)]


def _last_score(results: StudyResults, row: TrialRow) -> str:
    metric = results.study.plan.objective
    return score_text(metric, row.objectives[metric]) if metric in row.objectives else "-"
