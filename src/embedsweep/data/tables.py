"""The rows of a split as their source had them, and what was found wrong with them on the way.

Owns how many problems of a kind are told. Knows no source, and nothing of what a text or a label may be.
"""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from embedsweep.config.trial import Column, DataConfig
from embedsweep.config.values import shown
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


def content_of(path: Path) -> bytes:
    """All of a file.

    Raises:
        ConfigError: it is not there, is a folder or cannot be read.
    """
    if path.is_dir():
        raise ConfigError.single(str(path), f"is a folder, not a file; in it: {nearest('', _names_in(path))}")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError.single(str(path), where_it_ends(path)) from None
    except OSError as error:
        raise ConfigError.single(str(path), f"cannot be read: {error.strerror}") from None


def text_of(path: Path, encoding: str) -> str:
    """All of a text file; a byte-order mark is dropped.

    Raises:
        ConfigError: it cannot be read, or is in another encoding.
    """
    content = content_of(path)
    codec = codecs.lookup(encoding).name
    try:
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        if codec == "utf-8":
            raise _not_utf8(path, content, error) from None
        message = f"is not in {encoding} ({error.reason} at byte {error.start}): say data.encoding="
        raise ConfigError.single(str(path), f"{message}{_encoding_of(content)}") from None
    if codec != "utf-8" and _is_utf8(content):
        raise ConfigError.single(str(path), f"is in UTF-8, not in {encoding}: say data.encoding=utf-8")
    return text.removeprefix("\ufeff")


def _not_utf8(path: Path, content: bytes, error: UnicodeDecodeError) -> ConfigError:
    # The codec drops a byte-order mark before it counts.
    at = len(content) - len(error.object) + error.start
    line = content.count(b"\n", 0, at) + 1
    column = at - content.rfind(b"\n", 0, at)
    encoding = _encoding_of(content)
    names = {"latin-1": ("latin-1", "latin1"), "cp1252": ("Windows-1252", "cp1252"), "utf-16": ("UTF-16", "utf-16")}
    told, iconv = names[encoding]
    return ConfigError.single(
        f"{path}, line {line}",
        f"byte {column} (0x{content[at]:02x}) is not UTF-8; the file is probably {told}: "
        f"convert it with iconv -f {iconv} -t utf-8, or say data.encoding={encoding}",
    )


def _encoding_of(content: bytes) -> str:
    """The likely encoding. Only Windows has letters at 0x80 to 0x9f; text in UTF-16 is half zeros."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or content.count(b"\0") > len(content) // 4:
        return "utf-16"
    if _is_utf8(content):
        return "utf-8"
    return "cp1252" if any(0x80 <= byte <= 0x9F for byte in content) else "latin-1"


def _is_utf8(content: bytes) -> bool:
    """Whether there are letters beyond ASCII and all of them are UTF-8, which in another encoding none would be."""
    if content.isascii() or b"\0" in content:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def where_it_ends(path: Path) -> str:
    """What there is of a path that is not there: its folder's files, or the nearest folder."""
    if path.parent.is_dir():
        return f"no such file; in its folder: {nearest(path.name, _names_in(path.parent))}"
    missing = next(part for part in (path, *path.parents) if part.parent.is_dir())
    return f"no such file: there is no folder {missing}; in {missing.parent}: " + nearest(
        missing.name, _names_in(missing.parent)
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []
