"""A study that is open: who gets which trial, and what is told of it.

Owns the budget and the states of trials. Knows neither how a study is created nor how a trial is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import config_params
from embedsweep.config.result import Decision, Emissions, TrialResult
from embedsweep.config.study import Choice
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialTakenError
from embedsweep.signals import shielded
from embedsweep.study.duplicates import CONFIG_HASH, DUPLICATE, Duplicate, find_duplicate
from embedsweep.study.leases import BEAT, BEAT_EVERY_S, LEASE, Lease, beating
from embedsweep.study.pruning import PRUNED, decide
from embedsweep.study.record import (
    EMISSIONS_KG,
    ENERGY_KWH,
    FAILURE,
    FINALS,
    GPU_H,
    RETRY_OF,
    RUN_ID,
    WARM_START,
    Finals,
    StudyRecord,
    count_trials,
    values_of,
)
from embedsweep.study.sampling import Drawing

ATTEMPTS = "embedsweep.attempts"
"""How many were begun, less those that were interrupted; written before each of them begins."""

FAILED_ATTEMPTS = "embedsweep.failed_attempts"
"""By their numbers, why attempts failed."""

DIED = "its worker died"


def death_of(attributes: Mapping[str, Any]) -> str:
    """What became of an attempt whose worker is dead, by the trial's user attributes."""
    lease, beat = attributes[LEASE], int(attributes.get(BEAT, 0))
    seconds = f"{beat * BEAT_EVERY_S:.0f} s" if beat else f"less than {BEAT_EVERY_S:.0f} s"
    process = f"process {lease['pid']} on {lease['host']}"
    return f"{DIED} (the last sign of life of {process} came {seconds} after the attempt had begun)"


def failure_of(reasons: Sequence[str]) -> str:
    """Why a trial failed, of which every attempt failed.

    Args:
        reasons: of its attempts, in order; at least one.
    """
    *earlier, last = reasons
    if not earlier:
        return last
    if all(reason.startswith(DIED) for reason in reasons):
        return last.replace(DIED, f"{DIED} {len(reasons)} times", 1)
    if set(earlier) == {last}:
        return f"{last} (in each of {len(reasons)} attempts)"
    return "; ".join((last, *(f"attempt {number}: {reason}" for number, reason in enumerate(earlier, start=1))))


@dataclass(frozen=True)
class OpenTrial:
    """A trial that this process runs.

    Attributes:
        number: its number in the study.
        params: the drawn value of every axis that is searched in it, by key.
        folder: its own.
        run_id: its MLflow run, where an earlier attempt has made one.
        is_resumed: whether an earlier attempt was made.
        attempt: which one this is, from 1; those that were interrupted do not count.
        failures: why earlier attempts failed, in order.
        is_over: whether its attempts are used up: it is not to be run, but to be failed.
    """

    number: int
    params: Mapping[str, Choice]
    folder: Path
    run_id: str | None
    is_resumed: bool
    attempt: int
    failures: tuple[str, ...]
    is_over: bool


