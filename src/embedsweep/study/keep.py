"""What trials must not forget (``study.keep``): how far a watched score fell, as constraints that Optuna knows.

A constraint is kept where its value is at most 0, and a trial that breaks one is never the best. TPE, GP and the
NSGA samplers learn from the values; random and quasi-random points and CMA-ES do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial

from embedsweep.config.result import TrialResult
from embedsweep.config.study import KeepConfig
from embedsweep.errors import TrialError

_DIGITS = 12
"""Decimal places of a constraint, so that a drop of just what is allowed is no more than that."""


def constraints_of(keep: Sequence[KeepConfig], result: TrialResult) -> dict[str, float]:
    """Return by how much each watched score of a result fell further than it may: Optuna's constraints, by name.

    A pruned trial has none: it cannot be the best.

    Raises:
        TrialError: a score is unknown or not a number.
    """
    constraints = _excesses(keep, result.before, result.dev) if not result.pruned else {}
    for score, excess in constraints.items():
        if math.isnan(excess):
            error = TrialError(f"{score} is not known before and after training, and study.keep compares both")
            error.fails_again = True
            raise error
    return constraints


def keeps_so_far(keep: Sequence[KeepConfig], before: Mapping[str, float], dev: Mapping[str, float]) -> bool:
    """Return whether a running trial forgets no more than it may, by its last dev metrics; not where one is unknown."""
    return all(excess <= 0 for excess in _excesses(keep, before, dev).values())


def _excesses(keep: Sequence[KeepConfig], before: Mapping[str, float], dev: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each watched score fell further than it may, by its name; NaN where that is not known."""
    drops = {kept: before.get(kept.score, math.nan) - dev.get(kept.score, math.nan) for kept in keep}
    return {kept.score: round(drop - kept.drop_at_most, _DIGITS) for kept, drop in drops.items()}


def is_kept(trial: FrozenTrial) -> bool:
    """Return whether a complete trial forgets no more than it may; without ``study.keep`` every trial does."""
    return all(value <= 0 for value in trial.constraints.values())


def forgotten(keep: Sequence[KeepConfig], constraints: Mapping[str, float]) -> dict[str, float]:
    """Return how far each watched score fell that fell too far: name (``stsb-en-dev/spearman_cosine``) -> change."""
    broken = {name: value for name, value in constraints.items() if value > 0}
    return {kept.name: -(broken[kept.score] + kept.drop_at_most) for kept in keep if kept.score in broken}


def forgets_text(changes: Mapping[str, float]) -> str:
    """Return what a trial forgets in words: ``forgets: stsb-en-dev -0.0213``; empty if it forgets nothing."""
    words = [f"{name.partition('/')[0]} {change:.4f}" for name, change in changes.items()]
    return f"forgets: {', '.join(words)}" if words else ""


def keep_text(keep: Sequence[KeepConfig]) -> str:
    """Return what must not be forgotten, in words: ``stsb-en-dev spearman_cosine by more than 0.01``."""
    return ", ".join(f"{kept.benchmark} {kept.metric} by more than {kept.drop_at_most:g}" for kept in keep)
