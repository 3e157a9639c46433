"""A study of equal short trials, run by a worker in this process."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from embedsweep.report.lines import PlainLines
from embedsweep.report.running import RunningTrials
from embedsweep.study.opening import open_study
from embedsweep.tracking.runs import Tracker
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.worker import Worker

# The plain script beside which a trial is timed does not score the untrained model either.
SHORT = ("loss=cosent", "data.limit=640", "trainer.max_steps=40", "trainer.eval_every=0.25", "evaluation.before=false")


def open_worker(n_trials: int, words: Sequence[str] = SHORT) -> Worker:
    """Return a worker on a new study of ``n_trials`` trials that differ only in their seed."""
    seeds = ",".join(map(str, range(n_trials)))
    request = pass_sweep([*words, f"trainer.seed={seeds},{n_trials}"])
    study, tracker = open_study(request), Tracker(request.tracking)
    display = PlainLines(Console(quiet=True), RunningTrials())
    parent = tracker.parent_run(study.name, {})
    return Worker(study, tracker, parent, display)
