"""Who ends a trial early: Optuna's pruners by their names here, when they decide, and their verdicts in words.

Owns the table and the steps by which trials are compared, the same whatever their batch sizes. Knows nothing of how a
trial is trained.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping

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
from embedsweep.config.study import PruningConfig, StudyPlan, rung_steps
from embedsweep.config.trial import PrunerName

PRUNED = "embedsweep.pruned"
"""Why and when a trial was ended: an attribute of the trial, and a tag of its run."""

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
    """The pruner of a study. Under Hyperband each bracket halves by itself; samplers learn from all trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[plan.pruner](plan.pruning)


def places(plan: StudyPlan) -> tuple[int, ...]:
    """The step by which each rung is told to Optuna: trials of any batch size meet there.

    Halving compares at powers of its factor; the others count the rungs from 1.
    """
    halves = plan.pruner in HALVING
    return tuple(
        plan.pruning.reduction_factor**index if halves else index + 1 for index in range(len(plan.pruning.rungs))
    )


def decide(plan: StudyPlan, trial: optuna.Trial, step: int, total: int, value: float) -> Decision:
    """Reports an evaluation if it is that of a rung, and decides there; the reason to prune is noted in the trial.

    A rung that an earlier attempt reported is not reported again. What was decided there stands: a trial that went
    past it survives it again, one that was pruned there is pruned again.

    Args:
        plan: the study's.
        trial: one of this process's.
        step: optimizer steps trained.
        total: optimizer steps of the whole training. Nothing is pruned that has reached them.
        value: of the objective.
    """
    steps = rung_steps(plan.pruning.rungs, total)
    for fraction, at, place in zip(plan.pruning.rungs, steps, places(plan), strict=True):
        last = max(_frozen(trial).intermediate_values, default=0)
        if at != step or place < last:
            continue
        if place > last:
            trial.report(value, place)
        if step == total:
            continue
        if PRUNED in trial.user_attrs:
            return Decision.PRUNE
        if _should_prune(trial):
            compared = COMPARED[plan.pruner](trial.study, plan, _frozen(trial))
            where = f"at step {step} of {total} (rung {fraction:g})"
            trial.set_user_attr(PRUNED, f"{where}: {plan.objective} {value:.4f} {compared} ({plan.pruner})")
            return Decision.PRUNE
    return Decision.GO_ON


def _frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study.get_trials(deepcopy=False)[trial.number]


def _should_prune(trial: optuna.Trial) -> bool:
    with warnings.catch_warnings():
        # Wilcoxon's warns at each rung that the best trial, stopped early, lacks; it compares at those both have.
        warnings.filterwarnings("ignore", message="WilcoxonPruner finds steps existing")
        return trial.should_prune()


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
    place = trial.last_step
    values = [other.intermediate_values[place] for other in complete if place in other.intermediate_values]
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


COMPARED: Mapping[PrunerName, Callable[[optuna.Study, StudyPlan, FrozenTrial], str]] = {
    "median": _of_median,
    "successive_halving": _of_halving,
    "hyperband": _of_halving,
    "wilcoxon": _of_wilcoxon,
    "patience": _of_patience,
}
"""Pruner -> what it compared a trial with that it has just pruned, in words."""
