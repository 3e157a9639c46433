"""The command for a study: open it, run its trials, score the best one and print the ranking."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from embedsweep.commands.quoting import device_of, quote_study
from embedsweep.commands.study_page import StudyPage
from embedsweep.config.metrics import direction_of
from embedsweep.config.study import WorkersConfig
from embedsweep.console import OutputStyle, say
from embedsweep.emissions.machine_emissions import MachineEmissions
from embedsweep.errors import ConfigError, Interrupted, TrackingError, raise_problems
from embedsweep.machine import cuda_devices_of, prepare_process
from embedsweep.report.lines import JsonLines
from embedsweep.report.live import TrialDisplay, make_display, shown
from embedsweep.report.quote import quote_lines
from embedsweep.report.ranking import print_best, print_preview, print_ranking, print_ui
from embedsweep.report.results import StudyResults
from embedsweep.report.running import RunningTrials
from embedsweep.report.status import result_fields, study_status
from embedsweep.signals import shielded
from embedsweep.study.frozen_data import agree_on_data
from embedsweep.study.keep import is_kept
from embedsweep.study.opening import find_study, open_study
from embedsweep.study.record import EMISSIONS_KG, ENERGY_KWH, GPU_H, cost_attributes
from embedsweep.study.storage import repair_hint, storage_errors
from embedsweep.study.study import Study
from embedsweep.tracking.names import study_params
from embedsweep.tracking.runs import ParentStatus, Tracker
from embedsweep.tracking.store import store_kind
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.validation.search import check_cells
from embedsweep.validation.services import check_reach, check_shares
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.environments import open_environments
from embedsweep.workers.job import Job
from embedsweep.workers.missing_runs import damage, refusals
from embedsweep.workers.supervisor import Supervisor, WorkerPool
from embedsweep.workers.winner import score_complete
from embedsweep.workers.worker import Worker, delete_unneeded

DONE, FAILED, FAILED_TRIALS = 0, 1, 3


def run_sweep(request: Sweep, console: Console, program: str, style: OutputStyle = "lines") -> int:
    """Run the trials of a study and report on it.

    Args:
        request: the validated command.
        console: where output is printed.
        program: how this program was started, for the printed command that trains the best configuration again.
        style: how trials are shown; ``json`` prints nothing but events.

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
            return _preview(request, console, program)
        quote: Mapping[str, Any] | None = None
        hours = request.study.budget_hours
        if hours is not None and find_study(request) is None:
            tell = partial(say, console if style == "lines" else Console(quiet=True))
            quote = quote_study(request, None, tell).tree(hours)
            tell(f"study.budget_hours={hours:g}: {quote['n_trials']} trials")
        study = open_study(request, quote)
        if request.plan is None:  # with a plan, validation has checked these
            device, processes = device_of(study.plan), request.workers.processes_per_trial
            raise_problems(
                [
                    *check_shares(request.workers, device),
                    *check_cells(study.plan, processes),
                    *check_reach(study.url, study.services.tracking),
                ]
            )
        agree_on_data(study)
        display = make_display(console, style, RunningTrials(partial(study_status, study)))
        _show_start(display, study)
        report = partial(_report, console, study, display, program)
        try:
            refused = _run_trials(request, study, display, start, program, report)
        except (Interrupted, KeyboardInterrupt):
            display.say(_last_words(study, request.workers))
            raise
        if refused:
            return FAILED
        return FAILED_TRIALS if study.failed_trials else DONE


def _preview(request: Sweep, console: Console, program: str) -> int:
    """Print what a study would be and, if a quote is requested, what it would cost."""
    study = print_preview(console, request, program)
    if study is not None and not study.n_left:
        say(console, "no trial is left to run")
    elif request.study.dry_run == "quote":
        quote = quote_study(request, study, partial(say, console))
        plan = study.plan if study is not None else request.plan
        assert plan is not None, "a command without a plan names an existing study"
        for line in quote_lines(quote, plan):
            say(console, line)
    say(console, "study.dry_run: nothing was created or trained")
    return DONE


