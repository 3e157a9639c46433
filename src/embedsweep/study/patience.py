"""Stop a study whose trials no longer improve its best score: what ``study.patience`` decides from finished trials."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from embedsweep.study.keep import is_kept


@dataclass(frozen=True)
class Patience:
    """When a study stops before it has all its trials.

    Attributes:
        patience: finished trials without an improvement after which no new trial is started, at least 1.
        min_delta: what these trials have to exceed the best score before them by, at least 0, to be an improvement.
    """

    patience: int
    min_delta: float

    def is_over(self, trials: Iterable[FrozenTrial], direction: StudyDirection) -> bool:
        """Return whether the last ``patience`` finished trials together brought no improvement.

        Pruned trials, those that reuse scores and those that forget too much (``study.keep``) count; failed ones do
        not. Before the first complete trial there is nothing to improve on.

        Args:
            trials: the study's trials, in any order.
            direction: whether its objective is maximised.
        """
        values = [_gain(trial, direction) for trial in _finished(trials)]
        before, last = values[: -self.patience], values[-self.patience :]
        best = max(before, default=-math.inf)
        return best > -math.inf and max(last) <= best + self.min_delta

    def last_improvement(self, trials: Iterable[FrozenTrial], direction: StudyDirection) -> tuple[int, int] | None:
        """Return the numbers of the last trial that improved by itself and of the best before it; None without one."""
        last: tuple[int, int] | None = None
        best: FrozenTrial | None = None
        for trial in _finished(trials):
            gain, highest = _gain(trial, direction), -math.inf if best is None else _gain(best, direction)
            if best is not None and gain > highest + self.min_delta:
                last = trial.number, best.number
            if gain > highest:
                best = trial
        return last


def _finished(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete and pruned trials in the order in which they ended, the same for all who read the storage."""
    ended = [
        (trial.datetime_complete, trial.number, trial)
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.datetime_complete is not None
    ]
    return [trial for _, _, trial in sorted(ended, key=lambda each: each[:2])]


def _gain(trial: FrozenTrial, direction: StudyDirection) -> float:
    """Return a trial's score so that higher is better; one that was pruned, or cannot be the best, has none."""
    if trial.state is not TrialState.COMPLETE or trial.value is None or not is_kept(trial):
        return -math.inf
    return trial.value if direction is StudyDirection.MAXIMIZE else -trial.value
