"""Duplicates: which finished trial a drawn configuration repeats, and what is trained in its place.

Owns the marks of a trial that repeats another, and the seed of a replicate. Knows nothing of how either is recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import config_params
from embedsweep.config.identity import config_hash
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import Duplicates, TrialConfig
from embedsweep.validation.cells import cell_config

CONFIG_HASH = "config_hash"
DUPLICATE = "embedsweep.duplicate"
SEED = "trainer.seed"


@dataclass(frozen=True)
class Duplicate:
    """What becomes of a trial that repeats another.

    Attributes:
        original: the number of the trial it repeats.
        replicate: which replicate of it this is, from 1; None reuses its scores.
    """

    original: int
    replicate: int | None

    @classmethod
    def of(cls, trial: FrozenTrial) -> Duplicate | None:
        """What was made of a trial that repeats another; None of one that does not."""
        tree = trial.user_attrs.get(DUPLICATE)
        return cls(**tree) if tree else None

    def tree(self) -> dict[str, int | None]:
        """The mark as JSON can hold it."""
        return asdict(self)


def is_reused(trial: FrozenTrial) -> bool:
    """Whether the trial has another's scores and was not trained."""
    duplicate = Duplicate.of(trial)
    return duplicate is not None and duplicate.replicate is None


def find_duplicate(
    config: TrialConfig, number: int, trials: Sequence[FrozenTrial], duplicates: Duplicates
) -> Duplicate | None:
    """What is to become of a drawn configuration, if a trial that is finished was trained with it.

    Args:
        config: as it was drawn.
        number: the trial's.
        trials: all of the study.
        duplicates: reuse or replicate.
    """
    identity = config_hash(config)
    original = next((trial for trial in trials if trial.number != number and _was_trained(trial, identity)), None)
    if original is None:
        return None
    if duplicates == "reuse":
        return Duplicate(original.number, None)
    taken = {trial.user_attrs.get(CONFIG_HASH) for trial in trials}
    marks = [mark for trial in trials if (mark := Duplicate.of(trial)) is not None]
    replicates = sum(mark.original == original.number for mark in marks)
    # Where the seed is searched, too, another trial may have a replicate's.
    free = (k for k in itertools.count(replicates + 1) if config_hash(replicate_config(config, k)) not in taken)
    return Duplicate(original.number, next(free))


def _was_trained(trial: FrozenTrial, identity: str) -> bool:
    is_scored = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return is_scored and trial.user_attrs.get(CONFIG_HASH) == identity and not is_reused(trial)


def replicate_config(config: TrialConfig, replicate: int) -> TrialConfig:
    """What the ``replicate``-th replicate of a configuration is trained with: another seed."""
    return replace(config, trainer=replace(config.trainer, seed=config.trainer.seed + replicate))


def trained_config(plan: StudyPlan, trial: FrozenTrial) -> TrialConfig:
    """What a trial was trained with: what was drawn, a replicate with its seed."""
    config, duplicate = cell_config(plan, config_params(plan.axes, trial.params)), Duplicate.of(trial)
    return replicate_config(config, duplicate.replicate) if duplicate and duplicate.replicate else config


def trained_params(plan: StudyPlan, trial: FrozenTrial) -> dict[str, Choice]:
    """The values that make a trial of a study's fixed words: those drawn, and a replicate's seed."""
    params, duplicate = config_params(plan.axes, trial.params), Duplicate.of(trial)
    if duplicate is None or duplicate.replicate is None:
        return params
    return {**params, SEED: trained_config(plan, trial).trainer.seed}
