"""How a process holds the trials that it runs: by their leases, and under the study's lock wherever it ends one."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from embedsweep.errors import LockLostError, TrialTakenError
from embedsweep.lease import Lease
from embedsweep.signals import shielded
from embedsweep.study.leases import BEAT, LEASE, beating
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.record import StudyRecord

ATTEMPTS = "embedsweep.attempts"
"""Attempts that were started, less those that were interrupted; written before each one starts."""

Step = TypeVar("Step", bound=Callable[..., Any])


class _OverError(Exception):
    """A step that is repeated was carried out before its lock was lost."""


def repeated(step: Step) -> Step:
    """Repeat a step under the study's lock if a database lost the lock in it.

    Like a command after a kill, it begins with what the storage has, and does nothing twice.
    """

    @functools.wraps(step)
    def repeating(study: TrialHolder, *args: Any, **kwargs: Any) -> Any:
        try:
            return step(study, *args, **kwargs)
        except LockLostError as error:
            logging.getLogger(__name__).warning("%s: the step is repeated", error)
        study._repeats = True
        try:
            return step(study, *args, **kwargs)
        except _OverError:
            return None
        finally:
            study._repeats = False

    return repeating  # type: ignore[return-value]  # the same parameters


SENT = "embedsweep.sent"
"""User attribute of a trial: the step of its newest checkpoint in S3; absent without ``study.checkpoints``."""


@dataclass(eq=False, repr=False)
class TrialHolder(StudyRecord):
    """The part of an open study that knows which trials this process holds."""

    _open: dict[int, optuna.Trial] = field(default_factory=dict, init=False)
    _lost: set[int] = field(default_factory=set, init=False)
    _repeats: bool = field(default=False, init=False)

    @contextmanager
    def alive(self, trial: OpenTrial) -> Iterator[None]:
        """Keep the trial's lease alive while the block runs."""

        def beat(count: int) -> None:
            # A worker that has reclaimed the trial has its own lease, which must not be kept alive from here.
            if self.holds(trial):
                with suppress(UpdateFinishedTrialError):  # it was told in this moment
                    self._set(trial, BEAT, count)
            else:
                self._lost.add(trial.number)

        with beating(beat):
            yield

    def holds(self, trial: OpenTrial) -> bool:
        """Return whether a trial of this process still runs here: it was not ended, or reclaimed by another worker."""
        now = self._storage.get_trial(self._open[trial.number]._trial_id)
        attributes = now.user_attrs
        is_mine = attributes.get(LEASE) == asdict(Lease.mine()) and attributes.get(ATTEMPTS, 0) == trial.attempt
        return now.state is TrialState.RUNNING and is_mine

    def note_sent(self, trial: OpenTrial, step: int) -> None:
        """Note that a checkpoint of a trial of this process is where other machines find it."""
        if self.holds(trial):
            self._set(trial, SENT, step)

    def check_held(self, trial: OpenTrial) -> None:
        """Check that the trial was still held at the last beat; reads no storage.

        Raises:
            TrialTakenError: another worker has reclaimed the trial.
        """
        if trial.number in self._lost:
            raise TrialTakenError(trial.number)

    def require_held(self, trial: OpenTrial) -> None:
        """Check in the storage that the trial is held now.

        Raises:
            TrialTakenError: another worker has reclaimed the trial.
        """
        if not self.holds(trial):
            raise TrialTakenError(trial.number)

    @contextmanager
    def _held(self, trial: OpenTrial) -> Iterator[None]:
        """Run the block under the study's lock, with the trial certainly held by this process.

        Raises:
            TrialTakenError: another worker has reclaimed the trial.
        """
        with self.lock(), shielded():
            if self._repeats:
                self._require_left(trial)
            else:
                self.require_held(trial)
            yield

    def _require_left(self, trial: OpenTrial) -> None:
        """Check what a step that is repeated has left to do.

        Raises:
            TrialTakenError: another worker has reclaimed the trial.
            _OverError: nothing is left: the trial was ended, or given up and reclaimed since.
        """
        now = self._storage.get_trial(self._open[trial.number]._trial_id)
        lease = now.user_attrs.get(LEASE)
        if lease not in (None, asdict(Lease.mine())) or (lease is not None and now.state is TrialState.WAITING):
            raise TrialTakenError(trial.number)
        if now.state is not TrialState.RUNNING:
            raise _OverError

    def _set(self, trial: OpenTrial, name: str, value: object) -> None:
        self._open[trial.number].set_user_attr(name, value)
