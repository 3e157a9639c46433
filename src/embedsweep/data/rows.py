"""The rows of a split as their source had them, and what was found wrong with them on the way.

Owns how many problems of a kind are told. Knows no source, and nothing of what a text or a label may be.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from embedsweep.errors import ConfigError, Problem

_TOLD_PER_KIND = 5


class Row(NamedTuple):
    """One example as its source had it.

    Attributes:
        where: ``train.csv, line 12`` or the like.
        cells: the columns of the data's shape, in its order.
    """

    where: str
    cells: tuple[object, ...]


class Findings:
    """What is wrong with one source: the first five rows of each kind in full, the others counted.

    Args:
        origin: the source's name, which a problem of the whole source and a count of the rest stand under.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._whole: list[Problem] = []
        self._rows: dict[str, list[Problem]] = {}

    def add(self, message: str) -> None:
        """Notes a problem of the whole source."""
        self._whole.append(Problem(self.origin, message))

    def add_row(self, kind: str, where: str, message: str) -> None:
        """Notes a problem of a row; ``kind`` is a plural that goes after "... and 7 more "."""
        self._rows.setdefault(kind, []).append(Problem(where, message))

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Notes problems that say themselves where they are."""
        self._whole += problems

    def __bool__(self) -> bool:
        return bool(self._whole or self._rows)

    def error(self) -> ConfigError:
        """All that was found as one error."""
        told = list(self._whole)
        for kind, problems in self._rows.items():
            told += problems[:_TOLD_PER_KIND]
            if len(problems) > _TOLD_PER_KIND:
                told.append(Problem(self.origin, f"... and {len(problems) - _TOLD_PER_KIND} more {kind}"))
        return ConfigError(told)


@dataclass(frozen=True)
class Table:
    """The rows of one split, and what was found wrong with them so far."""

    rows: list[Row]
    found: Findings


def joined(tables: Sequence[Table]) -> Table:
    """Several tables as one, in that order; each problem keeps the place it was found at."""
    if len(tables) == 1:
        return tables[0]
    found = Findings(" + ".join(table.found.origin for table in tables))
    for table in tables:
        if table.found:
            found.add_problems(table.found.error().problems)
    return Table([row for table in tables for row in table.rows], found)


def nearest(word: str, names: Iterable[str], count: int = 3) -> str:
    """The names most like ``word`` (else the first ones), quoted; ``nothing`` where there are none."""
    ordered = sorted(names)
    chosen = difflib.get_close_matches(word, ordered, n=count) or ordered[: 2 * count]
    rest = ", ..." if len(chosen) == 2 * count < len(ordered) else ""
    return (", ".join(repr(name) for name in chosen) + rest) or "nothing"
