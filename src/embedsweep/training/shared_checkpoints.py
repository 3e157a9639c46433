"""Checkpoints of a study's trials in a bucket, where whichever machine resumes a trial finds them.

    <place>/0007/checkpoint-18-1f0c.../...   the files of a sealed checkpoint, its seal last
    <place>/0007/files/...                   what else a resumed trial goes on with
    <place>/0007/newest.json                 which checkpoints are a whole: written last, in one step

A resumed trial needs its newest checkpoint and the best one. Whatever is not named in ``newest.json`` was not sent
whole, and goes with the next one that is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from embedsweep.errors import BucketError, TrialTakenError
from embedsweep.files import is_disk_full
from embedsweep.training.bucket import Bucket
from embedsweep.training.checkpoints import CHECKPOINTS, SEAL, Checkpoints

_log = logging.getLogger(__name__)

NEWEST = "newest.json"
FILES = "files"
KEPT_FILES = ("emissions.csv", "train.log")
"""Files of a trial that each attempt adds to."""

SENT, FETCHED = "sent", "fetched"
"""Folders in a trial's, which hold a checkpoint while it is sent or fetched."""

EVERY_S = 1.0
LAST_S = 60.0
"""Seconds for which the end of an attempt waits for its last checkpoint to be sent."""

ABANDON_S = 10.0
"""Seconds for which a trial that is over waits for what is being sent: it is not needed any more."""


class SharedCheckpoints:
    """The checkpoints of one study's trials in a bucket.

    Args:
        place: the study's place, ``s3://bucket/prefix/...``.

    Attributes:
        bucket: the files below it.
    """

    def __init__(self, place: str) -> None:
        self.bucket = Bucket(place)

    def newest(self, number: int) -> int | None:
        """Return the step of the newest checkpoint of a trial; None without one.

        Raises:
            BucketError: the bucket does not answer.
        """
        return max(self._steps(number), default=None)

    def fetch(self, number: int, folder: Path) -> int | None:
        """Fetch the checkpoints of a trial into its folder, if the newest is newer than what is there.

        Args:
            number: the trial's number.
            folder: its folder, made if it is missing.

        Returns:
            The newest one's step; None if there is none that is newer, or that is whole once it is here.

        Raises:
            BucketError: the bucket does not answer.
            OSError: the disk is full, or the folder cannot be written.
        """
        there, here = self._steps(number), Checkpoints(folder / CHECKPOINTS)
        if not there or max(there) <= (here.last_whole() or 0):
            return None
        shutil.rmtree(folder / FETCHED, ignore_errors=True)
        fetched = Checkpoints(folder / FETCHED)
        for step, name in there.items():
            self.bucket.fetch(f"{_name(number)}/{name}", fetched.path(step))
        if not all(map(fetched.is_whole, there)):
            _log.warning("the checkpoint of step %d in %s is damaged: it is not used", max(there), self.bucket.url)
            shutil.rmtree(folder / FETCHED)
            return None
        self._fetch_files(number, folder)
        for step in sorted(there):  # the newest last: it may need the best one
            here.folder.mkdir(exist_ok=True)
            shutil.rmtree(here.path(step), ignore_errors=True)
            fetched.path(step).rename(here.path(step))
        shutil.rmtree(folder / FETCHED)
        return max(there)

    def _fetch_files(self, number: int, folder: Path) -> None:
        """Fetch the trial's other files where they have more than those that are here."""
        self.bucket.fetch(f"{_name(number)}/{FILES}", folder / FETCHED / FILES)
        for name in KEPT_FILES:
            there, here = folder / FETCHED / FILES / name, folder / name
            if there.is_file() and (not here.is_file() or here.stat().st_size < there.stat().st_size):
                there.replace(here)

    def send(self, number: int, folder: Path, is_over: Callable[[], bool] = lambda: False) -> int | None:
        """Send the sealed checkpoints of a trial, unless they are there.

        Args:
            number: the trial's number.
            folder: its folder.
            is_over: whether nothing more is to be sent, as the trial is over or another worker's by now.

        Returns:
            The step of the newest one; None if there is none, it was replaced meanwhile, or it is over.

        Raises:
            BucketError: the bucket does not answer.
        """
        local = Checkpoints(folder / CHECKPOINTS)
        copies = Checkpoints(folder / SENT)
        shutil.rmtree(copies.folder, ignore_errors=True)
        try:
            if not (names := _linked(local, copies)):
                return None
            there = set(self.bucket.children(_name(number))) & set(self._steps(number).values())
            for step in sorted(names, reverse=True):
                if is_over():
                    return None
                if names[step] not in there:
                    self.bucket.put(copies.path(step), f"{_name(number)}/{names[step]}", SEAL)
            if is_over():
                return None
            self._send_files(number, folder)
            self.bucket.put_text(f"{_name(number)}/{NEWEST}", json.dumps(names))
            kept = (*names.values(), FILES, NEWEST)
            self.bucket.delete(_name(number), lambda name: name.split("/")[0] in kept)
        finally:
            shutil.rmtree(copies.folder, ignore_errors=True)
        return max(names)

    def _send_files(self, number: int, folder: Path) -> None:
        for name in KEPT_FILES:
            with suppress(OSError):  # none yet
                text = (folder / name).read_text(encoding="utf-8", errors="replace")
                self.bucket.put_text(f"{_name(number)}/{FILES}/{name}", text)

    def delete(self, number: int) -> None:
        """Delete all that is kept of a trial.

        Raises:
            BucketError: the bucket does not answer.
        """
        self.bucket.delete(_name(number))

    def numbers(self) -> list[int]:
        """Return the numbers of the trials of which anything is kept.

        Raises:
            BucketError: the bucket does not answer.
        """
        return [int(name) for name in self.bucket.children("") if name.isdecimal()]

    def _steps(self, number: int) -> dict[int, str]:
        """Return step -> folder of the checkpoints of a trial that are a whole."""
        text = self.bucket.text(f"{_name(number)}/{NEWEST}")
        try:
            names: Mapping[str, str] = json.loads(text) if text is not None else {}
            return {int(step): str(name) for step, name in names.items()}
        except (ValueError, AttributeError):
            return {}


