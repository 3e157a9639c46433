"""Folders of the working directory, one atomic writer, and detection of disk-full errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from embedsweep.errors import Problem, causes

SWEEPS = Path("sweeps")
"""The state of studies, one folder each."""

SINGLE = "single"
"""The folder, and MLflow's experiment, of runs without a study; not allowed as a study's name."""

SINGLE_RUNS = SWEEPS / SINGLE
"""Runs without a study, one folder each."""

DOWNLOADS = SWEEPS / "downloads"
"""Models of runs whose artifacts are elsewhere."""

RESERVED = (SINGLE_RUNS.name, DOWNLOADS.name)
"""Names in ``sweeps`` that are no study's."""

STUDY_FILE = "study.yaml"
"""A study's file: its storage, its plan and its attributes."""

FINALS = "finals"
"""The folder of a study's finals, a study of its own, in the study's folder; ``NAME/finals`` is its name."""

LONGEST_NAME = 240
"""Characters of a study's name, with room for suffixes in the 255 bytes of a file's name."""

MODEL = "model"
"""The name of a trial's model: a folder in the trial's folder, and in its run's artifacts."""


def study_names(sweeps: Path = SWEEPS) -> list[str]:
    """Return the names of the studies of a working directory, given the folder of its studies."""
    return sorted(path.parent.name for path in sweeps.glob(f"*/{STUDY_FILE}"))


def study_of(word: str) -> str:
    """Return the name of the study that a word of a command line names: by its name, or its folder (``sweeps/b1/``)."""
    folder, sweeps = user_path(word).absolute(), SWEEPS.absolute()
    if folder.is_relative_to(sweeps) and folder != sweeps and folder.is_dir():
        return folder.relative_to(sweeps).as_posix()
    return word.rstrip("/") or word


def user_path(text: str) -> Path:
    """Return the path of an argument, ``~`` replaced by the home folder; an unknown user's ``~name`` stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (Path's own method raises for an unknown user)


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
    if durable:  # else the new name may be lost
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network shares cannot flush a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def access_problem(path: Path) -> str | None:
    """Return why this process cannot read and write a file or folder, or create it; None if it can."""
    there = path = path.absolute()
    # Unlike Path's methods, these do not raise where a folder above cannot be entered.
    while not os.path.exists(there):  # noqa: PTH110
        there = there.parent
    is_folder = os.path.isdir(there)  # noqa: PTH112
    if there != path and not is_folder:
        return f"cannot be created, as {there} is a file"
    if os.access(there, os.R_OK | os.W_OK | (os.X_OK if is_folder else 0)):
        return None
    what = "cannot be read and written by this user" if there == path else f"cannot be created in {there}"
    return f"{what} ({_owner_of(there)}): change its owner, or use a file or folder of your own"


def cache_folder() -> Path:
    """Return the folder of what can be made again: ``$XDG_CACHE_HOME/embedsweep``, else ``~/.cache/embedsweep``.

    Where that cannot be written it is ``sweeps/.cache``.
    """
    root = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "embedsweep"
    if not root.is_absolute() or access_problem(root) is not None:
        return (SWEEPS / ".cache").absolute()
    return root


def _owner_of(path: Path) -> str:
    try:
        return f"it belongs to {path.owner()}"
    except KeyError:
        return f"it belongs to user {path.stat().st_uid}"
    except OSError:
        return "its owner is hidden"


def access_problems(paths: Iterable[Path]) -> Iterator[Problem]:
    """Report each of the paths, and whatever lies directly in those that are folders, that `access_problem` reports."""
    for path in paths:
        if (message := access_problem(path)) is not None:
            yield Problem(str(path), message)
        elif path.is_dir():
            inside = ((entry, access_problem(entry)) for entry in sorted(path.iterdir()))
            yield from (Problem(str(entry), message) for entry, message in inside if message is not None)


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
