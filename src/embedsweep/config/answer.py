"""The answer of a study as frozen types: its finals, the verdict on them, how much was luck, and looks at test.

All of it is computed once, kept in the study's storage, and read by whoever shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from embedsweep.config.result import Interval


def interval_in(value: Any) -> Interval | None:
    """Return an interval from what JSON made of it."""
    return None if value is None else (float(value[0]), float(value[1]))


@dataclass(frozen=True)
class SeedScore:
    """A training of a finalist with another seed.

    Attributes:
        number: its number among the trials of the finals.
        seed: ``trainer.seed``.
        score: the study's first dev metric.
        interval: its 95 % interval over the dev items; None where it is not known.
    """

    number: int
    seed: int
    score: float
    interval: Interval | None


@dataclass(frozen=True)
class Finalist:
    """One of the best configurations of a study, trained again with other seeds.

    Attributes:
        trial: the number of the best trial of this configuration in the study; the finalist is named by it.
        scores: its trainings with the seeds that count, in the order of the seeds; failed ones are left out. Those of
            the verdict's look count, and all where there was no look yet.
        mean: the mean of the scores.
        spread: their sample standard deviation; None of a single one.
        interval: 95 % interval of the mean over the dev items, the seeds as they are; None where it is not known.
    """

    trial: int
    scores: tuple[SeedScore, ...]
    mean: float
    spread: float | None
    interval: Interval | None

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Finalist:
        """Return the finalist that ``asdict`` and JSON made a tree of."""
        scores = tuple(SeedScore(**{**each, "interval": interval_in(each["interval"])}) for each in tree["scores"])
        return cls(**{**tree, "scores": scores, "interval": interval_in(tree["interval"])})


@dataclass(frozen=True)
class Comparison:
    """The best finalist beside another one.

    Attributes:
        other: the other finalist's trial.
        difference: how far the mean over the seeds of the best is above the other's; the other is worse where it is
            positive, also if less of the metric is better.
        p: two-sided p-value of the exact permutation test over the seeds that count.
        welch: Welch's 95 % interval of the difference over the seeds; None where a side has one seed. It decides
            nothing.
        items: 95 % interval of the difference over the dev items, paired, the seeds as they are; None where unknown.
    """

    other: int
    difference: float
    p: float
    welch: Interval | None
    items: Interval | None

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Comparison:
        """Return the comparison that ``asdict`` and JSON made a tree of."""
        return cls(**{**tree, "welch": interval_in(tree["welch"]), "items": interval_in(tree["items"])})


@dataclass(frozen=True)
class Verdict:
    """Whether the best recipe would win again.

    Attributes:
        metric: the study's first dev metric.
        seeds: with how many seeds each finalist was trained.
        look: the number of seeds, the first ones, that count: those of the last look; 0 where there was no look yet, as
            there are too few seeds. Then all count, and nothing is decided.
        level: the level of each test of a look.
        best: the winner, or the finalist with the best mean, by its trial.
        winner: the finalist that differed from every other one at a look; None without one.
        named_at: the first look at which the winner differed from every other one; None without a winner. Where it is
            less than ``look``, the p-values, which are of ``look``, need not all be below the level.
        group: the best, and the finalists that cannot be told apart from it; only the best with a winner.
        seeds_needed: with about how many seeds, those of a later look, the best one would be named as the winner, if
            means and spread were as observed; None where not even the last look's would do, or with a winner.
        finalists: all that have a score, the best first, then by their means.
        comparisons: the best beside each other one, in their order.
        missing: finalists none of whose trainings that count has a score.
    """

    metric: str
    seeds: int
    look: int
    level: float
    best: int
    winner: int | None
    named_at: int | None
    group: tuple[int, ...]
    seeds_needed: int | None
    finalists: tuple[Finalist, ...]
    comparisons: tuple[Comparison, ...]
    missing: tuple[int, ...]

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Verdict:
        """Return the verdict that ``asdict`` and JSON made a tree of."""
        finalists = tuple(map(Finalist.of, tree["finalists"]))
        comparisons = tuple(map(Comparison.of, tree["comparisons"]))
        numbers = {name: tuple(tree[name]) for name in ("group", "missing")}
        return cls(**{**tree, **numbers, "finalists": finalists, "comparisons": comparisons})


@dataclass(frozen=True)
class Selection:
    """How much of the best trial's dev score was luck of the draw, by BBC-CV (Tsamardinos et al. 2018).

    Attributes:
        trial: the best trial.
        score: its dev score.
        corrected: the score that the selection is expected to have on other items.
        interval: the 95 % interval of it.
        n_trials: the number of complete trials that were selected from.
        resamples: on how many resamples of the items the selection was repeated; None if that was not noted.
    """

    trial: int
    score: float
    corrected: float
    interval: Interval | None
    n_trials: int
    resamples: int | None = None

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Selection:
        """Return the selection that ``asdict`` and JSON made a tree of."""
        return cls(**{**tree, "interval": interval_in(tree["interval"])})


@dataclass(frozen=True)
class Soup:
    """The weights of finalists averaged greedily (Wortsman et al. 2022).

    Attributes:
        tried: numbers of the trials of the finals in the order in which they were tried, the best on dev first.
        kept: those whose weights are in the average.
        scores: the first dev metric with each of ``tried``: of the first one alone, then of the average with it.
        left_out: number -> why a training of the finals was not tried, in words.
        dev: its dev metrics, by name; empty where there is no average.
        interval: 95 % interval of the first dev metric over the dev items.
        test: its metrics on test and further benchmarks, by name; empty before it was scored there.
        reason: why there is no average: models cannot be averaged, or none is better than the best training alone;
            None where there is one.
    """

    tried: tuple[int, ...]
    kept: tuple[int, ...]
    scores: tuple[float, ...]
    left_out: Mapping[int, str]
    dev: Mapping[str, float]
    interval: Interval | None
    test: Mapping[str, float]
    reason: str | None

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Soup:
        """Return the soup that ``asdict`` and JSON made a tree of."""
        return cls(
            **{
                **tree,
                "tried": tuple(tree["tried"]),
                "kept": tuple(tree["kept"]),
                "scores": tuple(tree["scores"]),
                "left_out": {int(number): reason for number, reason in tree["left_out"].items()},
                "interval": interval_in(tree["interval"]),
            }
        )


@dataclass(frozen=True)
class FinalsTest:
    """Test scores of the trainings of one finalist, scored at one look.

    Attributes:
        finalist: the finalist, by its trial.
        kept: the number of the training with the best dev score, whose model is kept.
        scores: number of each training -> its metrics on test and further benchmarks, by name.
        before: those of the untrained model; empty where it is not scored.
        interval: 95 % interval of the mean of the study's first metric over the test items, the seeds as they are; None
            where it is not known.
    """

    finalist: int
    kept: int
    scores: Mapping[int, Mapping[str, float]]
    before: Mapping[str, float]
    interval: Interval | None = None

    def mean(self) -> dict[str, float]:
        """Return the mean of each metric over the trainings."""
        names = next(iter(self.scores.values()), {})
        return {name: fmean(each[name] for each in self.scores.values()) for name in names}

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> FinalsTest:
        """Return the scores that ``asdict`` and JSON made a tree of."""
        scores = {int(number): scores for number, scores in tree["scores"].items()}
        return cls(**{**tree, "scores": scores, "interval": interval_in(tree.get("interval"))})


@dataclass(frozen=True)
class TestLook:
    """One look at test: whatever was scored there, and when.

    Attributes:
        what: what was scored, in words: ``trial 7``, ``finals of trial 7``, ``soup``.
        after_trials: how many trials the study had; None if an older version did not note it.
        after_finals: how many trials the finals had.
    """

    __test__ = False  # no test class of pytest

    what: str
    after_trials: int | None
    after_finals: int


@dataclass(frozen=True)
class Answer:
    """What is known once a study is complete, each part None until it is known or where it does not apply.

    Attributes:
        verdict: of the finals.
        selection: how much of the best trial's score was luck.
        expected_best: number of trials -> the expected best score after as many, of random and grid studies (Tang et
            al. 2020).
        soup: of the finals.
        unknown: name of a part (``selection``, ``expected_best``; ``items`` are the intervals over dev items of the
            verdict) -> why it is not known, in words.
    """

    verdict: Verdict | None = None
    selection: Selection | None = None
    expected_best: Mapping[int, float] | None = None
    soup: Soup | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Answer:
        """Return the answer from the study's user attribute."""
        expected = tree.get("expected_best")
        return cls(
            verdict=Verdict.of(tree["verdict"]) if tree.get("verdict") else None,
            selection=Selection.of(tree["selection"]) if tree.get("selection") else None,
            expected_best={int(n): value for n, value in expected.items()} if expected else None,
            soup=Soup.of(tree["soup"]) if tree.get("soup") else None,
            unknown=dict(tree.get("unknown", {})),
        )

    def tree(self) -> dict[str, Any]:
        """Return the value of the study's user attribute."""
        return asdict(self)
