"""The command for a study: open it, run its trials, score the best one and print the ranking."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.console import Console

from embedsweep.commands.quoting import device_of, quote_study
from embedsweep.commands.slurm import check_files, has_logs, is_done, retry_failed, submit_jobs, wait_for_jobs
from embedsweep.commands.study_run import StudyRun, retry_line
from embedsweep.config.workers import RayWorkersConfig, WorkersConfig
from embedsweep.console import OutputStyle, duration, say
from embedsweep.errors import ConfigError, Interrupted, WorkerError, raise_problems
from embedsweep.machine import prepare_process
from embedsweep.report.lines import JsonLines
from embedsweep.report.live import TrialDisplay, make_display, shown
from embedsweep.report.quote import quote_lines
from embedsweep.report.ranking import print_best, print_preview, print_ranking, print_ui
from embedsweep.report.results import StudyResults, study_results
from embedsweep.report.running import RunningTrials
from embedsweep.report.status import result_fields, study_status
from embedsweep.signals import raise_if_held
from embedsweep.study.frozen_data import agree_on_data
from embedsweep.study.mounts import shared_file_system
from embedsweep.study.opening import agreed_finals, find_study, open_study
from embedsweep.study.record import StudyRecord
from embedsweep.study.stopping import StopWatch, folder_errors
from embedsweep.study.storage import repair_hint, storage_errors
from embedsweep.study.study import Study
from embedsweep.tracking.runs import Tracker
from embedsweep.training.group import open_group
from embedsweep.validation.search import check_cells
from embedsweep.validation.services import check_reach, check_shares
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.conclusion import is_over
from embedsweep.workers.elsewhere import require_reach
from embedsweep.workers.missing_runs import refusals
from embedsweep.workers.pool import Pool
from embedsweep.workers.pools import open_pools, require_cluster
from embedsweep.workers.slurm import cancel_waiting_jobs, requeue_own_job

DONE, FAILED, FAILED_TRIALS = 0, 1, 3
Report = Callable[[Tracker, StudyResults], None]
"""Prints a study's results."""


