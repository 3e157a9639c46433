"""The rows of a source before they are checked, the columns taken of them, and the problems found while reading."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, TypeVar

from embedsweep.config.trial import Column, DataConfig, Quoting
from embedsweep.config.values import shown
from embedsweep.data.examples import LABELLED
from embedsweep.errors import ConfigError, Problem

T = TypeVar("T")

_SHOWN_PER_KIND = 5
_LONGEST_VALUE = 100


class Row(NamedTuple):
    """One example as its source has it.

    Attributes:
        where: its place, as ``train.csv, line 12``.
        cells: the chosen columns, in the order of the shape.
    """

    where: str
    cells: tuple[object, ...]


class Findings:
    """The problems of one source: the first five rows of each kind in full, the others counted.

    Args:
        origin: the source's name, under which problems of the whole source and counts are reported.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._whole: list[Problem] = []
        self._rows: dict[str, list[Problem]] = {}

    def add(self, message: str) -> None:
        """Add a problem of the whole source."""
        self._whole.append(Problem(self.origin, message))

    def add_row(self, kind: str, where: str, message: str) -> None:
        """Add a problem of a row; ``kind`` is a plural that fits after "... and 7 more "."""
        self._rows.setdefault(kind, []).append(Problem(where, message))

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Add problems that have their own place."""
        self._whole += problems

    def __bool__(self) -> bool:
        return bool(self._whole or self._rows)

    def error(self) -> ConfigError:
        """Return all problems as one error."""
        problems = list(self._whole)
        for kind, of_kind in self._rows.items():
            problems += of_kind[:_SHOWN_PER_KIND]
            if len(of_kind) > _SHOWN_PER_KIND:
                problems.append(Problem(self.origin, f"... and {len(of_kind) - _SHOWN_PER_KIND} more {kind}"))
        return ConfigError(problems)


@dataclass(frozen=True)
class Table:
    """The rows of one split or file, and the problems found so far."""

    rows: list[Row]
    findings: Findings


def joined_parts(parts: Sequence[T], read: Callable[[T], Table]) -> Table:
    """Read the files, or the splits, that make up one split, and join them in their order.

    Each problem keeps its place; the error of a part that cannot be read is among the findings.
    """
    tables: list[Table] = []
    for part in parts:
        try:
            tables.append(read(part))
        except ConfigError as error:
            tables.append(Table([], Findings(str(part))))
            tables[-1].findings.add_problems(error.problems)
    if len(tables) == 1:
        return tables[0]
    findings = Findings(" + ".join(table.findings.origin for table in tables))
    for table in tables:
        if table.findings:
            findings.add_problems(table.findings.error().problems)
    return Table([row for table in tables for row in table.rows], findings)


def closest_names(word: str, names: Iterable[str]) -> str:
    """Return up to three names similar to ``word``, else the first six, quoted; ``nothing`` without any names."""
    ordered = list(names)
    chosen = difflib.get_close_matches(word, ordered) or ordered[:6]
    rest = ", ..." if len(chosen) == 6 < len(ordered) else ""
    return (", ".join(quoted(name) for name in chosen) + rest) or "nothing"


def quoted(value: object) -> str:
    """Return a value for a message as Python writes it, a long one cut."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


@dataclass(frozen=True)
class Layout:
    """How rows are read from a source, and how messages name the settings for it.

    Attributes:
        columns: the columns of an example: names where the source has names, else positions from 0.
        where: column -> the text it has in rows that are kept.
        delimiter: the character between columns of a delimited file.
        encoding: of a text file, as Python names it.
        quoting: of a delimited file: whether a text may be in double quotes.
        is_labelled: whether the last column is a score, a label or a class.
        flag: the command-line flag that takes the columns and is the only setting; None where the ``data`` group has
            all settings.
        key: what says which columns there are, where that is not a flag.
        optional: names of columns that a line of JSON may lack; it has None there.
    """

    columns: tuple[Column, ...]
    where: Mapping[str, str]
    delimiter: str
    encoding: str
    quoting: Quoting
    is_labelled: bool
    flag: str | None = None
    key: str = "data.columns"
    optional: tuple[str, ...] = ()

    @property
    def has_names(self) -> bool:
        """Whether columns are named, so that a text file has a header."""
        return any(isinstance(column, str) for column in self.columns)

    @property
    def columns_key(self) -> str:
        """The setting for the columns."""
        return self.flag or self.key


def layout_of(config: DataConfig) -> Layout:
    """Return the layout that the ``data`` group sets."""
    is_labelled = config.shape in LABELLED
    return Layout(config.columns, config.where, config.delimiter, config.encoding, config.quoting, is_labelled)


