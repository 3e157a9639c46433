"""Figures as the plain containers that plotly.js draws; colours are indices of a palette, which the page has.

Nothing is told by colour alone: marks differ in shape and lines in dashes as well.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figure = dict[str, Any]
Trace = dict[str, Any]
Number = float | int | None

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
TEXT, MUTED = "text", "muted"
"""Colours beside those of the palette, which are its indices."""
GROUND = "ground"
"""The page's background, which the page fills in where a label has it."""


def plain(text: str) -> str:
    """Return a text without meaning in plotly's own markup, which knows tags and links."""
    return html.escape(text, quote=False)


def markers(
    name: str,
    x: Iterable[Any],
    y: Iterable[Any],
    hover: str,
    *,
    color: int | str = 0,
    symbol: str = "circle",
    size: int = 7,
    custom: Iterable[Any] = (),
) -> Trace:
    """Return marks.

    Args:
        name: in the legend.
        x: their places.
        y: likewise.
        hover: plotly's template of the text at a mark (``trial %{customdata}: %{y:.4f}``).
        color: an index of the palette, or `TEXT` or `MUTED`.
        symbol: one of plotly's.
        size: in pixels.
        custom: what ``%{customdata}`` is, for each mark.
    """
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "customdata": list(custom),
        "hovertemplate": f"{hover}<extra></extra>",
        "marker": {"symbol": symbol, "size": size},
        "meta": {"color": color},
    }


def line(
    name: str,
    x: Iterable[Any],
    y: Iterable[Any],
    hover: str = "",
    *,
    color: int | str = 0,
    dash: str = "solid",
    width: float = 2,
    shape: str = "linear",
    custom: Iterable[Any] = (),
) -> Trace:
    """Return a line, broken where ``y`` is None; without ``hover`` it says nothing at the pointer."""
    what = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "customdata": list(custom),
        "line": {"dash": dash, "width": width, "shape": shape},
        "meta": {"color": color},
        **what,
    }


def joined(lines: Iterable[tuple[int, Sequence[tuple[Any, Number]]]]) -> tuple[list[Any], list[Number], list[int]]:
    """Return many lines as ``x``, ``y`` and custom data of one trace, with a gap after each.

    Args:
        lines: for each line its number, which is its custom data, and its points.
    """
    places = [(number, x, y) for number, points in lines for x, y in (*points, (None, None))]
    return [x for _, x, _ in places], [y for _, _, y in places], [number for number, _, _ in places]


def error_bars(low: Sequence[Number], high: Sequence[Number], middle: Sequence[float]) -> dict[str, Any]:
    """Return the error bars of an axis from the ends of intervals; None has none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if end is None else end - value for end, value in zip(high, middle, strict=True)],
        "arrayminus": [0.0 if end is None else value - end for end, value in zip(low, middle, strict=True)],
        "thickness": 1.5,
        "width": 4,
    }


def visible(count: int) -> float:
    """Return how opaque each of many marks or lines is drawn, so that those below them are seen."""
    return max(0.25, min(1.0, 50 / max(1, count)))


def axis(title: str, **further: Any) -> dict[str, Any]:
    """Return an axis; the labels of ticks make room for themselves."""
    look = {"automargin": True, "zeroline": False, "exponentformat": "e"}
    return {"title": {"text": plain(title)}, **look, **further}


def figure(traces: Sequence[Trace], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any) -> Figure:
    """Return a figure of traces over two axes."""
    shown = sum(trace.get("showlegend", True) for trace in traces)
    return {
        "data": list(traces),
        "layout": {"xaxis": dict(x), "yaxis": dict(y), "showlegend": shown > 1, "hovermode": "closest", **layout},
    }
