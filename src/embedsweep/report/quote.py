"""What a study will cost, as lines of text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from statistics import fmean

import psutil

from embedsweep.config.study import StudyPlan
from embedsweep.console import duration, short_params
from embedsweep.files import SWEEPS
from embedsweep.report.tables import aligned
from embedsweep.study.quote import GIB, Quote, TimedKind


def quote_lines(quote: Quote, plan: StudyPlan) -> list[str]:
    """Return the lines: each kind of trial as it was timed, then hours, energy, disk and memory of all trials."""
    timed = [kind for kind in quote.kinds if kind.problem is None]
    header = ("", "steps", "s/step", "s/evaluation", "evaluations", "a trial")
    workers = f"{quote.workers} worker{'s' if quote.workers > 1 else ''}"
    several = quote.n_trials > 1
    return [
        "",
        *aligned(header, [_row(kind) for kind in timed], left={0}),
        *(f"cannot be trained here: {_name(kind)}: {kind.problem}" for kind in quote.kinds if kind.problem),
        f"{quote.n_trials} trial{'s' if several else ''} by {workers}: {duration(quote.seconds)}",
        *_pruned(quote, plan),
        f"energy: {1000 * quote.energy_kwh:.3g} Wh, {1000 * quote.co2eq_kg:.3g} g CO2eq",
        _space(quote),
        _basis(plan),
    ]


def _row(kind: TimedKind) -> tuple[str, ...]:
    timings = kind.timings
    step, evaluation = (fmean(getattr(each, name) for each in timings) for name in ("step_s", "eval_s"))
    first = timings[0]
    counts = (f"{step:.3g}", f"{evaluation:.3g}", str(first.evaluations))
    return (_name(kind), str(first.steps), *counts, duration(kind.seconds()))


def _name(kind: TimedKind) -> str:
    return short_params(kind.values) or "every trial"


def _pruned(quote: Quote, plan: StudyPlan) -> Iterator[str]:
    if plan.pruner != "none":
        share = f"{100 * quote.share:.0f} % of the steps, where trials keep their order from rung to rung"
        yield f"with study.pruner={plan.pruner}: about {duration(quote.pruned_seconds)} ({share})"


def _space(quote: Quote) -> str:
    """Return the disk and memory of all workers, beside what this machine has."""
    existing = next(folder for folder in (SWEEPS.absolute(), *SWEEPS.absolute().parents) if folder.is_dir())
    free, memory = shutil.disk_usage(existing).free, psutil.virtual_memory().total
    gpu = f"; GPU memory: {quote.gpu_gib:.1f} GiB a worker" if quote.gpu_gib is not None else ""
    disk = f"disk: at most {quote.disk_bytes / GIB:.2g} GiB ({free / GIB:.0f} GiB are free)"
    return f"{disk}; memory: {quote.ram_bytes / GIB:.2g} GiB (of {memory / GIB:.0f} GiB){gpu}"


def _basis(plan: StudyPlan) -> str:
    """Return what the figures rest on."""
    drawn = "" if plan.sampler == "exhaustive" else "; trials are taken to be drawn uniformly, each kind alike"
    return f"measured now, on this machine as busy as it is; without start of workers and test scores{drawn}"
