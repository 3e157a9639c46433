"""Run the workers, check that nothing was lost, and print what they waited; then ask a study of 10,000 trials."""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, print_figures
from benchmarks.scale.asking import asking
from benchmarks.scale.books import Books, read_books
from benchmarks.scale.checks import check
from benchmarks.scale.plan import ORDER, Order
from benchmarks.scale.servers import Servers, running_servers

WORDS = ("loss=mnrl,cosent", "search=lr_warmup_batch", "study.name=scale", "model=tiny", "data=demo")


def main(arguments: list[str]) -> None:
    """Print the checks and the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=2000, help="at least three times as many as there are workers")
    parser.add_argument("--history", type=int, default=10_000, help="finished trials of the study that is asked")
    parser.add_argument("--short", type=float, default=2.0, help="seconds that most trials sleep")
    parser.add_argument("--minute", type=float, default=60.0, help="seconds that the last trials sleep")
    options = parser.parse_args(arguments)
    if options.trials < 3 * options.workers:
        parser.error(f"--trials {options.trials} must be at least three times --workers {options.workers}")
    folder = Path.cwd()
    with running_servers(folder) as servers:
        order = _order(servers, options)
        (folder / ORDER).write_bytes(pickle.dumps(order))
        started = time.monotonic()
        _run_workers(folder)
        seconds = time.monotonic() - started
        books = read_books(folder, order)
        for line in (_write_rest(order), *books.lines(seconds), *check(servers, order, folder)):
            print(line, flush=True)
    figures = [_share(books, order), *asking(options.history)]
    print_figures(*figures)


def _order(servers: Servers, options: argparse.Namespace) -> Order:
    from embedsweep.study.opening import open_study
    from embedsweep.tracking.runs import Tracker
    from embedsweep.validation.sweep import pass_sweep
    from embedsweep.workers.job import Job

    where = (f"study.storage={servers.storage}", f"tracking.uri={servers.tracking}")
    request = pass_sweep([*WORDS, *where, f"study.n_trials={options.trials}"])
    study = open_study(request)
    with Tracker(request.tracking) as tracker:
        parent = tracker.parent_run(study.name, {})
    return Order(Job.of(study, request, parent), options.workers, options.trials, options.short, options.minute)


def _run_workers(folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scale.workers", str(folder)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        sys.exit(f"{done.returncode} workers failed")


def _write_rest(order: Order) -> str:
    """Write the records that are left, as the command that started the workers does."""
    from embedsweep.tracking.runs import Tracker

    started = time.monotonic()
    sweep = order.job.sweep
    with Tracker(sweep.tracking) as tracker:
        tracker.parent_run(str(sweep.study.name), {})
    return f"after the workers' end, their last records are written in {time.monotonic() - started:.1f} s"


def _share(books: Books, order: Order) -> Figure:
    what = f"{order.workers} workers, trials of {order.minute_s:g} s: time on books"
    return Figure(what, 100 * books.share, 5.0, "%")


if __name__ == "__main__":
    main(sys.argv[1:])
