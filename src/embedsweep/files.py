"""Folders of the working directory, one atomic writer, and detection of disk-full errors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from embedsweep.errors import causes

SWEEPS = Path("sweeps")
"""The state of studies, one folder each."""

SINGLE = "single"
"""The folder, and MLflow's experiment, of runs without a study; not allowed as a study's name."""

SINGLE_RUNS = SWEEPS / SINGLE
"""Runs without a study, one folder each."""

MODEL = "model"
"""The name of a trial's model: a folder in the trial's folder, and in its run's artifacts."""


def write_atomically(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file in one step, so that a reader finds either the old text or the new one.

    Args:
        path: the file; its folder exists.
        text: written in UTF-8, with its line ends unchanged.
        durable: whether the text must survive a power cut once this returns, which costs a flush to the disk.

    Raises:
        OSError: the disk is full or cannot be written; the file is unchanged.
    """
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def whole_length(path: Path) -> int:
    """Return the number of bytes of a file up to the end of its last whole line; 0 if it does not exist."""
    if not path.is_file() or not (size := path.stat().st_size):
        return 0
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1


DISK_FULL = "the disk is full; the same command resumes when there is room"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a full disk, an exhausted quota and a limit on the size of files."""

MESSAGES = (
    *(f"(os error {number})" for number in FULL),
    "no space left on device",
    "pytorchstreamwriter failed writing",
    "inline_container.cc",
)
"""Messages of safetensors, tokenizers and torch, which do not pass on the error number."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an exception, or one that led to it, reports a full disk."""
    return any(map(_reports_full_disk, causes(error, implicit=True)))


def _reports_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    return any(message in str(error).lower() for message in MESSAGES)
