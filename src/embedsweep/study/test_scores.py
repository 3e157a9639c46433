"""Test scores of the best trial of a complete study, and the looks at test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from embedsweep.config.answer import TestLook, interval_in
from embedsweep.config.result import Emissions, Interval

TEST_SCORES = "embedsweep.finals"
"""User attribute of a study, named before there were finals: the test scores of its best trial."""

LOOKS = "embedsweep.looks"
"""User attribute of a study: each look at test, in order."""


@dataclass(frozen=True)
class TestScores:
    """The test scores of the best trial of a complete study.

    Attributes:
        number: the trial's number.
        test: its test metrics, by name.
        benchmarks: its metrics on further benchmarks, by name.
        before: the same metrics of the untrained model, if requested.
        n_trials: how many trials it was the best of; None if an older version recorded no number.
        cost: what scoring cost, that of earlier winners of the study too; None if an older version did not measure it.
        interval: 95 % interval of the study's first metric over the test items; None if an older version scored them.
    """

    __test__ = False  # no test class of pytest

    number: int
    test: Mapping[str, float]
    benchmarks: Mapping[str, float]
    before: Mapping[str, float]
    n_trials: int | None
    cost: Emissions | None
    interval: Interval | None = None

    @property
    def scores(self) -> dict[str, float]:
        """All test and benchmark metrics."""
        return {**self.test, **self.benchmarks}

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> TestScores:
        """Return the scores from the study's user attribute; older versions kept the trial and all scores only."""
        scores, further = tree["scores"], tree.get("benchmarks")
        if further is None:
            further = {name: value for name, value in scores.items() if not re.match("test(-[0-9]+)?/", name)}
        test = {name: value for name, value in scores.items() if name not in further}
        cost = Emissions.of(tree["emissions"]) if tree.get("emissions") else None
        before, interval = dict(tree.get("before", {})), interval_in(tree.get("interval"))
        return cls(int(tree["trial"]), test, dict(further), before, tree.get("trials"), cost, interval)

    def tree(self) -> dict[str, Any]:
        """Return the value of the study's user attribute."""
        return {
            "trial": self.number,
            "scores": self.scores,
            "benchmarks": dict(self.benchmarks),
            "before": dict(self.before),
            "trials": self.n_trials,
            "emissions": None if self.cost is None else asdict(self.cost),
            "interval": self.interval,
        }


def looks_of(attributes: Mapping[str, Any]) -> tuple[TestLook, ...]:
    """Return the looks at test from a study's user attributes; an older version noted none, but kept what it scored."""
    noted = attributes.get(LOOKS)
    if noted is not None:
        return tuple(TestLook(**look) for look in noted)
    if not (tree := attributes.get(TEST_SCORES)):
        return ()
    scores = TestScores.of(tree)
    return (TestLook(f"trial {scores.number}", scores.n_trials, 0),)
