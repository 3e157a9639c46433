"""Rows of a delimited text file.

Owns quoting, headers and columns; every message names the file and the line. Knows neither splits nor where a path came
from. What a text or a label may be is said by ``checks``.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embedsweep.config.trial import Column, DataConfig
from embedsweep.data.checks import as_number
from embedsweep.data.examples import LABELLED
from embedsweep.data.tables import Choice, Findings, Picker, Table, check_columns, choose, text_of
from embedsweep.errors import ConfigError

if TYPE_CHECKING:
    from _csv import Reader

_DELIMITERS = (",", ";", "\t", "|")
_LOOKED_AT = 20
"""Records from which it is judged whether a delimiter fits."""

USUAL_NAMES = {
    *("sentence", "sentence1", "sentence2", "text", "text1", "text2", "anchor", "positive", "negative"),
    *("label", "labels", "gold_label", "class", "score", "similarity", "similarity_score"),
    *("query", "document", "question", "answer", "headline", "title", "premise", "hypothesis"),
}
"""What columns are called, in small letters; a line of nothing else is a header."""


class Record(NamedTuple):
    """What csv took for one row: the line it begins on, its fields, how many lines it runs over."""

    line: int
    fields: list[str]
    lines: int


def read_delimited(path: Path, config: DataConfig) -> Table:
    """Reads one file.

    Texts are taken as they stand: ``NA``, ``null`` and ``None`` are texts. A file delimited by tabs is read without
    quoting, as such files are published; any other with CSV's double quotes. A byte-order mark is dropped, blank lines
    are skipped.

    Args:
        path: the file.
        config: its columns (names: it has a header; positions: it has none), conditions, delimiter and encoding.

    Raises:
        ConfigError: no row can be read.
    """
    check_columns(config.columns)
    delimiter = _checked_delimiter(config.delimiter)
    text = text_of(path, config.encoding)
    found = Findings(str(path))
    records = _records(text, delimiter, found)
    if not records and not found:
        found.add("is empty: at least two rows are needed")
    if not records:
        raise found.error()
    if better := _better_delimiter(text, delimiter, config.columns):
        found = Findings(str(path))
        columns = "one column" if len(records[0].fields) == 1 else "the wrong columns"
        found.add(f"{columns} found with {_quoted(delimiter)} between columns; {better}")
        raise found.error()
    has_header = isinstance(config.columns[0], str)
    width = len(records[0].fields) if has_header else _usual_width(records)
    choice = _choice(records[0], width, config, found)
    if choice is None:
        raise found.error()
    body = records[1:] if has_header else records
    if not has_header:
        _check_no_header(body, width, choice, found, labelled=config.shape in LABELLED)
    picker = Picker(choice, config)
    for record in body:
        if _is_whole(path, record, width, delimiter, found):
            picker.take(f"{path}, line {record.line}", record.fields)
    return picker.table(found)


def _checked_delimiter(delimiter: str) -> str:
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ConfigError.single(
            "data.delimiter", f"{delimiter!r} cannot stand between columns: give one character, such as , or ; or tab"
        )
    return delimiter


def _reader(text: str, delimiter: str) -> Reader:
    # newline="" because splitlines() would also break at the rarer separators that occur inside of sentences.
    lines = io.StringIO(text, newline="")
    if delimiter == "\t":
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _records(text: str, delimiter: str, found: Findings) -> list[Record]:
    reader = _reader(text, delimiter)
    records: list[Record] = []
    while True:
        before = reader.line_num
        try:
            fields = next(reader)
        except StopIteration:
            return records
        except csv.Error:
            # After an error csv begins anew on the next line, so what follows is still looked at.
            found.add_row(
                "unbalanced double quotes",
                f"{found.origin}, line {before + 1}",
                f"a text opened by a double quote here is not closed{_how_far(before + 1, reader.line_num)}: close it "
                'after the text, and write "" for a quote inside of it',
            )
            continue
        if fields:
            records.append(Record(before + 1, fields, reader.line_num - before))


def _how_far(first: int, last: int) -> str:
    return "" if last == first else f" (lines {first} to {last} were read as one text)"


def _better_delimiter(text: str, given: str, columns: tuple[Column, ...]) -> str | None:
    """What to say where ``given`` does not fit the file's beginning but another delimiter does; else None."""
    if _fitting_width(text, given, columns):
        return None
    for delimiter in _DELIMITERS:
        if delimiter != given and (width := _fitting_width(text, delimiter, columns)):
            # A single column has no delimiter, so any would fit it.
            if width == 1:
                continue
            say = "data.delimiter=tab" if delimiter == "\t" else f"'data.delimiter=\"{delimiter}\"'"
            return f"with {_quoted(delimiter)} there are {width}: say {say}"
    return None


