"""Sections on the search space: parallel coordinates of all trials, and the score over each searched key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from embedsweep.config.study import Axis, Choice, DiscreteAxis, RangeAxis
from embedsweep.config.values import shown
from embedsweep.report.page.content import Chart, Section
from embedsweep.report.page.figures import GROUND, MUTED, Trace, axis, figure, joined, line, markers, plain, visible
from embedsweep.report.page.trials import best_marks, scored
from embedsweep.report.results import StudyResults, TrialRow

TOP = 0.1
"""Share of the complete trials whose lines stand out."""
ABSENT = -0.12
"""Where a line passes the axis of a key that is not searched in its trial, below the axis."""


def slices(results: StudyResults) -> Section:
    """Return the section with the score over the values of each searched key."""
    charts = [chart for key, axes in _by_key(results).items() if (chart := _slice(results, key, axes)) is not None]
    none = [] if charts else ["No trial with a score has a searched value yet."]
    return Section("slices", "Score over each searched value", none, charts)


def _by_key(results: StudyResults) -> dict[str, list[Axis]]:
    axes: dict[str, list[Axis]] = {}
    for each in results.study.plan.axes:
        axes.setdefault(each.key, []).append(each)
    return axes


def _slice(results: StudyResults, key: str, axes: Sequence[Axis]) -> Chart | None:
    metric = results.study.plan.objective
    hover = f"trial %{{customdata}}: {plain(key)} %{{x}}, {plain(metric)} %{{y:.4f}}"
    traces: list[Trace] = []
    for state, name, color, symbol in (("PRUNED", "pruned", MUTED, "x"), ("COMPLETE", "complete", 0, "circle")):
        rows = [row for row in scored(results, state) if key in row.values]
        if rows:
            x, y = [_number_or_text(row.values[key]) for row in rows], [row.objectives[metric] for row in rows]
            numbers = [row.number for row in rows]
            traces.append(markers(name, x, y, hover, color=color, symbol=symbol, custom=numbers))
    if not traces:
        return None
    best = results.best
    if best is not None and key in best.values:
        traces += best_marks(results, _number_or_text(best.values[key]), best.objectives[metric])
    scale = _scale(axes)
    where = f"; the best trial has {shown(best.values[key])}" if best is not None and key in best.values else ""
    return Chart(key, f"{metric} over {key}{where}.", figure(traces, axis(key, **scale), axis(metric)), is_small=True)


def _scale(axes: Sequence[Axis]) -> dict[str, Any]:
    """Return plotly's scale of the values: by their logarithm, with a tick at each choice, or one place for each."""
    if not _is_numeric(axes):
        return {"type": "category"}
    if _is_log(axes):
        return {"type": "log"}
    choices = {choice for each in axes if isinstance(each, DiscreteAxis) for choice in each.choices}
    return (
        {"tickvals": sorted(float(choice) for choice in choices if isinstance(choice, int | float))} if choices else {}
    )


def _number_or_text(value: Choice) -> float | str:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else plain(shown(value))


def _is_numeric(axes: Sequence[Axis]) -> bool:
    return all(
        isinstance(each, RangeAxis)
        or all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in each.choices)
        for each in axes
    )


def _is_log(axes: Sequence[Axis]) -> bool:
    """Return whether the values are spread by their logarithm: so they are drawn, or positive choices far apart."""
    values = [choice for each in axes if isinstance(each, DiscreteAxis) for choice in each.choices]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    far = bool(numbers) and min(numbers) > 0 and max(numbers) > 20 * min(numbers)
    return all(each.log if isinstance(each, RangeAxis) else far for each in axes)


def parallel(results: StudyResults) -> Section:
    """Return the section with a line for each complete trial through its values and its score."""
    title, metric = "Parallel coordinates", results.study.plan.objective
    rows = scored(results, "COMPLETE")
    if len(rows) < 2:
        return Section("parallel", title, ["Fewer than two trials are complete."])
    scales = [_Scale.of(key, axes, rows) for key, axes in _by_key(results).items()]
    scales.append(_Scale.of_scores(metric, [row.objectives[metric] for row in rows]))
    ranked = sorted(rows, key=lambda row: -row.objectives[metric])
    n_top = max(1, math.ceil(TOP * len(rows)))
    best = f"the best {n_top}" if n_top > 1 else "the best"
    stand_out = f"The lines of {best} stand out" if n_top > 1 else f"The line of {best} stands out"
    parts = (
        ("other complete trials", ranked[n_top:], MUTED, "dot", 1.0),
        (best, ranked[:n_top], 0, "solid", 2.0),
    )
    traces = []
    for name, mine, color, dash, width in parts:
        if mine:
            x, y, numbers = joined((row.number, _points(row, metric, scales)) for row in mine)
            hover = "trial %{customdata}"
            lines = line(name, x, y, hover, color=color, dash=dash, width=width, custom=numbers)
            traces.append({**lines, "opacity": visible(len(mine))})
    text = (
        f"A line for each of {len(rows)} complete trials, from axis to axis of its values to {metric} at the right. "
        f"{stand_out}. Below an axis pass trials in which its key is not searched."
    )
    return Section(
        "parallel", title, [text], [Chart("Values and score of complete trials", text, _drawn(traces, scales))]
    )


