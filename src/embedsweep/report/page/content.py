"""What a section of the report is made of: sentences, charts, tables, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows, in a few words.
        text: what there is to see, for those who cannot see it.
        figure: its ``data`` and ``layout`` as plotly.js reads them; see `figures`.
        is_small: whether several of them stand side by side.
    """

    title: str
    text: str
    figure: Mapping[str, Any]
    is_small: bool = False


@dataclass(frozen=True)
class DataTable:
    """A table.

    Attributes:
        caption: what its rows are.
        header: the columns' names.
        rows: the cells.
        left: indices of the columns with texts; the others, numbers, are aligned right.
        is_folded: whether a click opens it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: frozenset[int] = frozenset()
    is_folded: bool = False


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
        id: its anchor in the page.
        title: its heading.
        sentences: paragraphs before everything else.
        charts: its charts.
        tables: its tables, after the charts.
        commands: what a command is for -> the command.
    """

    id: str
    title: str
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[DataTable] = ()
    commands: Mapping[str, str] | None = None