def _run_trials(
    request: Sweep, study: Study, display: TrialDisplay, start: float, program: str, report: Report
) -> bool:
    """Run the trials that are left, and report while the tracker still writes.

    Returns:
        Whether MLflow's store refuses a record of the study.
    """
    device, processes = device_of(study.plan), request.workers.processes_per_trial
    is_inline = request.workers.name == "inline"
    n_left = study.n_left + (len(study.failed_trials) if request.study.retry_failed else 0)
    arguments = (device, str(processes), store_kind(study.services.tracking.uri))
    # The group takes the GPUs that this process still sees. Workers import while the stores are opened here.
    with (
        open_group(processes if is_inline else 1, device) as group,
        open_environments(request.workers, device, n_left, study, display.say) as environments,
        WorkerPool(study.folder, arguments, environments) as pool,
    ):
        display.trials.workers = 1 if is_inline else len(environments)
        with shown(display):  # what is waited for
            if is_inline:
                prepare_process(device)
            tracker = Tracker(study.services.tracking, display.say)
        with tracker:
            _check_one_store(study, tracker)
            report(tracker, _Run(request, study, tracker, display, start, program).run(pool, group))
        refused = refusals(study, tracker)
        for line in (*refused, *([repair_hint(study.name)] if refused else [])):
            display.say(line)
    return bool(refused)


Report = Callable[[Tracker, StudyResults], None]
"""Prints a study's results."""


def _report(
    console: Console, study: Study, display: TrialDisplay, program: str, tracker: Tracker, results: StudyResults
) -> None:
    """Print a study's results, or show them as an event."""
    if isinstance(display, JsonLines):
        display.emit("result", **result_fields(study, program))
        return
    print_ranking(console, results)
    print_best(console, results, program)
    print_ui(console, tracker.ui_hint(study.name), program)
    if study.unfinished:
        numbers = ", ".join(map(str, study.unfinished))
        trials = "trial" if len(study.unfinished) == 1 else "trials"
        say(console, f"unfinished: {trials} {numbers}, left to other processes or the next command")


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
        display: shows trials and messages.
        start: when the command started, by the monotonic clock.
        program: how this program was started.
    """

    request: Sweep
    study: Study
    tracker: Tracker
    display: TrialDisplay
    start: float
    program: str

    def run(self, pool: WorkerPool, group: TrainingGroup | None) -> StudyResults:
        """Run the trials that are left; return the study's results.

        Args:
            pool: the worker processes; none with ``workers=inline``.
            group: the processes that train each trial together with ``workers=inline``; None trains in this one.
        """
        study, tracker, display = self.study, self.tracker, self.display
        parent: str | None = None
        status: ParentStatus = "FAILED"
        try:
            with shielded():
                parent = tracker.parent_run(study.name, study_tags(study), study_params(study.plan, study.fixed))
            page = StudyPage(study, tracker, parent, self.program, display.say)
            page.open()
            if self.request.study.retry_failed and (retried := study.retry_failed()):
                display.say(_retry_line(retried))
            for line in damage(study, tracker):
                display.say(line)
            with shown(display):
                delete_unneeded(study)
                if self.request.workers.name == "inline":
                    worker = Worker(
                        study, tracker, parent, display, self.deadline, group=group, after_trial=page.update
                    )
                    worker.work()
                else:
                    self._supervise(pool, parent, page.update)
            test: dict[str, float] | None = None
            if study.is_complete:
                # Not earlier: while workers are measured, this process has to see all their GPUs.
                prepare_process(device_of(study.plan))
                test = score_complete(study, tracker, parent)
            with shielded():
                log_study(study, tracker, parent, test or {})
            results = page.close()
            status = "FINISHED" if study.is_complete else "KILLED"
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            if parent is not None:
                _finish_parent(tracker, parent, status)
        return results

    @cached_property
    def deadline(self) -> float | None:
        """Time of the monotonic clock after which no trial is started; None for no limit."""
        timeout = self.request.study.timeout
        return self.start + timeout if timeout is not None else None

    def _supervise(self, pool: WorkerPool, parent: str, after_trial: Callable[[], None]) -> None:
        """Run trials in worker processes; one tracker measures the machine, with their GPUs, for all of them."""
        workers, emissions = self.request.workers, self.study.services.emissions
        gpus = cuda_devices_of(device_of(self.study.plan))[: len(pool.processes) * workers.processes_per_trial]
        with (
            tempfile.TemporaryDirectory(prefix="embedsweep-") as folder,
            MachineEmissions(emissions, Path(folder), gpus) as shared,
        ):
            job = Job.of(self.study, self.request, parent, Path(folder))
            study, display = self.study, self.display
            Supervisor(pool, job, workers, self.deadline, lambda: study.n_left, shared, display, after_trial).run()


def _finish_parent(tracker: Tracker, parent: str, status: ParentStatus) -> None:
    """End the study's own run; if another error is being raised already, that one is reported."""
    is_raising = sys.exc_info()[0] is not None
    with shielded():
        try:
            tracker.finish_parent(parent, status)
        except TrackingError:
            if not is_raising:
                raise


