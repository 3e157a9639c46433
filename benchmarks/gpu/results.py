"""Rates, scores and GPU use of a way, and its comparison with A."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu.nvml import DeviceUse
from benchmarks.gpu.processes import ProcessEnd
from benchmarks.gpu.trials import Trial
from benchmarks.gpu.ways import Way


@dataclass(frozen=True)
class Result:
    """The result of a way. Figures without a measurement are None.

    Attributes:
        way: which.
        n_points: how many points it was given.
        ended: how its command ended.
        trials: all that were started, in the order in which they ended.
        mps_clients: the most seen at once; None where MPS is not there.
        use: the GPU's, over ``span_s``, or over the whole command where no trial ended.
    """

    way: Way
    n_points: int
    ended: ProcessEnd
    trials: tuple[Trial, ...]
    mps_clients: int | None
    use: DeviceUse

    def count(self, state: str) -> int:
        """Return how many trials have a state, in Optuna's word."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def done(self) -> list[Trial]:
        """The trials that are complete or were pruned."""
        return [trial for trial in self.trials if trial.is_done]

    @property
    def is_short(self) -> bool:
        """Whether fewer trials ended than it was given."""
        return len(self.done) < self.n_points

    @property
    def wall_s(self) -> float:
        """From the command's start to its end: imports, and what comes after the last trial, included."""
        return self.ended.end - self.ended.begin

    @property
    def to_first_s(self) -> float | None:
        """From the command's start to that of its first trial."""
        return self._first - self.ended.begin if self.trials else None

    @property
    def span_s(self) -> float | None:
        """From the start of the first trial to the end of the last."""
        ends = [trial.end for trial in self.done if trial.end is not None]
        return max(ends) - self._first if ends else None

    @property
    def measured_between(self) -> tuple[float, float]:
        """The span, or the whole command where no trial ended: seconds since the epoch, twice."""
        if self.span_s is None:
            return self.ended.begin, self.ended.end
        return self._first, self._first + self.span_s

    @property
    def _first(self) -> float:
        return min(trial.begin for trial in self.trials)

    @property
    def per_minute(self) -> float | None:
        """Trials a minute over the span."""
        return 60 * len(self.done) / self.span_s if self.span_s else None

    @property
    def per_minute_of_wall(self) -> float | None:
        """Trials a minute over the whole command."""
        return 60 * len(self.done) / self.wall_s if self.done else None

    @property
    def steps_per_s(self) -> float | None:
        """Optimizer steps of the trials that ended, a second of the span."""
        return sum(trial.steps for trial in self.done) / self.span_s if self.span_s else None

    @property
    def steps_per_trial(self) -> float | None:
        """Mean optimizer steps of the trials that ended: equal where two ways trained a like mix."""
        return sum(trial.steps for trial in self.done) / len(self.done) if self.done else None

    @property
    def gpu_s_per_trial(self) -> float | None:
        """GPU seconds a trial took, the span shared out equally."""
        return self.span_s / len(self.done) if self.span_s else None

    @property
    def best(self) -> float | None:
        """The highest dev Spearman of a complete trial."""
        return max(self.scores.values(), default=None)

    @property
    def scores(self) -> dict[int, float]:
        """The dev Spearman of complete trials, by the numbers of their points."""
        return {trial.number: trial.score for trial in self.trials if trial.score is not None}

    def figures(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            **asdict(self.way),
            "n_points": self.n_points,
            "complete": self.count("COMPLETE"),
            "pruned": self.count("PRUNED"),
            "failed": self.count("FAIL"),
            "mps_clients": self.mps_clients,
            "exit_code": self.ended.code,
            "is_timed_out": self.ended.is_timed_out,
            "wall_s": self.wall_s,
            "to_first_s": self.to_first_s,
            "span_s": self.span_s,
            "trials_per_minute": self.per_minute,
            "trials_per_minute_of_wall": self.per_minute_of_wall,
            "steps_per_s": self.steps_per_s,
            "steps_per_trial": self.steps_per_trial,
            "gpu_s_per_trial": self.gpu_s_per_trial,
            "best_dev": self.best,
            "device": asdict(self.use),
            "trials": [_tree(trial) for trial in self.trials],
        }


def _tree(trial: Trial) -> dict[str, Any]:
    seconds = None if trial.end is None else trial.end - trial.begin
    return {**asdict(trial.point), **asdict(trial), "point": trial.number, "seconds": seconds}


def ratio(measured: float | None, base: float | None) -> float | None:
    """Return ``measured`` as a multiple of ``base``; None if either is unknown."""
    return measured / base if measured is not None and base else None


@dataclass(frozen=True)
class Comparison:
    """A way compared with the peer, A. Figures that one of the two lacks are None.

    Attributes:
        per_minute: trials a minute over the span, as a multiple of A's.
        per_minute_of_wall: the same over the whole command.
        steps_per_s: steps a second, as a multiple.
        steps_per_trial: mean steps of a trial, as a multiple.
        best_difference: of the best dev Spearman, over the points of both.
    """

    per_minute: float | None = None
    per_minute_of_wall: float | None = None
    steps_per_s: float | None = None
    steps_per_trial: float | None = None
    best_difference: float | None = None


def compare(result: Result, peer: Result) -> Comparison:
    """Return the comparison of a way with A."""
    return Comparison(
        ratio(result.per_minute, peer.per_minute),
        ratio(result.per_minute_of_wall, peer.per_minute_of_wall),
        ratio(result.steps_per_s, peer.steps_per_s),
        ratio(result.steps_per_trial, peer.steps_per_trial),
        best_difference(result, peer.scores)[1],
    )


def best_difference(result: Result, scores: Mapping[int, float]) -> tuple[int, float | None]:
    """Return a way's best dev Spearman less the best of the given scores, over their common points.

    A pruned trial has no score, but the given score of its point counts: pruning the best point costs.

    Args:
        result: the way's.
        scores: by the number of a point.

    Returns:
        The number of common points and the difference; None if the way completed none of them.
    """
    ours = {trial.number: trial.score for trial in result.done if trial.number in scores}
    best = max((score for score in ours.values() if score is not None), default=None)
    return len(ours), None if best is None else best - max(scores[number] for number in ours)
