"""How long the fake training of each trial sleeps, and what it scores: known to who trains and to who checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedsweep.workers.job import Job

ORDER = "order.pickle"
EVALUATIONS, STEPS, LOGGED = 5, 250, 50
"""Evaluations, optimizer steps and recorded values of the loss, as by default."""

KINDS = tuple(f"dev/{kind}_{by}" for kind in ("pearson", "spearman") for by in ("cosine", "dot", "euclidean"))


@dataclass(frozen=True)
class Order:
    """What the workers are told.

    Trials are short at first, so that many fit into the time. As many trials as there are workers follow, which last
    from half a minute to one and a half: whoever still waited has got one by then, and the last trials, of a minute
    each, begin spread over a minute, as they do where all trials take a minute.

    Attributes:
        job: how they open the study, as any worker is told.
        workers: how many there are.
        trials: how many trials the study has.
        short_s: seconds that most trials sleep.
        minute_s: seconds of the last ones: a minute, less in a test.
    """

    job: Job
    workers: int
    trials: int
    short_s: float
    minute_s: float

    def seconds(self, number: int) -> float:
        """Return how long the training of a trial sleeps."""
        left = self.trials - number
        if left <= self.workers:
            return self.minute_s
        if left <= 2 * self.workers:
            return self.minute_s * (0.5 + (2 * self.workers - left) / self.workers)
        return self.short_s

    def is_minute(self, number: int) -> bool:
        """Return whether a trial is one of those by which waiting is measured."""
        return self.trials - number <= self.workers


@dataclass(frozen=True)
class Timed:
    """A trial as its worker saw it, in seconds of the machine's monotonic clock.

    Attributes:
        number: the trial's number.
        began: when its training began.
        ended: when its training ended.
        slept: how long it slept.
    """

    number: int
    began: float
    ended: float
    slept: float


def scores(number: int, evaluation: int = EVALUATIONS) -> Mapping[str, float]:
    """Return the dev metrics of a trial at an evaluation, from 1; the last one counts."""
    value = (number * 7919 % 10007) / 10007
    return dict.fromkeys(KINDS, value * evaluation / EVALUATIONS)


def timeline(folder: Path, worker: int) -> Path:
    """Return the file in which a worker leaves what it saw."""
    return folder / f"timeline-{worker}.json"
