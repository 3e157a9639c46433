"""The values that a study optimises, and which trial is the best by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.metrics import direction_of, is_dev_metric
from embedsweep.config.result import TrialResult
from embedsweep.study.duplicates import is_reused
from embedsweep.study.keep import is_kept


def directions_of(objectives: Sequence[str]) -> list[StudyDirection]:
    """Return Optuna's direction of each objective."""
    return [
        StudyDirection.MAXIMIZE if direction_of(name) == "maximize" else StudyDirection.MINIMIZE for name in objectives
    ]


def values_of(result: TrialResult, objectives: Sequence[str]) -> list[float]:
    """Return a result's value of each objective; emissions are the sum over the trial's attempts.

    Raises:
        ValueError: an older version wrote the result, without one of the objectives.
    """
    cost = result.emissions
    known = {
        **result.dev,
        "emissions/co2eq_kg": cost.co2eq_kg,
        "emissions/energy_kwh": cost.energy_kwh,
        "emissions/duration_s": cost.duration_s,
        "throughput/examples_per_s": result.examples_per_s,
    }
    values = [known[name] for name in objectives]
    if None in values:
        raise ValueError(f"the result of an older version has no {objectives[values.index(None)]}")
    return [float(value) for value in values if value is not None]


def better(objectives: Sequence[str], first: int) -> Callable[[FrozenTrial], tuple[float, ...]]:
    """Return a sort key that puts the best complete trial first: by one objective, then the others, then the number.

    Args:
        objectives: all objectives of the study.
        first: the index of the objective that counts first.
    """
    order = [first, *(index for index in range(len(objectives)) if index != first)]

    def key(trial: FrozenTrial) -> tuple[float, ...]:
        signed = (-trial.values[i] if direction_of(objectives[i]) == "maximize" else trial.values[i] for i in order)
        return (*signed, trial.number)

    return key


def best_of(trials: Iterable[FrozenTrial], objectives: Sequence[str]) -> FrozenTrial | None:
    """Return the complete trial with the best value of the first dev metric; None if no complete trial may be the best.

    A trial that forgets more than ``study.keep`` allows may not. One that reuses another's scores has no model, so the
    other one is returned. Ties are decided by the other objectives and then by the number, so that the trial is always
    on the Pareto front of those that may.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and not is_reused(trial)]
    rivals = [trial for trial in complete if is_kept(trial)]
    first = next(index for index, name in enumerate(objectives) if is_dev_metric(name))
    return min(rivals, key=better(objectives, first), default=None)
