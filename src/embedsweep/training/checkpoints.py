"""Checkpoints of one trial: which are whole, which are still needed, and how they come to another trial.

Owns the completion mark of a checkpoint. A checkpoint without its mark, or with a file that differs from it, was torn
by a crash or a full disk and is passed over. Knows nothing of what is inside.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xxhash

from embedsweep.errors import TrialTakenError
from embedsweep.files import write_atomically
from embedsweep.signals import shielded

CHECKPOINTS = "checkpoints"
"""A trial's folder of them."""

HASHES: Mapping[str, Callable[[], Any]] = {
    "xxh3_128": xxhash.xxh3_128,
    "blake2b": lambda: hashlib.blake2b(digest_size=16),
}
HASH = "xxh3_128"
OLDER_HASH = "blake2b"
"""Of marks that name none: older versions knew one."""

MARK = "complete.json"
PREFIX = "checkpoint-"


class Checkpoints:
    """The folder that a trainer writes its checkpoints to.

    Args:
        folder: holds ``checkpoint-<step>`` folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Where the checkpoint of an optimizer step lies."""
        return self.folder / f"{PREFIX}{step}"

    def seal(self, step: int, times: Mapping[str, float]) -> None:
        """Marks a checkpoint as whole, by size and hash of each of its files.

        The hash is XXH3, which tells torn files as surely as a cryptographic one and takes a twentieth of its time.

        Args:
            step: its optimizer step.
            times: seconds spent so far, by kind, which a resumed trial goes on counting from.
        """
        path = self.path(step)
        mark = {"hash": HASH, "files": _hashes(path, HASH), "times": dict(times)}
        write_atomically(path / MARK, json.dumps(mark), durable=True)

    def last_whole(self) -> int | None:
        """The step of the last checkpoint that is whole; None without one."""
        return next((step for step in sorted(self._steps(), reverse=True) if self.is_whole(step)), None)

    @property
    def last_sealed(self) -> int | None:
        """The step of the last checkpoint that bears a mark, whole or not; None without one."""
        return max((step for step in self._steps() if (self.path(step) / MARK).is_file()), default=None)

    def is_whole(self, step: int) -> bool:
        """Whether the checkpoint of a step is there, and as it was sealed."""
        path = self.path(step)
        try:
            mark = json.loads((path / MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(mark, dict) or (kind := mark.get("hash", OLDER_HASH)) not in HASHES:
            return False
        return mark.get("files") == _hashes(path, kind)

    def times(self, step: int) -> dict[str, float]:
        """Seconds spent until a whole checkpoint, by kind."""
        mark = json.loads((self.path(step) / MARK).read_text(encoding="utf-8"))
        return {str(kind): float(seconds) for kind, seconds in mark["times"].items()}

    def keep_only(self, steps: set[int]) -> None:
        """Deletes every checkpoint but those of ``steps``."""
        for step in self._steps():
            if step not in steps:
                shutil.rmtree(self.path(step))

    def copy(self, steps: set[int], to: Path) -> Checkpoints:
        """Copies the checkpoints of ``steps``, seals included, into a folder that is not there yet."""
        copied = Checkpoints(to)
        for step in steps:
            shutil.copytree(self.path(step), copied.path(step))
        return copied

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def clear(self) -> None:
        """Deletes them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*")]
        return [int(name) for name in names if name.isdigit()]


def _hashes(folder: Path, kind: str) -> dict[str, list[int | str]]:
    """Size and hash of every file below ``folder`` but the mark itself."""
    found: dict[str, list[int | str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(MARK):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, HASHES[kind]).hexdigest()
            found[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
    return found


class CheckpointWriter:
    """Carries out writes one after another, in the order they are handed over.

    After one that fails nothing more is written: a checkpoint must not be sealed that could not be written. Leaving the
    block waits for what was handed over; of a trial that another worker has taken up, nothing more is begun.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writes: list[Future[None]] = []
        self._error: BaseException | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Hand a write over.

        Raises:
            BaseException: what an earlier one raised.
        """
        self.check()
        with shielded():
            self._writes = [earlier for earlier in self._writes if not earlier.done()]
            self._writes.append(self._thread.submit(self._carry_out, write))

    def check(self) -> None:
        """Raise what a write has raised, without waiting for any."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait for all that was handed over.

        Raises:
            BaseException: what one of them raised.
        """
        wait(self._writes)
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=isinstance(error, TrialTakenError))
        if error is None:
            self.check()

    def _carry_out(self, write: Callable[[], None]) -> None:
        if self._error is None:
            try:
                write()
            except BaseException as error:  # whatever it is, the thread that trains raises it
                self._error = error