def _show_start(display: TrialDisplay, study: Study) -> None:
    """Show what the study is and where it stands, before anything slow begins."""
    finished = sum(trial.state.is_finished() for trial in study.trials)
    notes = f"; {finished} finished before" if finished else ""
    if study.plan.warm_start and not finished:
        notes += f"; first the best of {study.plan.warm_start}"
    line = f"study {study.name}: {study.n_trials} trials ({study.plan.sampler}){notes}, in {study.folder}"
    objectives = list(study.plan.objectives)
    display.open(line, {"study": study.name, "objectives": objectives, "folder": str(study.folder)})


def _retry_line(retried: Sequence[int]) -> str:
    plural, numbers = "s" if len(retried) > 1 else "", ", ".join(map(str, retried))
    return f"{len(retried)} failed trial{plural} ({numbers}) no longer counted but retried"


def _last_words(study: Study, workers: WorkersConfig) -> str:
    """Return what an interrupted command keeps, and how the study is resumed."""
    by_name = f"-m study.name={study.name} {'alone' if workers.name == 'inline' else f'workers={workers.name}'}"
    resume = f"the same command, or {by_name}, resumes the study"
    try:
        finished, unfinished = study_status(study).finished_text, study.unfinished
    except Exception:  # the storage does not answer; whatever it holds is kept
        return f"interrupted: {resume}"
    kept = f"{finished} and kept"
    if unfinished:
        plural, numbers = "s" if len(unfinished) > 1 else "", ", ".join(map(str, unfinished))
        kept += f"; trial{plural} {numbers} will be resumed from the last checkpoint"
    return f"interrupted: {kept}; {resume}"


def study_tags(study: Study) -> dict[str, str]:
    """Return the tags of the study's own run, beside those that identify it."""
    return {"embedsweep.n_trials": str(study.n_trials), "embedsweep.sampler": study.plan.sampler}


def log_study(study: Study, tracker: Tracker, parent: str, test: dict[str, float]) -> None:
    """Record the best value of each objective and the sums of the trials' costs in the study's own run.

    All metrics begin with ``study/``, because charts of the trials would draw a point for those of the same name.
    """
    metrics = {**_costs(study), **test}
    for index, name in enumerate(study.plan.objectives):
        values = [trial.values[index] for trial in study.complete_trials if is_kept(trial)]
        if values:
            # Without "best/", the emissions are the sum over all trials.
            metric = f"best/{name}" if name.startswith("emissions/") else name
            metrics[metric] = max(values) if direction_of(name) == "maximize" else min(values)
    finished = sum(trial.state.is_finished() for trial in study.trials)
    tracker.log_parent(parent, finished, {f"study/{name}": value for name, value in metrics.items()})


def _costs(study: Study) -> dict[str, float]:
    """Return the sum over all trials and the scoring of the best of each cost that any of them recorded, by metric."""
    names = {"emissions/co2eq_kg": EMISSIONS_KG, "emissions/energy_kwh": ENERGY_KWH, "time/gpu_h": GPU_H}
    attributes: list[Mapping[str, float]] = [trial.user_attrs for trial in study.trials]
    times: dict[str, float] = {}
    if (tested := study.test_scores) is not None and tested.cost is not None:
        attributes.append(cost_attributes(tested.cost))
        times["time/test_s"] = tested.cost.duration_s
    known = {metric: [each[name] for each in attributes if name in each] for metric, name in names.items()}
    sums = {metric: sum(figures) for metric, figures in known.items() if figures or metric == "emissions/co2eq_kg"}
    return {**sums, **times}
