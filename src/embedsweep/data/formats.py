"""Read rows of JSON lines, parquet files, SemEval folders and plain texts; which reader a format or a suffix has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedsweep.config.trial import Column, DataFormat, Quoting
from embedsweep.data.checks import check_texts
from embedsweep.data.contents import content_of, missing_file, other_kind, text_of
from embedsweep.data.delimited import read_delimited
from embedsweep.data.tables import (
    Findings,
    Layout,
    Row,
    Table,
    choose,
    closest_names,
    joined_parts,
    missing_columns,
)
from embedsweep.errors import ConfigError

Line = tuple[int, object]
"""A line's number and its value."""


def read_json_lines(path: Path, layout: Layout) -> Table:
    """Read one file; blank lines and keys that are not chosen are skipped.

    Args:
        path: the file.
        layout: its columns (names: every line is an object; positions: every line is a list), conditions, encoding.

    Raises:
        ConfigError: no row can be read.
    """
    findings = Findings(str(path))
    lines = list(_values(text_of(path, layout), path, findings))
    if not lines and not findings:
        findings.add("is empty")
    if len(lines) == 1 and isinstance(lines[0][1], list) and any(isinstance(item, dict) for item in lines[0][1]):
        raise _one_document(path)
    names = [*dict.fromkeys([*map(str, layout.columns), *layout.where])]
    rows = list(_objects(lines, names, layout, findings) if layout.has_names else _lists(lines, layout, findings))
    if not rows:
        raise findings.error()
    if not layout.has_names:
        names = [str(position) for position in range(max(len(fields) for _, fields in rows))]
    picker = choose(names, layout, findings, "there are")
    for line, fields in rows:
        if len(fields) == len(names):
            picker.take(f"{path}, line {line}", fields)
        else:
            message = f"{len(fields)} values, where others have {len(names)}: complete the line or leave it out"
            findings.add_row("lines with another number of values", f"{path}, line {line}", message)
    return picker.table()


def _values(text: str, path: Path, findings: Findings) -> Iterator[Line]:
    # In JSON only \n breaks a line; splitlines() would also break at U+2028, which a value may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            if line.strip() in ("[", "{") and number == 1:
                raise _one_document(path) from None
            at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            findings.add_row(
                "lines that are not JSON",
                f"{path}, line {number}",
                f"is not JSON ({what}{at}): one value a line, texts in double quotes",
            )


def _one_document(path: Path) -> ConfigError:
    message = f"is one JSON document over all lines, not one value a line: convert it with jq -c '.[]' {path.name}"
    return ConfigError.single(str(path), message)


def _objects(
    lines: Sequence[Line], names: Sequence[str], layout: Layout, findings: Findings
) -> Iterator[tuple[int, list[object]]]:
    """Yield the values of ``names`` of every line that has all of them but optional ones."""
    required = [name for name in names if name not in layout.optional]
    objects = [(number, value) for number, value in lines if isinstance(value, dict)]
    for number, value in lines:
        if not isinstance(value, dict):
            message = f"is {json.dumps(value)[:40]}, not an object: columns are named ({layout.columns_key})"
            findings.add_row("lines that are not objects", f"{findings.origin}, line {number}", message)
    absent = [name for name in required if objects and all(name not in value for _, value in objects)]
    first = list(objects[0][1]) if objects else []
    if columns := [name for name in absent if name in layout.columns]:
        findings.add(missing_columns(columns, first, layout, "its first line has"))
    for name in absent:
        if name not in layout.columns:
            findings.add(f"has no column {name!r} (data.where); its first line has {closest_names(name, first)}")
    if absent:
        return
    for number, value in objects:
        missing = [name for name in required if name not in value]
        if not missing:
            yield number, [value.get(name) for name in names]
        for name in missing:
            message = f"has no {name!r}; it has {closest_names(name, value)}: fill it in or leave the line out"
            findings.add_row("lines without a column", f"{findings.origin}, line {number}", message)


