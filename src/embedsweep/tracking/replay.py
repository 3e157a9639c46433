"""Write the records that wait in a spool to a store, in order and each once, whatever was cut off before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from filelock import Timeout

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.signals import shielded
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.names import study_id
from embedsweep.tracking.records import Record
from embedsweep.tracking.spool import Spool, spool_of
from embedsweep.tracking.store import Notify, locate, open_store

BUSY = "another process writes them"
"""Why records were not written although the store may answer: the replay lock was held."""

OnWritten = Callable[[str, Record, str], None]
"""Receives a run's id, a record that is now in the store, and the store's id of the run."""


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
        refused: the runs of which the store refuses a record, and why; the records after it wait, too.
        delayed: the runs of which a record could not be written at this moment, and why.
    """

    done: dict[str, Written] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    delayed: dict[str, str] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many records of the runs that are done were written."""
        return sum(written.records for written in self.done.values())

    @property
    def left(self) -> dict[str, str]:
        """The runs with records left, and why."""
        return {**self.refused, **self.delayed}


def replay(
    writer: MlflowWriter,
    spool: Spool,
    store: str,
    runs: Collection[str] | None = None,
    on_written: OnWritten = lambda *_: None,
    is_over: Callable[[], bool] = lambda: False,
    on_begin: Callable[[], None] = lambda: None,
) -> Replay:
    """Write the records that wait in a spool; if killed at any moment, no record is lost or written twice.

    Args:
        writer: the store, open.
        spool: the records.
        store: the store's URI without secrets; records for other stores stay.
        runs: the runs whose records are written; None is all.
        on_written: is called after each record.
        is_over: returns whether to stop, and is called before each record.
        on_begin: is called before the first record, once no other process writes.
    """
    if not _chosen(spool, store, runs):
        return Replay()
    try:
        with spool.replay_lock():
            on_begin()
            return _replay_alone(writer, spool, _chosen(spool, store, runs), on_written, is_over)
    except Timeout:
        return Replay(delayed=dict.fromkeys(_chosen(spool, store, runs), BUSY))


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
    result = replay(MlflowWriter(store, open_store(store, notify)), spool, origin)
    for run_id, written in result.done.items():
        spool.note_id(run_id, written.store_id)
    return result


def write_or_set_aside(experiment: str, uri: str, notify: Notify) -> Replay:
    """Write the waiting records of a study; one that the store refuses is set aside, and those after it are written.

    Args:
        experiment: the study's name.
        uri: its store.
        notify: receives a line if the database is locked.

    Returns:
        The result; of the runs that are ``refused``, no record is left.

    Raises:
        TrackingError: the store cannot be opened.
    """
    spool, store = spool_of(experiment, study_id(experiment)), str(locate(uri))
    refused: dict[str, str] = {}
    while True:
        result = replay_spool(spool, store, uri, notify)
        set_aside = {run_id: reason for run_id, reason in result.refused.items() if spool.set_aside(run_id)}
        if not set_aside:
            return Replay(result.done, refused, result.delayed)
        refused |= set_aside


def _chosen(spool: Spool, store: str, runs: Collection[str] | None) -> list[str]:
    return [run_id for run_id in spool.waiting(store) if runs is None or run_id in runs]


def _replay_alone(
    writer: MlflowWriter, spool: Spool, runs: list[str], on_written: OnWritten, is_over: Callable[[], bool]
) -> Replay:
    result = Replay()
    for number, run_id in enumerate(runs):
        rest = runs[number:]
        if (origin := spool.origin(run_id)) is None:
            continue
        try:
            written = _replay_run(writer, spool, run_id, origin.experiment, on_written, is_over)
        except UnreachableError as error:
            if not writer.lookup.answers():
                result.delayed |= dict.fromkeys(rest, str(error))
                return result
            result.delayed[run_id] = str(error)
        except TrackingError as error:
            result.refused[run_id] = str(error)
            spool.note_refusal(run_id, str(error))
        else:
            if written is None:
                result.delayed |= dict.fromkeys(rest, "writing was stopped")
                return result
            result.done[run_id] = written
    return result


def _replay_run(
    writer: MlflowWriter,
    spool: Spool,
    run_id: str,
    experiment: str,
    on_written: OnWritten,
    is_over: Callable[[], bool],
) -> Written | None:
    """Write the waiting records of a run; return None if it was stopped."""
    count = 0
    while not spool.remove(run_id):  # records may have been added in the meantime
        for position, record in spool.records(run_id):
            if is_over():
                return None
            with shielded():
                store_id = writer.write(experiment, run_id, record)
                spool.mark_written(run_id, position)
            on_written(run_id, record, store_id)
            count += 1
    return Written(writer.lookup.id_of(experiment, run_id), count)
