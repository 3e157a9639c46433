"""A study's quote in a command: what it would cost, and how many trials a budget of hours buys."""

from __future__ import annotations

from collections.abc import Callable

from embedsweep.config.study import StudyPlan
from embedsweep.config.values import resolve
from embedsweep.console import duration
from embedsweep.errors import ConfigError, Interrupted, raise_problems
from embedsweep.study.quote import MOST_TRIALS, Quote, affordable, make_quote
from embedsweep.study.record import StudyRecord
from embedsweep.validation.sections import TRIAL_SECTIONS
from embedsweep.validation.sweep import Sweep, check_n_trials
from embedsweep.workers.quoting import time_kinds

HOUR_S = 3600.0


def quote_study(request: Sweep, study: StudyRecord | None, say: Callable[[str], None]) -> Quote:
    """Measure what the trials of a study that are left cost; nothing of the study is created.

    Args:
        request: the validated command.
        study: the study, with trials left; None where the command would create it.
        say: prints a line.

    Raises:
        ConfigError: there are too many kinds of trials to time, or ``study.budget_hours`` is too little for one trial
            or for what the study asks for.
        WorkerError: the processes that measure cannot start, or no trial can be trained here.
        Interrupted: a signal came, which is said.
    """
    plan, n_trials, done = request.plan, request.n_trials, 0
    if study is not None:
        plan, n_trials, done = study.plan, study.n_left, len(study.trials)
    assert plan is not None, "a command without a plan names an existing study"
    workers = request.workers
    try:
        timed, count = time_kinds(plan, workers, request.emissions, device_of(plan), n_trials or MOST_TRIALS, say)
    except (Interrupted, KeyboardInterrupt):
        say("interrupted: there is no quote, and nothing was created or trained; the same command begins it anew")
        raise
    if study is None and (hours := request.study.budget_hours) is not None:
        n_trials = affordable(plan, timed, n_trials, count, hours * HOUR_S)
        if n_trials == 0:
            trial_s = max(kind.seconds() for kind in timed.values())
            message = f"{hours:g} hours are too little for one trial, which takes up to {duration(trial_s)}: set more"
            raise ConfigError.single("study.budget_hours", message)
        raise_problems([*check_n_trials(plan, request.study, n_trials)])
    assert n_trials is not None, "validation asks for a number of trials or a budget"
    return make_quote(plan, timed, n_trials, done, count, request.study.keep_models)


def device_of(plan: StudyPlan) -> str:
    """Return ``trainer.device``, which is the same in all cells: validation refuses a sweep over devices."""
    cell = next(iter(plan.cells.values()))
    return str(resolve(cell, {}, TRIAL_SECTIONS)["trainer"]["device"])
