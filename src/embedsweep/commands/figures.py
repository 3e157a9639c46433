"""The figures of ``embedsweep evaluate``: one model on one benchmark, and the table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedsweep.config.metrics import Family

SHOWN_P = 0.01
"""P-values from here on are shown in the table."""


@dataclass(frozen=True)
class Figure:
    """One model on one benchmark of scored pairs, as the JSON file has it.

    Attributes:
        model: the MODEL argument.
        benchmark: its name; of an MTEB task with its subset.
        metric: ``cosine`` or ``euclidean``; of an MTEB task with ``mteb`` before it.
        pearson: in [-1, 1].
        pearson_p: two-sided; None where MTEB gives none.
        spearman: in [-1, 1].
        spearman_p: likewise.
        n: pairs; None where MTEB gives none.
        normalized: whether texts were normalised.
        timestamp: when, in UTC.
        tag: the value of ``--tag``.
    """

    model: str
    benchmark: str
    metric: str
    pearson: float
    pearson_p: float | None
    spearman: float
    spearman_p: float | None
    n: int | None
    normalized: bool
    timestamp: str
    tag: str | None

    @property
    def column(self) -> str:
        """The header of its column in the table."""
        return self.benchmark

    @property
    def cell(self) -> str:
        """Its text in the table: both correlations, and p-values that are not tiny."""
        text = f"{self.spearman:.4f} / {self.pearson:.4f}"
        ps = [p for p in (self.spearman_p, self.pearson_p) if p is not None]
        return text + (f" (p {' / '.join(f'{p:.2f}' for p in ps)})" if ps and max(ps) >= SHOWN_P else "")


@dataclass(frozen=True)
class FamilyFigure:
    """One model on one benchmark of another family, as the JSON file has it.

    Attributes:
        model: the MODEL argument.
        benchmark: its name.
        family: the family (``retrieval``).
        metric: its main metric (``ndcg_at_10_cosine``), which the table has.
        scores: all metrics by name.
        n: items: queries, triplets, pairs.
        timestamp: when, in UTC.
        tag: the value of ``--tag``.
    """

    model: str
    benchmark: str
    family: Family
    metric: str
    scores: Mapping[str, float]
    n: int
    timestamp: str
    tag: str | None

    @property
    def column(self) -> str:
        """The header of its column in the table."""
        return f"{self.benchmark} ({self.metric})"

    @property
    def cell(self) -> str:
        """Its text in the table."""
        return f"{self.scores[self.metric]:.4f}"


def print_figures(console: Console, figures: Sequence[Figure | FamilyFigure]) -> None:
    """Print a row for each model and a column for each benchmark."""
    of_pairs = [figure for figure in figures if isinstance(figure, Figure)]
    metrics = ", ".join(dict.fromkeys(figure.metric for figure in of_pairs))
    normalized = "; texts normalised" if any(figure.normalized for figure in of_pairs) else ""
    title = f"Spearman / Pearson, {metrics}{normalized}" if of_pairs else None
    table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
    table.add_column("model", overflow="fold")
    columns = list(dict.fromkeys(figure.column for figure in figures))
    for column in columns:
        table.add_column(Text(column), no_wrap=True)
    cells = {(figure.model, figure.column): figure.cell for figure in figures}
    for model in dict.fromkeys(figure.model for figure in figures):
        table.add_row(*(Text(text) for text in (model, *(cells.get((model, column), "") for column in columns))))
    if not console.is_terminal:
        console.width = 10_000  # a row is one line in a file or a pipe
    console.print(table)
