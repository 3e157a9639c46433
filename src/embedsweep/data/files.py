"""Sentence pairs from a delimited text file.

Owns reading: bytes, encoding, quoting, columns; every message names the file and the line. Knows neither splits nor
where a path came from. What a text or a score may be is said by ``checks``.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embedsweep.data.checks import Findings, Row, as_number, check_columns, checked_pairs, nearest
from embedsweep.data.pairs import Pairs
from embedsweep.errors import ConfigError
from embedsweep.schema import DataConfig

if TYPE_CHECKING:
    from _csv import Reader

Positions = tuple[int, int, int]

# A shell or Hydra's grammar can hardly pass a tab, so it may be named.
_TAB_NAMES = ("tab", "\\t")
_DELIMITERS = (",", ";", "\t", "|")
_LOOKED_AT = 20
"""Records from which it is judged whether a delimiter fits."""


class Record(NamedTuple):
    """What csv took for one row: the line it begins on, its fields, how many lines it runs over."""

    line: int
    fields: list[str]
    lines: int


def read_pairs(path: Path, config: DataConfig) -> Pairs:
    """Reads and checks one split.

    Texts are taken as they stand: ``NA``, ``null`` and ``None`` are texts. A file delimited by tabs is read without
    quoting, as such files are published; any other with CSV's double quotes. A byte-order mark is dropped, blank lines
    are skipped.

    Args:
        path: the file, in UTF-8.
        config: its columns (names: it has a header; positions: it has none), delimiter and score range.

    Raises:
        ConfigError: all problems of the file at once.
    """
    check_columns(config.columns)
    delimiter = _delimiter(config.delimiter)
    text = _decoded(path)
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
    positions = _positions(records[0], config.columns, found)
    if positions is None:
        raise found.error()
    has_header = isinstance(config.columns[0], str)
    width = len(records[0].fields) if has_header else _usual_width(records)
    body = records[1:] if has_header else records
    if not has_header:
        _check_no_header(body, width, positions, found)
    rows = [_row(path, record, positions) for record in body if _is_whole(path, record, width, delimiter, found)]
    return checked_pairs(rows, config.score_range, found)


def _delimiter(given: str) -> str:
    delimiter = "\t" if given in _TAB_NAMES else given
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ConfigError.single(
            "data.delimiter", f"{given!r} cannot stand between columns: give one character, such as , or ; or tab"
        )
    return delimiter


def _decoded(path: Path) -> str:
    if path.is_dir():
        raise ConfigError.single(str(path), f"is a folder, not a file; in it: {nearest('', _names_in(path))}")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError.single(str(path), _where_it_ends(path)) from None
    except OSError as error:
        raise ConfigError.single(str(path), f"cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec drops a byte-order mark before it counts.
        at = len(content) - len(error.object) + error.start
        line = content.count(b"\n", 0, at) + 1
        column = at - content.rfind(b"\n", 0, at)
        encoding, iconv = _likely_encoding(content)
        raise ConfigError.single(
            f"{path}, line {line}",
            f"byte {column} (0x{content[at]:02x}) is not UTF-8; the file is probably {encoding}: "
            f"convert it with iconv -f {iconv} -t utf-8",
        ) from None


def _where_it_ends(path: Path) -> str:
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


def _likely_encoding(content: bytes) -> tuple[str, str]:
    """For people and for iconv. Only Windows has letters at 0x80 to 0x9f; text in UTF-16 is half zeros."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or content.count(b"\0") > len(content) // 4:
        return "UTF-16", "utf-16"
    if any(0x80 <= byte <= 0x9F for byte in content):
        return "Windows-1252", "cp1252"
    return "latin-1", "latin1"


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


def _better_delimiter(text: str, given: str, columns: tuple[str | int, ...]) -> str | None:
    """What to say where ``given`` does not fit the file's beginning but another delimiter does; else None."""
    if _fitting_width(text, given, columns):
        return None
    for delimiter in _DELIMITERS:
        if delimiter != given and (width := _fitting_width(text, delimiter, columns)):
            say = "data.delimiter=tab" if delimiter == "\t" else f"'data.delimiter=\"{delimiter}\"'"
            return f"with {_quoted(delimiter)} there are {width}: say {say}"
    return None


def _fitting_width(text: str, delimiter: str, columns: tuple[str | int, ...]) -> int:
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


def _positions(first: Record, columns: tuple[str | int, ...], found: Findings) -> Positions | None:
    """Where the columns asked for stand, or None with a problem for each that is not there."""
    header = [name.strip() for name in first.fields]
    positions: list[int] = []
    for column in columns:
        if isinstance(column, int) and column < len(header):
            positions.append(column)
        elif isinstance(column, int):
            last = len(header) - 1
            found.add(f"has no column {column} (data.columns): those of line {first.line} are 0 to {last}")
        elif header.count(column) == 1:
            positions.append(header.index(column))
        elif column in header:
            found.add(f"has {header.count(column)} columns named {column!r} (data.columns), so it is not clear which")
        else:
            found.add(f"has no column {column!r} (data.columns); its header has {nearest(column, header)}")
    if len(positions) == 3:
        return (positions[0], positions[1], positions[2])
    if isinstance(columns[0], str) and any(as_number(name) is not None for name in header):
        found.add(f"line {first.line} looks like data, not like a header: if there is none, say data.columns=[0,1,2]")
    return None


def _usual_width(records: list[Record]) -> int:
    return Counter(len(record.fields) for record in records).most_common(1)[0][0]


def _check_no_header(body: list[Record], width: int, positions: Positions, found: Findings) -> None:
    """Where only the first line's score is no number, that line is a header and positions skip none."""
    first_rows = [record.fields for record in body[:3] if len(record.fields) == width]
    numbers = [as_number(fields[positions[2]]) is not None for fields in first_rows]
    if len(body[0].fields) == width and not numbers[0] and len(numbers) > 1 and all(numbers[1:]):
        names = ",".join(body[0].fields[position].strip() for position in positions)
        found.add(f"line {body[0].line} looks like a header: name the columns, say 'data.columns=[{names}]'")


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


def _row(path: Path, record: Record, positions: Positions) -> Row:
    sentence1, sentence2, score = (record.fields[position] for position in positions)
    return Row(f"{path}, line {record.line}", sentence1, sentence2, score)


def _quoted(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f"{delimiter!r}"
