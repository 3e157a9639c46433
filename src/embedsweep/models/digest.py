"""The content of a model's folder, by which studies and caches know whether it has changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

NOT_LOADED = (".md", ".lock", ".bin", ".pt", ".pth", ".onnx", ".h5", ".msgpack", ".ot")
"""Suffixes of files in a model's folder that are not read: texts for people, and weights in other forms."""


@dataclass(frozen=True)
class Content:
    """What a source held.

    Attributes:
        origin: where it was read from, for messages.
        size: the number of examples; of a model's folder that of its files.
        digest: 16 hex digits of all texts, labels and their order, or of all files.
    """

    origin: str
    size: int
    digest: str


def folder_content(folder: Path) -> Content:
    """Return the content of a model's folder: what is in it and in the folders of its modules, but hidden files."""
    files = [path for path in sorted([*folder.glob("*"), *folder.glob("*/*")]) if path.suffix not in NOT_LOADED]
    files = [path for path in files if path.is_file() and not f"/{path.relative_to(folder).as_posix()}".count("/.")]
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        content = _file_digest(path, status.st_size, status.st_mtime_ns)
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return Content(str(folder), len(files), digest.hexdigest()[:16])


@lru_cache(maxsize=256)
def _file_digest(path: Path, _size: int, _changed_ns: int) -> str:
    """Return a file's digest, read once as long as its size and time stay."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
