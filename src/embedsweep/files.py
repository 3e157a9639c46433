"""Folders of the working directory, one atomic writer, and detection of a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

SWEEPS = Path("sweeps")
"""The state of studies, a folder each."""

SINGLE = "single"
"""The folder, and MLflow's experiment, of runs without a study; no study may be named so."""

SINGLE_RUNS = SWEEPS / SINGLE
"""Runs without a study, a folder each."""

MODEL = "model"
"""A trial's model: the folder in its own, and among its run's artifacts."""


def write_atomically(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file in one step: whoever reads ``path`` finds the old text or the new one, whole.

    Args:
        path: the file; its folder exists.
        text: written in UTF-8, with its line ends as they are.
        durable: whether the file must outlast a power cut once this returns, which costs a flush of the disk.

    Raises:
        OSError: the disk is full or cannot be written; the file is as it was.
    """
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


DISK_FULL = "the disk is full; the same command goes on when there is room"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room left, a quota used up, a limit on the size of files: each lasts until somebody does something about it."""

SIGNS = (
    *(f"(os error {number})" for number in FULL),
    "no space left on device",
    "pytorchstreamwriter failed writing",
    "inline_container.cc",
)
"""What the writers of safetensors, tokenizers and torch say, which pass no error number on."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one that led to it, says that a disk took no more."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        message = str(seen).lower()
        if not isinstance(seen, OSError) and any(sign in message for sign in SIGNS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
