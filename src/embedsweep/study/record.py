"""What stands in a study: its trials, and what follows from them.

Owns how trials are counted and which of them is the best. Changes nothing: :class:`embedsweep.study.study.Study` does.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import config_params
from embedsweep.config.result import TrialResult
from embedsweep.config.study import Choice, StudyPlan, StudyServices
from embedsweep.config.trial import DEV_METRICS, DIRECTIONS
from embedsweep.files import SWEEPS
from embedsweep.study.duplicates import is_reused
from embedsweep.study.leases import LEASE, Leases
from embedsweep.study.pruning import places
from embedsweep.study.storage import study_lock


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


N_TRIALS = "embedsweep.n_trials"
FINALS = "embedsweep.finals"
FIXED = "embedsweep.fixed"
WARM_START = "embedsweep.warm_start"
RUN_ID = "run_id"
EMISSIONS_KG = "emissions_kg"
ENERGY_KWH = "energy_kwh"
GPU_H = "gpu_h"
FAILURE = "embedsweep.failure"
RETRY_OF = "embedsweep.retry_of"
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


@dataclass(eq=False, repr=False)
class StudyRecord:
    """A study and its trials, as its storage has them at each moment.

    Attributes:
        name: its name.
        plan: what was frozen when it was created.
        n_trials: how many trials it has when it is complete.
        services: what all its trials share.
        url: of its storage; None is the journal in its folder.
        folder: ``sweeps/<name>``.
    """

    name: str
    plan: StudyPlan
    services: StudyServices
    n_trials: int
    url: str | None
    _study: optuna.Study

    def __post_init__(self) -> None:
        self.folder = SWEEPS / self.name
        self._storage = self._study._storage
        self._leases = Leases()

    def lock(self) -> AbstractContextManager[None]:
        """Holds other processes' steps on this study off."""
        return study_lock(self.url, self.folder, self.name)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def params_of(self, trial: FrozenTrial) -> dict[str, Choice]:
        """A trial's value of every axis that is searched in it, by key."""
        return config_params(self.plan.axes, trial.params)

    @property
    def doubtful(self) -> list[int]:
        """Numbers of running trials of which it cannot be said yet whether their worker, on another host, lives."""
        running = [trial for trial in self.trials if trial.state is TrialState.RUNNING]
        return [trial.number for trial in running if self._leases.judge(trial.number, trial.user_attrs) == "unknown"]

    @property
    def runs_elsewhere(self) -> dict[str, list[str]]:
        """The ids of the MLflow runs of each other machine that runs a trial of this study now, by its name.

        Only of a study in a database: a journal lies beside the runs, wherever its folder is taken.
        """
        runs: dict[str, list[str]] = {}
        active: set[str] = set()
        for trial in self.trials if self.url is not None else ():
            lease, run_id = trial.user_attrs.get(LEASE), trial.user_attrs.get(RUN_ID)
            if lease is None or run_id is None or lease["host"] == socket.gethostname():
                continue
            runs.setdefault(lease["host"], []).append(run_id)
            if trial.state is TrialState.RUNNING:
                active.add(lease["host"])
        return {host: ids for host, ids in runs.items() if host in active}

    @property
    def n_left(self) -> int:
        """How many trials nobody runs at this moment, as far as can be said: new ones, and those of dead workers."""
        trials = self.trials
        mine = sum(
            trial.state is TrialState.WAITING
            or (trial.state is TrialState.RUNNING and self._leases.judge(trial.number, trial.user_attrs) != "alive")
            for trial in trials
        )
        return max(0, self.n_trials - count_trials(trials)) + mine

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the best dev metric, of several objectives the first; None without a complete one.

        It lies on the Pareto front: of equals the one that is better by the other objectives, then the first.
        """
        return best_of(self.trials, self.plan.objectives)

    @property
    def front(self) -> frozenset[int]:
        """Numbers of the complete trials that no other is better than by one objective and as good by the others."""
        return frozenset(trial.number for trial in self._study.best_trials)

    @property
    def pruned_at(self) -> dict[float, int]:
        """How many trials were pruned at each rung that pruned any."""
        last = [trial.last_step for trial in self.trials if trial.state is TrialState.PRUNED]
        counts = {
            rung: last.count(place) for rung, place in zip(self.plan.pruning.rungs, places(self.plan), strict=True)
        }
        return {rung: count for rung, count in counts.items() if count}

    @property
    def complete_trials(self) -> list[FrozenTrial]:
        """The trials that have a result."""
        return [trial for trial in self.trials if trial.state is TrialState.COMPLETE]

    @property
    def failed_trials(self) -> list[FrozenTrial]:
        """The trials that failed and that no later one replaces."""
        trials = self.trials
        replaced = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        return [trial for trial in trials if trial.state is TrialState.FAIL and trial.number not in replaced]

    @property
    def has_failed_trials(self) -> bool:
        """Whether a trial failed and no later one replaces it."""
        return bool(self.failed_trials)

    @property
    def is_complete(self) -> bool:
        """Whether all its trials are finished."""
        trials = self.trials
        return count_trials(trials) >= self.n_trials and not any(trial.state in UNFINISHED for trial in trials)

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the trials that run, here or elsewhere, or wait to be taken up."""
        return [trial.number for trial in self.trials if trial.state in UNFINISHED]

    def trial_folder(self, number: int) -> Path:
        """The folder of a trial."""
        return trial_folder(self.name, number)

    @property
    def finals(self) -> Finals | None:
        """Which trial was scored on test, and what came of it; None before that."""
        found = self._study.user_attrs.get(FINALS)
        return Finals.of(found) if found else None

    @property
    def fixed(self) -> list[str]:
        """The words of the command that made the study, less those that were swept."""
        return list(self._study.user_attrs.get(FIXED, []))


def trial_folder(study: str, number: int) -> Path:
    """The folder of a study's trial."""
    return SWEEPS / study / "trials" / f"{number:04d}"


def count_trials(trials: Iterable[FrozenTrial]) -> int:
    """How many trials count towards ``n_trials``: one that is a failed one's retry counts in its place."""
    return sum(RETRY_OF not in trial.user_attrs for trial in trials)
