"""What a study optimises: a trial's values, and which trial is better.

Owns the meaning of ``study.objective`` for trials that are complete. Knows nothing of how they ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from embedsweep.schema import DEV_METRICS, DIRECTIONS, TrialResult
from embedsweep.study.duplicates import is_reused


def directions_of(objectives: Sequence[str]) -> list[StudyDirection]:
    """Optuna's direction of each objective."""
    return [
        StudyDirection.MAXIMIZE if DIRECTIONS[name] == "maximize" else StudyDirection.MINIMIZE for name in objectives
    ]


def values_of(result: TrialResult, objectives: Sequence[str]) -> list[float]:
    """A result's value of each objective; emissions are summed over the trial's own attempts.

    Raises:
        ValueError: an older version wrote the result, without one of them.
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
    """A key that sorts complete trials, best first: by one objective, ties by the others in order, then by number.

    Args:
        objectives: all of the study's.
        first: the index of the one that counts first.
    """
    order = [first, *(index for index in range(len(objectives)) if index != first)]

    def key(trial: FrozenTrial) -> tuple[float, ...]:
        signed = (-trial.values[i] if DIRECTIONS[objectives[i]] == "maximize" else trial.values[i] for i in order)
        return (*signed, trial.number)

    return key


def best_of(trials: Iterable[FrozenTrial], objectives: Sequence[str]) -> FrozenTrial | None:
    """The complete trial with the best dev metric, of several the first; None without a complete trial.

    One that has another's scores has no model, and is passed over for that other.
    Ties are decided by the other objectives and then by the number, so it always lies on the Pareto front.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and not is_reused(trial)]
    first = next(index for index, name in enumerate(objectives) if name in DEV_METRICS)
    return min(complete, key=better(objectives, first), default=None)
