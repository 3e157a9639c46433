"""The command for a study: open it, run its trials, score the best one and print the ranking."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from rich.console import Console

from embedsweep.config.trial import DIRECTIONS
from embedsweep.config.values import resolve
from embedsweep.console import Display, open_display, say
from embedsweep.emissions.machine_emissions import MachineEmissions
from embedsweep.errors import ConfigError, Interrupted, TrackingError, raise_problems
from embedsweep.machine import cuda_devices_of, prepare_process
from embedsweep.report.ranking import print_best, print_preview, print_ranking, print_ui
from embedsweep.signals import shielded
from embedsweep.study.frozen_data import agree_on_data
from embedsweep.study.opening import open_study
from embedsweep.study.record import EMISSIONS_KG, ENERGY_KWH, GPU_H, cost_attributes
from embedsweep.study.storage import repair_hint, storage_errors
from embedsweep.study.study import Study
from embedsweep.tracking.runs import ParentStatus, Tracker
from embedsweep.tracking.store import store_kind
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.validation.search import check_cells
from embedsweep.validation.sections import TRIAL_SECTIONS
from embedsweep.validation.services import check_reach, check_shares
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.environments import open_environments
from embedsweep.workers.job import Job
from embedsweep.workers.missing_runs import damage, refusals
from embedsweep.workers.supervisor import Supervisor, WorkerPool
from embedsweep.workers.winner import score_complete
from embedsweep.workers.worker import Worker, delete_unneeded

DONE, FAILED, FAILED_TRIALS = 0, 1, 3


def run_sweep(request: Sweep, console: Console, program: str) -> int:
    """Run the trials of a study and report on it.

    Args:
        request: the validated command.
        console: where output is printed.
        program: how this program was started, for the printed command that trains the best configuration again.

    Returns:
        0; 1 if MLflow's store refuses a record; or 3 if trials of the study failed.

    Raises:
        Interrupted: a signal came; the study can be resumed.
        ConfigError: there is no study of that name, or the request differs from what was frozen.
        TrackingError, StudyError: a store cannot be opened.
        WorkerError: worker processes cannot start, or died too often.
    """
    start = time.monotonic()
    with storage_errors():
        if request.study.dry_run:
            print_preview(console, request, program)
            return DONE
        study = open_study(request)
        device, processes = _device(study), request.workers.processes_per_trial
        # With a plan, validation has checked these.
        if request.plan is None:
            raise_problems(
                [
                    *check_shares(request.workers, device),
                    *check_cells(study.plan, processes),
                    *check_reach(study.url, study.services.tracking),
                ]
            )
        agree_on_data(study)
        is_inline = request.workers.name == "inline"
        n_left = study.n_left + (len(study.failed_trials) if request.study.retry_failed else 0)
        arguments = (device, str(processes), store_kind(study.services.tracking.uri))
        print_line = partial(say, console)
        # The group takes the GPUs that this process still sees. Workers import while the stores are opened here.
        with (
            open_group(processes if is_inline else 1, device) as group,
            open_environments(request.workers, device, n_left, study, print_line) as environments,
            WorkerPool(study.folder, arguments, environments) as pool,
        ):
            if is_inline:
                prepare_process(device)
            with Tracker(study.services.tracking, print_line) as tracker:
                _check_one_store(study, tracker)
                test = _Run(request, study, tracker, console, start).run(pool, group)
                print_ranking(console, study)
                print_best(console, study, program, test)
                print_ui(console, tracker.ui_hint(), program)
                if study.unfinished:
                    numbers = ", ".join(map(str, study.unfinished))
                    say(console, f"unfinished: trials {numbers}, left to other processes or the next command")
            refused = refusals(study, tracker)
            for line in (*refused, *([repair_hint(study.name)] if refused else [])):
                say(console, line)
        if refused:
            return FAILED
        return FAILED_TRIALS if study.failed_trials else DONE


def _check_one_store(study: Study, tracker: Tracker) -> None:
    """Refuse to start if another host records this study in a different store.

    Raises:
        ConfigError: no run of another host is in this store.
    """
    for host, run_ids in study.runs_elsewhere.items():
        if not any(tracker.has_run(run_id) for run_id in run_ids):
            message = (
                f"host {host} records trials of this study in another store; give the commands on all machines the "
                "same server (tracking.uri=http://host:5000)"
            )
            raise ConfigError.single("tracking.uri", message)


@dataclass(frozen=True)
class _Run:
    """One command's work on a study, with the study's own (parent) run in MLflow.

    Attributes:
        request: the validated command.
        study: the study, open.
        tracker: writes to MLflow.
        console: where output is printed.
        start: when the command started, by the monotonic clock.
    """

    request: Sweep
    study: Study
    tracker: Tracker
    console: Console
    start: float

    def run(self, pool: WorkerPool, group: TrainingGroup | None) -> dict[str, float] | None:
        """Run the trials that are left; return the test scores of the best one if the study is complete.

        Args:
            pool: the worker processes; none with ``workers=inline``.
            group: the processes that train each trial together with ``workers=inline``; None trains in this one.
        """
        study, tracker = self.study, self.tracker
        parent: str | None = None
        status: ParentStatus = "FAILED"
        test: dict[str, float] | None = None
        try:
            with shielded():
                parent = tracker.parent_run(study.name, study_tags(study))
            retried = study.retry_failed() if self.request.study.retry_failed else []
            say(self.console, _opening_line(study, retried))
            for line in damage(study, tracker):
                say(self.console, line)
            with open_display(self.console, study.plan.objective) as display:
                delete_unneeded(study)
                if self.request.workers.name == "inline":
                    Worker(study, tracker, parent, display, self.deadline, group=group).work()
                else:
                    self._supervise(pool, parent, display)
            if study.is_complete:
                # Not earlier: while workers are measured, this process has to see all their GPUs.
                prepare_process(_device(study))
                test = score_complete(study, tracker, parent)
            with shielded():
                log_study(study, tracker, parent, test or {})
            status = "FINISHED" if study.is_complete else "KILLED"
        except Interrupted:
            status = "KILLED"
            say(self.console, f"interrupted: the same command, or -m study.name={study.name} alone, resumes the study")
            raise
        finally:
            if parent is not None:
                _finish_parent(tracker, parent, status)
        return test

    @cached_property
    def deadline(self) -> float | None:
        """Time of the monotonic clock after which no trial is started; None for no limit."""
        timeout = self.request.study.timeout
        return self.start + timeout if timeout is not None else None

    def _supervise(self, pool: WorkerPool, parent: str, display: Display) -> None:
        """Run trials in worker processes; one tracker measures the machine, with their GPUs, for all of them."""
        workers, emissions = self.request.workers, self.study.services.emissions
        gpus = cuda_devices_of(_device(self.study))[: len(pool.processes) * workers.processes_per_trial]
        with (
            tempfile.TemporaryDirectory(prefix="embedsweep-") as folder,
            MachineEmissions(emissions, Path(folder), gpus) as shared,
        ):
            job = Job.of(self.study, self.request, parent, Path(folder))
            Supervisor(pool, job, workers, self.deadline, lambda: self.study.n_left, shared, display).run()


def _finish_parent(tracker: Tracker, parent: str, status: ParentStatus) -> None:
    """End the study's own run; if another error is being raised already, that one is reported."""
    is_raising = sys.exc_info()[0] is not None
    with shielded():
        try:
            tracker.finish_parent(parent, status)
        except TrackingError:
            if not is_raising:
                raise


