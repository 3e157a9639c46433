"""What a study would be, told before it is created (``study.dry_run=true``).

Owns the wording. Creates and changes nothing.
"""

from __future__ import annotations

from rich.console import Console

from embedsweep.config import shown
from embedsweep.display import say
from embedsweep.gate import Sweep, broken_constraint
from embedsweep.paths import SWEEPS
from embedsweep.plan import axis_words, study_name
from embedsweep.report import rerun_command
from embedsweep.search_space import completed
from embedsweep.study import StudyRecord, find_study


def print_preview(console: Console, asked: Sweep, program: str) -> None:
    """Prints the study a command asks for: its name, budget, axes, first points, what is done, one configuration.

    Raises:
        ConfigError: the command would be refused by the study that exists.
        StudyError: its storage cannot be opened.
    """
    study = find_study(asked)
    plan = study.plan if study is not None else asked.plan
    assert plan is not None, "a study that a command only names was found"
    name = study.name if study is not None else asked.study.name or study_name(plan)
    n_trials = study.n_trials if study is not None else asked.n_trials
    fixed = study.fixed if study is not None else asked.fixed
    done = _done(study, asked) if study is not None else "would be created"
    of = " and ".join(plan.objectives)
    say(console, f"study {name}: {n_trials} trials ({plan.sampler}) of {of}; {done}, in {SWEEPS / name}")
    for axis in plan.axes:
        say(console, f"  {axis.name}: {axis_words(axis)}")
    say(console, f"  the same for all: {' '.join(fixed) or 'the defaults'}")
    say(console, f"  pruner: {plan.pruner}; duplicates: {plan.duplicates}")
    for constraint in plan.constraints:
        say(console, f"  constraint: {constraint}")
    for point in plan.enqueue:
        say(console, f"  tried first: {' '.join(f'{key}={shown(value)}' for key, value in point.items())}")
    if plan.warm_start is not None:
        say(console, f"  tried first: the best of study {plan.warm_start}")
    example = completed(plan.axes, {})
    if broken_constraint(plan, example) is None:
        say(console, f"one of them, by itself: {rerun_command(program, fixed, example)}")
    say(console, "study.dry_run: nothing was created or trained")


def _done(study: StudyRecord, asked: Sweep) -> str:
    finished = sum(trial.state.is_finished() for trial in study.trials)
    failed = [trial.number for trial in study.failed_trials]
    words = [f"exists, {finished} finished"]
    if study.unfinished:
        words.append(f"{len(study.unfinished)} begun")
    if failed and asked.study.retry_failed:
        words.append(f"{len(failed)} failed and would be tried again")
    return ", ".join(words)