def _lists(lines: Sequence[Line], layout: Layout, findings: Findings) -> Iterator[tuple[int, list[object]]]:
    for number, value in lines:
        if isinstance(value, list):
            yield number, value
            continue
        keys = f"; it has {closest_names('', value)}" if isinstance(value, dict) else ""
        message = f"is not a list, and {layout.columns_key} has positions: name the columns{keys}"
        findings.add_row("lines that are not lists", f"{findings.origin}, line {number}", message)


_MAGIC = b"PAR1"
"""First and last four bytes of every parquet file (https://parquet.apache.org/docs/file-format/)."""


def read_parquet(path: Path, layout: Layout) -> Table:
    """Read the columns of one file.

    Args:
        path: the file.
        layout: its columns, by name or by position, and conditions.

    Raises:
        ConfigError: it is not a parquet file, or lacks a column.
    """
    content = content_of(path)
    if not content:
        raise ConfigError.single(str(path), "is empty")
    if not content.startswith(_MAGIC):
        advice = "give it the suffix of its format" if layout.flag else "set data.format, for example to delimited"
        kind = other_kind(path, content) or f"not a parquet file (it does not begin with PAR1): {advice}"
        raise ConfigError.single(str(path), f"is {kind}")
    import pyarrow as pa
    import pyarrow.parquet as pq

    findings = Findings(str(path))
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        picker = choose(file.schema_arrow.names, layout, findings, "it has")
        table = file.read()
        picker.take_columns(str(path), table.num_rows, lambda position: _column_values(table.column(position)))
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:  # the last two of dates that Python lacks
        message = " ".join(str(error).split())
        raise ConfigError.single(str(path), f"is a broken parquet file: {message}; get it or write it again") from None
    return picker.table()


def _column_values(column: Any) -> list[object]:
    """Return the values of a column of an Arrow table; all of them as bytes if it is of texts that are not UTF-8."""
    try:
        values: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        import pyarrow as pa

        is_dictionary = pa.types.is_dictionary(column.type)
        values = (column.cast(column.type.value_type) if is_dictionary else column).cast(pa.large_binary()).to_pylist()
    return values


_SEMEVAL_NAMES = ("sentence1", "sentence2", "score")
"""Names of columns of a SemEval folder, also positions 0 to 2; its files have no header."""


def read_semeval(pattern: Path, layout: Layout) -> Table:
    """Read all parts that match a pattern, joined in the order of their names.

    The layout of SemEval's STS tasks has sentences in one file and their scores in another::

        STS.input.<part>.txt    two sentences a line, separated by a tab
        STS.gs.<part>.txt       one score a line, for the same line; an empty line is a pair without a score

    It is described with each task's data, as in https://alt.qcri.org/semeval2015/task2/index.php?id=data-and-tools.

    Args:
        pattern: the input files, ``FOLDER/STS.input.*.txt``.
        layout: the order of sentence1, sentence2 and score, or some of them; the encoding.

    Raises:
        ConfigError: no file matches.
    """
    if ".input." not in pattern.name:
        message = f"{pattern.name!r} lacks .input., which .gs. replaces in the names of the scores: STS.input.*.txt"
        raise ConfigError.single("data.files", message)
    inputs = sorted(pattern.parent.glob(pattern.name))
    if not inputs:
        raise ConfigError.single(str(pattern), missing_file(pattern))
    unscored: list[int] = []
    table = joined_parts(inputs, lambda path: _read_part(path, layout, unscored))
    if count := sum(unscored):
        table.findings.origin += f" ({count} unscored {'pair' if count == 1 else 'pairs'} left out)"
    return table


