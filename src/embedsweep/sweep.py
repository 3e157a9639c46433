"""A sweep: the command that fills a study, from opening it to the ranking.

Owns the order of a sweep's steps and its exit code. Each step is another module's.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console

from embedsweep.config import resolve
from embedsweep.display import open_display, say
from embedsweep.errors import ConfigError, Interrupted, TrackingError
from embedsweep.finals import score_winner
from embedsweep.gate import Sweep, check_cells
from embedsweep.gate.sections import TRIAL_SECTIONS
from embedsweep.group import Group, open_group
from embedsweep.launch import prepare_process
from embedsweep.report import print_best, print_ranking, print_ui
from embedsweep.signals import Interrupts
from embedsweep.study import EMISSIONS_KG, Study, open_study
from embedsweep.study.storage import storage_errors
from embedsweep.tracking import ParentStatus, Tracker
from embedsweep.worker import Worker, tidy

DONE, FAILED_TRIALS = 0, 3


def run_sweep(asked: Sweep, console: Console, interrupts: Interrupts, program: str) -> int:
    """Fills a study and reports on it.

    Args:
        asked: the command, past the gate.
        console: where people look.
        interrupts: how signals arrive.
        program: how this program was started, for the command that runs the best configuration again.

    Returns:
        0, or 3 where trials of the study failed.

    Raises:
        Interrupted: a signal came; the study can be resumed.
        ConfigError: no study of that name, or what is asked differs from what was frozen.
        TrackingError, StudyError: a store cannot be opened.
    """
    begun = time.monotonic()
    with storage_errors():
        study = open_study(asked)
        if asked.plan is None and (problems := list(check_cells(study.plan, asked.workers.processes_per_trial))):
            raise ConfigError(problems)
        device = _device(study)
        with open_group(asked.workers.processes_per_trial, device) as group:  # deals the GPUs this process still sees
            prepare_process(device)
            tracker = Tracker(study.services.tracking)
            test = _fill(study, tracker, asked, console, interrupts, begun, group)
        print_ranking(console, study)
        print_best(console, study, program, test)
        print_ui(console, tracker.ui_hint(), program)
        if study.unfinished:
            say(console, f"unfinished: trials {', '.join(map(str, study.unfinished))}, by other processes")
        return FAILED_TRIALS if study.has_failed_trials else DONE


def _fill(
    study: Study,
    tracker: Tracker,
    asked: Sweep,
    console: Console,
    interrupts: Interrupts,
    begun: float,
    group: Group | None,
) -> dict[str, float] | None:
    """Runs what is left of the study, keeping its own run; the winner's test scores, once the study is complete."""
    keep_models, emissions = study.services.keep_models, study.services.emissions
    tags = {"embedsweep.n_trials": str(study.n_trials), "embedsweep.sampler": study.plan.sampler}
    parent = tracker.parent_run(study.name, tags)
    status: ParentStatus = "FAILED"
    test: dict[str, float] | None = None
    try:
        say(console, _opening(study))
        deadline = begun + asked.study.timeout if asked.study.timeout is not None else None
        with open_display(console, study.plan.objective) as display:
            tidy(study, keep_models)
            Worker(study, tracker, parent, display, interrupts, emissions, keep_models, deadline, group).work()
        if study.is_complete:
            with study.lock():  # two commands may see the last trial end in the same moment
                test = score_winner(study, tracker, parent, keep_models)
        with interrupts.shielded():
            _log_study(study, tracker, parent, test or {})
        status = "FINISHED" if study.is_complete else "KILLED"
    except Interrupted:
        status = "KILLED"
        say(console, f"interrupted: the same command, or -m study.name={study.name} alone, goes on")
        raise
    finally:
        _finish_parent(tracker, parent, status, interrupts)
    return test


def _finish_parent(tracker: Tracker, parent: str, status: ParentStatus, interrupts: Interrupts) -> None:
    """Ends the study's own run; where something else has gone wrong already, that is what is told."""
    under_way = sys.exc_info()[0] is not None
    with interrupts.shielded():
        try:
            tracker.finish_parent(parent, status)
        except TrackingError:
            if not under_way:
                raise


def _device(study: Study) -> str:
    """The device of the study's first cell; one process trains on one, and the gate lets no sweep of devices pass."""
    cell = next(iter(study.plan.cells.values()))
    return str(resolve(cell, {}, TRIAL_SECTIONS)["trainer"]["device"])


def _opening(study: Study) -> str:
    finished = sum(trial.state.is_finished() for trial in study.trials)
    begun = f"; {finished} finished before" if finished else ""
    return f"study {study.name}: {study.n_trials} trials ({study.plan.sampler}){begun}, in {study.folder}"


def _log_study(study: Study, tracker: Tracker, parent: str, test: dict[str, float]) -> None:
    """The study's own run carries its best values and the sum of its emissions."""
    best = study.best
    total = sum(trial.user_attrs.get(EMISSIONS_KG, 0.0) for trial in study.trials)
    metrics = {"emissions/co2eq_kg": total, **test}
    if best is not None and best.value is not None:
        metrics[study.plan.objective] = best.value
    finished = sum(trial.state.is_finished() for trial in study.trials)
    tracker.log_parent(parent, finished, metrics)
