"""A study that is open: who gets which trial, and what is told of it.

Owns the budget and the states of trials. Knows neither how a study is created nor how a trial is trained.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from embedsweep.schema import Choice, Decision, StudyPlan, StudyServices, TrialResult
from embedsweep.search_space import distributions, grid
from embedsweep.study.leases import BEAT, LEASE, Lease, Leases, beating
from embedsweep.study.samplers import make_sampler
from embedsweep.study.storage import study_lock

SWEEPS = Path("sweeps")
N_TRIALS = "embedsweep.n_trials"
FINALS = "embedsweep.finals"
FIXED = "embedsweep.fixed"
RUN_ID = "run_id"
CONFIG_HASH = "config_hash"
EMISSIONS_KG = "emissions_kg"
FAILURE = "embedsweep.failure"
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


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


@dataclass(frozen=True)
class OpenTrial:
    """A trial that this process runs.

    Attributes:
        number: its number in the study.
        params: the drawn value of every axis.
        folder: its own.
        run_id: its MLflow run, where an earlier attempt has made one.
        is_resumed: whether an earlier attempt was made.
    """

    number: int
    params: Mapping[str, Choice]
    folder: Path
    run_id: str | None
    is_resumed: bool


class Study:
    """An open study. Made by :func:`embedsweep.study.opening.open_study`.

    Attributes:
        name: its name.
        plan: what was frozen when it was created.
        n_trials: how many trials it has when it is complete.
        services: what all its trials share.
        folder: ``sweeps/<name>``.
    """

    def __init__(
        self,
        name: str,
        plan: StudyPlan,
        services: StudyServices,
        n_trials: int,
        url: str | None,
        study: optuna.Study,
    ) -> None:
        self.name = name
        self.plan = plan
        self.services = services
        self.n_trials = n_trials
        self.folder = SWEEPS / name
        self._url = url
        self._study = study
        self._storage = study._storage
        self._leases = Leases()
        self._open: dict[int, optuna.Trial] = {}

    def lock(self) -> AbstractContextManager[None]:
        """Holds other processes' steps on this study off."""
        return study_lock(self._url, self.folder, self.name)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def ask(self) -> OpenTrial | None:
        """The next trial to run; None when no more are to be begun.

        A trial whose worker died comes first, with its number, values, folder and run. Reclaiming, counting and asking
        are one step under the study's lock, so that the count is exact whoever else asks.
        """
        with self.lock():
            self._reclaim()
            trials = self.trials
            waiting = [trial.number for trial in trials if trial.state is TrialState.WAITING]
            if not waiting and len(trials) >= self.n_trials:
                return None
            number = waiting[0] if waiting else len(trials)
            if not waiting and self.plan.sampler == "grid":
                self._study.enqueue_trial(self._cells[number])
            if self.plan.sampler != "grid":
                self._study.sampler = make_sampler(self.plan.sampler, self.plan.seed, number)
            trial = self._study.ask(self._distributions)
            attributes = trial.user_attrs
            trial.set_user_attr(LEASE, Lease.mine().tree())
        self._open[trial.number] = trial
        return OpenTrial(
            number=trial.number,
            params=dict(trial.params),
            folder=self.trial_folder(trial.number),
            run_id=attributes.get(RUN_ID),
            is_resumed=LEASE in attributes,
        )

    @cached_property
    def _cells(self) -> list[dict[str, Choice]]:
        return list(itertools.islice(grid(self.plan.axes), self.n_trials))

    @cached_property
    def _distributions(self) -> dict[str, Any]:
        return dict(distributions(self.plan.axes))

    def _reclaim(self) -> None:
        """Puts trials whose worker died back into the queue; the caller holds the lock."""
        for trial in self.trials:
            if trial.state is TrialState.RUNNING and self._leases.judge(trial.number, trial.user_attrs) == "dead":
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    @property
    def doubtful(self) -> list[int]:
        """Numbers of running trials of which it cannot be said yet whether their worker, on another host, lives."""
        running = [trial for trial in self.trials if trial.state is TrialState.RUNNING]
        return [trial.number for trial in running if self._leases.judge(trial.number, trial.user_attrs) == "unknown"]

    @property
    def n_left(self) -> int:
        """How many trials nobody runs at this moment, as far as can be said: new ones, and those of dead workers."""
        trials = self.trials
        mine = sum(
            trial.state is TrialState.WAITING
            or (trial.state is TrialState.RUNNING and self._leases.judge(trial.number, trial.user_attrs) != "alive")
            for trial in trials
        )
        return max(0, self.n_trials - len(trials)) + mine

    @contextmanager
    def alive(self, trial: OpenTrial) -> Iterator[None]:
        """Keeps the trial's lease alive while the block runs."""
        with beating(lambda count: self._open[trial.number].set_user_attr(BEAT, count)):
            yield

    def identify(self, trial: OpenTrial, run_id: str, config_hash: str) -> None:
        """Notes the trial's MLflow run and the hash of its configuration."""
        self._open[trial.number].set_user_attr(RUN_ID, run_id)
        self._open[trial.number].set_user_attr(CONFIG_HASH, config_hash)

    def report(self, trial: OpenTrial, step: int, metrics: Mapping[str, float]) -> Decision:
        """Reports an evaluation of a running trial; a step that an earlier attempt reported is left as it was."""
        optuna_trial = self._open[trial.number]
        if step not in self.trials[trial.number].intermediate_values:
            optuna_trial.report(metrics[self.plan.objective], step)
        return Decision.PRUNE if optuna_trial.should_prune() else Decision.GO_ON

    def complete(self, trial: OpenTrial, result: TrialResult) -> None:
        """Tells a trial's result. It is final."""
        state = TrialState.PRUNED if result.pruned else TrialState.COMPLETE
        self._open[trial.number].set_user_attr(EMISSIONS_KG, result.emissions.co2eq_kg)
        self._study.tell(trial.number, None if result.pruned else result.objective, state)

    def fail(self, trial: OpenTrial, reason: str, emissions_kg: float = 0.0) -> None:
        """Tells that a trial failed, why, and what it cost nevertheless. It is final."""
        self._open[trial.number].set_user_attr(EMISSIONS_KG, emissions_kg)
        self._open[trial.number].set_user_attr(FAILURE, reason)
        self._study.tell(trial.number, state=TrialState.FAIL)

    def release(self, trial: OpenTrial) -> None:
        """Gives an interrupted trial up; the next command goes on with it."""
        self._open[trial.number].set_user_attr(LEASE, None)

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest objective, the first of equals; None without a complete one."""
        return best_of(self.trials)

    @property
    def complete_trials(self) -> list[FrozenTrial]:
        """The trials that have a result."""
        return [trial for trial in self.trials if trial.state is TrialState.COMPLETE]

    @property
    def has_failed_trials(self) -> bool:
        """Whether a trial failed."""
        return any(trial.state is TrialState.FAIL for trial in self.trials)

    @property
    def is_complete(self) -> bool:
        """Whether all its trials are finished."""
        trials = self.trials
        return len(trials) >= self.n_trials and not any(trial.state in UNFINISHED for trial in trials)

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

    def set_finals(self, finals: Finals) -> None:
        """Notes the test scores of the best trial."""
        self._study.set_user_attr(FINALS, finals.tree())


def best_of(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the highest objective, the first of equals; None without a complete one."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


def trial_folder(study: str, number: int) -> Path:
    """The folder of a study's trial."""
    return SWEEPS / study / "trials" / f"{number:04d}"
