"""Display of running trials: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from embedsweep.config.study import Choice
from embedsweep.config.values import shown
from embedsweep.errors import printable

KEPT_ROWS = 30


class _LastingStream:
    """A stream whose reader may go away (``| head``, a closed terminal): the command continues, without output."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        # On a file, an I/O error is one of the disk.
        self._closed_errors = (errno.EPIPE, errno.EIO) if file.isatty() else (errno.EPIPE,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._lasting():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        with self._lasting():
            self._file.flush()

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in self._closed_errors:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())


def open_console(file: TextIO) -> Console:
    """Return a console that writes to a file, usually stdout, even if stdout is redirected later."""
    # In a notebook, lines of text: rich would make a block of HTML of each.
    return Console(file=cast("TextIO", _LastingStream(file)), force_jupyter=False)


def short_params(params: Mapping[str, Choice]) -> str:
    """Return swept values in one line: ``loss=mnrl lr=2.1e-05``."""
    words = (f"{key.rsplit('.', 1)[-1]}={_short(value)}" for key, value in params.items())
    return " ".join(words)


def _short(value: Choice) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return shown(value)


def duration(seconds: float) -> str:
    """Return seconds in a readable form: ``48s``, ``3m20s``, ``1h05m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


@dataclass
class _Row:
    """A trial's row in the table."""

    label: str
    params: str
    state: str = "RUNNING"
    step: int = 0
    total: int = 0
    objective: float | None = None
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None

    @property
    def progress(self) -> str:
        return f"{100 * self.step // self.total}%" if self.total else ""

    @property
    def cells(self) -> tuple[str, ...]:
        value = "" if self.objective is None else f"{self.objective:.4f}"
        return (self.label, self.state, self.progress, self.time, value, self.params, self.note)

    @property
    def time(self) -> str:
        return duration(self.seconds if self.seconds is not None else time.monotonic() - self.started)


def plain_table(columns: Iterable[str], rows: Iterable[Iterable[str]], **style: Any) -> Table:
    """Return a table without lines; cells are not parsed as markup, as which a reason such as "no [/x]" would be."""
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", **style)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def say(console: Console, text: str) -> None:
    """Print a line without interpreting markup."""
    console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


class Display(Protocol):
    """Shows the events of trials, each identified by its label (``7``)."""

    def say(self, text: str) -> None:
        """Print a line above the running trials."""

    def begin(self, label: str, params: Mapping[str, Choice], note: str) -> None:
        """Show that a trial starts or resumes."""

    def progress(self, label: str, step: int, total: int) -> None:
        """Show that ``step`` of ``total`` optimizer steps of a trial are done."""

    def score(self, label: str, objective: float) -> None:
        """Show the latest objective of a trial."""

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Show that a trial ended, with Optuna's state."""


class _Rows:
    """The running trials of a display."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, _Row] = {}

    def progress(self, label: str, step: int, total: int) -> None:
        """Keep how many steps of a trial are done, until the row is shown next."""
        self._rows[label].step, self._rows[label].total = step, total


class PlainLines(_Rows):
    """Prints a line when a trial starts, is evaluated and ends."""

    def say(self, text: str) -> None:
        """Print the line."""
        say(self._console, text)

    def begin(self, label: str, params: Mapping[str, Choice], note: str) -> None:
        """Print that a trial starts."""
        self._rows[label] = _Row(label, short_params(params))
        self.say(" ".join(filter(None, (f"trial {label} RUNNING", self._rows[label].params, note))))

    def score(self, label: str, objective: float) -> None:
        """Print the trial's progress and objective."""
        row = self._rows[label]
        self.say(f"trial {label} {row.progress} {row.time} {objective:.4f}")

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Print the trial's result."""
        row = self._rows.pop(label)
        value = "" if objective is None else f"{objective:.4f}"
        self.say(" ".join(filter(None, (f"trial {label} {state} {row.time}", row.params, value, note))))


class LiveTable(_Rows):
    """A table of the last trials, redrawn in place.

    Args:
        console: the terminal.
        objective: the metric's name, used as a column header.
    """

    def __init__(self, console: Console, objective: str) -> None:
        super().__init__(console)
        self._objective = objective
        self.live = Live(console=console, get_renderable=self._table, refresh_per_second=4, redirect_stdout=False)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(printable(text), highlight=False, markup=False)

    def begin(self, label: str, params: Mapping[str, Choice], note: str) -> None:
        """Add a row; drop the oldest rows of finished trials beyond ``KEPT_ROWS``."""
        self._rows[label] = _Row(label, short_params(params), note=note)
        ended = [row.label for row in self._rows.values() if row.seconds is not None]
        for oldest in ended[: max(0, len(self._rows) - KEPT_ROWS)]:
            del self._rows[oldest]

    def score(self, label: str, objective: float) -> None:
        """Show the latest objective."""
        self._rows[label].objective = objective

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Show the trial's result."""
        row = self._rows[label]
        row.state, row.objective, row.note = state, objective, note
        row.seconds = time.monotonic() - row.started
        self.live.refresh()

    def _table(self) -> Table:
        columns = ("trial", "state", "done", "time", self._objective, "values", "")
        return plain_table(columns, [row.cells for row in self._rows.values()], header_style="bold")


@contextmanager
def open_display(console: Console, objective: str) -> Iterator[Display]:
    """Open a live table if the console is a terminal, else plain lines."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    table = LiveTable(console, objective)
    with table.live:
        yield table
