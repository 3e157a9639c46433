"""Files of texts, read for ``encode`` and ``similarity``: plain lines, delimited, JSON lines, parquet.

Owns their checks: each problem says file, line and mend. Knows nothing of models.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedsweep.config.trial import Column
from embedsweep.config.values import nearest
from embedsweep.errors import ConfigError, Problem

_TOLD = 5


def as_column(word: str | int) -> Column:
    """A column as it was typed: digits are a position from 0, anything else is a name."""
    return int(word) if str(word).isdigit() else word


def read_texts(path: Path, columns: Sequence[Column]) -> list[list[str]]:
    """The texts of some columns, each a list in the order of the file.

    Args:
        path: ``.txt`` (a text a line), ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``.
        columns: names of its header, or positions from 0 in a file without header; ``.txt`` has one column, whatever it
            is called.

    Raises:
        ConfigError: the file cannot be read, lacks a column, or has rows without a text; all that is wrong with it.
    """
    readers: Mapping[str, Callable[[Path, Sequence[Column]], list[tuple[str, list[Any]]]]] = {
        ".txt": _lines,
        ".csv": _delimited,
        ".tsv": _delimited,
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise ConfigError.single(str(path), f"{what}: give a file, {', '.join(readers)}")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError.single(str(path), f"must end in {', '.join(readers)}, which says how it is read")
    rows = reader(path, columns)
    if not rows:
        raise ConfigError.single(str(path), "has no rows")
    _check_texts(path, rows, columns)
    return [list(column) for column in zip(*(texts for _, texts in rows), strict=True)]


def _check_texts(path: Path, rows: Sequence[tuple[str, list[Any]]], columns: Sequence[Column]) -> None:
    problems: list[Problem] = []
    for where, texts in rows:
        for column, text in zip(columns, texts, strict=True):
            if not isinstance(text, str):
                problems.append(Problem(where, f"{column} is {text!r}, not a text: mend it or leave the row out"))
            elif not text.strip():
                problems.append(Problem(where, f"{column} is empty: fill it in or leave the row out"))
    if problems:
        more = Problem(str(path), f"... and {len(problems) - _TOLD} more rows without a text")
        raise ConfigError([*problems[:_TOLD], *([more] if len(problems) > _TOLD else [])])


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = "is not UTF-8: save the file as UTF-8 (iconv -f latin1 -t utf-8)"
        raise ConfigError.single(f"{path}, line {line}", message) from None


def _lines(path: Path, columns: Sequence[Column]) -> list[tuple[str, list[Any]]]:
    if len(columns) > 1:
        raise ConfigError.single(str(path), f"has one text a line, and {len(columns)} columns are asked for")
    lines = _text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    return [(f"{path}, line {number}", [line]) for number, line in enumerate(lines, start=1)] if lines != [""] else []


def _delimited(path: Path, columns: Sequence[Column]) -> list[tuple[str, list[Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    records: list[tuple[int, list[str]]] = []
    begun = 1
    try:
        for fields in reader:
            if fields:
                records.append((begun, fields))
            begun = reader.line_num + 1
    except csv.Error as error:
        message = f"cannot be read ({error}): close the double quote, or write a quote inside a text twice"
        raise ConfigError.single(f"{path}, line {begun}", message) from None
    if not records:
        return []
    names = [name.strip() for name in records[0][1]]
    positions = _positions(path, names, columns)
    body = records if all(isinstance(column, int) for column in columns) else records[1:]
    ragged = [
        Problem(f"{path}, line {line}", f"has {len(fields)} columns, where the first line has {len(names)}")
        for line, fields in body
        if len(fields) != len(names)
    ]
    if ragged:
        raise ConfigError(ragged[:_TOLD])
    return [(f"{path}, line {line}", [fields[position] for position in positions]) for line, fields in body]


def _positions(path: Path, names: Sequence[str], columns: Sequence[Column]) -> list[int]:
    problems = [
        Problem(str(path), f"has no column {column}{nearest(str(column), names)}; {_there(names, column)}")
        for column in columns
        if (column >= len(names) if isinstance(column, int) else names.count(column) != 1)
    ]
    if problems:
        raise ConfigError(problems)
    return [column if isinstance(column, int) else names.index(column) for column in columns]


def _there(names: Sequence[str], column: Column) -> str:
    if isinstance(column, int):
        return f"there are 0 to {len(names) - 1}"
    return f"its header has {', '.join(names)}; a file without header takes positions from 0"


def _json_lines(path: Path, columns: Sequence[Column]) -> list[tuple[str, list[Any]]]:
    rows: list[tuple[str, list[Any]]] = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise ConfigError.single(where, f"is no JSON ({error})") from None
        if not isinstance(item, dict):
            raise ConfigError.single(where, "is no JSON object: write {...} on every line")
        if missing := [column for column in columns if column not in item]:
            message = f"has no {missing[0]}{nearest(str(missing[0]), item)}; it has {', '.join(item)}"
            raise ConfigError.single(where, message)
        rows.append((where, [item[str(column)] for column in columns]))
    return rows


def _parquet(path: Path, columns: Sequence[Column]) -> list[tuple[str, list[Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError.single(str(path), f"is no parquet file ({str(error).splitlines()[0]})") from None
    positions = _positions(path, table.column_names, columns)
    lists = [table.column(position).to_pylist() for position in positions]
    return [(f"{path}, row {number}", list(texts)) for number, texts in enumerate(zip(*lists, strict=True), start=1)]
