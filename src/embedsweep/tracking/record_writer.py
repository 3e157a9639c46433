"""Write records to the store at once, or spool them while it is unreachable and replay them later.

A caller never waits for a store that is unreachable: after the first call that fails, only a background thread tries.
"""

from __future__ import annotations

import errno
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from filelock import Timeout

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.names import study_id
from embedsweep.tracking.records import Record, StudyRun
from embedsweep.tracking.spool import Origin, Spool, spool_of
from embedsweep.tracking.store import Notify, Store, locate, open_store, waiting_for_lock


@dataclass(frozen=True)
class Written:
    """A run whose records are all in the store.

    Attributes:
        store_id: the store's id of the run.
        records: how many records this replay wrote.
    """

    store_id: str
    records: int


@dataclass
class Replay:
    """The result of a replay.

    Attributes:
        done: the runs whose records are all in the store.
        left: the runs with records left, and why.
        answered: whether the store answered until the end; False also if another process replays.
    """

    done: dict[str, Written] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    answered: bool = True


def replay(writer: MlflowWriter, spool: Spool, store: str, deadline: float | None = None) -> Replay:
    """Write the records that wait in a spool; if killed at any moment, no record is lost or written twice.

    Args:
        writer: the store, open.
        spool: the records.
        store: the store's URI without secrets; records for other stores stay.
        deadline: the time on the monotonic clock to stop at, between two records; None does not stop.
    """
    if not spool.waiting(store):
        return Replay()
    try:
        with spool.replay_lock():
            return _replay_alone(writer, spool, store, deadline)
    except Timeout:
        return _unfinished(Replay(), spool, store, "another process replays them")


def replay_spool(spool: Spool, origin: str, uri: str, notify: Notify) -> Replay:
    """Open a store and write the records that wait in a spool.

    Args:
        spool: the records.
        origin: the store's URI that they were recorded for, without secrets.
        uri: the store to write to.
        notify: receives a line if the database is locked.

    Raises:
        TrackingError: the store cannot be opened.
    """
    store = locate(uri)
    return replay(MlflowWriter(store, open_store(store, notify)), spool, origin)


def _replay_alone(writer: MlflowWriter, spool: Spool, store: str, deadline: float | None) -> Replay:
    result = Replay()
    for run_id in spool.waiting(store):
        try:
            written = _replay_run(writer, spool, run_id, deadline)
        except UnreachableError as error:
            if not writer.lookup.answers():
                return _unfinished(result, spool, store, str(error))
            result.left[run_id] = str(error)
        except TrackingError as error:
            result.left[run_id] = str(error)
        else:
            if written is None:
                return _unfinished(result, spool, store, "the time limit was reached")
            result.done[run_id] = written
    return result


def _unfinished(result: Replay, spool: Spool, store: str, reason: str) -> Replay:
    return Replay(result.done, dict.fromkeys(spool.waiting(store), reason), answered=False)


def _replay_run(writer: MlflowWriter, spool: Spool, run_id: str, deadline: float | None) -> Written | None:
    """Write the waiting records of a run; return None if the deadline passed."""
    experiment = spool.origin(run_id).experiment
    count = 0
    while not spool.remove(run_id):  # records may have been added in the meantime
        for position, record in spool.records(run_id):
            if deadline is not None and time.monotonic() > deadline:
                return None
            with shielded():
                writer.write(experiment, run_id, record)
                spool.mark_written(run_id, position)
            count += 1
    written = Written(writer.lookup.id_of(experiment, run_id), count)
    spool.note_id(run_id, written.store_id)
    return written


