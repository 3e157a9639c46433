"""The worker: asks a study for a trial, runs it, tells the result, and again.

Owns the order in which a trial's books are kept, so that a kill between any two steps loses and doubles nothing:
ask, open the run, train, end the run, tell, tidy up.
"""

from __future__ import annotations

import errno
import gc
import itertools
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedsweep.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.config import config_hash
from embedsweep.display import Display, short_params
from embedsweep.emissions import EmissionsMeter
from embedsweep.errors import EmbedsweepError, Interrupted, StudyError, TrackingError
from embedsweep.gate import cell_config
from embedsweep.group import Group
from embedsweep.schema import Decision, EmissionsConfig, KeepModels, TrialConfig, TrialResult
from embedsweep.secrets import redact
from embedsweep.signals import Interrupts
from embedsweep.study import OpenTrial, Study
from embedsweep.study.leases import BEAT_EVERY_S
from embedsweep.tracking import Tracker, TrialState, TrialTracker
from embedsweep.training_data import data_warnings
from embedsweep.trial import MODEL, run_trial


@dataclass(frozen=True)
class Worker:
    """All that a worker needs, the same for each of its trials.

    Attributes:
        study: where trials come from.
        tracker: where they are recorded.
        parent: the id of the study's own run.
        display: where people see them.
        interrupts: how signals reach it.
        emissions: whose electricity is used.
        keep_models: which trials' models stay.
        deadline: the moment of the monotonic clock after which no trial is begun; None has no limit.
        group: the processes that train each trial together; None trains in this one.
    """

    study: Study
    tracker: Tracker
    parent: str
    display: Display
    interrupts: Interrupts
    emissions: EmissionsConfig
    keep_models: KeepModels
    deadline: float | None
    group: Group | None
    _warned: set[str] = field(default_factory=set, init=False)

    def work(self) -> None:
        """Runs trials until there are no more to begin, or time is up.

        Raises:
            Interrupted: a signal came; the trial under way was given up and will be resumed.
        """
        while (trial := self._next()) is not None:
            self._attempt(trial)
            free_device_memory()
            tidy(self.study, self.keep_models)

    def _next(self) -> OpenTrial | None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.display.say("study.timeout is over: no further trial is begun")
            return None
        while True:
            with self.interrupts.shielded():
                trial = self.study.ask()
            if trial is not None or not (doubtful := self.study.doubtful):
                return trial
            numbers = ", ".join(map(str, doubtful))
            self.display.say(f"waiting to see whether trial {numbers}, begun on another host, still runs")
            time.sleep(BEAT_EVERY_S)

    def _attempt(self, trial: OpenTrial) -> None:
        label = str(trial.number)
        self.display.begin(label, trial.params, "resumed" if trial.is_resumed else "")
        run: TrialTracker | None = None
        try:
            if not trial.is_resumed:
                _set_aside(trial.folder)
            config = cell_config(self.study.plan, trial.params)
            with self.interrupts.shielded():
                run = self._open_run(trial, config)
            with self.study.alive(trial):
                result = self._run(trial, config, run)
            with self.interrupts.shielded():
                self._complete(trial, run, result)
        except Interrupted:
            # One that came while the result was told finds the trial finished: nothing is to be taken back.
            if trial.number in self.study.unfinished:
                with self.interrupts.shielded():
                    self._give_up(trial, run)
            raise
        except Exception as error:
            with self.interrupts.shielded():
                if (outage := self._outage(error)) is not None:
                    self._give_up(trial, run)
                    raise outage from None
                self._fail(trial, run, redact(f"{type(error).__name__}: {error}"))

    def _outage(self, error: Exception) -> EmbedsweepError | None:
        """What ails all trials and not only this one: it ends the command, and the study goes on when it is over."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StudyError(f"the disk is full; the same command goes on when there is room ({error})")
        if isinstance(error, TrackingError) and not self.tracker.answers():
            return TrackingError(f"{error}. The same command goes on when the store answers again")
        return error if isinstance(error, StudyError) else None

    def _open_run(self, trial: OpenTrial, config: TrialConfig) -> TrialTracker:
        identity = config_hash(config)
        run_id = trial.run_id if trial.run_id is not None and self.tracker.has_run(trial.run_id) else None
        if run_id is None and trial.is_resumed:
            run_id = self.tracker.find_trial(self.study.name, trial.number, self.parent)
        run = self.tracker.trial_run(
            self.study.name,
            trial.number,
            config,
            identity,
            parent=self.parent,
            run_id=run_id,
            run_name=f"{trial.number:04d} {short_params(trial.params)}",
            tags={"embedsweep.study": self.study.name},
        )
        self.study.identify(trial, run.run_id, identity)
        return run

    def _run(self, trial: OpenTrial, config: TrialConfig, run: TrialTracker) -> TrialResult:
        label = str(trial.number)

        def report(step: int, metrics: Mapping[str, float]) -> Decision:
            self.display.score(label, metrics[self.study.plan.objective])
            return self.study.report(trial, step, metrics)

        def progress(step: int, total: int) -> None:
            self.display.progress(label, step, total)

        self._warn(config)
        return run_trial(config, trial.folder, run, report, progress, self.emissions, single=False, group=self.group)

    def _warn(self, config: TrialConfig) -> None:
        """Says what matters of the data, once for all trials on it."""
        for line in data_warnings(config):
            if line not in self._warned:
                self.display.say(f"data: {line}")
                self._warned.add(line)

    def _complete(self, trial: OpenTrial, run: TrialTracker, result: TrialResult) -> None:
        if self.keep_models == "all":
            run.log_artifacts(trial.folder / MODEL, MODEL)
        state: TrialState = "PRUNED" if result.pruned else "COMPLETE"
        run.finish(state)
        self.study.complete(trial, result)
        self.display.end(str(trial.number), state, result.objective, f"{result.emissions.co2eq_kg * 1000:.3g} g CO2eq")

    def _fail(self, trial: OpenTrial, run: TrialTracker | None, reason: str) -> None:
        """Records a failure wherever that is still possible; Optuna's record comes last and is the one that counts."""
        if run is not None:
            try:
                run.set_tags({"embedsweep.failure": reason})
                if (trial.folder / "train.log").is_file():
                    run.log_artifact(trial.folder / "train.log")
                run.finish("FAIL")
            except Exception as error:
                reason += f" (and its run could not be ended: {redact(str(error))})"
        cost = EmissionsMeter(self.emissions, trial.folder / "emissions.csv").total()
        self.study.fail(trial, reason, cost.co2eq_kg)
        self.display.end(str(trial.number), "FAIL", None, reason.splitlines()[0])

    def _give_up(self, trial: OpenTrial, run: TrialTracker | None) -> None:
        """Leaves an interrupted trial to be resumed; if MLflow cannot be told, its lease will show it."""
        try:
            if run is not None:
                run.finish("RUNNING")
        except TrackingError as error:
            self.display.say(str(error))
        finally:
            self.study.release(trial)
            self.display.end(str(trial.number), "RUNNING", None, "interrupted; the same command goes on with it")


def free_device_memory() -> None:
    """Gives a GPU back what the last trial held: Python's own collector does not see when that runs out."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def _set_aside(folder: Path) -> None:
    """Moves a folder out of a new trial's way: it is of another study of that name, whose storage is gone."""
    if folder.exists():
        aside = next(path for n in itertools.count(1) if not (path := folder.with_name(f"{folder.name}.{n}")).exists())
        folder.rename(aside)


def tidy(study: Study, keep_models: KeepModels) -> None:
    """Deletes checkpoints of finished trials, and models that are not kept.

    The best model so far stays in any case: it is scored on test when the study is complete.
    """
    with study.lock():
        best = study.best
        complete = {trial.number for trial in study.complete_trials}
        for trial in study.trials:
            if not trial.state.is_finished():
                continue
            folder = study.trial_folder(trial.number)
            Checkpoints(folder / CHECKPOINTS).clear()
            is_kept = trial.number in complete and keep_models == "all"
            if not is_kept and (best is None or trial.number != best.number):
                shutil.rmtree(folder / MODEL, ignore_errors=True)