def _fitting_width(text: str, delimiter: str, columns: tuple[Column, ...]) -> int:
    """How many columns the first records all have, if those asked for are among them; else 0."""
    try:
        records = [fields for fields in itertools.islice(_reader(text, delimiter), _LOOKED_AT) if fields]
    except csv.Error:
        return 0
    widths = {len(fields) for fields in records}
    if len(widths) != 1:
        return 0
    width = widths.pop()
    header = [name.strip() for name in records[0]]
    fits = all(column < width if isinstance(column, int) else column in header for column in columns)
    return width if fits else 0


def _choice(first: Record, width: int, config: DataConfig, found: Findings) -> Choice | None:
    """Where the columns asked for stand, or None with a problem for each that is not there."""
    if isinstance(config.columns[0], int):
        return choose([str(position) for position in range(width)], config, found, "there are")
    header = [name.strip() for name in first.fields]
    choice = choose(header, config, found, "its header has")
    if choice is None and any(as_number(name) is not None for name in header):
        positions = ",".join(str(position) for position in range(len(config.columns)))
        found.add(
            f"line {first.line} looks like data, not like a header: if there is none, say data.columns=[{positions}]"
        )
    return choice


def _usual_width(records: list[Record]) -> int:
    return Counter(len(record.fields) for record in records).most_common(1)[0][0]


def _check_no_header(body: list[Record], width: int, choice: Choice, found: Findings, *, labelled: bool) -> None:
    """A first line of usual names, or the only one without a number for its label, is a header; none is skipped."""
    fields = body[0].fields
    if len(fields) == width and all(fields[position].strip().casefold() in USUAL_NAMES for position in choice.cells):
        _tell_header(body[0], choice, found)
    elif labelled:
        _check_labels(body, width, choice, found)


def _check_labels(body: list[Record], width: int, choice: Choice, found: Findings) -> None:
    first_rows = [record.fields for record in body[:3] if len(record.fields) == width]
    numbers = [as_number(fields[choice.cells[-1]]) is not None for fields in first_rows]
    if len(body[0].fields) == width and not numbers[0] and len(numbers) > 1 and all(numbers[1:]):
        _tell_header(body[0], choice, found)


def _tell_header(first: Record, choice: Choice, found: Findings) -> None:
    names = ",".join(first.fields[position].strip() for position in choice.cells)
    found.add(f"line {first.line} looks like a header: name the columns, say 'data.columns=[{names}]'")


def _is_whole(path: Path, record: Record, width: int, delimiter: str, found: Findings) -> bool:
    """Whether a record has all columns and no more."""
    count = len(record.fields)
    if count == width:
        return True
    message = f"{count} {'column' if count == 1 else 'columns'}, where the others have {width}"
    if record.lines > 1:
        message += f": a double quote opened here runs over {record.lines} lines; close it"
    elif count < width:
        message += ": complete the line or leave it out"
    elif delimiter == "\t":
        message += ": a text may not contain a tab"
    else:
        message += f": put a text that contains {_quoted(delimiter)} in double quotes"
    found.add_row("lines with another number of columns", f"{path}, line {record.line}", message)
    return False


def _quoted(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f"{delimiter!r}"
