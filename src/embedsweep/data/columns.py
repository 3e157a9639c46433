"""Which of a source's columns make an example, and which of its rows are kept.

Owns ``data.columns`` and ``data.where``. Knows no format: a source brings the names of its columns and its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedsweep.config import shown
from embedsweep.data.rows import Findings, Row, Table, nearest
from embedsweep.errors import ConfigError
from embedsweep.schema import Column, DataConfig


class Choice(NamedTuple):
    """What is taken of a row.

    Attributes:
        cells: positions of the columns that make an example, in the order of the shape.
        conditions: (position, the text that must stand there) for rows that are kept.
    """

    cells: tuple[int, ...]
    conditions: tuple[tuple[int, str], ...]


def check_columns(columns: Sequence[Column]) -> None:
    """Raises a ConfigError where ``data.columns`` cannot be columns of anything."""
    told = shown(list(columns))
    if len({type(column) for column in columns}) > 1:
        message = f"{told} mixes names and positions: names for a file with a header, positions for one without"
    elif len(set(columns)) < len(columns):
        message = f"{told} names a column twice: each has a meaning of its own"
    elif any(isinstance(column, int) and column < 0 for column in columns):
        message = f"{told} has a negative position: columns are counted from 0"
    else:
        return
    raise ConfigError.single("data.columns", message)


def choose(names: Sequence[str], config: DataConfig, found: Findings, has: str) -> Choice | None:
    """The positions of the columns asked for, or None with a problem for each that is not there.

    Args:
        names: of all columns there are; their positions as text where they have none.
        config: its ``columns`` and ``where``.
        found: where problems are noted.
        has: what comes before the names there are (``its header has``).
    """
    cells = [_position(column, names, found, "data.columns", has) for column in config.columns]
    counted = all(isinstance(column, int) for column in config.columns)
    conditions = []
    for column, value in config.where.items():
        by_position = counted and column not in names and column.isdecimal()
        position = _position(int(column) if by_position else column, names, found, "data.where", has)
        conditions.append((position, value))
    if any(position is None for position in (*cells, *(position for position, _ in conditions))):
        return None
    return Choice(
        tuple(position for position in cells if position is not None),
        tuple((position, value) for position, value in conditions if position is not None),
    )


def _position(column: Column, names: Sequence[str], found: Findings, key: str, has: str) -> int | None:
    if isinstance(column, int) and column < len(names):
        return column
    if isinstance(column, int):
        found.add(f"has no column {column} ({key}): there are 0 to {len(names) - 1}")
    elif names.count(column) == 1:
        return names.index(column)
    elif column in names:
        found.add(f"has {names.count(column)} columns named {column!r} ({key}), so it is not clear which")
    else:
        found.add(f"has no column {column!r} ({key}); {has} {nearest(column, names)}")
    return None


class Picker:
    """Picks the cells of examples out of rows that fulfil all conditions.

    Args:
        choice: what is taken.
        config: its ``where``, for words.
    """

    def __init__(self, choice: Choice, config: DataConfig) -> None:
        self._choice = choice
        self._where = config.where
        self._rows: list[Row] = []
        self._seen: tuple[set[str], ...] = tuple(set() for _ in choice.conditions)

    def take(self, where: str, fields: Sequence[object]) -> None:
        """Looks at a row, which has all columns; ``where`` says where it stands."""
        keep = True
        for (position, value), seen in zip(self._choice.conditions, self._seen, strict=True):
            there = shown(fields[position])
            seen.add(there)
            keep &= there == value
        if keep:
            self._rows.append(Row(where, tuple(fields[position] for position in self._choice.cells)))

    def table(self, found: Findings) -> Table:
        """All that was picked; where the conditions left nothing of some rows, that is noted."""
        if not self._rows and any(self._seen):
            for (column, value), seen in zip(self._where.items(), self._seen, strict=True):
                if value not in seen:
                    found.add(f"has no row where {column} is {value!r} (data.where); there are {nearest(value, seen)}")
            if not found:
                found.add(f"has no row that fulfils all of data.where={shown(self._where)}")
        return Table(self._rows, found)
