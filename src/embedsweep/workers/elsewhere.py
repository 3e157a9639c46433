"""What a worker does about checkpoints that other machines can take up (``study.checkpoints``), and says about it.

A bucket that does not answer never fails a trial: it is said, and the trial goes on from what is on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

from embedsweep.config.checkpoints import KEY, CheckpointPlace
from embedsweep.errors import BucketError, ConfigError
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.record import StudyRecord
from embedsweep.study.study import Study
from embedsweep.training.bucket import problem
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.folder import RESULT_FILE
from embedsweep.training.shared_checkpoints import CheckpointSender, SharedCheckpoints


def require_reach(url: str | None) -> None:
    """Check that checkpoints can be kept where ``study.checkpoints`` says, if it says so.

    Raises:
        ConfigError: they cannot.
    """
    if url is not None and (message := problem(url)) is not None:
        raise ConfigError.single(KEY, message)


def place_of(record: StudyRecord, kept_at: CheckpointPlace | None) -> str | None:
    """Return the place of a study, and of its finals, in the bucket; None where it keeps nothing there."""
    if kept_at is None or kept_at.url is None:
        return None
    return f"{kept_at.url.rstrip('/')}/{record.experiment}-{kept_at.own}"


def kind_of(record: StudyRecord) -> str:
    """Return what tells the trials of a study from those of its finals there."""
    return "finals" if record.is_finals else "trials"


class CheckpointsElsewhere:
    """The checkpoints of a study that every machine can take up; does nothing where the study keeps none.

    Args:
        study: the study.
        say: is told what cannot be done.
    """

    def __init__(self, study: Study, say: Callable[[str], None]) -> None:
        self._study, self._say = study, say
        self._is_failing = False

    @cached_property
    def _shared(self) -> SharedCheckpoints | None:
        place = place_of(self._study, self._study.services.checkpoints)
        return SharedCheckpoints(f"{place}/{kind_of(self._study)}") if place is not None else None

    def origin(self, trial: OpenTrial) -> str:
        """Return in words what a resumed trial goes on from, where that is not simply its folder; else nothing."""
        is_gone = trial.run_id is not None and not trial.has_folder
        where = "was deleted" if self._study.url is None else "is on another machine"
        from_start = f", from its start: its folder {where}" if is_gone else ""
        if self._shared is None:
            return from_start
        try:
            newest = self._shared.newest(trial.number)
        except BucketError as error:
            return f"{from_start}, and {error}" if is_gone else f", from what is here: {error}"
        if newest is not None and newest > (Checkpoints(trial.folder / CHECKPOINTS).last_sealed or 0):
            return f", from its checkpoint of step {newest} in S3"
        return f"{from_start}, and S3 has no checkpoint of it" if is_gone else ""

    def fetch(self, trial: OpenTrial) -> None:
        """Fetch what another machine has of a resumed trial, if it got further than this one."""
        if self._shared is None or not trial.is_resumed or (trial.folder / RESULT_FILE).is_file():
            return
        try:
            self._shared.fetch(trial.number, trial.folder)
        except BucketError as error:
            self._say(f"trial {trial.number} goes on from what is on this machine: {error}")

    def sending(self, trial: OpenTrial) -> AbstractContextManager[object]:
        """Send the checkpoints of a trial that trains in the block."""
        if self._shared is None:
            return nullcontext()

        def sent(step: int) -> None:
            self._study.note_sent(trial, step)

        def is_held() -> bool:
            return self._study.holds(trial)

        return CheckpointSender(self._shared, trial.number, trial.folder, self._say, sent, is_held)

    def delete_unneeded(self) -> None:
        """Delete what is kept of finished trials, also of those that another process ended."""
        if self._shared is None:
            return
        finished = {trial.number for trial in self._study.trials if trial.state.is_finished()}
        try:
            for number in self._shared.numbers():
                if number in finished:
                    self._shared.delete(number)
            self._is_failing = False
        except BucketError as error:
            if not self._is_failing:
                self._is_failing = True
                self._say(f"checkpoints of finished trials stay in S3 for now: {error}")