def run_sweep(
    request: Sweep, console: Console, program: str, style: OutputStyle = "lines", *, waits: bool = False
) -> int:
    """Run the trials of a study and report on it; with ``workers=slurm`` submit jobs that run them.

    Args:
        request: the validated command.
        console: where output is printed.
        program: how this program was started, for the printed command that trains the best configuration again.
        style: how trials are shown; ``json`` prints nothing but events.
        waits: whether submitted jobs are waited for.

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
        require_reach(request.study.checkpoints)
        if request.study.dry_run:
            return _preview(request, console, program)
        if request.workers.name == "slurm":
            raise_problems([*check_files(request)])
        quote: Mapping[str, Any] | None = None
        hours = request.study.budget_hours
        if hours is not None and find_study(request) is None:
            tell = partial(say, console if style == "lines" else Console(quiet=True))
            quote = quote_study(request, None, tell).tree(hours)
            takes = f"{duration(quote['pruned_seconds'])} with {quote['workers']} worker(s), as timed now"
            tell(
                f"study.budget_hours={hours:g}: {quote['n_trials']} trials, {takes}; study.n_trials can change it later"
            )
        if request.plan is not None and request.workers.name == "ray" and find_study(request) is None:
            require_cluster(request.workers, device_of(request.plan))
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
        kept_at = study.services.checkpoints
        if kept_at is not None and kept_at.url != request.study.checkpoints:
            require_reach(kept_at.url)
        agree_on_data(study)
        make = partial(_display, console, style)
        display = make(study)
        _show_start(display, study)
        _warn_of_shared_folder(display, study)
        report = partial(_report, console, study, display, program)
        if request.workers.name == "slurm":
            with folder_errors(study):
                return _run_jobs(request, study, display, report, waits=waits, is_quiet=style == "quiet")
        watch = StopWatch(study, display.say)
        try:
            with watch, folder_errors(study):
                raise_if_held()
                refused = _run_trials(request, study, display, make, start, program, report)
        except (Interrupted, KeyboardInterrupt) as error:
            display.say(_last_words(study, request.workers))
            if isinstance(error, Interrupted) and error.signum == signal.SIGTERM:
                requeue_own_job(study, watch, display.say)
            raise
        if refused:
            return FAILED
        if is_over(study):
            cancel_waiting_jobs(study, display.say)
        return _exit_code(study)


def _exit_code(study: StudyRecord) -> int:
    """Return the exit code of a command whose records are all written."""
    finals = study.finals
    return FAILED_TRIALS if study.failed_trials or (finals is not None and finals.failed_trials) else DONE


def _run_jobs(
    request: Sweep, study: Study, display: TrialDisplay, report: Report, *, waits: bool, is_quiet: bool
) -> int:
    """Submit jobs that run the trials that are left, and wait for them if that is requested.

    Raises:
        Interrupted: a signal came while jobs were waited for; they go on.
        WorkerError: Slurm refuses them, or they ended before the study was complete.
    """
    with Tracker(study.services.tracking, display.say) as tracker:
        _check_one_store(study, tracker)
        if request.study.retry_failed:
            retry_failed(study, lambda each, retried: display.say(retry_line(each, retried)))
        if not is_done(study):
            submit_jobs(request, study, max(_n_left(study, request), _n_finals_left(study, request)), display)
            if not waits:
                return DONE
            wait_for_jobs(study, display, is_quiet=is_quiet)
            if not is_done(study):
                logs = f": {study.folder}/slurm has logs" if has_logs(study) else ""
                message = f"no job of study {study.name} is left, and it is not complete{logs}"
                raise WorkerError(f"{message}; the same command submits jobs again")
        report(tracker, study_results(study))
    return _exit_code(study)


def _preview(request: Sweep, console: Console, program: str) -> int:
    """Print what a study would be and, if a quote is requested, what it would cost."""
    study = print_preview(console, request, program)
    if study is not None and not study.n_left:
        say(console, f"no trial is left to run: {study_status(study).finished_text}")
    elif request.study.dry_run == "quote":
        quote = quote_study(request, study, partial(say, console))
        plan = study.plan if study is not None else request.plan
        assert plan is not None, "a command without a plan names an existing study"
        for line in quote_lines(quote, plan):
            say(console, line)
        if count := _n_finals_asked(request, study):
            seconds = quote.seconds / quote.n_trials * count
            long = f"{duration(seconds)} if they take as long as the trials do"
            say(console, f"not in these figures: the finals, {count} trainings, {long}")
    say(console, "study.dry_run: nothing was created or trained")
    return DONE


def _display(console: Console, style: OutputStyle, study: Study) -> TrialDisplay:
    """Return the display of the trials of a study, or of its finals."""
    return make_display(console, style, RunningTrials(partial(study_status, study)), study.unit)


def _run_trials(
    request: Sweep,
    study: Study,
    display: TrialDisplay,
    make: Callable[[Study], TrialDisplay],
    start: float,
    program: str,
    report: Report,
) -> bool:
    """Run the trials that are left, then the finals, and report while the tracker still writes.

    Returns:
        Whether MLflow's store refuses a record of the study.
    """
    device, processes = device_of(study.plan), request.workers.processes_per_trial
    is_inline = request.workers.name == "inline"
    n_left = _n_left(study, request)
    # The group takes the GPUs that this process still sees. Workers import while the stores are opened here.
    with (
        open_group(processes if is_inline else 1, device) as group,
        open_pools(request, study, device, max(n_left, _n_finals_left(study, request)), display.say) as make_pool_of,
        make_pool_of(study, n_left) as pool,
    ):
        display.trials.workers = 1 if is_inline else pool.size

        def make_pool(finals: Study) -> Pool:
            return make_pool_of(finals, _n_left(finals, request))

        def show_finals(finals: Study, size: int) -> TrialDisplay:
            of_finals = make(finals)
            of_finals.trials.workers = 1 if is_inline else size
            _show_finals(of_finals, finals)
            return of_finals

        with shown(display):  # what is waited for
            if is_inline:
                prepare_process(device)
            tracker = Tracker(study.services.tracking, display.say)
        with tracker:
            _check_one_store(study, tracker)
            run = StudyRun(request, study, tracker, display, start, program, make_pool, show_finals)
            report(tracker, run.run(pool, group))
        refused = refusals(study, tracker)
        for line in (*refused, *([repair_hint(study.name)] if refused else [])):
            display.say(line)
    return bool(refused)


def _n_finals_asked(request: Sweep, study: StudyRecord | None) -> int:
    """Return how many trainings the finals have that a command asks for; 0 without finals."""
    kept = study.finals_config if study is not None else None
    asked = agreed_finals(asdict(kept) if kept is not None else None, request)
    return asked["top"] * asked["seeds"] if asked is not None and asked["top"] is not None else 0


def _n_left(study: StudyRecord, request: Sweep) -> int:
    """Return how many trials of the study, or of its finals, are left to this command and to others."""
    return study.n_left + (len(study.failed_trials) if request.study.retry_failed else 0)


def _n_finals_left(study: StudyRecord, request: Sweep) -> int:
    """Return how many trainings the finals have left, at most: those that begin later are not known yet."""
    asked, finals = study.finals_config, study.finals
    if asked is None or asked.top is None:
        return 0
    began = len(finals.points) if finals is not None else 0
    left = _n_left(finals, request) if finals is not None else 0
    return left + max(0, asked.top * asked.seeds - began)


def _report(
    console: Console, study: Study, display: TrialDisplay, program: str, tracker: Tracker, results: StudyResults
) -> None:
    """Print a study's results, or show them as an event."""
    if isinstance(display, JsonLines):
        display.emit("result", **result_fields(study, program))
        return
    print_ranking(console, results)
    print_best(console, results, program)
    from embedsweep.report.page.build import REPORT

    if (page := study.folder / REPORT).is_file():
        say(console, f"report: {page}")
    print_ui(console, tracker.ui_hint(study.name), program)
    for each in (study, study.finals):
        if each is not None and each.unfinished:
            say(console, f"unfinished: {_numbers(each)}, left to other processes or the next command")


