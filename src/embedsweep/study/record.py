"""A study read from its storage: its trials, how they are counted, and which of them is the best."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import config_params
from embedsweep.config.finals import FinalPoint
from embedsweep.config.result import Emissions, RunContext, TrialResult
from embedsweep.config.study import Choice, StudyPlan, plan_of
from embedsweep.config.values import chosen_options
from embedsweep.files import FINALS, SWEEPS
from embedsweep.study.keep import keep_text
from embedsweep.study.kept_answer import AFTER_FINALS, AFTER_TRIALS, ANSWER, KeptAnswer
from embedsweep.study.leases import LEASE, Leases
from embedsweep.study.objectives import best_of
from embedsweep.study.patience import Patience
from embedsweep.study.pruning import report_steps
from embedsweep.study.sampling import POINT
from embedsweep.study.storage import existing_storage, study_lock
from embedsweep.study.study_file import PLAN, write_study_file
from embedsweep.training.folder import read_result, result_of

N_TRIALS = "embedsweep.n_trials"
PATIENCE = "embedsweep.patience"
QUOTE = "embedsweep.quote"
"""User attribute of a study that was begun with ``study.budget_hours``: what it was expected to cost."""
WORDS = "embedsweep.words"
OF_A_PLACE = ("study.name=", "study.storage=", "study.dry_run=", "tracking")
"""How words begin that say where a study is kept, and not what is searched."""
FIXED = "embedsweep.fixed"
DATA = "embedsweep.data"
WARM_START = "embedsweep.warm_start"
WARNINGS = "embedsweep.warnings"
"""User attribute of a study: the warnings about its data and trainings that a command has shown, each once."""
RUN_ID = "run_id"
EMISSIONS_KG = "emissions_kg"
ENERGY_KWH = "energy_kwh"
GPU_H = "gpu_h"
FAILURE = "embedsweep.failure"
RESULT = "embedsweep.result"
"""User attribute of a trial: its whole result, as ``training.folder.result_of`` reads it."""
CONTEXT = "embedsweep.context"
"""User attribute of a failed trial: its run's context, which other trials have in their results."""
RETRY_OF = "embedsweep.retry_of"
LOST = "embedsweep.lost"
"""User attribute of a failed trial that a repair put in the place of one whose values are lost; it counts as none."""
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)

StudyState = Literal["complete", "running", "not running", "unknown"]
"""``unknown``: another machine ran its trials, and may run them still."""


def cost_attributes(cost: Emissions) -> dict[str, float]:
    """Return a cost as user attributes of a trial, by name; GPU hours only of what used a GPU."""
    gpu = {} if cost.gpu_h is None else {GPU_H: cost.gpu_h}
    return {EMISSIONS_KG: cost.co2eq_kg, ENERGY_KWH: cost.energy_kwh, **gpu}


