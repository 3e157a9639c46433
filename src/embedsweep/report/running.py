"""What a command's display knows: the running trials, how long they and the study will take, and where it stands."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from embedsweep.config.study import Choice
from embedsweep.report.estimate import Estimate
from embedsweep.report.status import StudyStatus, status_line

READ_EVERY_S = 30.0
"""Seconds after which the storage is read again while no trial here begins or ends: other commands' may."""


@dataclass
class RunningTrial:
    """A trial that this command runs.

    Attributes:
        worker: the number of the worker that runs it.
        params: the values that tell it apart.
        note: whether it is resumed, in words.
        step: optimizer steps done.
        steps: of all; 0 while unknown.
        score: the latest value of the objective; None before the first.
    """

    worker: int
    params: Mapping[str, Choice]
    note: str
    step: int = 0
    steps: int = 0
    score: float | None = None

    @property
    def share(self) -> str:
        """The share of its steps that is done (``20%``); empty while unknown."""
        return f"{100 * self.step // self.steps}%" if self.steps else ""


class RunningTrials:
    """The trials that a command runs and the status of their study, kept up to date by the calls of a display.

    Args:
        read_status: returns the study's status from its storage; None of a run by itself.
        clock: returns seconds that never go back.

    Attributes:
        by_label: the running trials.
        workers: how many run at the same time; 0 until that is known.
        estimate: how long they take.
        status: the study's, when it was last read; None of a run by itself, or before it was read.
        begun_by: numbers of the workers that have begun a trial.
    """

    def __init__(
        self,
        read_status: Callable[[], StudyStatus] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.by_label: dict[str, RunningTrial] = {}
        self.workers = 0
        self.begun_by: set[int] = set()
        self.estimate = Estimate(clock)
        self._read_status = read_status
        self._clock = clock
        self.status: StudyStatus | None = None
        self._read_at = 0.0

    def begin(self, label: str, trial: RunningTrial) -> None:
        """Add a trial that starts or resumes."""
        self.by_label[label] = trial
        self.begun_by.add(trial.worker)
        self.estimate.begin(label)
        self.read()

    def step(self, label: str, step: int, steps: int) -> None:
        """Note how many steps of a trial are done."""
        self.by_label[label].step, self.by_label[label].steps = step, steps
        self.estimate.progress(label, step / steps)
        if self._clock() - self._read_at > READ_EVERY_S:
            self.read()

    def end(self, label: str, *, is_finished: bool) -> tuple[RunningTrial, float]:
        """Remove a trial that ended, for good or to be resumed; return it and the seconds of its attempt."""
        seconds = self.estimate.end(label, is_finished=is_finished)
        trial = self.by_label.pop(label)
        self.read()
        return trial, seconds

    def read(self) -> None:
        """Read the study's status; while the storage does not answer, the last one is kept."""
        if self._read_status is None:
            return
        self._read_at = self._clock()
        try:
            self.status = self._read_status()
        except Exception:  # the workers report a storage that stays away, and end the command
            logging.getLogger(__name__).info("the study's status cannot be read", exc_info=True)

    def seconds_left(self) -> float | None:
        """Return the seconds until the study is complete; None while that is unknown, and of a run by itself."""
        if (status := self.status) is None:
            return None
        recorded = {str(number): seconds for number, seconds in status.seconds.items()}
        n_elsewhere = status.n_elsewhere(len(self.by_label))
        return self.estimate.study_left(self.workers, status.n_left, n_elsewhere, recorded)

    def line(self) -> str:
        """Return the study's status in one line; empty of a run by itself."""
        if self.status is None:
            return ""
        return status_line(self.status, self.estimate.trials_per_s(), self.seconds_left())
