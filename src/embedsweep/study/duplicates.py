"""Duplicates: detect that a trial repeats a finished one, and reuse that one's scores or train with another seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import active_axes, config_params
from embedsweep.config.finals import SEED
from embedsweep.config.identity import config_hash
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import Duplicates, TrialConfig
from embedsweep.validation.plan_cells import frozen_config

CONFIG_HASH = "config_hash"
DUPLICATE = "embedsweep.duplicate"


@dataclass(frozen=True)
class Duplicate:
    """How a trial that repeats another is treated.

    Attributes:
        original: the number of the trial that it repeats.
        replicate: which replicate of that trial it is, from 1; None reuses the scores.
    """

    original: int
    replicate: int | None

    @classmethod
    def of(cls, trial: FrozenTrial) -> Duplicate | None:
        """Return how a trial was treated; None if it repeats no other."""
        tree = trial.user_attrs.get(DUPLICATE)
        return cls(**tree) if tree else None


def is_reused(trial: FrozenTrial) -> bool:
    """Return whether the trial has another's scores and was not trained."""
    duplicate = Duplicate.of(trial)
    return duplicate is not None and duplicate.replicate is None


def find_duplicate(
    config: TrialConfig, number: int, trials: Sequence[FrozenTrial], duplicates: Duplicates
) -> Duplicate | None:
    """Return how to treat a trial whose configuration another was trained with; None if there is none.

    Scores are reused of finished trials only. A replicate has another seed than trials that still run, too.

    Args:
        config: the trial's sampled configuration.
        number: the trial's number.
        trials: all trials of the study.
        duplicates: ``study.duplicates``.
    """
    identity = config_hash(config)
    scored = (TrialState.COMPLETE, TrialState.PRUNED)
    others = [
        trial
        for trial in trials
        if trial.number != number
        and (trial.state in scored or (duplicates == "replicate" and not trial.state.is_finished()))
    ]
    equal = [trial for trial in others if trial.user_attrs.get(CONFIG_HASH) == identity]
    original = next((trial for trial in equal if not is_reused(trial)), None)
    if original is None:
        return None
    if duplicates == "reuse":
        return Duplicate(original.number, None)
    taken = {trial.user_attrs.get(CONFIG_HASH) for trial in trials}
    known = [each for trial in trials if (each := Duplicate.of(trial)) is not None]
    replicates = sum(each.original == original.number for each in known)
    # If the seed is searched as well, another trial may already have the seed of a replicate.
    free = (k for k in itertools.count(replicates + 1) if config_hash(replicate_config(config, k)) not in taken)
    return Duplicate(original.number, next(free))


def replicate_config(config: TrialConfig, replicate: int) -> TrialConfig:
    """Return the configuration of the ``replicate``-th replicate: the same with another seed."""
    return replace(config, trainer=replace(config.trainer, seed=(config.trainer.seed + replicate) % 2**32))


def has_values(plan: StudyPlan, trial: FrozenTrial) -> bool:
    """Return whether a trial has a value of every axis: not before they are drawn, nor where they were lost."""
    params = config_params(plan.axes, trial.params)
    return all(axis.key in params for axis in active_axes(plan.axes, params))


def trained_config(plan: StudyPlan, trial: FrozenTrial) -> TrialConfig:
    """Return the configuration that a trial was trained with: the sampled one, for a replicate with its own seed."""
    config, duplicate = frozen_config(plan, config_params(plan.axes, trial.params)), Duplicate.of(trial)
    return replicate_config(config, duplicate.replicate) if duplicate and duplicate.replicate else config


def trained_params(plan: StudyPlan, trial: FrozenTrial) -> dict[str, Choice]:
    """Return a trial's sampled values by key, and the seed of a replicate."""
    params, duplicate = config_params(plan.axes, trial.params), Duplicate.of(trial)
    if duplicate is None or duplicate.replicate is None:
        return params
    return {**params, SEED: trained_config(plan, trial).trainer.seed}
