"""What a study keeps of its winner's test scores, and how.

Owns the form in Optuna's storage. Knows nothing of how anything is scored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finals:
    """What was scored of the best trial when the study was complete.

    Attributes:
        number: the trial's.
        test: its test metrics, by name.
        benchmarks: its metrics on further benchmarks, by name.
        before: those of the untrained model, where they were asked for.
        n_trials: how many trials it was the best of; None where an older version noted no number.
    """

    number: int
    test: Mapping[str, float]
    benchmarks: Mapping[str, float]
    before: Mapping[str, float]
    n_trials: int | None

    @property
    def scores(self) -> dict[str, float]:
        """All metrics that report."""
        return {**self.test, **self.benchmarks}

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Finals:
        """The finals as a study keeps them; older versions noted the trial and all its scores only."""
        scores, further = tree["scores"], tree.get("benchmarks")
        if further is None:
            further = {name: value for name, value in scores.items() if not re.match("test(-[0-9]+)?/", name)}
        test = {name: value for name, value in scores.items() if name not in further}
        return cls(int(tree["trial"]), test, dict(further), dict(tree.get("before", {})), tree.get("trials"))

    def tree(self) -> dict[str, Any]:
        """The finals as JSON can hold them."""
        return {
            "trial": self.number,
            "scores": self.scores,
            "benchmarks": dict(self.benchmarks),
            "before": dict(self.before),
            "trials": self.n_trials,
        }