_T = TypeVar("_T")

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Pauses between checks of a store that is unreachable; the last one repeats."""

CLOSING_S = 60.0
"""How long the end of a command waits, at most, for records to be replayed to a store that answers."""


class RecordWriter:
    """The destination of all records of a command.

    Args:
        config: the store, and whether the command may start while it is unreachable.
        notify: receives a line, possibly from another thread, when the store becomes unreachable or answers again.

    Raises:
        TrackingError: the store cannot be opened; an UnreachableError only if ``tracking.spool`` is false.
    """

    def __init__(self, config: TrackingConfig, notify: Notify) -> None:
        self.store: Store = locate(config.uri)
        self._notify = notify
        self._writer: MlflowWriter | None = None
        self._spools: dict[Spool, None] = {}
        self._refused: dict[str, str] = {}  # run -> why the store refuses its records
        self._unreachable = False
        self._watcher: threading.Thread | None = None
        self._watching = threading.Lock()
        self._closing = threading.Event()
        self._replaying = threading.Lock()
        try:
            self._open_writer()
        except UnreachableError as error:
            if not config.spool:
                raise UnreachableError(f"{error}; or start without it: tracking.spool=true") from None
            self._set_unreachable(error)

    def write(self, experiment: str, run_id: str | None, record: Record) -> str:
        """Write a record, or spool it if the store is unreachable or earlier records of the run still wait.

        Args:
            experiment: the experiment's name.
            run_id: the run; None opens a new one, or a study's parent run.
            record: what to write.

        Returns:
            The id of the run: ``run_id``, else the store's; of a new run in the spool, an id that stays valid.

        Raises:
            TrackingError: the store refuses the record.
            UnreachableError: the store is unreachable and the spool cannot be written.
        """
        if run_id is None or not self.waits(experiment, run_id):
            store_id = self.query(lambda writer: writer.write(experiment, run_id, record))
            if store_id is not None:
                return run_id or store_id
        spool_id = run_id or (study_id(record.study) if isinstance(record, StudyRun) else uuid.uuid4().hex)
        self._append(experiment, spool_id, record)
        return spool_id

    def query(self, call: Callable[[MlflowWriter], _T]) -> _T | None:
        """Return the result of a call to the store, or None if the store is unreachable."""
        if not self._unreachable:
            try:
                return waiting_for_lock(lambda: call(self._open_writer()), self._notify)
            except UnreachableError as error:
                self._set_unreachable(error)
        return None

    def waits(self, experiment: str, run_id: str) -> bool:
        """Return whether a record of the run would have to wait; first replay what an earlier command left."""
        spool = self.spool_of(experiment, run_id)
        return self._unreachable or spool.holds(run_id, str(self.store))

    def spool_of(self, experiment: str, run_id: str) -> Spool:
        """Return the spool of a run; at its first use, the records that wait there are replayed."""
        spool = spool_of(experiment, run_id)
        if spool not in self._spools:
            self._spools[spool] = None
            if not self._unreachable and spool.waiting(str(self.store)) and not self._replay(None):
                self._watch()
        return spool

    def holds(self, run_id: str) -> bool:
        """Return whether records of the run wait in a spool that was used."""
        return any(spool.holds(run_id, str(self.store)) for spool in self._spools)

    def store_id(self, experiment: str, run_id: str) -> str:
        """Return the store's id of a run, or ``run_id`` while the store does not have it."""
        if self.waits(experiment, run_id):
            return run_id
        return self.query(lambda writer: writer.lookup.find(run_id, experiment)) or run_id

    def close(self) -> bool:
        """Replay what is left if the store answers, and report the rest; return whether nothing is left."""
        self._closing.set()
        deadline = time.monotonic() + CLOSING_S
        if (watcher := self._watcher) is not None:
            watcher.join(CLOSING_S)
        if any(spool.waiting(str(self.store)) for spool in self._spools):
            self._replay(deadline)
        left = {spool: runs for spool in self._spools if (runs := spool.waiting(str(self.store)))}
        for spool, runs in left.items():
            records = sum(1 for run_id in runs for _ in spool.records(run_id))
            self._notify(
                f"{_counted(records, 'record')} of {_counted(len(runs), 'run')} wait in {spool.folder} for "
                f"MLflow's store {self.store}; embedsweep sync writes them when it answers"
            )
        return not left

    def _open_writer(self) -> MlflowWriter:
        if self._writer is None:
            self._writer = MlflowWriter(self.store, open_store(self.store, self._notify))
        return self._writer

    def _append(self, experiment: str, run_id: str, record: Record) -> None:
        """Spool a record, and watch for the store."""
        spool = self.spool_of(experiment, run_id)
        try:
            with shielded():
                spool.append(run_id, record, Origin(str(self.store), experiment))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UnreachableError(f"the records of run {run_id} cannot be kept in {spool.folder}: {error}") from None
        if self._writer is not None:
            self._writer.forget_steps(run_id)  # any process that works on the study may replay the record
        if run_id not in self._refused:
            self._watch()

    def _set_unreachable(self, error: UnreachableError) -> None:
        if not self._unreachable:
            self._unreachable = True
            self._notify(f"{redact(str(error))}. Records wait on the local disk and are written when it answers")
        self._watch()

    def _watch(self) -> None:
        """Start a thread that checks whether the store answers, unless one is running."""
        with self._watching:
            if self._watcher is None and not self._closing.is_set():
                self._watcher = threading.Thread(target=self._check_store, name="watch-mlflow", daemon=True)
                self._watcher.start()

    def _check_store(self) -> None:
        tries = 0
        while not self._closing.wait(PAUSES_S[min(tries, len(PAUSES_S) - 1)]):
            tries = 0 if self._replay(None) else tries + 1
            with self._watching:  # a record that is added after this finds no watcher, and starts another
                if not self._unreachable and not self._waiting():
                    self._watcher = None
                    return

    def _waiting(self) -> list[str]:
        """Return the runs whose records wait for the store and were not refused by it."""
        runs = (run_id for spool in list(self._spools) for run_id in spool.waiting(str(self.store)))
        return [run_id for run_id in runs if run_id not in self._refused]

    def _replay(self, deadline: float | None) -> bool:
        """Replay all spools that were used; return whether the store accepted or refused every record for good."""
        if not self._replaying.acquire(blocking=False):
            return False
        try:
            return self._replay_all(deadline)
        finally:
            self._replaying.release()

    def _replay_all(self, deadline: float | None) -> bool:
        try:
            writer = self._open_writer()
        except TrackingError:
            return False
        if self._unreachable and not writer.lookup.answers():
            return False
        done = 0
        for spool in list(self._spools):
            result = replay(writer, spool, str(self.store), deadline)
            done += sum(written.records for written in result.done.values())
            if not result.answered:
                return False
            self._notify_refused(result, spool)
        if self._unreachable or done:
            self._notify(f"MLflow's store answers: {_counted(done, 'waiting record')} written")
        self._unreachable = False
        return True

    def _notify_refused(self, result: Replay, spool: Spool) -> None:
        new = {run_id: reason for run_id, reason in result.left.items() if self._refused.get(run_id) != reason}
        if new:
            reasons = "; ".join(dict.fromkeys(new.values()))
            self._notify(f"records in {spool.folder} cannot be written: {reasons}")
        self._refused = {**self._refused, **new}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
