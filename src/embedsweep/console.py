"""The console: streams that may go away, values as short text, and the display that workers report to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedsweep.config.study import Choice
from embedsweep.config.values import shown
from embedsweep.errors import printable


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
    # In a notebook, rich would make a block of HTML of each line; and there FORCE_COLOR is set, as in some CI.
    return Console(file=cast("TextIO", _LastingStream(file)), force_jupyter=False, force_terminal=file.isatty())


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


def plain_table(columns: Iterable[str], rows: Iterable[Iterable[str]], **style: Any) -> Table:
    """Return a table without lines; cells are not parsed as markup, as which a reason such as "no [/x]" would be."""
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", **style)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def say(console: Console, text: str, *, fold: bool = False) -> None:
    """Print a line without interpreting markup.

    Args:
        console: where it is printed.
        text: the line.
        fold: whether a terminal shows it folded between words: a sentence, but nothing to copy such as a command.
    """
    console.print(printable(text), highlight=False, markup=False, soft_wrap=not (fold and console.is_terminal))


OutputStyle = Literal["lines", "quiet", "json"]
"""How a command shows its trials: as lines or on a screen; not at all; as JSON, an event a line."""

FINISHED = ("COMPLETE", "PRUNED", "FAIL")
"""Optuna's final states of a trial. One that is to be resumed is WAITING; RUNNING is one that another worker took."""


class Display(Protocol):
    """Shows the events of trials, each identified by its label (``7``)."""

    def say(self, text: str) -> None:
        """Print a line above the running trials."""

    def begin(self, label: str, params: Mapping[str, Choice], note: str, worker: int) -> None:
        """Show that a worker starts or resumes a trial."""

    def progress(self, label: str, step: int, total: int) -> None:
        """Show that ``step`` of ``total`` optimizer steps of a trial are done."""

    def score(self, label: str, objective: float) -> None:
        """Show the latest objective of a trial."""

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Show that an attempt at a trial ended, with Optuna's state of the trial."""
