"""Record through the spool: records are appended on the local disk, and one thread of the process writes them.

A caller waits only when a run is opened, and not long: if the store does not answer, the run gets an id of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import UnreachableError
from embedsweep.files import FULL
from embedsweep.lease import Lease
from embedsweep.signals import shielded
from embedsweep.tracking.drainer import Drainer, counted
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.names import study_id
from embedsweep.tracking.records import Record, StudyRun, TrialRun
from embedsweep.tracking.spool import Origin, Spool, spool_of
from embedsweep.tracking.store import Notify, Store, locate, waiting_for_lock, within

_T = TypeVar("_T")

PATIENCE_S = 40.0
"""How long the end of a command waits for a store that hangs, counted from its last sign of life."""

QUERY_S = 12.0
"""How long a question to a server may take."""


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
        self._drainer = Drainer(self.store, notify)
        self._abandoned: list[Spool] = []  # of single runs whose folders are named by the store's id
        try:
            self._drainer.open_writer()
        except UnreachableError as error:
            if not config.spool:
                raise UnreachableError(f"{error}; or start without it: tracking.spool=true") from None
            self._drainer.set_away(str(error))

    def write(self, experiment: str, run_id: str | None, record: Record) -> str:
        """Append a record to the spool, from which it is written in the background.

        Args:
            experiment: the experiment's name.
            run_id: the run; None opens a new one, or a study's parent run.
            record: what to write.

        Returns:
            The id of the run: ``run_id``, else the store's, or, if that is not known in time, an id that stays valid.

        Raises:
            TrackingError: the store refuses to open the run.
            UnreachableError: the spool cannot be written.
        """
        spool_id = run_id or (study_id(record.study) if isinstance(record, StudyRun) else uuid.uuid4().hex)
        if not isinstance(record, StudyRun | TrialRun):
            self._append(experiment, spool_id, record)
            return spool_id
        spool = self.spool_of(experiment, spool_id)
        with self._drainer.opening(spool_id):
            self._append(experiment, spool_id, record)
            store_id = self._drainer.wait_open(spool, spool_id)
        if run_id is not None and store_id is not None:
            spool.note_id(run_id, store_id)
        elif store_id is not None and spool_of(experiment, store_id) != spool:
            self._abandoned.append(spool)
        return run_id or store_id or spool_id

    def query(self, call: Callable[[MlflowWriter], _T]) -> _T | None:
        """Return the result of a call to the store, or None if the store is unreachable."""
        if self._drainer.is_away:
            return None
        limit = QUERY_S if self.store.is_server else None
        try:
            answer = waiting_for_lock(lambda: within(limit, lambda: call(self._drainer.open_writer())), self._notify)
        except (UnreachableError, TimeoutError) as error:
            self._drainer.set_away(str(error))
            self._drainer.start()
            return None
        self._drainer.note_answer()
        return answer

    def waits(self, experiment: str, run_id: str) -> bool:
        """Return whether records of the run wait; first write what an earlier command left."""
        spool = self.spool_of(experiment, run_id)
        return self._drainer.is_away or spool.holds(run_id, str(self.store))

    def spool_of(self, experiment: str, run_id: str) -> Spool:
        """Return the spool of a run; at its first use, the records that others left there are written."""
        spool = spool_of(experiment, run_id)
        self._drainer.add(spool)
        return spool

    def holds(self, run_id: str) -> bool:
        """Return whether records of the run wait in a spool that was used."""
        return any(spool.holds(run_id, str(self.store)) for spool in self._drainer.spools)

    def will_have(self, experiment: str, run_id: str) -> bool:
        """Return whether records wait of a run that the store has or gets; those of a deleted one are set aside."""
        spool = self.spool_of(experiment, run_id)
        first = next(spool.records(run_id), None) if spool.holds(run_id, str(self.store)) else None
        if first is None:
            return False
        is_to_be_opened = isinstance(first[1], StudyRun | TrialRun)
        if is_to_be_opened or self.query(lambda writer: writer.lookup.has(run_id)) is not False:
            return True
        spool.set_all_aside(run_id)
        self._drainer.forget(run_id)
        return False

    def refusals(self) -> dict[str, str]:
        """Return the runs of which the store refused a record that waits, and why; of the spools that were used."""
        waiting = ((spool, run_id) for spool in self._drainer.spools for run_id in spool.waiting(str(self.store)))
        reasons = {run_id: spool.refusal(run_id) for spool, run_id in waiting}
        return {run_id: reason for run_id, reason in reasons.items() if reason is not None}

    def store_id(self, experiment: str, run_id: str) -> str:
        """Return the store's id of a run, or ``run_id`` while the store does not have it."""
        known = self._drainer.known_id(run_id)
        if known != run_id or self.waits(experiment, run_id):
            return known
        return self.query(lambda writer: writer.lookup.find(run_id, experiment)) or run_id

    def close(self, patience: float | None = None) -> bool:
        """Wait until all is written, and report what else waits; return whether nothing is left.

        What the store refuses is reported by `refusals`.

        Args:
            patience: how many seconds to wait for a store that writes nothing; None is `PATIENCE_S`.
        """
        self._drainer.finish(PATIENCE_S if patience is None else patience)
        for spool in self._abandoned:
            spool.delete_folder()
        left = {spool: runs for spool in self._drainer.spools if (runs := spool.waiting(str(self.store)))}
        for spool, waiting in left.items():
            runs = [run_id for run_id in waiting if run_id not in self._drainer.refused]
            records = sum(1 for run_id in runs for _ in spool.records(run_id))
            if runs:
                self._notify(
                    f"{counted(records, 'record')} of {counted(len(runs), 'run')} wait in {spool.folder} for "
                    f"MLflow's store {self.store}; embedsweep sync writes them when it answers"
                )
        return not left

    def stop(self) -> None:
        """Stop writing after the present record; whoever uses the same folder next writes what waits."""
        self._drainer.stop()

    def _append(self, experiment: str, run_id: str, record: Record) -> None:
        spool = self.spool_of(experiment, run_id)
        try:
            with shielded():
                spool.append(run_id, record, Origin(str(self.store), experiment, Lease.mine(), self._drainer.name))
        except OSError as error:
            if error.errno in FULL:
                raise
            raise UnreachableError(f"the records of run {run_id} cannot be kept in {spool.folder}: {error}") from None
        self._drainer.note_append(run_id)