def _read_part(path: Path, layout: Layout, unscored: list[int]) -> Table:
    """Return the scored pairs of one part; the number of the others is appended to ``unscored``."""
    findings = Findings(str(path))
    gold = path.with_name(path.name.replace(".input.", ".gs.", 1))
    if not gold.is_file():
        raise ConfigError.single(str(path), f"has no scores: {missing_file(gold)} (looked for {gold.name})")
    picker = choose(_SEMEVAL_NAMES, layout, findings, "a SemEval folder has")
    pairs, scores = _lines(path, layout), _lines(gold, layout)
    while pairs and not pairs[-1].strip():
        pairs.pop()
    while len(scores) > len(pairs) and not scores[-1].strip():
        scores.pop()
    if len(pairs) != len(scores):
        raise ConfigError.single(
            str(path),
            f"has {len(pairs)} lines and {gold} has {len(scores)}: a line of one belongs to the same line of the "
            "other; the score of a pair without one is an empty line",
        )
    both = path.with_name(path.name.replace(".input.", ".{input,gs}.", 1))
    # From 2016 on, every line also has the origins of its sentences.
    width = max(Counter(line.count("\t") + 1 for line in pairs).most_common(1)[0][0], 2) if pairs else 2
    for number, (line, score) in enumerate(zip(pairs, scores, strict=True), start=1):
        fields = line.split("\t")
        if score.strip() and len(fields) == width:
            picker.take(f"{both}, line {number}", [*fields[:2], score])
        elif score.strip():
            what = "two sentences with a tab between them" if width == 2 else f"{width} columns as the others"
            message = f"{len(fields)} {'column' if len(fields) == 1 else 'columns'}, where a line has {what}"
            findings.add_row("lines with another number of columns", f"{path}, line {number}", message)
    unscored.append(sum(not score.strip() for score in scores))
    return picker.table()


def _lines(path: Path, layout: Layout) -> list[str]:
    """Return every line, also blank ones."""
    lines = [line.removesuffix("\r") for line in text_of(path, layout).split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _read_lines(path: Path, layout: Layout) -> Table:
    """Read a text a line, whatever the column is called; a blank line is a row without a text."""
    if len(layout.columns) > 1:
        raise ConfigError.single(str(path), f"has one text a line, but {len(layout.columns)} columns are needed")
    rows = [Row(f"{path}, line {number}", (line,)) for number, line in enumerate(_lines(path, layout), start=1)]
    return Table(rows, Findings(str(path)))


Reader = Callable[[Path, Layout], Table]

READERS: Mapping[DataFormat, Reader] = {
    "delimited": read_delimited,
    "json_lines": read_json_lines,
    "parquet": read_parquet,
    "semeval": read_semeval,
}

_READERS_BY_SUFFIX: Mapping[str, Reader] = {
    ".txt": _read_lines,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
}


def read_texts(path: Path, columns: Sequence[Column], flag: str, quoting: Quoting = "auto") -> list[list[str]]:
    """Return the texts of some columns of a file for a command, each a list in the order of the file.

    Args:
        path: ``.txt`` (a text a line), ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``; in UTF-8, perhaps with ``.gz``.
        columns: names, or positions from 0 in a file without header; ``.txt`` has one column with any name.
        flag: the command's flag for the columns, for messages.
        quoting: of ``.csv`` and ``.tsv``, as ``data.quoting``.

    Raises:
        ConfigError: all problems of the file: it cannot be read, lacks a column, or has rows without a text.
    """
    suffixes = ", ".join(_READERS_BY_SUFFIX)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError.single(str(path), f"{what}: give a file, {suffixes}")
    suffix = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix not in _READERS_BY_SUFFIX:
        raise ConfigError.single(str(path), f"must end in {suffixes}, which decides how it is read")
    delimiter = "\t" if suffix == ".tsv" else ","
    layout = Layout(tuple(columns), {}, delimiter, "utf-8", quoting, is_labelled=False, flag=flag)
    table = _READERS_BY_SUFFIX[suffix](path, layout)
    check_texts(table.rows, columns, table.findings)
    if not table.rows and not table.findings:
        table.findings.add("has no rows")
    if table.findings:
        raise table.findings.error()
    return [[str(text) for text in column] for column in zip(*(row.cells for row in table.rows), strict=True)]
