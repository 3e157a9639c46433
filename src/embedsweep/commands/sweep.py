"""A sweep: the command that fills a study, from opening it to the ranking.

Owns the order of a sweep's steps and its exit code. Each step is another module's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from embedsweep.config.study import WorkersConfig
from embedsweep.config.trial import DIRECTIONS
from embedsweep.config.values import resolve
from embedsweep.console import Display, open_display, say
from embedsweep.emissions.sharing import SharedEmissions
from embedsweep.errors import ConfigError, Interrupted, TrackingError
from embedsweep.machine import cuda_devices_of, prepare_process
from embedsweep.report.ranking import print_best, print_preview, print_ranking, print_ui
from embedsweep.signals import shielded
from embedsweep.study.opening import open_study
from embedsweep.study.record import EMISSIONS_KG, ENERGY_KWH, GPU_H
from embedsweep.study.storage import storage_errors
from embedsweep.study.study import Study
from embedsweep.tracking.runs import ParentStatus, Tracker
from embedsweep.tracking.store import store_kind
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.validation.search import check_cells
from embedsweep.validation.sections import TRIAL_SECTIONS
from embedsweep.validation.services import check_reach, check_shares
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.child import WorkerPool
from embedsweep.workers.job import Job
from embedsweep.workers.sharing import open_shares
from embedsweep.workers.supervisor import Supervisor
from embedsweep.workers.winner import score_complete
from embedsweep.workers.worker import Worker, tidy

DONE, FAILED_TRIALS = 0, 3


def run_sweep(asked: Sweep, console: Console, program: str) -> int:
    """Fills a study and reports on it.

    Args:
        asked: the command, past the gate.
        console: where people look.
        program: how this program was started, for the command that runs the best configuration again.

    Returns:
        0, or 3 where trials of the study failed.

    Raises:
        Interrupted: a signal came; the study can be resumed.
        ConfigError: no study of that name, or what is asked differs from what was frozen.
        TrackingError, StudyError: a store cannot be opened.
        WorkerError: worker processes cannot start, or died too often.
    """
    begun = time.monotonic()
    with storage_errors():
        if asked.study.dry_run:
            print_preview(console, asked, program)
            return DONE
        study = open_study(asked)
        device, processes = _device(study), asked.workers.processes_per_trial
        # With a plan, the gate has seen to these.
        if asked.plan is None and (
            problems := [
                *check_shares(asked.workers, device),
                *check_cells(study.plan, processes),
                *check_reach(study.url, study.services.tracking),
            ]
        ):
            raise ConfigError(problems)
        is_inline = asked.workers.name == "inline"
        n_left = study.n_left + (len(study.failed_trials) if asked.study.retry_failed else 0)
        words = (device, str(processes), store_kind(study.services.tracking.uri))
        told = partial(say, console)
        # A group deals the GPUs that this process still sees. A crew imports while the stores are opened here.
        with (
            open_group(processes if is_inline else 1, device) as group,
            open_shares(asked.workers, device, n_left, study.plan, study.folder, told) as shares,
            WorkerPool(study.folder, words, shares) as crew,
        ):
            if is_inline:
                prepare_process(device)
            tracker = Tracker(study.services.tracking, told)
            try:
                _check_one_store(study, tracker)
                test = _fill(study, tracker, asked, crew, console, begun, group)
                print_ranking(console, study)
                print_best(console, study, program, test)
                print_ui(console, tracker.ui_hint(), program)
                if study.unfinished:
                    numbers = ", ".join(map(str, study.unfinished))
                    say(console, f"unfinished: trials {numbers}, by other processes or the next command")
            finally:
                tracker.close()
        return FAILED_TRIALS if study.has_failed_trials else DONE


def _check_one_store(study: Study, tracker: Tracker) -> None:
    """Lets no machine begin whose runs would lie apart from those of others that work on the study now.

    Raises:
        ConfigError: no run of another machine is in this store.
    """
    for host, run_ids in study.runs_elsewhere.items():
        if not any(tracker.has_run(run_id) for run_id in run_ids):
            message = (
                f"trials of this study that {host} began are recorded elsewhere; give the commands of all machines the "
                "same server (tracking.uri=http://host:5000)"
            )
            raise ConfigError.single("tracking.uri", message)


def _fill(
    study: Study,
    tracker: Tracker,
    asked: Sweep,
    crew: WorkerPool,
    console: Console,
    begun: float,
    group: TrainingGroup | None,
) -> dict[str, float] | None:
    """Runs what is left of the study, keeping its own run; the winner's test scores, once the study is complete."""
    keep_models = study.services.keep_models
    tags = {"embedsweep.n_trials": str(study.n_trials), "embedsweep.sampler": study.plan.sampler}
    parent: str | None = None
    status: ParentStatus = "FAILED"
    test: dict[str, float] | None = None
    try:
        with shielded():
            parent = tracker.parent_run(study.name, tags)
        retried = study.retry_failed() if asked.study.retry_failed else []
        say(console, _opening(study, retried))
        deadline = begun + asked.study.timeout if asked.study.timeout is not None else None
        with open_display(console, study.plan.objective) as display:
            tidy(study, keep_models)
            if asked.workers.name == "inline":
                emissions = study.services.emissions
                shared = (tracker, parent, display, emissions, keep_models, deadline)
                Worker(study, *shared, number=0, group=group).work()
            else:
                job = Job.of(study, asked, parent, _device(study))
                _supervise(study, job, crew, asked.workers, deadline, display)
        if study.is_complete:
            # Only now: what measures the workers has to see all their GPUs.
            prepare_process(_device(study))
            test = score_complete(study, tracker, parent, keep_models)
        with shielded():
            _log_study(study, tracker, parent, test or {})
        status = "FINISHED" if study.is_complete else "KILLED"
    except Interrupted:
        status = "KILLED"
        say(console, f"interrupted: the same command, or -m study.name={study.name} alone, goes on")
        raise
    finally:
        if parent is not None:
            _finish_parent(tracker, parent, status)
    return test


