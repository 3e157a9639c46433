"""An open study: ask Optuna for the next trial, hold it while it runs, and tell Optuna how it ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import optuna
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import config_params
from embedsweep.config.identity import config_hash
from embedsweep.config.result import Decision, Emissions, RunContext, TrialResult
from embedsweep.config.study import StudyServices
from embedsweep.config.trial import TrialConfig
from embedsweep.lease import Lease
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.study.deaths import DEATHS, Deaths, failure_of, failures_in, last_sign_of
from embedsweep.study.duplicates import CONFIG_HASH, DUPLICATE, Duplicate, find_duplicate, replicate_config
from embedsweep.study.holder import ATTEMPTS, SENT, TrialHolder, repeated
from embedsweep.study.keep import constraints_of
from embedsweep.study.kept_answer import AnswerKeeper
from embedsweep.study.leases import BEAT, LEASE
from embedsweep.study.objectives import values_of
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.pruning import PRUNED, decide
from embedsweep.study.record import (
    CONTEXT,
    EMISSIONS_KG,
    ENERGY_KWH,
    FAILURE,
    GPU_H,
    RESULT,
    RETRY_OF,
    RUN_ID,
    WARM_START,
    WARNINGS,
    cost_attributes,
    count_trials,
)
from embedsweep.study.sampling import TrialSampler
from embedsweep.study.study_file import write_study_file
from embedsweep.study.trial_file import set_aside, write_trial
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints

FAILED_ATTEMPTS = "embedsweep.failed_attempts"
"""Number of an attempt that raised -> why. Older versions noted deaths here, too."""


@dataclass(eq=False, repr=False)
class Study(TrialHolder, AnswerKeeper):
    """An open study that runs trials; made by `embedsweep.study.opening.open_study`.

    A process asks for a trial (`ask`), keeps its lease alive (`alive`), reports evaluations (`report`) and ends it by
    `complete`, `reuse` or `fail`, which are final in Optuna, or by `retry` or `release`, after which it is resumed.
    Those raise TrialTakenError where another worker has reclaimed the trial in the meantime.

    Attributes:
        services: what all its trials share.
    """

    services: StudyServices
    _starting: tuple[int, int] | None = field(default=None, init=False)
    """The trial that `ask` starts, and how many attempts it had."""

    @repeated
    def ask(self) -> OpenTrial | None:
        """Return the next trial to run; None when no more are to be started.

        A trial whose worker died comes first, with its number, values, folder and run. Reclaiming, counting and asking
        are one step under the study's lock, so that the count is exact whichever processes ask.
        """
        with self.lock():
            trials = self.trials
            if self._reclaim(trials):
                trials = self.trials
            waiting = [trial.number for trial in trials if trial.state is TrialState.WAITING]
            if not waiting and count_trials(trials) >= self._expected(trials):
                return None
            number = waiting[0] if waiting else len(trials)
            started = self._start(self._sampler.ask(self._study, trials, number))
            self._starting = None
            return started

    def _start(self, trial: optuna.Trial) -> OpenTrial:
        """Take a trial's lease and count the attempt, before it starts; the caller holds the lock."""
        attributes, folder = trial.user_attrs, self.trial_folder(trial.number)
        if LEASE not in attributes:
            set_aside(folder)
        has_folder = folder.exists()
        attempts, deaths = int(attributes.get(ATTEMPTS, 0)), Deaths.of(attributes)
        failures = failures_in(attributes.get(FAILED_ATTEMPTS, {}))
        why_over = self._why_over(failures, deaths)
        self._starting = trial.number, attempts
        trial.set_user_attr(LEASE, asdict(Lease.mine()))
        if BEAT in attributes:
            trial.set_user_attr(BEAT, 0)
        if why_over is None:
            attempts += 1
            trial.set_user_attr(ATTEMPTS, attempts)
        self._open[trial.number] = trial
        self._lost.discard(trial.number)
        self._write_file(trial.number)
        return OpenTrial(
            number=trial.number,
            params=config_params(self.plan.axes, trial.params),
            folder=folder,
            run_id=attributes.get(RUN_ID),
            is_resumed=LEASE in attributes,
            attempt=attempts,
            failures=failures,
            deaths=deaths,
            why_over=why_over,
            has_folder=has_folder,
        )

    def _why_over(self, failures: tuple[str, ...], deaths: Deaths) -> str | None:
        """Return why a trial must not be run again; None if it may."""
        limit = self.services.max_deaths
        if deaths.count >= limit:
            return failure_of((*failures, deaths.as_failure(limit)))
        return failure_of(failures) if len(failures) > self.services.max_retries else None

    @repeated
    def retry_failed(self) -> list[int]:
        """Enqueue a new trial for each failed trial that has none yet; return the numbers of the failed trials."""
        with self.lock(), shielded():
            failed = self.failed_trials
            for trial in failed:
                self._study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})
        return [trial.number for trial in failed]

    @cached_property
    def _sampler(self) -> TrialSampler:
        first = self._study.user_attrs.get(WARM_START)
        return TrialSampler(self.plan, [first["params"]] if first else [point.values for point in self.points])

    def _reclaim(self, trials: Sequence[FrozenTrial]) -> bool:
        """Set trials whose worker died to WAITING, and return whether there are any; the caller holds the lock."""
        is_any = False
        for trial in trials:
            if self._starting is not None and trial.number == self._starting[0] and trial.state is TrialState.RUNNING:
                is_any = True
                self._stop_starting(trial, self._starting[1])
            elif trial.state is TrialState.RUNNING and self._leases.judge(trial.number, trial.user_attrs) == "dead":
                is_any = True
                if trial.user_attrs.get(LEASE) is not None:
                    self._add_death(trial, last_sign_of(trial.user_attrs))
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return is_any

    def _stop_starting(self, trial: FrozenTrial, attempts: int) -> None:
        """Give a trial back whose start lost the lock, as if it had not begun; the caller holds the lock."""
        if trial.user_attrs.get(LEASE) == asdict(Lease.mine()):
            self._storage.set_trial_user_attr(trial._trial_id, ATTEMPTS, attempts)
            self._storage.set_trial_user_attr(trial._trial_id, LEASE, None)
        elif trial.user_attrs.get(LEASE) is not None and self._leases.judge(trial.number, trial.user_attrs) != "dead":
            return  # another worker has it by now
        self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _add_death(self, trial: FrozenTrial, reason: str) -> None:
        here = Checkpoints(self.trial_folder(trial.number) / CHECKPOINTS).last_sealed
        # Where it died on another machine, the newest one may be known only by what that sent.
        known = [step for step in (here, trial.user_attrs.get(SENT)) if step is not None]
        checkpoint = max(known, default=None)
        deaths = Deaths.of(trial.user_attrs).after(int(trial.user_attrs.get(ATTEMPTS, 0)), checkpoint, reason)
        self._storage.set_trial_user_attr(trial._trial_id, DEATHS, asdict(deaths))

    @repeated
    def duplicate(self, trial: OpenTrial, config: TrialConfig) -> Duplicate | None:
        """Return how to treat a trial that repeats a finished one, else None; decided before its first attempt."""
        with self._held(trial):
            trials = self.trials
            decided = Duplicate.of(trials[trial.number])
            if decided is not None or CONFIG_HASH in trials[trial.number].user_attrs:
                return decided
            duplicate = find_duplicate(config, trial.number, trials, self.plan.duplicates)
            if duplicate is not None:
                self._set(trial, DUPLICATE, asdict(duplicate))
                config = replicate_config(config, duplicate.replicate or 0)
            # Set at once: a trial that another worker begins with the same values is to know of this one.
            self._set(trial, CONFIG_HASH, config_hash(config))
            return duplicate

    def set_run(self, trial: OpenTrial, run_id: str, identity: str) -> None:
        """Set the trial's MLflow run and the hash of its configuration, also in its folder."""
        self._set(trial, RUN_ID, run_id)
        self._set(trial, CONFIG_HASH, identity)
        self._write_file(trial.number)

    def report(
        self, trial: OpenTrial, step: int, metrics: Mapping[str, float], total: int, *, keeps: bool = True
    ) -> Decision:
        """Report an evaluation of a running trial; return whether the trial continues.

        Without a pruner it is reported under its optimizer step, with a pruner under its rung, where the pruner
        decides; reports of an earlier attempt stay. Optuna takes no reports with several objectives.

        Args:
            trial: a trial of this process.
            step: optimizer steps trained.
            metrics: dev metrics, by name.
            total: optimizer steps of the whole training.
            keeps: whether it has so far forgotten no more than ``study.keep`` allows.
        """
        if len(self.plan.objectives) > 1:
            return Decision.CONTINUE
        optuna_trial, value = self._open[trial.number], metrics[self.plan.objective]
        with shielded():
            if self.plan.pruner != "none":
                return decide(self.plan, optuna_trial, step, total, value, keeps=keeps)
            if step not in optuna_trial._cached_frozen_trial.intermediate_values:  # of earlier attempts, too
                optuna_trial.report(value, step)
        return Decision.CONTINUE

    def prune_reason(self, trial: OpenTrial) -> str | None:
        """Return why and when a trial of this process was pruned; None if it was not."""
        return self._open[trial.number].user_attrs.get(PRUNED)

    @repeated
    def complete(self, trial: OpenTrial, result: TrialResult) -> None:
        """Tell Optuna a trial's result; the value of a pruned trial is the last that was reported.

        Raises:
            TrialError: what ``study.keep`` compares is not known.
        """
        with self._held(trial):
            state = TrialState.PRUNED if result.pruned else TrialState.COMPLETE
            values = None if result.pruned else values_of(result, self.plan.objectives)
            self._set_cost(trial, result.emissions)
            self._set(trial, RESULT, asdict(result))
            self._constrain(trial, constraints_of(self.plan.keep, result))
            self._tell(trial, state, values)

    @repeated
    def reuse(self, trial: OpenTrial, original: FrozenTrial, result: TrialResult | None) -> None:
        """Tell Optuna the result of another trial as this one's.

        Args:
            trial: a trial of this process.
            original: the other trial.
            result: its whole result, without its cost; None if an older version kept it on another machine only.
        """
        is_pruned = original.state is TrialState.PRUNED
        with self._held(trial):
            for name in (EMISSIONS_KG, ENERGY_KWH, *([GPU_H] if GPU_H in original.user_attrs else [])):
                self._set(trial, name, 0.0)
            # Optuna takes a pruned trial's value from its last report. The other reports are left out: pruners would
            # compare with one training twice.
            step = original.last_step
            if is_pruned and step is not None and step not in self.trial(trial.number).intermediate_values:
                self._open[trial.number].report(original.intermediate_values[step], step)
            if result is not None:
                self._set(trial, RESULT, asdict(result))
            self._constrain(trial, original.constraints)
            self._tell(trial, original.state, None if is_pruned else original.values)

    @repeated
    def fail(
        self, trial: OpenTrial, reason: str, cost: Emissions | None = None, context: RunContext | None = None
    ) -> None:
        """Tell Optuna that a trial failed, with the reason, what it cost as far as it ran, and its run's context."""
        with self._held(trial):
            if cost is not None:
                self._set_cost(trial, cost)
            if context is not None:
                self._set(trial, CONTEXT, asdict(context))
            self._set(trial, FAILURE, reason)
            self._tell(trial, TrialState.FAIL)

    @repeated
    def retry(self, trial: OpenTrial, reason: str) -> None:
        """Release a trial whose attempt raised, so that the next `ask` of any process returns it."""
        with self._held(trial):
            raised = self.trial(trial.number).user_attrs.get(FAILED_ATTEMPTS, {})
            self._set(trial, FAILED_ATTEMPTS, {**raised, str(trial.attempt): reason})
            self._give_up(trial)

    @repeated
    def release_after_death(self, trial: OpenTrial, reason: str) -> None:
        """Release a trial of which a process died, or lost its GPU, so that it is resumed as after a kill."""
        with self._held(trial):
            self._add_death(self.trial(trial.number), reason)
            self._give_up(trial)

    @repeated
    def release(self, trial: OpenTrial) -> None:
        """Release an interrupted trial, whose attempt does not count, so that it is resumed."""
        with self._held(trial):
            if trial.why_over is None:
                self._set(trial, ATTEMPTS, trial.attempt - 1)
            self._give_up(trial)

    def _give_up(self, trial: OpenTrial) -> None:
        """Give up the lease of a trial that is to be resumed."""
        self._set(trial, LEASE, None)
        self._write_file(trial.number)

    def _tell(self, trial: OpenTrial, state: TrialState, values: Sequence[float] | None = None) -> None:
        """Tell Optuna a trial's state, and keep its record in its folder."""
        self._study.tell(trial.number, values, state)
        self._write_file(trial.number)

    def _constrain(self, trial: OpenTrial, constraints: Mapping[str, float]) -> None:
        """Set Optuna's constraints of a trial, which is told next; those that a killed worker set stay."""
        optuna_trial = self._open[trial.number]
        for name in constraints.keys() - optuna_trial.constraints.keys():
            optuna_trial.set_constraint(name, constraints[name])

    def _write_file(self, number: int) -> None:
        """Write a trial's record into its folder; a file that cannot be written now is written at the next opening."""
        try:
            write_trial(self.trial_folder(number), self.trial(number))
        except OSError as error:
            logging.getLogger(__name__).warning("the record of trial %d was not written: %s", number, error)

    def _set_cost(self, trial: OpenTrial, cost: Emissions) -> None:
        for name, value in cost_attributes(cost).items():
            self._set(trial, name, value)

    @repeated
    def unseen_warnings(self, lines: Sequence[str]) -> list[str]:
        """Return the lines that no command on this study has shown, and note that this one shows them."""
        with self.lock(), shielded():
            seen = self.warnings
            unseen = [line for line in map(redact, lines) if line not in seen]
            if unseen:
                self._study.set_user_attr(WARNINGS, [*seen, *unseen])
                write_study_file(self.folder, self._study, self.url)
        return unseen
