"""Rows of a file with one JSON value a line: objects, or lists where columns are positions.

Owns what a line may be; every message names the file and the line. Knows no splits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from embedsweep.data.columns import Picker, check_columns, choose
from embedsweep.data.decoding import text_of
from embedsweep.data.rows import Findings, Table, nearest
from embedsweep.errors import ConfigError
from embedsweep.schema import DataConfig

Line = tuple[int, object]


def read_json_lines(path: Path, config: DataConfig) -> Table:
    """Reads one file; blank lines are skipped, keys that are not asked for too.

    Args:
        path: the file.
        config: its columns (names: every line is an object; positions: every line is a list), conditions, encoding.

    Raises:
        ConfigError: no row can be read.
    """
    check_columns(config.columns)
    text = text_of(path, config.encoding)
    found = Findings(str(path))
    lines = list(_values(text, found))
    if not lines and not found:
        found.add("is empty: at least two rows are needed")
    if len(lines) == 1 and isinstance(lines[0][1], list) and any(isinstance(item, dict) for item in lines[0][1]):
        raise ConfigError.single(str(path), _one_document(path))
    named = isinstance(config.columns[0], str)
    rows = list(_objects(lines, config, found) if named else _lists(lines, found))
    if not rows:
        raise found.error()
    if named:
        names: Sequence[str] = [*dict.fromkeys([*map(str, config.columns), *config.where])]
    else:
        names = [str(position) for position in range(max(len(fields) for _, fields in rows))]
    choice = choose(names, config, found, "there are")
    if choice is None:
        raise found.error()
    picker = Picker(choice, config)
    for line, fields in rows:
        if len(fields) == len(names):
            picker.take(f"{path}, line {line}", fields)
        else:
            message = f"{len(fields)} values, where others have {len(names)}: complete the line or leave it out"
            found.add_row("lines with another number of values", f"{path}, line {line}", message)
    return picker.table(found)


def _values(text: str, found: Findings) -> Iterator[Line]:
    # JSON knows no line break inside of a value but \n; splitlines() would also break at U+2028, which it may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            if line.strip() in ("[", "{") and number == 1:
                raise ConfigError.single(found.origin, _one_document(Path(found.origin))) from None
            at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            found.add_row(
                "lines that are not JSON",
                f"{found.origin}, line {number}",
                f"is not JSON ({what}{at}): one value a line, texts in double quotes",
            )


def _one_document(path: Path) -> str:
    return f"is one JSON document over all lines, not one value a line: turn it round with jq -c '.[]' {path.name}"


def _objects(lines: Sequence[Line], config: DataConfig, found: Findings) -> Iterator[tuple[int, list[object]]]:
    """The values asked for of every line that has them all."""
    names = [*dict.fromkeys([*map(str, config.columns), *config.where])]
    objects = [(number, value) for number, value in lines if isinstance(value, dict)]
    for number, value in lines:
        if not isinstance(value, dict):
            told = f"is {json.dumps(value)[:40]}, not an object: columns are named (data.columns)"
            found.add_row("lines that are no objects", f"{found.origin}, line {number}", told)
    nowhere = [name for name in names if objects and all(name not in value for _, value in objects)]
    for name in nowhere:
        key = "data.columns" if name in config.columns else "data.where"
        found.add(f"has no {name!r} ({key}) in any line; the first has {nearest(name, objects[0][1])}")
    if nowhere:
        return
    for number, value in objects:
        missing = [name for name in names if name not in value]
        if not missing:
            yield number, [value[name] for name in names]
        for name in missing:
            message = f"has no {name!r}; it has {nearest(name, value)}: fill it in or leave the line out"
            found.add_row("lines without a column", f"{found.origin}, line {number}", message)


def _lists(lines: Sequence[Line], found: Findings) -> Iterator[tuple[int, list[object]]]:
    for number, value in lines:
        if isinstance(value, list):
            yield number, value
            continue
        keys = f"; it has {nearest('', value)}" if isinstance(value, dict) else ""
        message = f"is no list, and data.columns counts positions: name the columns{keys}"
        found.add_row("lines that are no lists", f"{found.origin}, line {number}", message)