@dataclass(eq=False, repr=False)
class Study(StudyRecord):
    """An open study whose trials can be asked for. Made by :func:`embedsweep.study.opening.open_study`."""

    _open: dict[int, optuna.Trial] = field(default_factory=dict, init=False)
    _taken: set[int] = field(default_factory=set, init=False)

    def ask(self) -> OpenTrial | None:
        """The next trial to run; None when no more are to be begun.

        A trial whose worker died comes first, with its number, values, folder and run. Reclaiming, counting and asking
        are one step under the study's lock, so that the count is exact whoever else asks.
        """
        with self.lock():
            self._reclaim()
            trials = self.trials
            waiting = [trial.number for trial in trials if trial.state is TrialState.WAITING]
            counted = count_trials(trials)
            if not waiting and counted >= self.n_trials:
                return None
            number = waiting[0] if waiting else len(trials)
            return self._begin(self._drawing.draw(self._study, trials, number))

    def _begin(self, trial: optuna.Trial) -> OpenTrial:
        """Takes a trial's lease and counts the attempt, before it begins; the caller holds the lock."""
        attributes = trial.user_attrs
        attempts = int(attributes.get(ATTEMPTS, 0))
        is_over = attempts > self.services.max_retries
        trial.set_user_attr(LEASE, Lease.mine().tree())
        if BEAT in attributes:
            trial.set_user_attr(BEAT, 0)
        if not is_over:
            attempts += 1
            trial.set_user_attr(ATTEMPTS, attempts)
        self._open[trial.number] = trial
        self._taken.discard(trial.number)
        return OpenTrial(
            number=trial.number,
            params=config_params(self.plan.axes, trial.params),
            folder=self.trial_folder(trial.number),
            run_id=attributes.get(RUN_ID),
            is_resumed=LEASE in attributes,
            attempt=attempts,
            failures=tuple(attributes.get(FAILED_ATTEMPTS, {}).values()),
            is_over=is_over,
        )

    def retry_failed(self) -> list[int]:
        """Gives every configuration that failed, and was given none yet, a new trial.

        Returns:
            The numbers of the failed trials, which no longer count.
        """
        with self.lock(), shielded():
            failed = self.failed_trials
            for trial in failed:
                self._study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})
        return [trial.number for trial in failed]

    @cached_property
    def _drawing(self) -> Drawing:
        first = self._study.user_attrs.get(WARM_START)
        return Drawing(self.plan, [first["params"]] if first else [])

    def _reclaim(self) -> None:
        """Puts trials whose worker died back into the queue; the caller holds the lock."""
        for trial in self.trials:
            if trial.state is TrialState.RUNNING and self._leases.judge(trial.number, trial.user_attrs) == "dead":
                if trial.user_attrs.get(LEASE) is not None:
                    self._note_failure(trial, trial.user_attrs.get(ATTEMPTS, 0), death_of(trial.user_attrs))
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _note_failure(self, trial: FrozenTrial, attempt: int, reason: str) -> None:
        failures = {str(attempt): reason, **trial.user_attrs.get(FAILED_ATTEMPTS, {})}  # the first note stands
        by_number = dict(sorted(failures.items(), key=lambda item: int(item[0])))
        self._storage.set_trial_user_attr(trial._trial_id, FAILED_ATTEMPTS, by_number)

    @contextmanager
    def alive(self, trial: OpenTrial) -> Iterator[None]:
        """Keeps the trial's lease alive while the block runs."""

        def beat(count: int) -> None:
            # Whoever took the trial has a lease of his own, which is not to be kept alive from here.
            if self.holds(trial):
                self._open[trial.number].set_user_attr(BEAT, count)
            else:
                self._taken.add(trial.number)

        with beating(beat):
            yield

    def holds(self, trial: OpenTrial) -> bool:
        """Whether a trial that was asked for here still runs here, and no other worker has taken it up."""
        now = self._storage.get_trial(self._open[trial.number]._trial_id)
        attributes = now.user_attrs
        is_mine = attributes.get(LEASE) == Lease.mine().tree() and attributes.get(ATTEMPTS, 0) == trial.attempt
        return now.state is TrialState.RUNNING and is_mine

    def check_held(self, trial: OpenTrial) -> None:
        """Asks no storage: what was found at the last sign of life counts.

        Raises:
            TrialTakenError: another worker has taken the trial up.
        """
        if trial.number in self._taken:
            raise TrialTakenError(trial.number)

    @contextmanager
    def _held(self, trial: OpenTrial) -> Iterator[None]:
        """Everyone else's steps on the study are held off, and the trial is certainly this worker's.

        Raises:
            TrialTakenError: another worker has taken the trial up.
        """
        with self.lock(), shielded():
            if not self.holds(trial):
                raise TrialTakenError(trial.number)
            yield

    def duplicate(self, trial: OpenTrial, config: TrialConfig) -> Duplicate | None:
        """What becomes of a trial if it repeats a finished one; decided once, before it is first begun.

        Raises:
            TrialTakenError: another worker has taken the trial up.
        """
        with self._held(trial):
            trials = self.trials
            decided = Duplicate.of(trials[trial.number])
            if decided is not None or CONFIG_HASH in trials[trial.number].user_attrs:
                return decided
            found = find_duplicate(config, trial.number, trials, self.plan.duplicates)
            if found is not None:
                self._open[trial.number].set_user_attr(DUPLICATE, found.tree())
            return found

    def set_run(self, trial: OpenTrial, run_id: str, config_hash: str) -> None:
        """Notes the trial's MLflow run and the hash of its configuration."""
        self._open[trial.number].set_user_attr(RUN_ID, run_id)
        self._open[trial.number].set_user_attr(CONFIG_HASH, config_hash)

    def report(self, trial: OpenTrial, step: int, metrics: Mapping[str, float], total: int) -> Decision:
        """Reports an evaluation of a running trial and says whether it goes on.

        Without a pruner it is reported by its optimizer step, with one by its rung, where the pruner decides; what an
        earlier attempt reported is left as it was. Optuna takes no reports of several objectives.

        Args:
            trial: one of this process's.
            step: optimizer steps trained.
            metrics: of dev.
            total: optimizer steps of the whole training.
        """
        if len(self.plan.objectives) > 1:
            return Decision.GO_ON
        optuna_trial, value = self._open[trial.number], metrics[self.plan.objective]
        with shielded():
            if self.plan.pruner != "none":
                return decide(self.plan, optuna_trial, step, total, value)
            if step not in self.trials[trial.number].intermediate_values:
                optuna_trial.report(value, step)
        return Decision.GO_ON

    def prune_reason(self, trial: OpenTrial) -> str | None:
        """Why and when a trial of this process was pruned, in words; None where it was not."""
        return self._open[trial.number].user_attrs.get(PRUNED)

    def complete(self, trial: OpenTrial, result: TrialResult) -> None:
        """Tells a trial's result. It is final. The value of a pruned trial is the last that was reported.

        Raises:
            TrialTakenError: another worker has taken the trial up, and will tell its result.
        """
        with self._held(trial):
            state = TrialState.PRUNED if result.pruned else TrialState.COMPLETE
            values = None if result.pruned else values_of(result, self.plan.objectives)
            self._note_cost(trial, result.emissions)
            self._study.tell(trial.number, values, state)

    def reuse(self, trial: OpenTrial, original: FrozenTrial) -> None:
        """Tells of a trial what another one came to. It is final.

        Raises:
            TrialTakenError: another worker has taken the trial up, and will tell the same.
        """
        is_pruned = original.state is TrialState.PRUNED
        with self._held(trial):
            for name in (EMISSIONS_KG, ENERGY_KWH, *([GPU_H] if GPU_H in original.user_attrs else [])):
                self._open[trial.number].set_user_attr(name, 0.0)
            # Optuna takes a pruned trial's value from its last report. The others are left out: pruners would compare
            # with one training twice.
            step = original.last_step
            if is_pruned and step is not None and step not in self.trials[trial.number].intermediate_values:
                self._open[trial.number].report(original.intermediate_values[step], step)
            self._study.tell(trial.number, None if is_pruned else original.values, original.state)

    def fail(self, trial: OpenTrial, reason: str, cost: Emissions | None = None) -> None:
        """Tells that a trial failed, why, and what it cost nevertheless, as far as it ran. It is final.

        Raises:
            TrialTakenError: another worker has taken the trial up.
        """
        with self._held(trial):
            if cost is not None:
                self._note_cost(trial, cost)
            self._open[trial.number].set_user_attr(FAILURE, reason)
            self._study.tell(trial.number, state=TrialState.FAIL)

    def retry(self, trial: OpenTrial, reason: str) -> None:
        """Gives a trial up whose attempt failed; whoever asks next begins it again, or fails it.

        Raises:
            TrialTakenError: another worker has taken the trial up.
        """
        with self._held(trial):
            self._note_failure(self.trials[trial.number], trial.attempt, reason)
            self._open[trial.number].set_user_attr(LEASE, None)

    def release(self, trial: OpenTrial) -> None:
        """Gives an interrupted trial up, whose attempt does not count; the next command goes on with it.

        Raises:
            TrialTakenError: another worker has taken the trial up.
        """
        with self._held(trial):
            if not trial.is_over:
                self._open[trial.number].set_user_attr(ATTEMPTS, trial.attempt - 1)
            self._open[trial.number].set_user_attr(LEASE, None)

    def _note_cost(self, trial: OpenTrial, cost: Emissions) -> None:
        self._open[trial.number].set_user_attr(EMISSIONS_KG, cost.co2eq_kg)
        self._open[trial.number].set_user_attr(ENERGY_KWH, cost.energy_kwh)
        if cost.gpu_h is not None:
            self._open[trial.number].set_user_attr(GPU_H, cost.gpu_h)

    def set_finals(self, finals: Finals) -> None:
        """Notes the test scores of the best trial."""
        with shielded():
            self._study.set_user_attr(FINALS, finals.tree())
