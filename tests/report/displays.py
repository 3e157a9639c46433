"""Displays on a clock that the test sets, and the status of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from embedsweep.report.running import RunningTrials
from embedsweep.report.status import StudyStatus


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def status(n_finished: int = 0, n_left: int = 20, **more: Any) -> StudyStatus:
    """Return the status of a study of 20 trials; all that are finished are complete."""
    fields: dict[str, Any] = {
        "n_trials": 20,
        "n_expected": 20,
        "stopped": False,
        "n_complete": n_finished,
        "n_pruned": 0,
        "n_failed": 0,
        "best": None,
        "co2eq_kg": None,
        "seconds": {},
        "unit": "trial",
        "then": "scoring the best one on test",
    }
    return StudyStatus(n_finished=n_finished, n_left=n_left, **{**fields, **more})


@dataclass
class Told:
    """The running trials of a display whose study's status the test sets."""

    status: StudyStatus | None = None
    clock: Clock = field(default_factory=Clock)

    @property
    def trials(self) -> RunningTrials:
        """What a display with one worker knows."""
        trials = RunningTrials((lambda: self.status) if self.status else None, self.clock)  # type: ignore[arg-type,return-value]
        trials.workers = 1
        return trials