def _device(study: Study) -> str:
    """Return ``trainer.device``, which is the same in all cells: validation refuses a sweep over devices."""
    cell = next(iter(study.plan.cells.values()))
    return str(resolve(cell, {}, TRIAL_SECTIONS)["trainer"]["device"])


def _opening_line(study: Study, retried: Sequence[int]) -> str:
    finished = sum(trial.state.is_finished() for trial in study.trials)
    notes = f"; {finished} finished before" if finished else ""
    if retried:
        plural = "s" if len(retried) > 1 else ""
        numbers = ", ".join(map(str, retried))
        notes += f", {len(retried)} failed trial{plural} ({numbers}) no longer counted but retried"
    if study.plan.warm_start and not finished:
        notes += f"; first the best of {study.plan.warm_start}"
    return f"study {study.name}: {study.n_trials} trials ({study.plan.sampler}){notes}, in {study.folder}"


def study_tags(study: Study) -> dict[str, str]:
    """Return the tags of the study's own run, beside those that identify it."""
    return {"embedsweep.n_trials": str(study.n_trials), "embedsweep.sampler": study.plan.sampler}


def log_study(study: Study, tracker: Tracker, parent: str, test: dict[str, float]) -> None:
    """Record the best value of each objective and the sums of the trials' costs in the study's own run."""
    metrics = {**_costs(study), **test}
    for index, name in enumerate(study.plan.objectives):
        values = [trial.values[index] for trial in study.complete_trials]
        if values:
            # Without "best/", the emissions are the sum over all trials.
            metric = f"best/{name}" if name.startswith("emissions/") else name
            metrics[metric] = max(values) if DIRECTIONS[name] == "maximize" else min(values)
    finished = sum(trial.state.is_finished() for trial in study.trials)
    tracker.log_parent(parent, finished, metrics)


def _costs(study: Study) -> dict[str, float]:
    """Return the sum over all trials and the scoring of the best of each cost that any of them recorded, by metric."""
    names = {"emissions/co2eq_kg": EMISSIONS_KG, "emissions/energy_kwh": ENERGY_KWH, "time/gpu_h": GPU_H}
    attributes: list[Mapping[str, float]] = [trial.user_attrs for trial in study.trials]
    times: dict[str, float] = {}
    if (finals := study.finals) is not None and finals.cost is not None:
        attributes.append(cost_attributes(finals.cost))
        times["time/test_s"] = finals.cost.duration_s
    known = {metric: [each[name] for each in attributes if name in each] for metric, name in names.items()}
    sums = {metric: sum(figures) for metric, figures in known.items() if figures or metric == "emissions/co2eq_kg"}
    return {**sums, **times}
