"""The worker processes: ``python -m benchmarks.scale.workers FOLDER`` forks as many as the order in FOLDER says.

Each is embedsweep's own worker, except that its training sleeps. Forked from one process that has imported all it
needs, they start at once and share what they imported; none of it is torch.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.scale.plan import ORDER, Order, Timed, timeline

if TYPE_CHECKING:
    from embedsweep.config.result import TrialResult
    from embedsweep.training.trial import TrialSetup

TORCH = ("torch", "transformers", "sentence_transformers")


def main(folder: Path) -> int:
    """Run all workers; return how many failed."""
    import embedsweep.workers.worker  # noqa: F401
    from embedsweep.tracking.store import import_mlflow

    order: Order = pickle.loads((folder / ORDER).read_bytes())  # written by the process that started this one
    import_mlflow("server")
    assert threading.active_count() == 1, "a fork has none of its parent's other threads"
    children = [_fork(order, number, folder) for number in range(order.workers)]
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


def _fork(order: Order, number: int, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _work(order, number, folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _work(order: Order, number: int, folder: Path) -> None:
    """Run trials as ``embedsweep.workers.process`` does, and leave what was seen of each."""
    from rich.console import Console

    from benchmarks.scale.training import fake_training
    from embedsweep.report.lines import PlainLines
    from embedsweep.report.running import RunningTrials
    from embedsweep.study.opening import open_study
    from embedsweep.tracking.runs import Tracker
    from embedsweep.workers import worker

    seen: list[Timed] = []
    setattr(worker, "run_trial", _timed(fake_training(order.seconds), order.seconds, seen))  # noqa: B010
    job = replace(order.job, number=number)
    study = open_study(job.sweep)
    study.n_trials = job.n_trials
    said: list[str] = []
    # As any worker: the command that started it writes what is left at the end.
    tracker = Tracker(replace(study.services.tracking, spool=True), said.append)
    display = PlainLines(Console(quiet=True), RunningTrials())
    worker.Worker(study, tracker, job.parent, display, number=number).work()
    tracker.stop()
    assert not [name for name in TORCH if name in sys.modules], "a worker imported torch"
    record = {"trials": [asdict(each) for each in seen], "said": said, "mib": _own_mib()}
    timeline(folder, number).write_text(json.dumps(record), encoding="utf-8")


def _timed(
    run: Callable[[TrialSetup], TrialResult], seconds: Callable[[int], float], seen: list[Timed]
) -> Callable[[TrialSetup], TrialResult]:
    def timed(setup: TrialSetup) -> TrialResult:
        began, number = time.monotonic(), int(setup.folder.name)
        result = run(setup)
        seen.append(Timed(number, began, time.monotonic(), seconds(number)))
        return result

    return timed


def _own_mib() -> float:
    """Return the memory that this process shares with no other, in MiB."""
    import psutil

    return float(psutil.Process().memory_full_info().uss) / 2**20


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
