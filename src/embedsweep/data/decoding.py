"""The bytes of a text file become text.

Owns encodings and files that are not there. Knows nothing of what is in a file.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from embedsweep.data.rows import nearest
from embedsweep.errors import ConfigError


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
