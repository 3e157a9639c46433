"""Checkpoints of one trial: sealed once they are whole, copied to another trial, and written by a thread.

A checkpoint without a seal, or with a file that differs from it, was torn by a crash or a full disk and is skipped.
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
"""Of seals that name no hash: older versions used only this one."""

SEAL = "complete.json"
PREFIX = "checkpoint-"


class Checkpoints:
    """The folder that a trainer writes its checkpoints to.

    Args:
        folder: holds ``checkpoint-<step>`` folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint of an optimizer step."""
        return self.folder / f"{PREFIX}{step}"

    def seal(self, step: int, times: Mapping[str, float]) -> None:
        """Mark a checkpoint as whole, by size and hash of each of its files.

        The hash is XXH3, which detects torn files as reliably as a cryptographic one in a twentieth of its time.

        Args:
            step: the checkpoint's optimizer step.
            times: seconds spent so far, by kind; a resumed trial adds to them.
        """
        path = self.path(step)
        seal = {"hash": HASH, "files": _hashes(path, HASH), "times": dict(times)}
        write_atomically(path / SEAL, json.dumps(seal), durable=True)

    def last_whole(self) -> int | None:
        """Return the step of the last checkpoint that is whole; None without one."""
        return next((step for step in sorted(self._steps(), reverse=True) if self.is_whole(step)), None)

    @property
    def last_sealed(self) -> int | None:
        """The step of the last checkpoint that has a seal, whole or not; None without one."""
        return max(self.sealed_steps, default=None)

    @property
    def sealed_steps(self) -> list[int]:
        """The steps of all checkpoints that have a seal, whole or not."""
        return [step for step in self._steps() if (self.path(step) / SEAL).is_file()]

    @property
    def place(self) -> str:
        """Where a training is resumed, in words."""
        return "from its start" if self.last_sealed is None else f"from step {self.last_sealed}"

    def is_whole(self, step: int) -> bool:
        """Return whether the checkpoint of a step exists and equals its seal."""
        path = self.path(step)
        try:
            seal = json.loads((path / SEAL).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(seal, dict) or (kind := seal.get("hash", OLDER_HASH)) not in HASHES:
            return False
        return seal.get("files") == _hashes(path, kind)

    def times(self, step: int) -> dict[str, float]:
        """Return seconds spent until a whole checkpoint, by kind."""
        seal = json.loads((self.path(step) / SEAL).read_text(encoding="utf-8"))
        return {str(kind): float(seconds) for kind, seconds in seal["times"].items()}

    def keep_only(self, steps: set[int]) -> None:
        """Delete every checkpoint but those of ``steps``."""
        for step in self._steps():
            if step not in steps:
                shutil.rmtree(self.path(step))

    def copy(self, steps: set[int], to: Path) -> Checkpoints:
        """Copy the checkpoints of ``steps`` with their seals into a folder that does not exist yet."""
        copied = Checkpoints(to)
        for step in steps:
            shutil.copytree(self.path(step), copied.path(step))
        return copied

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def clear(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*")]
        return [int(name) for name in names if name.isdigit()]


def _hashes(folder: Path, kind: str) -> dict[str, list[int | str]]:
    """Return size and hash of every file below ``folder`` but the seal itself."""
    hashes: dict[str, list[int | str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(SEAL):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, HASHES[kind]).hexdigest()
            hashes[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
    return hashes


class CheckpointWriter:
    """Carry out writes one after another in a thread, in the order in which they are submitted.

    After a write that fails nothing more is written: a checkpoint must not be sealed that could not be written. Leaving
    the block waits for all submitted writes; if another worker has taken the trial, pending ones are cancelled.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writes: list[Future[None]] = []
        self._error: BaseException | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Submit a write.

        Raises:
            BaseException: what an earlier write raised.
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
        """Wait for all submitted writes.

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
            except BaseException as error:  # the training thread raises it, whatever it is
                self._error = error
