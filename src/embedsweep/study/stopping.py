"""Requests to end all work on a study, wherever it runs: kept in its storage, and noticed by every command on it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import optuna
from optuna.pruners import NopPruner
from optuna.trial import TrialState

from embedsweep.errors import Interrupted, StudyError
from embedsweep.files import STUDY_FILE
from embedsweep.signals import is_main_thread
from embedsweep.study.leases import LEASE
from embedsweep.study.record import StudyRecord
from embedsweep.study.storage import open_storage

STOPS = "embedsweep.stops"
"""User attribute of a study: how often its work was to end. A command heeds those that come after its own start."""
SLURM_ARRAYS = "embedsweep.slurm_arrays"
"""User attribute of a study: the id of each array of Slurm jobs -> `STOPS` when it was submitted."""
OWN_ARRAY = "SLURM_ARRAY_JOB_ID"
STOPPED = "stopped by embedsweep stop"
CHECK_EVERY_S = 5.0
END_S = 1.0
"""How long the end of a command waits for the present look. A database that is away is looked at for a minute."""


def request_stop(record: StudyRecord) -> None:
    """Ask every command that works on a study now, and every job that was submitted for it, to end.

    Raises:
        StudyError: its storage cannot be opened for writing.
    """
    with record.lock():
        storage = open_storage(record.url, record.folder)
        study = optuna.load_study(study_name=record.name, storage=storage, pruner=NopPruner())
        study.set_user_attr(STOPS, study.user_attrs.get(STOPS, 0) + 1)


def slurm_arrays(study: StudyRecord) -> Mapping[str, int]:
    """Return the ids of a study's arrays of Slurm jobs, each with the number of stops before it."""
    arrays: Mapping[str, int] = study._study.user_attrs.get(SLURM_ARRAYS, {})
    return arrays


def own_array(study: StudyRecord) -> str | None:
    """Return the id of the array that was submitted for this study and of which this process is a job; else None."""
    own = os.environ.get(OWN_ARRAY)
    return own if own in slurm_arrays(study) else None


def add_slurm_array(study: StudyRecord, array: str, live: Mapping[str, int]) -> None:
    """Note an array of jobs that was submitted for a study, beside those that still live; the caller holds its lock."""
    study._study.set_user_attr(SLURM_ARRAYS, {**live, array: _stops(study)})


def running_trials(study: StudyRecord) -> dict[int, str]:
    """Return the number of each trial that a worker runs, as far as is known, with the host of that worker."""
    dead = set(study.interrupted)
    running = [trial for trial in study.trials if trial.state is TrialState.RUNNING and trial.number not in dead]
    return {trial.number: lease["host"] for trial in running if (lease := trial.user_attrs.get(LEASE))}


def _stops(study: StudyRecord) -> int:
    return int(study._study.user_attrs.get(STOPS, 0))


class StopWatch:
    """While the block runs, interrupts this process once the work on a study is to end, or its folder is gone.

    The main thread is interrupted as by Ctrl-C: a cluster starts a process again that was ended by its own SIGTERM. Has
    no effect in other threads, which cannot be interrupted.

    Args:
        study: the study.
        say: prints a line that says why.
    """

    def __init__(self, study: StudyRecord, say: Callable[[str], None]) -> None:
        array = own_array(study)
        # A job that waited in the queue while its study was stopped is not to begin.
        self._before = slurm_arrays(study)[array] if array is not None else _stops(study)
        self._study, self._say = study, say
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    @property
    def has_stopped(self) -> bool:
        """Whether somebody asked that the work end."""
        return _stops(self._study) > self._before

    def __enter__(self) -> Self:
        """Begin to watch; the block is not entered where the work is to end already."""
        if is_main_thread():
            if self.has_stopped:
                self._say(STOPPED)
                signal.raise_signal(signal.SIGINT)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._ending:  # afterwards this process is not interrupted any more
            self._over.set()
        if self._thread.ident is not None:
            self._thread.join(END_S)

    def _watch(self) -> None:
        while not self._over.wait(CHECK_EVERY_S):
            is_gone = is_asked = False
            try:
                is_gone = _is_gone(self._study)
                is_asked = not is_gone and self.has_stopped
            except Exception:  # the storage may be away for a moment: the next look may reach it
                logging.getLogger(__name__).exception("it is not known whether the study is to stop")
            with self._ending:
                if (is_gone or is_asked) and not self._over.is_set():
                    if is_asked:
                        self._say(STOPPED)
                    os.kill(os.getpid(), signal.SIGINT)
                    return


@contextmanager
def folder_errors(study: StudyRecord) -> Iterator[None]:
    """Turn whatever ends the block into a StudyError where the study's folder is gone, as that is the reason.

    Raises:
        StudyError: the folder was moved or deleted.
    """
    try:
        yield
    except (Exception, Interrupted, KeyboardInterrupt):
        if not _is_gone(study):
            raise
        message = f"{study.folder} was moved or deleted while study {study.name} ran: nothing can be recorded any more"
        advice = "Move it back, in place of what was written there since, and the same command resumes the study"
        raise StudyError(f"{message}. {advice}") from None


def _is_gone(study: StudyRecord) -> bool:
    """Return whether the folder of an open study is gone; one of that name may have been made since by a late write."""
    return not (study.folder / STUDY_FILE).is_file()
