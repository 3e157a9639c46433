"""Read rows of a delimited text file: quoting, header, delimiter; messages name the file and the line."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embedsweep.config.trial import Quoting
from embedsweep.data.checks import as_number
from embedsweep.data.contents import text_of
from embedsweep.data.tables import Findings, Layout, Picker, Table, choose
from embedsweep.errors import ConfigError

if TYPE_CHECKING:
    from _csv import Reader

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE = 20
"""Records that decide whether a delimiter fits."""

UNQUOTE = "; if they are around texts, as Excel and pandas write them, set data.quoting=double_quotes"

USUAL_NAMES = {
    *("sentence", "sentence1", "sentence2", "text", "text1", "text2", "anchor", "positive", "negative"),
    *("label", "labels", "gold_label", "class", "score", "similarity", "similarity_score"),
    *("query", "document", "question", "answer", "headline", "title", "premise", "hypothesis"),
}
"""Usual names of columns, in lower case; a line of nothing else is a header."""


class Record(NamedTuple):
    """One row as csv reads it: its first line, its fields, the number of its lines."""

    line: int
    fields: list[str]
    lines: int


def read_delimited(path: Path, layout: Layout) -> Table:
    """Read one file.

    Texts are taken as they are: ``NA``, ``null`` and ``None`` are texts. With ``quoting: auto`` a file delimited by
    tabs is read without quoting, as such files are published; any other with CSV's double quotes. A byte-order mark is
    dropped, blank lines are skipped.

    Args:
        path: the file.
        layout: its columns (names: it has a header; positions: it has none), conditions, delimiter, quoting, encoding.

    Raises:
        ConfigError: no row can be read.
    """
    text = text_of(path, layout)
    findings = Findings(str(path))
    with _texts_of_any_length():
        records = _records(text, layout, findings)
        better = _better_delimiter(text, records[:1], layout)
    if not records and not findings:
        findings.add("is empty")
    if not records:
        raise findings.error()
    if better is not None:
        findings = Findings(str(path))
        columns = "one column" if len(records[0].fields) == 1 else "the wrong columns"
        findings.add(f"{columns} found with {_quoted(layout.delimiter)} between columns; {better}")
        raise findings.error()
    widths = Counter(len(record.fields) for record in records)
    width = len(records[0].fields) if layout.has_names else widths.most_common(1)[0][0]
    picker = _picker(records[0], width, layout, findings)
    body = records[1:] if layout.has_names else records
    if not layout.has_names and _looks_like_header(body, width, picker.cells, layout):
        names = ",".join(records[0].fields[position].strip() for position in picker.cells)
        line = f"line {records[0].line} looks like a header"
        findings.add(f"{line}: name the columns, set 'data.columns=[{names}]'")
    for record in body:
        if _has_width(path, record, width, layout, findings):
            picker.take(f"{path}, line {record.line}", record.fields)
    return picker.table()


def _reader(text: str, delimiter: str, quoting: Quoting) -> Reader:
    # newline="" because splitlines() would also break at the rarer separators that occur inside of sentences.
    lines = io.StringIO(text, newline="")
    if quoting == "none" or (quoting == "auto" and delimiter == "\t"):
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=delimiter, strict=True)


@contextmanager
def _texts_of_any_length() -> Iterator[None]:
    """Lift the limit of 131,072 characters that csv sets, for all readers of the process, while one file is read."""
    former = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(former)


def _records(text: str, layout: Layout, findings: Findings) -> list[Record]:
    reader = _reader(text, layout.delimiter, layout.quoting)
    records: list[Record] = []
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return records
        except csv.Error:
            # After an error csv starts again on the next line, so the rest of the file is still checked.
            last = reader.line_num
            lines = "" if last == first else f" (lines {first} to {last} were read as one text)"
            findings.add_row(
                "unbalanced double quotes",
                f"{findings.origin}, line {first}",
                f"a text opened by a double quote here is not closed{lines}: close it "
                'after the text, and write "" for a quote inside of it',
            )
            continue
        if fields:
            records.append(Record(first, fields, reader.line_num + 1 - first))


def _better_delimiter(text: str, first: Sequence[Record], layout: Layout) -> str | None:
    """Return advice if the layout's delimiter does not fit the file's first records but another does."""
    if _fitting_width(text, layout.delimiter, layout):
        return None
    others = [delimiter for delimiter in _DELIMITERS if delimiter != layout.delimiter]
    fitting = [(delimiter, _fitting_width(text, delimiter, layout)) for delimiter in others]
    if any(len(record.fields) == 1 for record in first):  # the header may have other names, too
        fitting += [(delimiter, _width(text, delimiter, layout)) for delimiter in others]
    for delimiter, width in fitting:
        if width > 1:  # any delimiter fits a single column
            if layout.flag:
                advice = "a .csv needs commas, a .tsv tabs"
            else:
                advice = "set data.delimiter=tab" if delimiter == "\t" else f"set 'data.delimiter=\"{delimiter}\"'"
            return f"with {_quoted(delimiter)} there are {width}: {advice}"
    return None


def _fitting_width(text: str, delimiter: str, layout: Layout) -> int:
    """Return the number of columns that all the first records have if it includes the chosen columns, else 0."""
    width = _width(text, delimiter, layout)
    if not width:
        return 0
    header = [name.strip() for name in next(filter(None, _reader(text, delimiter, layout.quoting)))]
    fits = all(column < width if isinstance(column, int) else column in header for column in layout.columns)
    return width if fits else 0


def _width(text: str, delimiter: str, layout: Layout) -> int:
    """Return the number of columns that all the first records have; 0 if they differ."""
    try:
        records = itertools.islice(_reader(text, delimiter, layout.quoting), _SAMPLE)
        widths = {len(fields) for fields in records if fields}
    except csv.Error:
        return 0
    return widths.pop() if len(widths) == 1 else 0


def _picker(first: Record, width: int, layout: Layout, findings: Findings) -> Picker:
    """Return a picker of the layout's columns.

    Raises:
        ConfigError: a column is missing; has a problem for each, and what was found before.
    """
    if not layout.has_names:
        return choose([str(position) for position in range(width)], layout, findings, "there are")
    header = [name.strip() for name in first.fields]
    if layout.flag:
        return choose(header, layout, findings, "a file without a header takes positions from 0; its header has")
    if all(len(name) > 1 and name.startswith('"') and name.endswith('"') for name in header):
        findings.add(f"its header has double quotes{UNQUOTE}")
        raise findings.error()
    try:
        return choose(header, layout, findings, "its header has")
    except ConfigError:
        if any(as_number(name) is not None for name in header):
            looks = f"line {first.line} looks like data, not like a header"
            positions = ",".join(str(position) for position in range(len(layout.columns)))
            findings.add(f"{looks}: if the file has no header, set 'data.columns=[{positions}]'")
        raise findings.error() from None


def _looks_like_header(body: Sequence[Record], width: int, cells: Sequence[int], layout: Layout) -> bool:
    """Return whether the first line has usual names only, or is the only one without a number for its label.

    Lists of texts for a command may have such a first line.
    """
    if layout.flag or len(body[0].fields) != width:
        return False
    if all(body[0].fields[position].strip().casefold() in USUAL_NAMES for position in cells):
        return True
    rows = [record.fields for record in body[:3] if len(record.fields) == width]
    first, *others = (as_number(fields[cells[-1]]) is not None for fields in rows)
    return layout.is_labelled and not first and len(others) > 0 and all(others)


def _has_width(path: Path, record: Record, width: int, layout: Layout, findings: Findings) -> bool:
    """Return whether a record has exactly the columns of the others; a problem otherwise."""
    count = len(record.fields)
    if count == width:
        return True
    message = f"{count} {'column' if count == 1 else 'columns'}, where the others have {width}"
    if record.lines > 1:
        message += f": a double quote opened here runs over {record.lines} lines; close it"
    elif count < width:
        message += ": complete the line or leave it out"
    elif layout.delimiter == "\t":
        message += ": a text may not contain a tab"
    else:
        message += f": put a text that contains {_quoted(layout.delimiter)} in double quotes"
    if layout.delimiter == "\t" and layout.quoting == "auto" and any('"' in field for field in record.fields):
        advice = UNQUOTE.replace("data.quoting=", "--quoting ") if layout.flag else UNQUOTE
        message += f" (it has double quotes{advice})"
    findings.add_row("lines with another number of columns", f"{path}, line {record.line}", message)
    return False


def _quoted(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f"{delimiter!r}"