def _supervise(
    study: Study,
    job: Job,
    crew: WorkerPool,
    workers: WorkersConfig,
    deadline: float | None,
    display: Display,
) -> None:
    """Lets worker processes run what is left; one tracker measures the machine for all of them, with their GPUs."""
    gpus = cuda_devices_of(job.device)[: len(crew.children) * workers.processes_per_trial]
    with (
        tempfile.TemporaryDirectory(prefix="embedsweep-") as folder,
        SharedEmissions(job.emissions, Path(folder), gpus) as emissions,
    ):
        told = replace(job, share_folder=Path(folder))
        patience = (workers.max_restarts, workers.silence, deadline)
        Supervisor(crew, told, *patience, lambda: study.n_left, emissions, display).run()


def _finish_parent(tracker: Tracker, parent: str, status: ParentStatus) -> None:
    """Ends the study's own run; where something else has gone wrong already, that is what is told."""
    under_way = sys.exc_info()[0] is not None
    with shielded():
        try:
            tracker.finish_parent(parent, status)
        except TrackingError:
            if not under_way:
                raise


def _device(study: Study) -> str:
    """The device of the study's first cell; one process trains on one, and the gate lets no sweep of devices pass."""
    cell = next(iter(study.plan.cells.values()))
    return str(resolve(cell, {}, TRIAL_SECTIONS)["trainer"]["device"])


def _opening(study: Study, retried: Sequence[int]) -> str:
    finished = sum(trial.state.is_finished() for trial in study.trials)
    begun = f"; {finished} finished before" if finished else ""
    if retried:
        plural = "s" if len(retried) > 1 else ""
        again = ", ".join(map(str, retried))
        begun += f", {len(retried)} failed trial{plural} ({again}) no longer counted but tried again"
    first = f"; first the best of {study.plan.warm_start}" if study.plan.warm_start and not finished else ""
    return f"study {study.name}: {study.n_trials} trials ({study.plan.sampler}){begun}{first}, in {study.folder}"


def _log_study(study: Study, tracker: Tracker, parent: str, test: dict[str, float]) -> None:
    """The study's own run carries the best value of each objective and the sums of what its trials cost."""
    metrics = {**_costs(study), **test}
    for index, name in enumerate(study.plan.objectives):
        values = [trial.values[index] for trial in study.complete_trials]
        if values:
            # The emissions of a study are those of all its trials.
            shown = f"best/{name}" if name.startswith("emissions/") else name
            metrics[shown] = max(values) if DIRECTIONS[name] == "maximize" else min(values)
    finished = sum(trial.state.is_finished() for trial in study.trials)
    tracker.log_parent(parent, finished, metrics)


def _costs(study: Study) -> dict[str, float]:
    """What all trials cost, by metric; without what none of them recorded."""
    names = {"emissions/co2eq_kg": EMISSIONS_KG, "emissions/energy_kwh": ENERGY_KWH, "time/gpu_h": GPU_H}
    known = {
        metric: [trial.user_attrs[name] for trial in study.trials if name in trial.user_attrs]
        for metric, name in names.items()
    }
    return {metric: sum(figures) for metric, figures in known.items() if figures or metric == "emissions/co2eq_kg"}