def _name(number: int) -> str:
    return f"{number:04d}"


def _linked(local: Checkpoints, copies: Checkpoints) -> dict[int, str]:
    """Link the files of all sealed checkpoints elsewhere, as training deletes those that it no longer needs.

    Returns:
        Step -> name of the checkpoint, by its content: an attempt elsewhere may write other bytes at the same step.
        Nothing if one was deleted meanwhile: together they are the newest one and the best, which it needs.
    """
    names: dict[int, str] = {}
    try:
        for step in local.sealed_steps:
            shutil.copytree(local.path(step), copies.path(step), copy_function=_link)
            seal = (copies.path(step) / SEAL).read_bytes()
            names[step] = f"checkpoint-{step}-{hashlib.sha256(seal).hexdigest()[:12]}"
    except OSError:  # shutil.Error is one
        return {}
    return names


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system can
        shutil.copy2(source, target)


class CheckpointSender:
    """Send the checkpoints of a trial that trains in the block, from a thread, one after another, the newest first.

    Training never waits for it. A bucket that does not answer is said once; the next checkpoint is tried again. At the
    end of an attempt that is not the trial's last one, the block waits for the newest checkpoint.

    Args:
        shared: the study's checkpoints.
        number: the trial's number.
        folder: its folder.
        say: is told what cannot be sent.
        on_sent: receives the step of a checkpoint that is there now.
        is_held: whether the trial is still this worker's; what another one has sent of it is not replaced.
    """

    def __init__(
        self,
        shared: SharedCheckpoints,
        number: int,
        folder: Path,
        say: Callable[[str], None],
        on_sent: Callable[[int], None],
        is_held: Callable[[], bool] = lambda: True,
    ) -> None:
        self._shared, self._number, self._folder = shared, number, folder
        self._say, self._on_sent, self._is_held = say, on_sent, is_held
        self._sent: int | None = None  # those of an earlier attempt are sent unless they are there
        self._failed: int | None = None
        self._stop, self._abandon = threading.Event(), threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="checkpoints in S3", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_needed = error is not None and not isinstance(error, TrialTakenError)
        if not is_needed:
            self._abandon.set()
        self._stop.set()
        self._thread.join(LAST_S if is_needed else ABANDON_S)
        if is_needed and self._thread.is_alive():
            self._abandon.set()
            self._say(f"trial {self._number}: its last checkpoint was not sent to S3 within {LAST_S:.0f} s")

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(EVERY_S)
            newest = Checkpoints(self._folder / CHECKPOINTS).last_sealed
            is_new = newest is not None and newest != self._sent and (is_last or newest != self._failed)
            if is_new and not self._abandon.is_set():
                self._send(newest)

    def _is_over(self) -> bool:
        return self._abandon.is_set() or not self._is_held()

    def _send(self, newest: int | None) -> None:
        started = time.monotonic()
        try:
            step = self._shared.send(self._number, self._folder, self._is_over)
            if step is not None:
                self._sent, self._is_failing = step, False
                _log.info("the checkpoint of step %d was sent in %.1f s", step, time.monotonic() - started)
                self._on_sent(step)
        except Exception as error:
            self._failed = newest  # the next one is tried
            if not isinstance(error, BucketError) and not is_disk_full(error):
                _log.exception("a checkpoint was not sent")
            if not self._is_failing:
                self._is_failing = True
                self._say(f"trial {self._number}: its checkpoints stay on this machine for now: {error}")
