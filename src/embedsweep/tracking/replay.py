"""Write the records that wait in a spool to a store, in order and each once, whatever was cut off before.

Records of a run that follow each other are written in one call where they can be: a store that many processes write to
is asked once for what waited together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from filelock import Timeout

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.signals import shielded
from embedsweep.tracking.mlflow_writer import MlflowWriter, Together
from embedsweep.tracking.names import study_id
from embedsweep.tracking.records import End, Record, TrialRun
from embedsweep.tracking.spool import Spool, spool_of
from embedsweep.tracking.store import Notify, locate, open_store

BUSY = "another process writes them"
"""Why records were not written although the store may answer: the replay lock was held."""

STOPPED = "writing was stopped"
"""Why they were not, although it may: the caller asked to stop."""

BATCH = 100
"""How many records are written in one call, at most; after it, they are counted as written."""

LOCK_S = 5.0
"""How long a replay waits for another process, which keeps a run's lock while it writes what waits of the run.

Of the first such run: those processes may all wait for a store that hangs. The others are left to the next replay.
"""

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
    is_over: Callable[[str], bool] = lambda _: False,
    on_begin: Callable[[str], None] = lambda _: None,
) -> Replay:
    """Write the records that wait in a spool; if killed at any moment, no record is lost or written twice.

    Args:
        writer: the store, open.
        spool: the records.
        store: the store's URI without secrets; records for other stores stay.
        runs: the runs whose records are written, in this order; None is all.
        on_written: is called after each record.
        is_over: is given a run and returns whether to stop; called before each call to the store.
        on_begin: is given a run, before its first record, once no other process writes it.
    """
    result = Replay()
    chosen = spool.waiting(store) if runs is None else list(runs)
    wait_s = LOCK_S
    for number, run_id in enumerate(chosen):
        try:
            with spool.replay_lock(run_id, wait_s):
                on_begin(run_id)
                problem = _replay_alone(_Run(writer, spool, run_id, on_written, is_over), result, store)
        except Timeout:
            result.delayed[run_id], wait_s = BUSY, 0.0
            continue
        if problem is not None:
            result.delayed |= dict.fromkeys(chosen[number:], problem)
            return result
    return result


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


@dataclass(frozen=True)
class _Run:
    """A run whose records are written; attributes as the arguments of `replay`."""

    writer: MlflowWriter
    spool: Spool
    run_id: str
    on_written: OnWritten
    is_over: Callable[[str], bool]


def _replay_alone(run: _Run, result: Replay, store: str) -> str | None:
    """Write the records of a run, and note in ``result`` how it went; return why no run can be written now, or None."""
    origin = run.spool.origin(run.run_id)
    if origin is None or origin.store != store:  # another process has written them in the meantime
        return None
    try:
        written = _replay_run(run, origin.experiment)
    except UnreachableError as error:
        if not run.writer.lookup.answers():
            return str(error)
        result.delayed[run.run_id] = str(error)
    except TrackingError as error:
        result.refused[run.run_id] = str(error)
        run.spool.note_refusal(run.run_id, str(error))
    else:
        if written is None:
            return STOPPED
        result.done[run.run_id] = written
    return None


def _replay_run(run: _Run, experiment: str) -> Written | None:
    """Write the waiting records of a run; return None if it was stopped."""
    count = 0
    while not run.spool.remove(run.run_id):  # records may have been added in the meantime
        for batch in _batches(run.spool.records(run.run_id)):
            if run.is_over(run.run_id):
                return None
            try:
                _write(run, experiment, batch)
            except UnreachableError:
                raise
            except TrackingError:
                if len(batch) == 1:
                    raise
                for each in batch:  # those before the one that is refused are written, and counted
                    _write(run, experiment, [each])
            count += len(batch)
    return Written(run.writer.lookup.id_of(experiment, run.run_id), count)


def _batches(records: Iterable[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    """Yield records with their positions, in order: together those that can be written in one call."""
    batch: list[tuple[int, Record]] = []
    for position, record in records:
        if batch and (not isinstance(record, Together) or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append((position, record))
        if not isinstance(record, Together) or isinstance(record, End):
            yield batch
            batch = []
    if batch:
        yield batch


def _write(run: _Run, experiment: str, batch: list[tuple[int, Record]]) -> None:
    """Write records and count them as written."""
    writer, spool, run_id, (_, first) = run.writer, run.spool, run.run_id, batch[0]
    with shielded():
        if len(batch) > 1:
            together = [record for _, record in batch if isinstance(record, Together)]
            store_id = writer.write_together(experiment, run_id, together)
        else:
            is_untried = isinstance(first, TrialRun) and not spool.is_begun(run_id)
            if is_untried:
                spool.mark_begun(run_id)
            store_id = writer.write(experiment, run_id, first, is_untried=is_untried)
        spool.mark_written(run_id, batch[-1][0])
    for _, record in batch:
        run.on_written(run_id, record, store_id)