def _numbers(study: StudyRecord) -> str:
    """Return the unfinished trials of a study, or of its finals, in words: ``trials 3, 4``."""
    plural, numbers = "s" if len(study.unfinished) > 1 else "", ", ".join(map(str, study.unfinished))
    return f"{study.unit}{plural} {numbers}"


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


def _show_finals(display: TrialDisplay, finals: Study) -> None:
    """Show what the finals are and where they stand."""
    finished, points = sum(trial.state.is_finished() for trial in finals.trials), finals.points
    finalists = list(dict.fromkeys(str(point.finalist) for point in points))
    trials = f"trial{'s' if len(finalists) > 1 else ''} {', '.join(finalists)}"
    seeds = len({point.seed for point in points})
    notes = f"; {finished} finished before" if finished else ""
    line = f"finals: {trials} again, with {seeds} other seeds each: {len(points)} trainings{notes}, in {finals.folder}"
    display.open(line, {"study": finals.name, "objectives": list(finals.plan.objectives), "folder": str(finals.folder)})


def _show_start(display: TrialDisplay, study: Study) -> None:
    """Show what the study is and where it stands, before anything slow begins."""
    finished = sum(trial.state.is_finished() for trial in study.trials)
    notes = f"; {finished} finished before" if finished else ""
    if study.plan.warm_start and not finished:
        notes += f"; first the best of {study.plan.warm_start}"
    line = f"study {study.name}: {study.n_trials} trials ({study.plan.sampler}){notes}, in {study.folder}"
    objectives = list(study.plan.objectives)
    display.open(line, {"study": study.name, "objectives": objectives, "folder": str(study.folder)})


def _warn_of_shared_folder(display: TrialDisplay, study: Study) -> None:
    """Say once for a study that its journal is on a network file system, whose locks may exclude nobody."""
    kind = shared_file_system(study.folder) if study.url is None else None
    if kind is not None:
        warning = (
            f"{study.folder} is on a network file system ({kind}): run this study on one machine at a time. For "
            "several, begin it with study.storage=postgresql://host/database"
        )
        for line in study.unseen_warnings([warning]):
            display.say(line)


def _last_words(study: Study, workers: WorkersConfig) -> str:
    """Return what an interrupted command keeps, and how the study is resumed."""
    by_name = f"-m study.name={study.name} {'alone' if workers.name == 'inline' else f'workers={workers.name}'}"
    if isinstance(workers, RayWorkersConfig) and workers.address != "auto":
        by_name += f" workers.address={workers.address}"
    resume = f"the same command, or {by_name}, resumes the study"
    try:
        each = [study, *([study.finals] if study.finals is not None else [])]
        kept = f"{' and '.join(study_status(one).finished_text for one in each)} and kept"
        unfinished = [_numbers(one) for one in each if one.unfinished]
    except Exception:  # the storage does not answer; whatever it holds is kept
        return f"interrupted: {resume}"
    if unfinished:
        kept += f"; {' and '.join(unfinished)} will be resumed"
    return f"interrupted: {kept}; {resume}"