class _Scale:
    """One axis of the parallel coordinates: the place of a value between 0 and 1.

    Args:
        name: the key.
        ticks: labels by their places.
        places: place of each value by its text; empty where ``low`` and ``high`` give it.
        low: the number at 0, its logarithm of a logarithmic axis.
        high: the number at 1.
        is_log: whether the axis is logarithmic.
    """

    def __init__(
        self,
        name: str,
        ticks: Mapping[str, float],
        places: Mapping[str, float],
        low: float = 0.0,
        high: float = 1.0,
        is_log: bool = False,
    ) -> None:
        self.name, self.ticks = name, ticks
        self._places, self._low, self._high, self._is_log = places, low, high, is_log

    @classmethod
    def of(cls, key: str, axes: Sequence[Axis], rows: Sequence[TrialRow]) -> _Scale:
        """Return the scale of a searched key."""
        values = [row.values[key] for row in rows if key in row.values]
        if _is_numeric(axes) and values:
            return cls._of_numbers(
                key, [float(value) for value in values if isinstance(value, int | float)], _is_log(axes)
            )
        texts = list(
            dict.fromkeys(shown(choice) for each in axes if isinstance(each, DiscreteAxis) for choice in each.choices)
        )
        # A key may be a choice of words under one option and a range of numbers under another.
        numbers = sorted({value for value in values if isinstance(value, int | float) and shown(value) not in texts})
        every = [*texts, *map(shown, numbers)]
        places = {text: index / max(1, len(every) - 1) for index, text in enumerate(every)}
        return cls(key, {text: places[text] for text in texts}, places)

    @classmethod
    def of_scores(cls, metric: str, scores: Sequence[float]) -> _Scale:
        """Return the scale of the score."""
        return cls._of_numbers(metric, scores, False, "{:.4f}")

    @classmethod
    def _of_numbers(cls, name: str, numbers: Sequence[float], is_log: bool, form: str = "{:.3g}") -> _Scale:
        low, high = min(numbers), max(numbers)
        ticks = {form.format(low): 0.0, form.format(high): 1.0}
        return cls(name, ticks, {}, *((math.log(low), math.log(high)) if is_log else (low, high)), is_log)

    def place(self, value: Choice) -> float:
        """Return where a value lies."""
        if self._places:
            return self._places[shown(value)]
        assert isinstance(value, int | float)
        number = math.log(value) if self._is_log else float(value)
        return (number - self._low) / (self._high - self._low) if self._high > self._low else 0.5


def _points(row: TrialRow, metric: str, scales: Sequence[_Scale]) -> list[tuple[int, float]]:
    values: dict[str, Choice] = {**row.values, metric: row.objectives[metric]}
    places = ((index, scale, values.get(scale.name)) for index, scale in enumerate(scales))
    return [(index, ABSENT if scale.name not in values else scale.place(value)) for index, scale, value in places]


def _drawn(traces: Sequence[Trace], scales: Sequence[_Scale]) -> dict[str, object]:
    lines = [
        {"type": "line", "x0": index, "x1": index, "y0": 0, "y1": 1, "line": {"width": 1}, "layer": "below"}
        for index in range(len(scales))
    ]
    labels = [
        {
            "x": index,
            "y": place,
            "text": plain(tick),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 4,
            "bgcolor": GROUND,
        }
        for index, scale in enumerate(scales)
        for tick, place in scale.ticks.items()
    ]
    names = {"tickvals": list(range(len(scales))), "ticktext": [plain(scale.name) for scale in scales]}
    x = axis("", showgrid=False, **names)
    y = axis("", showticklabels=False, showgrid=False, range=[ABSENT - 0.05, 1.08])
    return figure(traces, x, y, shapes=lines, annotations=labels)
