"""How long a running trial and a study will still take, from what is known so far; arithmetic on a given clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from embedsweep.study.quote import makespan


@dataclass
class _Timing:
    """When a running trial began and reported, in seconds of the clock, with the shares in [0, 1] it reported."""

    begun: float
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None


class Estimate:
    """Durations of a command's trials.

    Every trial that is not finished is expected to take what finished ones took on average: pruned trials are short,
    and those that reuse another's scores take next to nothing, so as many of them are expected as there were.

    What is left may be asked by another thread, which draws a screen, while trials begin and end.

    Args:
        clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: dict[str, _Timing] = {}
        self._finished: dict[str, float] = {}
        self._begun: float | None = None
        self._first: str | None = None

    def begin(self, label: str) -> None:
        """Note that a trial starts or resumes."""
        now = self._clock()
        if self._begun is None:
            self._begun, self._first = now, label
        self._running[label] = _Timing(now)

    def progress(self, label: str, share: float) -> None:
        """Note which share of its steps, in [0, 1], a trial has done."""
        timing, point = self._running[label], (self._clock(), share)
        timing.first, timing.last = timing.first or point, point

    def end(self, label: str, *, is_finished: bool) -> float:
        """Note that a trial ended, for good or to be resumed; return the seconds of its attempt."""
        seconds = self.seconds(label)
        del self._running[label]
        if is_finished:
            self._finished[label] = seconds
        return seconds

    def seconds(self, label: str) -> float:
        """Return the seconds since a trial began or was resumed."""
        return self._clock() - self._running[label].begun

    def trial_left(self, label: str) -> float | None:
        """Return the seconds that a trial still takes at its pace between reports; None before two, or once it ended.

        The time before the first report tells nothing: a new trial loads its model, a resumed one skips its steps.
        """
        timing = self._running.get(label)
        return self._left(timing) if timing is not None else None

    def _left(self, timing: _Timing) -> float | None:
        if timing.first is None or timing.last is None or timing.last[1] <= timing.first[1]:
            return None
        (began, from_share), (now, share) = timing.first, timing.last
        left = (1 - share) * (now - began) / (share - from_share)
        return max(0.0, left - (self._clock() - now))

    def trials_per_s(self) -> float | None:
        """Return how many trials a second this command has finished; None before the first."""
        if self._begun is None or not self._finished or (passed := self._clock() - self._begun) <= 0:
            return None
        return len(self._finished) / passed

    def study_left(self, workers: int, n_new: int, n_elsewhere: int, recorded: Mapping[str, float]) -> float | None:
        """Return the seconds until all trials are finished; None while nothing is known of how long one takes.

        Each new trial is given to whichever worker is free first.

        Args:
            workers: how many trials this command runs at the same time; 0 while unknown.
            n_new: trials that no process has begun, or that wait to be resumed.
            n_elsewhere: trials that other commands are running.
            recorded: label -> recorded seconds, over all attempts, of each finished trial of the study.
        """
        if not workers:
            return None
        running = list(self._running.values())
        expected = self._expected(running, recorded)
        left = [self._left(timing) for timing in running]
        if expected is None:
            if n_new or n_elsewhere or None in left:
                return None
            expected = 0.0
        here = [
            seconds if seconds is not None else max(0.0, expected - (self._clock() - timing.begun))
            for timing, seconds in zip(running, left, strict=True)
        ]
        idle = max(0, workers - len(here))
        return makespan([expected] * n_new, idle, [*here, *[expected] * n_elsewhere])

    def _expected(self, running: Sequence[_Timing], recorded: Mapping[str, float]) -> float | None:
        """Return the mean duration of a trial; None without a finished trial and a running one that has a pace."""
        finished = self._finished.keys() | recorded.keys()
        if finished:
            return fmean(self._duration(label, recorded.get(label)) for label in finished)
        paced = [(timing, left) for timing in running if (left := self._left(timing)) is not None]
        return fmean(self._clock() - timing.begun + left for timing, left in paced) if paced else None

    def _duration(self, label: str, recorded: float | None) -> float:
        """Return the duration of a finished trial.

        What this command observed includes opening a run, and of its first trial importing libraries, which no other
        trial does; what is recorded includes earlier attempts.
        """
        observed = self._finished.get(label, 0.0)
        if recorded is None:
            return observed
        return recorded if label == self._first else max(observed, recorded)