@dataclass(eq=False, repr=False)
class StudyRecord(KeptAnswer):
    """A study and its trials, read from the storage at each access.

    Attributes:
        name: the study's name.
        plan: its plan, frozen when it was created.
        n_trials: how many trials it has when it is complete.
        url: its storage's URL; None is the journal in its folder.
        sweeps: the folder of all studies of its working directory.
        folder: ``sweeps/<name>``.
    """

    name: str
    plan: StudyPlan
    n_trials: int
    url: str | None
    _study: optuna.Study
    sweeps: Path = field(default=SWEEPS, kw_only=True)

    def __post_init__(self) -> None:
        self.folder = self.sweeps / self.name
        self._finals: StudyRecord | None = None
        self._storage = self._study._storage
        self._leases = Leases()

    def lock(self) -> AbstractContextManager[None]:
        """Exclude other processes from this study; see `study_lock`."""
        return study_lock(self.url, self.folder, self.name, waits=True)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial as it is now. `trials` reads all that run, which takes longer the more workers there are."""
        storage = self._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))

    def params_of(self, trial: FrozenTrial) -> dict[str, Choice]:
        """Return a trial's value of every axis that is searched in it, by key."""
        return config_params(self.plan.axes, trial.params)

    def result_of(self, trial: FrozenTrial) -> TrialResult | None:
        """Return the whole result of a finished trial; None of a failed one.

        An older version kept it in the trial's folder only, which may be on another machine.
        """
        tree = trial.user_attrs.get(RESULT)
        return result_of(tree) if tree is not None else read_result(self.trial_folder(trial.number))

    def context_of(self, trial: FrozenTrial) -> RunContext | None:
        """Return what the run of a finished trial says about its training; None if an older version recorded it."""
        if (result := self.result_of(trial)) is not None:
            return result.context
        tree = trial.user_attrs.get(CONTEXT)
        return RunContext(**tree) if tree is not None else None

    @property
    def doubtful(self) -> list[int]:
        """Numbers of running trials whose worker, on another host, is not yet known to be alive or dead."""
        running = [trial for trial in self.trials if trial.state is TrialState.RUNNING]
        return [trial.number for trial in running if self._leases.judge(trial.number, trial.user_attrs) == "unknown"]

    @property
    def interrupted(self) -> list[int]:
        """Numbers of running trials whose worker is dead, so that they wait to be resumed."""
        running = [trial for trial in self.trials if trial.state is TrialState.RUNNING]
        return [trial.number for trial in running if self._leases.judge(trial.number, trial.user_attrs) == "dead"]

    @property
    def runs_elsewhere(self) -> dict[str, list[str]]:
        """Host name -> ids of its MLflow runs, for each other host that runs a trial of this study now.

        Only for a study in a database: a journal is in a folder beside the runs, and moves with them.
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
        """How many trials are left that no live worker runs, as far as is known: new ones and those of dead workers."""
        trials = self.trials
        waiting = sum(
            trial.state is TrialState.WAITING
            or (trial.state is TrialState.RUNNING and self._leases.judge(trial.number, trial.user_attrs) != "alive")
            for trial in trials
        )
        return max(0, self._expected(trials) - count_trials(trials)) + waiting

    @property
    def best(self) -> FrozenTrial | None:
        """The best complete trial; see `best_of`."""
        return best_of(self.trials, self.plan.objectives)

    @property
    def why_no_best(self) -> str:
        """Why no trial is the best, in words, where `best` is None."""
        if not self.complete_trials:
            return "no trial is complete"
        return f"no trial is the best: each complete one forgets {keep_text(self.plan.keep)} (study.keep)"

    @property
    def chosen(self) -> int | None:
        """The number of the trial whose configuration is the answer: the best finalist's, else the best trial."""
        answer, best = self.answer, self.best
        if answer is not None and answer.verdict is not None:
            return answer.verdict.best
        return best.number if best is not None else None

    @property
    def kept(self) -> tuple[StudyRecord, FrozenTrial] | None:
        """The trial whose model is the answer, in its study: of finals the one that is kept, else the best trial."""
        test, finals, best = self.finals_test, self.finals, self.best
        if test is not None and finals is not None:
            return finals, finals.trial(test.kept)
        return (self, best) if best is not None else None

    @property
    def chosen_folder(self) -> Path:
        """The folder of the trial whose model is the answer; the study's own one without any."""
        kept = self.kept
        return kept[0].trial_folder(kept[1].number) if kept is not None else self.folder

    @property
    def front(self) -> frozenset[int]:
        """Numbers of the trials on the Pareto front: no other is better in one objective and as good in the others."""
        return frozenset(trial.number for trial in self._study.best_trials)

    @property
    def pruned_at(self) -> dict[float, int]:
        """Rung -> number of trials that were pruned there, for rungs with any."""
        last = [trial.last_step for trial in self.trials if trial.state is TrialState.PRUNED]
        counts = {
            rung: last.count(step) for rung, step in zip(self.plan.pruning.rungs, report_steps(self.plan), strict=True)
        }
        return {rung: count for rung, count in counts.items() if count}

    @property
    def complete_trials(self) -> list[FrozenTrial]:
        """The trials that have a result."""
        return [trial for trial in self.trials if trial.state is TrialState.COMPLETE]

    @property
    def failed_trials(self) -> list[FrozenTrial]:
        """The trials that failed and that no later trial replaces."""
        trials = self.trials
        replaced = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        failed = [trial for trial in trials if trial.state is TrialState.FAIL and LOST not in trial.user_attrs]
        return [trial for trial in failed if trial.number not in replaced]

    @property
    def is_complete(self) -> bool:
        """Whether all its trials are finished."""
        trials = self.trials
        return count_trials(trials) >= self._expected(trials) and not any(t.state in UNFINISHED for t in trials)

    @property
    def patience(self) -> Patience | None:
        """When it stops before it has all its trials, as the last command set it; None if it does not."""
        tree = self._study.user_attrs.get(PATIENCE)
        return Patience(**tree) if tree else None

    @property
    def n_expected(self) -> int:
        """How many trials it has when it is complete: ``n_trials``, or fewer once it has stopped."""
        return self._expected(self.trials)

    @property
    def is_stopped(self) -> bool:
        """Whether no new trial is started although it has fewer than ``n_trials``, as they no longer improve.

        An improvement by a trial that still runs, or more patience, lifts this.
        """
        return self.n_expected < self.n_trials

    @property
    def last_improvement(self) -> tuple[int, int] | None:
        """The numbers of the last trial that improved, as its patience counts, and of the best one before it."""
        patience = self.patience
        return patience.last_improvement(self.trials, self._study.direction) if patience is not None else None

    def _expected(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many trials the study has when it is complete; points that are tried first are all tried."""
        patience = self.patience
        if patience is None:
            return self.n_trials
        n_points = len(self.plan.enqueue) + (self._study.user_attrs.get(WARM_START) is not None)
        is_over = len({trial.user_attrs[POINT] for trial in trials if POINT in trial.user_attrs}) >= n_points
        is_over = is_over and patience.is_over(trials, self._study.direction)
        return min(self.n_trials, count_trials(trials)) if is_over else self.n_trials

    @property
    def state(self) -> StudyState:
        """Whether all its trials are finished, and if not, whether any is run now, as far as this machine can tell."""
        if self.is_complete:
            return "complete"
        running = [trial for trial in self.trials if trial.state is TrialState.RUNNING]
        verdicts = {self._leases.judge(trial.number, trial.user_attrs) for trial in running}
        return "running" if "alive" in verdicts else "unknown" if "unknown" in verdicts else "not running"

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the trials that run, here or elsewhere, or wait to be resumed."""
        return [trial.number for trial in self.trials if trial.state in UNFINISHED]

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    @property
    def experiment(self) -> str:
        """MLflow's experiment of its runs: its name; of finals, the name of their study."""
        return self.name.removesuffix(f"/{FINALS}")

    @property
    def finals(self) -> StudyRecord | None:
        """The finals of this study, a study in the same storage; None before they began."""
        if self._finals is None and not self.is_finals:
            self._finals = self._read_finals()
        if self._finals is not None:  # this command, or another, may have added seeds or finalists
            self._finals.n_trials = self._finals._study.user_attrs[N_TRIALS]
        return self._finals

    def _read_finals(self) -> StudyRecord | None:
        name = f"{self.name}/{FINALS}"
        storage = self._storage if self.url else existing_storage(None, self.sweeps / name, read_only=True)
        try:
            study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner()) if storage else None
        except KeyError:
            study = None
        if study is None or N_TRIALS not in study.user_attrs:  # which is written last
            return None
        plan = plan_of(json.loads(study.user_attrs[PLAN]))
        return StudyRecord(name, plan, study.user_attrs[N_TRIALS], self.url, study, sweeps=self.sweeps)

    @property
    def unit(self) -> str:
        """What its trials are called: ``trial``, or ``final`` of finals."""
        return "final" if self.is_finals else "trial"

    @property
    def is_finals(self) -> bool:
        """Whether it is the finals of another study."""
        return self.experiment != self.name

    def point_of(self, trial: FrozenTrial) -> FinalPoint | None:
        """Return what a trial of finals trains, also as the retry of a failed one; else, and of a lost one, None."""
        if not self.is_finals:
            return None
        if (failed := trial.user_attrs.get(RETRY_OF)) is not None:
            return self.point_of(self.trial(failed))
        index = trial.user_attrs.get(POINT)
        return self.points[index] if index is not None else None

    @property
    def is_answered(self) -> bool:
        """Whether the answer is of all trials of it and its finals that are finished now."""
        tree = self._study.user_attrs.get(ANSWER)
        return tree is not None and (tree[AFTER_TRIALS], tree[AFTER_FINALS]) == self.trial_counts

    @property
    def trial_counts(self) -> tuple[int, int]:
        """How many finished trials it and its finals have."""
        both = (self.trials, finals.trials if (finals := self.finals) is not None else [])
        of_study, of_finals = (sum(trial.state.is_finished() for trial in trials) for trials in both)
        return of_study, of_finals

    @property
    def quote(self) -> Mapping[str, Any] | None:
        """What the study was expected to cost, as `Quote.tree` has it; None if it was not begun with a budget."""
        quote: Mapping[str, Any] | None = self._study.user_attrs.get(QUOTE)
        return quote

    @property
    def warnings(self) -> list[str]:
        """The warnings about its data and trainings that commands have shown."""
        return list(self._study.user_attrs.get(WARNINGS, []))

    @property
    def words(self) -> list[str]:
        """What is searched: overrides of the command that created the study; empty if an older version created it."""
        return list(self._study.user_attrs.get(WORDS, []))

    @property
    def fixed(self) -> list[str]:
        """The overrides of the command that created the study, without the swept ones."""
        return list(self._study.user_attrs.get(FIXED, []))

    @property
    def frozen_data(self) -> dict[str, dict[str, Any]]:
        """What each source held when the study was created, by name; empty if an older version created it."""
        return dict(self._study.user_attrs.get(DATA, {}))

    def freeze_data(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what each source holds; the caller holds the lock."""
        self._study.set_user_attr(DATA, {name: dict(content) for name, content in contents.items()})
        write_study_file(self.folder, self._study, self.url)

    def options_of(self, params: Mapping[str, Choice]) -> dict[str, str]:
        """Return the options that the study's command chose for the trial with these values, by group."""
        return chosen_options(self.fixed) | {group: str(params[group]) for group in self.plan.groups}


def count_trials(trials: Iterable[FrozenTrial]) -> int:
    """Return how many trials count towards ``n_trials``: the retry of a failed trial replaces it; lost ones do not."""
    return sum(RETRY_OF not in trial.user_attrs and LOST not in trial.user_attrs for trial in trials)
