"""Optuna's pruners by name, the rungs at which they decide, and the reasons they give.

Trials are compared at rungs, fractions of a training, and so independently of their batch sizes. With ``study.keep``
a trial that forgets cannot be the best, so that it must not end one that can: while a trial keeps what it must, it is
compared only with trials that do.
"""

from __future__ import annotations

import copy
import statistics
import warnings
from collections.abc import Callable, Container, Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.result import Decision
from embedsweep.config.study import PruningConfig, StudyPlan
from embedsweep.config.training import rung_steps
from embedsweep.config.trial import PrunerName
from embedsweep.study.keep import is_kept

PRUNED = "embedsweep.pruned"
"""Why and when a trial was pruned: an attribute of the trial and a tag of its run."""

FORGETS = "embedsweep.forgets_so_far"
"""Whether a trial forgot more than ``study.keep`` allows at its last rung: an attribute of it, in studies that keep."""

HALVING = ("successive_halving", "hyperband")

PRUNERS: Mapping[PrunerName, Callable[[PruningConfig], BasePruner]] = {
    "none": lambda _: NopPruner(),
    "median": lambda pruning: MedianPruner(n_startup_trials=pruning.n_startup_trials),
    "successive_halving": lambda pruning: SuccessiveHalvingPruner(1, pruning.reduction_factor),
    # One beyond the step of a rung after the last: the number of brackets is a rounded-down logarithm, and that of
    # 3 ** 5 to base 3 is 4.999.
    "hyperband": lambda pruning: HyperbandPruner(
        1, pruning.reduction_factor ** len(pruning.rungs) + 1, pruning.reduction_factor
    ),
    "wilcoxon": lambda pruning: WilcoxonPruner(p_threshold=pruning.p_threshold, n_startup_steps=0),
    "patience": lambda pruning: PatientPruner(None, pruning.patience, pruning.min_delta),
}


def make_pruner(plan: StudyPlan) -> BasePruner:
    """Return the pruner of a study. Under Hyperband each bracket halves by itself; samplers learn from all trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[plan.pruner](plan.pruning)


def report_steps(plan: StudyPlan) -> tuple[int, ...]:
    """Return the step under which each rung is reported to Optuna, the same for trials of any batch size.

    Halving compares at powers of its factor; for the other pruners the rungs are counted from 1.
    """
    indices = range(len(plan.pruning.rungs))
    return tuple(plan.pruning.reduction_factor**index if plan.pruner in HALVING else index + 1 for index in indices)


def decide(
    plan: StudyPlan, trial: optuna.Trial, step: int, total: int, value: float, *, keeps: bool = True
) -> Decision:
    """Report an evaluation to Optuna if it is at a rung, and decide there; the reason to prune is set in the trial.

    A rung that an earlier attempt reported is not reported again, and its decision stands: a trial that passed it
    passes again, one that was pruned there is pruned again.

    Args:
        plan: the study's plan.
        trial: a trial of this process.
        step: optimizer steps trained.
        total: optimizer steps of the whole training; a trial that has reached them is not pruned.
        value: the objective.
        keeps: whether the trial has so far forgotten no more than ``study.keep`` allows.
    """
    steps = rung_steps(plan.pruning.rungs, total)
    for fraction, rung_step, reported_as in zip(plan.pruning.rungs, steps, report_steps(plan), strict=True):
        last = max(_frozen(trial).intermediate_values, default=0)
        if rung_step != step or reported_as < last:
            continue
        if reported_as > last:
            trial.report(value, reported_as)
        if plan.keep:
            trial.set_user_attr(FORGETS, not keeps)
        if step == total:
            continue
        if PRUNED in trial.user_attrs:
            return Decision.PRUNE
        study = _of_those_that_keep(trial.study) if plan.keep and keeps else trial.study
        if _should_prune(study, _frozen(trial)):
            reason = REASONS[plan.pruner](study, plan, _frozen(trial))
            where = f"at step {step} of {total} (rung {fraction:g})"
            trial.set_user_attr(PRUNED, f"{where}: {plan.objective} {value:.4f} {reason} ({plan.pruner})")
            return Decision.PRUNE
    return Decision.CONTINUE


def _frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study.get_trials(deepcopy=False)[trial.number]


class _KeepingTrials:
    """A study's storage without the trials that forget more than they may, or did so at their last rung."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if _keeps(trial)]


def _keeps(trial: FrozenTrial) -> bool:
    """Return whether a trial keeps what it must: by its result, or by its last rung where it has none."""
    return is_kept(trial) if trial.constraints else not trial.user_attrs.get(FORGETS, False)


def _of_those_that_keep(study: optuna.Study) -> optuna.Study:
    """Return the study as pruners see it without the trials that forget; Hyperband reads the storage, not the study."""
    rivals = copy.copy(study)
    vars(rivals)["_storage"] = _KeepingTrials(study._storage)
    return rivals


def _should_prune(study: optuna.Study, trial: FrozenTrial) -> bool:
    with warnings.catch_warnings():
        # The Wilcoxon pruner warns at each rung that the best trial lacks; it compares at those that both have.
        warnings.filterwarnings("ignore", message="WilcoxonPruner finds steps existing")
        return study.pruner.prune(study, trial)


def _of_halving(study: optuna.Study, plan: StudyPlan, trial: FrozenTrial) -> str:
    rivals, of = study.get_trials(deepcopy=False), "trials there"
    if isinstance(study.pruner, HyperbandPruner):
        bracket = study.pruner._get_bracket_id(study, trial)
        rivals = [other for other in rivals if study.pruner._get_bracket_id(study, other) == bracket]
        of = f"trials of bracket {bracket} there"
    rung = sum(key.startswith("completed_rung_") for key in trial.system_attrs) - 1
    count = sum(f"completed_rung_{rung}" in other.system_attrs for other in rivals)
    factor = plan.pruning.reduction_factor
    return f"is not among the best {max(1, count // factor)} (1/{factor}) of {count} {of}"


def _of_median(study: optuna.Study, _: StudyPlan, trial: FrozenTrial) -> str:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    rung = trial.last_step
    values = [other.intermediate_values[rung] for other in complete if rung in other.intermediate_values]
    trials = f"{len(values)} complete trial{'s' if len(values) > 1 else ''} there"
    return f"is below the median {statistics.median(values):.4f} of {trials}"


def _of_wilcoxon(study: optuna.Study, plan: StudyPlan, trial: FrozenTrial) -> str:
    count, best = len(trial.intermediate_values), study.best_trial.number
    return f"is the last of {count} rungs that are worse than those of trial {best}, p < {plan.pruning.p_threshold:g}"


def _of_patience(_: optuna.Study, plan: StudyPlan, trial: FrozenTrial) -> str:
    count = plan.pruning.patience + 1
    values = [value for _, value in sorted(trial.intermediate_values.items())]
    margin = f" by more than {plan.pruning.min_delta:g}" if plan.pruning.min_delta else ""
    return f"is the last of {count} below the {max(values[:-count]):.4f} of an earlier rung{margin}"


REASONS: Mapping[PrunerName, Callable[[optuna.Study, StudyPlan, FrozenTrial], str]] = {
    "median": _of_median,
    "successive_halving": _of_halving,
    "hyperband": _of_halving,
    "wilcoxon": _of_wilcoxon,
    "patience": _of_patience,
}
"""Pruner -> describes what the trial that it has just pruned was compared with."""
