"""Read a file as bytes or as text; messages name what the file is where it is something else."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from embedsweep.data.tables import Layout, closest_names
from embedsweep.errors import ConfigError

GZIP = b"\x1f\x8b"
_OTHER_FILES: Mapping[bytes, str] = {
    rb"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it with zstd -d {name}",
    rb"PK\x03\x04": "a zip archive or a workbook: unpack it with unzip {name}, or export the sheet as CSV in UTF-8",
    rb"\xd0\xcf\x11\xe0": "a workbook of an old Excel: export the sheet as CSV in UTF-8",
    rb"BZh[1-9]1AY&SY": "compressed by bzip2: unpack it with bunzip2 {name}",
    rb"\xfd7zXZ\x00": "compressed by xz: unpack it with unxz {name}",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it with 7z x {name}",
    rb"PAR1[\x00-\x1f]": "a parquet file: set data.format=parquet",
    rb"ARROW1\x00": "an Arrow file: write it as parquet",
    rb"SQLite format 3\x00": "a SQLite database: export the table as CSV in UTF-8",
}
"""Pattern of the first bytes -> what such a file is, and what to do."""

_UTF_32 = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte-order marks; the first of UTF-32 begins with one of UTF-16."""

_NAMES = {
    **{"latin-1": "latin-1", "cp1252": "Windows-1252"},
    **{f"utf-{bits}{order}": f"UTF-{bits}{order.upper()}" for bits in (16, 32) for order in ("", "-be")},
}
"""Encoding as Python names it -> its usual name, of all that are recognised but UTF-8."""


def content_of(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is compressed by gzip.

    Raises:
        ConfigError: the file does not exist, is a folder, cannot be read or cannot be unpacked.
    """
    if path.is_dir():
        raise ConfigError.single(str(path), f"is a folder, not a file; in it: {closest_names('', _names_in(path))}")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP) else content
    except FileNotFoundError:
        raise ConfigError.single(str(path), missing_file(path)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"is compressed by gzip and damaged ({error}): get it or write it again"
        raise ConfigError.single(str(path), message) from None
    except OSError as error:
        raise ConfigError.single(str(path), f"cannot be read: {error.strerror}") from None


def text_of(path: Path, layout: Layout) -> str:
    """Return the text of a file in the layout's encoding, without its byte-order mark.

    Raises:
        ConfigError: the file cannot be read, or has another encoding.
    """
    content = content_of(path)
    codec = codecs.lookup(layout.encoding).name
    if (kind := other_kind(path, content)) is not None:
        raise ConfigError.single(str(path), f"is {kind}")
    if content.startswith(_UTF_32) and not codec.startswith("utf-32"):
        raise ConfigError.single(str(path), f"is in UTF-32: {_converted('utf-32', layout)}")
    try:
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        if codec == "utf-8":
            raise _not_utf8(path, content, error, layout) from None
        message = f"is not in {layout.encoding} ({error.reason} at byte {error.start}): set data.encoding="
        raise ConfigError.single(str(path), f"{message}{_encoding_of(content)}") from None
    except UnicodeError as error:
        raise ConfigError.single(str(path), f"cannot be read in {layout.encoding}: {error}") from None
    if codec != "utf-8" and _is_utf8(content):
        raise ConfigError.single(str(path), f"is in UTF-8, not in {layout.encoding}: set data.encoding=utf-8")
    if "\0" in text:
        raise _holds_nul(path, text, content, layout)
    return text.removeprefix("\ufeff")


def other_kind(path: Path, content: bytes) -> str | None:
    """Return what a file is that is no text, by its first bytes, and what to do; None if it may be a text."""
    found = (what for magic, what in _OTHER_FILES.items() if re.match(magic, content))
    return next((what.format(name=path.name) for what in found), None)


def _holds_nul(path: Path, text: str, content: bytes, layout: Layout) -> ConfigError:
    """Return the error about NUL characters, which no text has: it is in another encoding, or its end was lost."""
    if not content.strip(b"\0"):
        return ConfigError.single(str(path), "holds nothing but NUL bytes, as after a crash: get it or write it again")
    encoding = _encoding_of(content)
    if encoding in _NAMES and encoding.startswith("utf"):
        return ConfigError.single(str(path), f"is probably in {_NAMES[encoding]}: {_converted(encoding, layout)}")
    line, count = text.count("\n", 0, text.index("\0")) + 1, text.count("\0")
    message = f"has a NUL character, which no text has ({count} in the file): remove it, or write the file again"
    return ConfigError.single(f"{path}, line {line}", message)


def _converted(encoding: str, layout: Layout) -> str:
    """Return how to convert a file, or to read it as it is."""
    iconv = encoding.replace("-be", "be").replace("latin-1", "latin1")
    setting = "" if layout.flag else f", or set data.encoding={encoding}"
    return f"convert it with iconv -f {iconv} -t utf-8{setting}"


def _not_utf8(path: Path, content: bytes, error: UnicodeDecodeError, layout: Layout) -> ConfigError:
    # The codec drops a byte-order mark before it counts.
    at = len(content) - len(error.object) + error.start
    line = content.count(b"\n", 0, at) + 1
    column = at - content.rfind(b"\n", 0, at)
    encoding = _encoding_of(content)
    return ConfigError.single(
        f"{path}, line {line}",
        f"byte {column} (0x{content[at]:02x}) is not UTF-8; the file is probably {_NAMES[encoding]}: "
        f"{_converted(encoding, layout)}",
    )


def _encoding_of(content: bytes) -> str:
    """Return the likely encoding. Only Windows has letters at 0x80 to 0x9f; UTF-16 is half zeros, UTF-32 more."""
    for name, marks, share in (("utf-32", _UTF_32, 0.6), ("utf-16", _UTF_16, 0.25)):
        if content.startswith(marks):
            return name
        if content.count(b"\0") > share * len(content):
            return f"{name}-be" if content.startswith(b"\0") else name
    if content.isascii() or _is_utf8(content):
        return "utf-8"
    return "cp1252" if any(0x80 <= byte <= 0x9F for byte in content) else "latin-1"


def _is_utf8(content: bytes) -> bool:
    """Return whether there are letters beyond ASCII and all are valid UTF-8, unlikely in any other encoding."""
    if content.isascii() or b"\0" in content:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def missing_file(path: Path) -> str:
    """Return the message for a missing file: similar names in its folder, or the closest folder that exists."""
    if path.parent.is_dir():
        return f"no such file; in its folder: {closest_names(path.name, _names_in(path.parent))}"
    missing = next(part for part in (path, *path.parents) if part.parent.is_dir())
    names = closest_names(missing.name, _names_in(missing.parent))
    return f"no such file: there is no folder {missing}; in {missing.parent}: {names}"


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
