"""The worker: asks the study for a trial, runs it, reports the result (see `outcomes`), and repeats.

The order of an attempt is such that a kill between any two steps loses nothing and doubles nothing: ask, open the run,
train, send what it leaves to the bucket if there is one, end the run, tell Optuna, delete what is not kept.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from embedsweep.config.identity import config_hash
from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.console import Display
from embedsweep.errors import (
    DeviceLostError,
    EmbedsweepError,
    GroupError,
    StudyError,
    TrackingError,
    TrialTakenError,
    UnreachableError,
    first_line,
)
from embedsweep.files import DISK_FULL, is_disk_full
from embedsweep.machine import free_device_memory, is_device_lost
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.study.deaths import failure_of
from embedsweep.study.duplicates import replicate_config
from embedsweep.study.frozen_data import require_same_data
from embedsweep.study.keep import constraints_of, forgotten, keeps_so_far
from embedsweep.study.leases import BEAT_EVERY_S
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.study import Study
from embedsweep.tracking.names import color_tags, option_tags, trial_name
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.training.built_models import BuiltModels
from embedsweep.training.data import data_warnings
from embedsweep.training.folder import read_result
from embedsweep.training.group import TrainingGroup
from embedsweep.training.steps import training_warnings
from embedsweep.training.trial import TrialSetup, run_trial
from embedsweep.validation.plan_cells import cell_config
from embedsweep.workers.elsewhere import CheckpointsElsewhere
from embedsweep.workers.leftovers import Leftovers
from embedsweep.workers.missing_runs import origin_tags, record_fetched
from embedsweep.workers.outcomes import Outcomes
from embedsweep.workers.results_elsewhere import ResultsElsewhere


@dataclass(frozen=True)
class Worker:
    """Runs trials of a study, one after another.

    Attributes:
        study: where trials come from.
        tracker: records them in MLflow.
        parent: the id of the study's own run.
        display: shows them.
        deadline: time of the monotonic clock after which no trial is started; None for no limit.
        number: its number among the workers of its command, from 0.
        allocation: the file with the energy allocated to this worker, where several run at once; None measures the
            machine for each trial.
        group: the processes that train each trial together; None trains in this one.
        after_trial: is called after each attempt at a trial.
        alive: is called while a trial runs, wherever it gets further, and while this worker waits for one.
    """

    study: Study
    tracker: Tracker
    parent: str
    display: Display
    deadline: float | None = None
    number: int = 0
    allocation: Path | None = None
    group: TrainingGroup | None = None
    after_trial: Callable[[], None] = lambda: None
    alive: Callable[[], None] = lambda: None
    _known_warnings: set[str] = field(default_factory=set, init=False)
    _models: BuiltModels = field(default_factory=BuiltModels, init=False)

    @cached_property
    def _outcomes(self) -> Outcomes:
        return Outcomes(self.study, self.display)

    @cached_property
    def _elsewhere(self) -> CheckpointsElsewhere:
        return CheckpointsElsewhere(self.study, self.display.say)

    @cached_property
    def _results(self) -> ResultsElsewhere:
        return ResultsElsewhere(self.study, self.study.services, self.display.say, self.alive)

    @cached_property
    def _leftovers(self) -> Leftovers:
        return Leftovers(self.study)

    def work(self) -> None:
        """Run trials until there are no more to begin, or the deadline has passed.

        Raises:
            Interrupted: a signal came; the running trial was released and will be resumed.
        """
        while (trial := self._next()) is not None:
            self._attempt(trial)
            free_device_memory()
            self._leftovers.delete()
            self._elsewhere.delete_unneeded()
            self._results.send_left(again=False)
            self._results.delete_unneeded()
            self.after_trial()
        self._results.send_left()

    def _next(self) -> OpenTrial | None:
        said = ""
        while self.deadline is None or time.monotonic() <= self.deadline:
            if (trial := self._ask()) is not None:
                return trial
            if waits_for := self._waits_for():
                if waits_for != said:
                    self.display.say(waits_for)
                    said = waits_for
                self.alive()
                time.sleep(BEAT_EVERY_S)
            elif not self.study.n_left:  # else the last trial that ran has ended since, and lifted the stop
                if self.study.is_stopped:
                    self.display.say("study.patience is reached: no further trial is started")
                return None
        self.display.say("study.timeout has passed: no further trial is started")
        return None

    def _waits_for(self) -> str:
        """Return in words what may yet give this worker a trial, where there is none now; empty if nothing may."""
        if doubtful := self.study.doubtful:
            return f"waiting to see whether {_trials(doubtful)}, started on another machine, still runs"
        if self.study.is_stopped and (unfinished := self.study.unfinished):
            return f"study.patience is reached: waiting to see whether {_trials(unfinished)} improves on the best"
        if self.study.finals_config is not None and self.study.unfinished:
            return "waiting for trials that other workers run: the finals come next"
        return ""

    def _ask(self) -> OpenTrial | None:
        trial: OpenTrial | None = None
        try:
            with shielded():
                trial = self.study.ask()
        except BaseException:
            if trial is not None:
                with shielded():
                    self.study.release(trial)
            raise
        return trial

    def _attempt(self, trial: OpenTrial) -> None:
        try:
            with self.study.alive(trial):
                self._run_attempt(trial)
        except TrialTakenError as taken:
            self.display.end(str(trial.number), "RUNNING", None, f"abandoned: {taken}")

    def _note(self, trial: OpenTrial) -> str:
        if trial.why_over is not None or not trial.is_resumed:
            return ""
        services, retry, deaths = self.study.services, len(trial.failures), trial.deaths.count
        attempt = f", attempt {1 + retry} of {1 + services.max_retries}" if retry else ""
        if deaths > 1:
            attempt += f", death {deaths} of {services.max_deaths} without a newer checkpoint"
        return f"resumed{attempt}{self._results.origin(trial) or self._elsewhere.origin(trial)}"

    def _run_attempt(self, trial: OpenTrial) -> None:
        """Make one attempt and report how it ended."""
        run: TrialTracker | None = None
        try:
            self.display.begin(str(trial.number), trial.params, self._note(trial), self.number)
            is_fetched = self._results.fetch_result(trial)
            config = cell_config(self.study.plan, trial.params)
            duplicate = self.study.duplicate(trial, config)
            if duplicate is not None and duplicate.replicate is not None:
                config = replicate_config(config, duplicate.replicate)
            with shielded():
                run = self._open_run(trial, config)
                attempts = {"embedsweep.attempts": str(trial.attempt)} if trial.attempt > 1 else {}
                run.set_tags({**attempts, **origin_tags(self.study, trial.number)})
            # A trial whose worker was killed after the last step has a result already, which is only to be reported.
            if trial.why_over is not None and read_result(trial.folder) is None:
                with shielded():
                    self._outcomes.fail(trial, run, trial.why_over)
            elif duplicate is not None and duplicate.replicate is None:
                with shielded():
                    self._outcomes.reuse(trial, config, run, duplicate.original)
            else:
                result = self._train(trial, config, run)
                self._share(trial, run, is_fetched=is_fetched)
                with shielded():
                    self.study.require_held(trial)
                    self._outcomes.complete(trial, config, run, result)
        except TrialTakenError:
            raise
        except Exception as error:
            self._end_failed(trial, run, error)
        except BaseException:  # Interrupted, or KeyboardInterrupt or SystemExit of a program that calls embedsweep
            # A signal during the report is raised after it: the trial is finished, and there is nothing to release.
            if self.study.holds(trial):
                with shielded():
                    self._outcomes.interrupt(trial, run)
            raise

    def _share(self, trial: OpenTrial, run: TrialTracker, *, is_fetched: bool) -> None:
        """Send what a trial leaves to where other machines find it; of one that came from there, complete its run."""
        if is_fetched:  # what its worker recorded may wait on the disk of a machine that is gone
            record_fetched(self.study, run, trial.number)
        else:
            self._results.send(trial.number, partial(self.study.require_held, trial))

    def _end_failed(self, trial: OpenTrial, run: TrialTracker | None, error: Exception) -> None:
        """Release a trial whose attempt raised or lost a process, to be run again, or record that it failed.

        Raises:
            EmbedsweepError: a problem that affects all trials, or this process: the worker ends.
        """
        with shielded():
            self.study.require_held(trial)
            if (outage := self._outage(error)) is not None:
                self._outcomes.interrupt(trial, run)
                raise outage from None
            reason = redact(f"{type(error).__name__}: {error}")
            is_lost = is_device_lost(error)
            if is_lost or isinstance(error, GroupError):
                self._outcomes.resume_after_death(trial, run, reason)
            elif len(trial.failures) >= self.study.services.max_retries or getattr(error, "fails_again", False):
                self._outcomes.fail(trial, run, failure_of((*trial.failures, reason)))
            else:
                self._outcomes.retry(trial, run, reason)
        if is_lost:
            raise DeviceLostError(first_line(error)) from None

    def _outage(self, error: Exception) -> EmbedsweepError | None:
        """Return the error that ends the command if the problem affects all trials; None if it is this trial's own."""
        if is_disk_full(error):
            return StudyError(f"{DISK_FULL} ({first_line(error)})")
        if isinstance(error, UnreachableError):  # and records cannot be spooled on this disk either
            return TrackingError(f"{error}. Run the same command again when the store answers")
        return error if isinstance(error, StudyError) else None

    def _open_run(self, trial: OpenTrial, config: TrialConfig) -> TrialTracker:
        identity = config_hash(config)
        experiment, run_id = self.study.experiment, trial.run_id
        if run_id is not None and not self.tracker.can_resume(experiment, run_id):
            run_id = None
        if run_id is None and trial.run_id is not None:
            self.display.say(f"trial {trial.number}: MLflow lacks its run {trial.run_id[:8]}; it gets a new one")
        point = self.study.point_of(self.study.trial(trial.number))
        finalist = point.finalist if point is not None else None
        if run_id is None and trial.is_resumed:
            run_id = self.tracker.find_trial(self.study.experiment, trial.number, self.parent, finalist)
        tags = {
            "embedsweep.study": self.study.experiment,
            "embedsweep.worker": str(self.number),
            "embedsweep.host": socket.gethostname(),
            **option_tags(self.study.options_of(trial.params)),
            **color_tags(self.study.plan, trial.params, trial.number),
        }
        run = self.tracker.trial_run(
            self.study.experiment,
            trial.number,
            config,
            identity,
            parent=self.parent,
            run_id=run_id,
            run_name=trial_name(trial.number, trial.params, self.study.plan.groups, point),
            tags=tags,
            adopts=trial.is_resumed and run_id is None,
            finalist=finalist,
        )
        if run_id is not None:
            run.set_tags(tags)
        self.study.set_run(trial, run.run_id, identity)
        return run

    def _train(self, trial: OpenTrial, config: TrialConfig, run: TrialTracker) -> TrialResult:
        require_same_data(self.study, trial.params, config)
        label = str(trial.number)
        steps, before = 0, dict[str, float]()

        def report(step: int, metrics: Mapping[str, float]) -> Decision:
            self.display.score(label, metrics[self.study.plan.objective])
            keeps = keeps_so_far(self.study.plan.keep, before, metrics)
            return self.study.report(trial, step, metrics, steps, keeps=keeps)

        def progress(step: int, total: int) -> None:
            nonlocal steps
            steps = total  # known before the first evaluation
            self.study.check_held(trial)
            self.display.progress(label, step, total)

        self._warn(config)
        setup = TrialSetup(
            config,
            trial.folder,
            run,
            report,
            progress,
            self.study.services.emissions,
            single=False,
            allocation=self.allocation,
            group=self.group,
            models=self._models,
            keeps_model=self._keeps_model,
            on_before=before.update,
            alive=self.alive,
        )
        self._elsewhere.fetch(trial)
        with self._elsewhere.sending(trial):
            return run_trial(setup)

    def _warn(self, config: TrialConfig) -> None:
        """Show the warnings about a trial that no command on this study has shown."""
        lines = (*(f"data: {line}" for line in data_warnings(config)), *training_warnings(config))
        if new := [line for line in lines if line not in self._known_warnings]:
            self._known_warnings.update(new)
            for line in self.study.unseen_warnings(new):
                self.display.say(line)

    def _keeps_model(self, result: TrialResult) -> bool:
        """Return whether a trial's model may be needed: all are kept, or it may be the best one, or of finals."""
        plan = self.study.plan
        if self.study.services.keep_models == "all" or self.study.is_finals:
            return True
        if forgotten(plan.keep, constraints_of(plan.keep, result)):
            return False
        best = self.study.best
        return best is None or result.objective >= best.values[plan.objectives.index(plan.objective)]


def _trials(numbers: Sequence[int]) -> str:
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
