"""A worker process: ``python -m embedsweep.workers.process DEVICE PROCESSES STORE``, which is sent its `Job`."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from embedsweep.errors import DeviceLostError, EmbedsweepError, Interrupted
from embedsweep.machine import end_at_once, prepare_process
from embedsweep.processes import ALIVE_S, ParentChannel, at_most_every
from embedsweep.secrets import redact
from embedsweep.signals import handled
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.workers.job import ALIVE, OUTAGE, Job, RemoteDisplay

if TYPE_CHECKING:
    from pathlib import Path

    from embedsweep.study.study import Study
    from embedsweep.tracking.runs import Tracker


def main() -> int:
    """Run trials until none is left; return 0, 1 after a failure, or 129, 130 or 143 after a signal."""
    device, processes, store = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    channel = ParentChannel()
    faulthandler.enable()
    end_at_once()
    try:
        # A cluster signals all processes of a job, and their supervisor does, too; it kills those that take too long.
        with handled(once=True), open_group(processes, device) as group:  # assigns this worker's GPUs
            _import_all(device, store)
            job = channel.receive()
            assert isinstance(job, Job)
            deadline = time.monotonic() + job.seconds if job.seconds is not None else None
            alone = threading.Event()
            watch = (channel, alone, job.release_s)
            threading.Thread(target=_end_with_supervisor, args=watch, name="supervisor", daemon=True).start()
            display = RemoteDisplay(channel.send)
            alive = at_most_every(ALIVE_S, lambda: channel.send((ALIVE,)))
            return _work_logged(job, display, alive, deadline, group, alone)
    except Interrupted as error:
        return error.exit_code
    except DeviceLostError as error:
        # It concerns this process only: the supervisor shows the end of its log and restarts it.
        print(redact(str(error)), file=sys.stderr, flush=True)
        return 1
    except EmbedsweepError as error:
        channel.send((OUTAGE, redact(str(error))))
        return 1


def _end_with_supervisor(channel: ParentChannel, alone: threading.Event, release_s: float) -> None:
    """End this process once its supervisor has ended, in whatever way: nobody would wait for its trials.

    If it takes longer than it may, it ends as if it were killed.
    """
    channel.wait_for_end()
    alone.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(release_s)
    os._exit(128 + signal.SIGTERM)


def _import_all(device: str, store: str) -> None:
    """Import what takes seconds while the supervisor prepares the job; an import that fails is no trial's failure."""
    prepare_process(device)  # before torch is imported
    import embedsweep.workers.worker  # noqa: F401
    from embedsweep.tracking.store import import_mlflow
    from embedsweep.training.warm_up import warm_up

    import_mlflow(store)
    warm_up(device)


def _work_logged(
    job: Job,
    display: RemoteDisplay,
    alive: Callable[[], None],
    deadline: float | None,
    group: TrainingGroup | None,
    alone: threading.Event,
) -> int:
    from embedsweep.training.folder import train_log

    with train_log(job.log):
        try:
            _work(job, display, alive, deadline, group, alone)
        except (Interrupted, EmbedsweepError):
            raise
        except Exception:
            logging.getLogger(__name__).exception("the worker failed")
            return 1
    return 0


def _work(
    job: Job,
    display: RemoteDisplay,
    alive: Callable[[], None],
    deadline: float | None,
    group: TrainingGroup | None,
    alone: threading.Event,
) -> None:
    from embedsweep.emissions.allocation import allocation_path
    from embedsweep.study.opening import open_study
    from embedsweep.study.stopping import folder_errors
    from embedsweep.study.storage import storage_errors
    from embedsweep.tracking.runs import Tracker
    from embedsweep.workers.worker import Worker

    with storage_errors():
        study = open_study(job.sweep)
        study.n_trials = job.n_trials  # of this command; another one may have raised it since
        folder = job.allocation_folder
        allocation = allocation_path(folder, job.number) if folder is not None else None
        # The supervisor has opened the store: if it cannot be reached now, records are written later.
        tracker = Tracker(replace(study.services.tracking, spool=True), display.say)
        try:
            with folder_errors(study):
                Worker(study, tracker, job.parent, display, deadline, job.number, allocation, group, alive=alive).work()
                _score_best(study, tracker, job.parent, allocation, alive)
        finally:
            if alone.is_set():  # no supervisor writes what waits: a run would stay RUNNING until the study is resumed
                tracker.close()
            else:
                tracker.stop()


def _score_best(
    study: Study, tracker: Tracker, parent: str, allocation: Path | None, alive: Callable[[], None]
) -> None:
    """Score the best trial in the last worker, which has imported all this needs; else the supervisor does it."""
    from embedsweep.workers.winner import score_complete

    try:
        score_complete(study, tracker, parent, allocation, alive)
    except Exception:
        logging.getLogger(__name__).exception("the best trial was not scored; the supervisor tries and reports why")


if __name__ == "__main__":
    sys.exit(main())
