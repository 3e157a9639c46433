"""A worker process: ``python -m embedsweep.workers.process DEVICE PROCESSES STORE``, told its job on stdin.

Owns the process: its pipes, its log, its signals and its exit code. Knows nothing of other workers.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from embedsweep.errors import DeviceLostError, EmbedsweepError, Interrupted
from embedsweep.machine import end_at_once, prepare_process, take_pipes
from embedsweep.secrets import redact
from embedsweep.signals import handled
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.workers.job import EventLines, Job

if TYPE_CHECKING:
    from embedsweep.study.study import Study
    from embedsweep.tracking.runs import Tracker

GIVEN_UP_AFTER_S = 20.0
"""How long a worker without a supervisor may take to give its trial up, before it ends as if it were killed."""


def main() -> int:
    """Works until no trial is left to begin; 0, 1 where it cannot go on, 130 and 143 where it was ended."""
    device, processes, store = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    lifeline, events = take_pipes()
    faulthandler.enable()
    end_at_once()
    display = EventLines(events)
    try:
        with handled(), open_group(processes, device) as group:  # deals the GPUs of this worker
            _import_all(device, store)
            job = Job.receive(lifeline)
            deadline = time.monotonic() + job.seconds if job.seconds is not None else None
            threading.Thread(target=_end_with_supervisor, args=(lifeline,), name="lifeline", daemon=True).start()
            return _work_logged(job, display, deadline, group)
    except Interrupted as error:
        return error.exit_code
    except DeviceLostError as error:
        # Of this process alone: its supervisor shows the end of its log and starts another one.
        print(redact(str(error)), file=sys.stderr, flush=True)
        return 1
    except EmbedsweepError as error:
        display.outage(redact(str(error)))
        return 1


def _end_with_supervisor(lifeline: IO[bytes]) -> None:
    """Ends this process when its supervisor has ended, however it was: nobody would wait for its trials any more."""
    os.read(lifeline.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GIVEN_UP_AFTER_S)
    os._exit(128 + signal.SIGTERM)


def _import_all(device: str, store: str) -> None:
    """Does what takes seconds while the supervisor prepares the job; no trial is to blame for an import that fails."""
    prepare_process(device)  # before torch is imported
    import sentence_transformers  # noqa: F401

    import embedsweep.workers.worker  # noqa: F401
    from embedsweep.tracking.store import import_mlflow

    import_mlflow(store)
    if device != "cpu":
        from embedsweep.training.warm_up import warm_up

        warm_up()


def _work_logged(job: Job, display: EventLines, deadline: float | None, group: TrainingGroup | None) -> int:
    from embedsweep.training.folder import train_log

    with train_log(job.log):
        try:
            _work(job, display, deadline, group)
        except (Interrupted, EmbedsweepError):
            raise
        except Exception:
            logging.getLogger(__name__).exception("the worker failed")
            return 1
    return 0


def _work(job: Job, display: EventLines, deadline: float | None, group: TrainingGroup | None) -> None:
    from embedsweep.emissions.share import share_path
    from embedsweep.study.opening import open_study
    from embedsweep.study.storage import storage_errors
    from embedsweep.tracking.runs import Tracker
    from embedsweep.workers.worker import Worker

    with storage_errors():
        study = open_study(job.sweep)
        study.n_trials = job.n_trials  # of this command; another one may have asked for more since
        # The supervisor has opened the store: one that is away now was lost on the way.
        tracker = Tracker(replace(job.tracking, spool=True), display.say)
        share = share_path(job.share_folder, job.number) if job.share_folder is not None else None
        shared = (tracker, job.parent, display, job.emissions, job.keep_models, deadline)
        try:
            Worker(study, *shared, job.number, share, group).work()
            _finish(study, tracker, job)
        finally:
            tracker.close()


def _finish(study: Study, tracker: Tracker, job: Job) -> None:
    """The last worker scores the winner, as it has all in memory that this needs; else its supervisor does."""
    from embedsweep.workers.winner import score_complete

    try:
        score_complete(study, tracker, job.parent, job.keep_models)
    except Exception:
        logging.getLogger(__name__).exception("the winner was not scored; the supervisor tries, and tells why")


if __name__ == "__main__":
    sys.exit(main())