class Picker:
    """Picks the columns of examples out of the rows that fulfil all conditions.

    Args:
        cells: positions of the columns of an example, in the order of the shape.
        conditions: (position, required text) for rows that are kept, in the order of the layout's ``where``.
        layout: its ``where``, for messages.
        findings: takes the problems.
    """

    def __init__(
        self, cells: Sequence[int], conditions: Sequence[tuple[int, str]], layout: Layout, findings: Findings
    ) -> None:
        self.cells = cells
        self._conditions = conditions
        self._where = layout.where
        self._findings = findings
        self._rows: list[Row] = []
        self._seen: tuple[set[str], ...] = tuple(set() for _ in conditions)

    def take(self, where: str, fields: Sequence[object] | Mapping[int, object]) -> None:
        """Take a row with all its columns if it fulfils the conditions; ``where`` is its place."""
        keep = True
        for (position, value), seen in zip(self._conditions, self._seen, strict=True):
            text = shown(fields[position])
            seen.add(text)
            keep &= text == value
        if keep:
            self._rows.append(Row(where, tuple(fields[position] for position in self.cells)))

    def take_columns(self, origin: str, count: int, column: Callable[[int], Sequence[object]]) -> None:
        """Take rows of a source that is stored by columns; a row's place is ``origin, row N``.

        Args:
            origin: the source's name.
            count: the number of rows.
            column: position -> values; called for the needed columns only.
        """
        needed = {*self.cells, *(position for position, _ in self._conditions)}
        columns = {position: [_plain(value) for value in column(position)] for position in needed}
        for number in range(count):
            fields = {position: values[number] for position, values in columns.items()}
            self.take(f"{origin}, row {number + 1}", fields)

    def table(self) -> Table:
        """Return all taken rows; where the conditions left no row, that is a problem."""
        if not self._rows and any(self._seen):
            for (column, value), seen in zip(self._where.items(), self._seen, strict=True):
                if value not in seen:
                    names = closest_names(value, sorted(seen))
                    self._findings.add(f"has no row where {column} is {value!r} (data.where); there are {names}")
            if not self._findings:
                self._findings.add(f"has no row that fulfils all of data.where={shown(self._where)}")
        return Table(self._rows, self._findings)


def _plain(value: object) -> object:
    """Return a decimal as a float, and bytes as the text that they are in UTF-8, if they are."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def choose(names: Sequence[str], layout: Layout, findings: Findings, label: str) -> Picker:
    """Return a picker of the layout's columns.

    Args:
        names: of all columns; their positions as text where columns have no names.
        layout: its ``columns`` and ``where``.
        findings: takes the problems.
        label: precedes the names in messages (``its header has``).

    Raises:
        ConfigError: the findings, with a problem for each missing column.
    """
    cells = [_position(column, names, findings, layout.columns_key) for column in layout.columns]
    missing = [column for column in layout.columns if isinstance(column, str) and column not in names]
    if missing:
        findings.add(missing_columns(missing, names, layout, label))
    conditions = []
    for column, value in layout.where.items():
        by_position = not layout.has_names and column not in names and column.isdecimal()
        if not by_position and column not in names:
            findings.add(f"has no column {column!r} (data.where); {label} {closest_names(column, names)}")
        position = _position(int(column) if by_position else column, names, findings, "data.where")
        conditions.append((position, value))
    known = [position for position in cells if position is not None]
    required = [(position, value) for position, value in conditions if position is not None]
    if len(known) < len(cells) or len(required) < len(conditions):
        raise findings.error()
    return Picker(known, required, layout, findings)


def _position(column: Column, names: Sequence[str], findings: Findings, key: str) -> int | None:
    """Return a column's position; None, and a problem but for a name that does not occur, if it has none."""
    if isinstance(column, int) and column < len(names):
        return column
    if isinstance(column, int):
        findings.add(f"has no column {column} ({key}): there are 0 to {len(names) - 1}")
    elif names.count(column) == 1:
        return names.index(column)
    elif column in names:
        findings.add(f"has {names.count(column)} columns named {column!r} ({key}), so it is not clear which")
    return None


def missing_columns(missing: Sequence[str], names: Sequence[str], layout: Layout, label: str) -> str:
    """Return a message that a source lacks named columns; if as many others are left, how these are chosen instead.

    Args:
        missing: the columns, in the order of the layout.
        names: of all columns that there are.
        layout: its ``columns``.
        label: precedes the names in the message (``its header has``).
    """
    lacks = f"has no column{'s' if len(missing) > 1 else ''} {', '.join(map(quoted, missing))} ({layout.columns_key})"
    left = [name for name in names if name not in layout.columns]
    if layout.flag or layout.key != "data.columns" or len(left) != len(missing) or not all(map(_is_plain, left)):
        return f"{lacks}; {label} {closest_names(missing[0] if len(missing) == 1 else '', names)}"
    others = iter(left)
    columns = ",".join(str(next(others) if column in missing else column) for column in layout.columns)
    same = "it is the same" if len(left) == 1 else "these are the same in this order"
    return f"{lacks}, but {', '.join(map(quoted, left))}: if {same}, set 'data.columns=[{columns}]'"


def _is_plain(name: str) -> bool:
    """Return whether a name can stand in a list on the command line as it is, and is not taken for a position."""
    return re.fullmatch(r"[^\W\d][\w.-]*", name) is not None
