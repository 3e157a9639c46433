"""Record through the spool: records are appended on the local disk, and one thread of the process writes them.

A caller waits only when a run is opened, and not long: if the store does not answer, the run gets an id of its own.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.files import FULL
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.names import study_id
from embedsweep.tracking.records import Record, StudyRun, TrialRun
from embedsweep.tracking.replay import BUSY, STOPPED, Replay, replay
from embedsweep.tracking.spool import Origin, Spool, spool_of
from embedsweep.tracking.store import Notify, Store, is_locked, locate, open_store, waiting_for_lock, within

_T = TypeVar("_T")

PAUSES_S = (0.2, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Pauses after attempts that failed, one after another; the last one repeats."""

OPENING_S = 10.0
"""How long a caller waits, at most, until the run that it opens is in the store."""

PATIENCE_S = 40.0
"""How long the end of a command waits for a store that hangs, counted from its last sign of life."""

RESTART_S = 20.0
"""How long it waits for a store that fails, such as a server that is restarted."""

REST = 5.0
"""How many times longer than it wrote the thread rests then, unless somebody waits for it.

What comes meanwhile is written in one call: a store that many processes keep busy gets fewer calls, and one that
answers at once gets each record at once.
"""

LONGEST_REST_S = 5.0

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
        self._writer: MlflowWriter | None = None
        self._spools: dict[Spool, None] = {}
        self._unwritten: Counter[str] = Counter()  # run -> records that this process appended and has not written
        self._abandoned: list[Spool] = []  # of single runs whose folders are named by the store's id
        self._opening: dict[str, str | None] = {}  # run that a caller waits for -> the store's id, once it is open
        self._hidden: set[str] = set()  # ids that only the spool knows, because their callers got the store's
        self._refused: dict[str, str] = {}  # run -> why the store refuses its records
        self._failures = 0  # attempts that failed since the last one that did not
        self._attempts = 0
        self._locked = False  # whether the last attempt failed because another process has locked the database
        self._away = False  # whether the user was told that the store is unreachable
        self._alive_at = -math.inf  # when the store last answered, on the monotonic clock
        self._rests_until = -math.inf  # on the monotonic clock
        self._drainer: threading.Thread | None = None
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._stopped = threading.Event()
        try:
            self._open_writer()
        except UnreachableError as error:
            if not config.spool:
                raise UnreachableError(f"{error}; or start without it: tracking.spool=true") from None
            self._set_away(str(error))

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
        self._refused.pop(spool_id, None)
        with self._changed:  # what this process wrote for one that recorded the run before counts no more
            self._unwritten[spool_id] = max(0, self._unwritten[spool_id])
        self._opening[spool_id] = None
        try:
            self._append(experiment, spool_id, record)
            store_id = self._wait_open(spool, spool_id)
        finally:
            self._opening.pop(spool_id, None)
        if run_id is not None and store_id is not None:
            spool.note_id(run_id, store_id)
        elif store_id is not None and spool_of(experiment, store_id) != spool:
            self._abandoned.append(spool)
        return run_id or store_id or spool_id

    def query(self, call: Callable[[MlflowWriter], _T]) -> _T | None:
        """Return the result of a call to the store, or None if the store is unreachable."""
        if self._away:
            return None
        limit = QUERY_S if self.store.is_server else None
        try:
            answer = waiting_for_lock(lambda: within(limit, lambda: call(self._open_writer())), self._notify)
        except (UnreachableError, TimeoutError) as error:
            self._set_away(str(error))
            self._start()
            return None
        self._alive_at = time.monotonic()
        return answer

    def waits(self, experiment: str, run_id: str) -> bool:
        """Return whether records of the run wait; first write what an earlier command left."""
        spool = self.spool_of(experiment, run_id)
        return self._away or spool.holds(run_id, str(self.store))

    def spool_of(self, experiment: str, run_id: str) -> Spool:
        """Return the spool of a run; at its first use, the records that wait there are written."""
        spool = spool_of(experiment, run_id)
        if spool not in self._spools:
            self._spools[spool] = None
            left = {run_id: sum(1 for _ in spool.records(run_id)) for run_id in spool.waiting(str(self.store))}
            with self._changed:
                self._unwritten.update(left)  # the thread writes those that cannot be written now
            if left and not self._away:
                result = replay(self._open_writer(), spool, str(self.store), left, self._on_written)
                self._note(result, spool)
                if result.done:
                    self._notify(f"{_counted(result.records, 'waiting record')} of another process written")
                self._start()
        return spool

    def holds(self, run_id: str) -> bool:
        """Return whether records of the run wait in a spool that was used."""
        return any(spool.holds(run_id, str(self.store)) for spool in self._spools)

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
        with self._changed:
            self._refused.pop(run_id, None)
            self._unwritten.pop(run_id, None)
        return False

    def refusals(self) -> dict[str, str]:
        """Return the runs of which the store refused a record that waits, and why; of the spools that were used."""
        waiting = ((spool, run_id) for spool in self._spools for run_id in spool.waiting(str(self.store)))
        reasons = {run_id: spool.refusal(run_id) for spool, run_id in waiting}
        return {run_id: reason for run_id, reason in reasons.items() if reason is not None}

    def store_id(self, experiment: str, run_id: str) -> str:
        """Return the store's id of a run, or ``run_id`` while the store does not have it."""
        known = self._writer.lookup.known_id(run_id) if self._writer is not None else run_id
        if known != run_id or self.waits(experiment, run_id):
            return known
        return self.query(lambda writer: writer.lookup.find(run_id, experiment)) or run_id

    def close(self, patience: float | None = None) -> bool:
        """Wait until all is written, and report what else waits; return whether nothing is left.

        What the store refuses is reported by `refusals`.

        Args:
            patience: how many seconds to wait for a store that writes nothing; None is `PATIENCE_S`.
        """
        began, attempts = time.monotonic(), self._attempts
        patience = PATIENCE_S if patience is None else patience
        if not self._failures:
            self._alive_at = began
        self._closing.set()
        with self._changed:
            self._changed.notify_all()  # a thread that rests
            while self._waiting():
                now = time.monotonic()
                is_failing = self._failures > 0 and self._attempts > attempts  # it was tried once more
                limit = min(patience, RESTART_S) if is_failing and not self._locked else patience
                if (is_failing or now > began + OPENING_S) and now > self._alive_at + limit:
                    break
                self._start()
                self._changed.wait(0.1)
        self.stop()
        for spool in self._abandoned:
            spool.delete_folder()
        left = {spool: runs for spool in self._spools if (runs := spool.waiting(str(self.store)))}
        for spool, waiting in left.items():
            runs = [run_id for run_id in waiting if run_id not in self._refused]
            records = sum(1 for run_id in runs for _ in spool.records(run_id))
            if runs:
                self._notify(
                    f"{_counted(records, 'record')} of {_counted(len(runs), 'run')} wait in {spool.folder} for "
                    f"MLflow's store {self.store}; embedsweep sync writes them when it answers"
                )
        return not left

    def stop(self) -> None:
        """Stop writing after the present record; whoever uses the same folder next writes what waits."""
        self._stopped.set()
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if (drainer := self._drainer) is not None:
            drainer.join(1.0 if self._failures else OPENING_S)

    def _open_writer(self) -> MlflowWriter:
        if self._writer is None:
            self._writer = MlflowWriter(self.store, open_store(self.store, self._notify))
            self._alive_at = time.monotonic()
        return self._writer

    def _append(self, experiment: str, run_id: str, record: Record) -> None:
        spool = self.spool_of(experiment, run_id)
        try:
            with shielded():
                spool.append(run_id, record, Origin(str(self.store), experiment))
        except OSError as error:
            if error.errno in FULL:
                raise
            raise UnreachableError(f"the records of run {run_id} cannot be kept in {spool.folder}: {error}") from None
        with self._changed:
            self._unwritten[run_id] += 1
        if run_id not in self._refused:
            self._start()

    def _wait_open(self, spool: Spool, run_id: str) -> str | None:
        """Return the store's id of a run that was just recorded; None if the store does not answer in time.

        Raises:
            TrackingError: the store refuses to open the run; the record is withdrawn.
        """
        deadline = time.monotonic() + OPENING_S
        with self._changed:
            while (store_id := self._opening[run_id]) is None:
                if (reason := self._refused.get(run_id)) is not None and spool.withdraw(run_id):
                    del self._refused[run_id], self._unwritten[run_id]
                    raise TrackingError(reason)
                left_s = deadline - time.monotonic()
                if reason is not None:
                    self._notify(f"records in {spool.folder} cannot be written: {reason}")
                if reason is not None or self._away or left_s < 0:
                    break
                self._changed.wait(left_s)
            del self._opening[run_id]  # from now on the caller knows the run by another id than the store's
        return store_id

    def _start(self) -> None:
        """Start the thread that writes, unless one is running."""
        with self._changed:
            self._changed.notify_all()  # it does not rest while somebody waits for a run
            if self._drainer is None and not self._stopped.is_set():
                self._drainer = threading.Thread(target=self._drain, name="write-mlflow", daemon=True)
                self._drainer.start()

    def _drain(self) -> None:
        while not self._stopped.is_set():
            self._rest()
            began = time.monotonic()
            problem = self._write_waiting()
            with self._changed:
                now = time.monotonic()
                self._rests_until = now + min(REST * (now - began), LONGEST_REST_S)
                self._attempts += 1
                self._failures = 0 if problem in (None, BUSY, STOPPED) else self._failures + 1
                self._locked = problem is not None and is_locked(problem)
                self._changed.notify_all()
                # A record that is added after this finds no thread, and starts another.
                if problem is None and not self._waiting():
                    self._drainer = None
                    return
            if problem is not None and problem not in (BUSY, STOPPED):  # for another process it has waited already
                if self._failures > 1:  # a single failure is repeated at once, and does not concern the user
                    self._set_away(problem)
                pause = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
                if self._closing.is_set():
                    self._stopped.wait(min(pause, 1.0))
                else:
                    self._closing.wait(pause)

    def _rest(self) -> None:
        """Leave the store alone for a while, unless a caller waits for a run or the end."""
        with self._changed:
            while (left_s := self._rests_until - time.monotonic()) > 0:
                if self._closing.is_set() or self._is_awaited(""):
                    return
                self._changed.wait(left_s)

    def _is_awaited(self, run_id: str) -> bool:
        """Return whether a caller waits for another run to be opened."""
        return any(each != run_id and store_id is None for each, store_id in list(self._opening.items()))

    def _must_stop(self, run_id: str) -> bool:
        """Return whether to stop writing a run: at the end, or because another is written first."""
        return self._stopped.is_set() or (self._opening.get(run_id, "") is not None and self._is_awaited(run_id))

    def _write_waiting(self) -> str | None:
        """Write what waits; return why something could not be written at this moment, or None."""
        try:
            writer = self._open_writer()
            if self._away and not writer.lookup.answers():
                return f"MLflow's store {self.store} does not answer"
            written = 0
            chosen = [(spool, self._chosen(spool)) for spool in list(self._spools)]
            for spool, runs in sorted(chosen, key=lambda each: not self._opening.keys() & set(each[1])):
                result = replay(
                    writer,
                    spool,
                    str(self.store),
                    runs,
                    self._on_written,
                    self._must_stop,
                    lambda run_id: self._forget_written_by_others(writer, run_id),
                )
                self._note(result, spool)
                written += result.records
                if result.delayed:
                    return min(result.delayed.values(), key=BUSY.__eq__)
        except (TrackingError, OSError) as error:
            return str(error)
        if self._away:
            self._away = False
            self._notify(f"MLflow's store answers: {_counted(written, 'waiting record')} written")
        return None

    def _chosen(self, spool: Spool) -> list[str]:
        """Return the runs to write: this process's, at the end of the command all; not those that the store refuses.

        One that a caller waits for comes first.
        """
        with self._changed:
            own = [run_id for run_id, count in self._unwritten.items() if count > 0]
        waiting = spool.waiting(str(self.store), None if self._closing.is_set() else own)
        chosen = [run_id for run_id in waiting if run_id not in self._refused]
        return sorted(chosen, key=lambda run_id: run_id not in self._opening)

    def _waiting(self) -> bool:
        return any(self._chosen(spool) for spool in list(self._spools))

    def _forget_written_by_others(self, writer: MlflowWriter, run_id: str) -> None:
        """Read the steps of a run's metrics anew if another process, such as ``sync``, has written its records."""
        count = self._unwritten.get(run_id, 0)
        spools = [spool for spool in list(self._spools) if spool.holds(run_id, str(self.store))]
        missing = count - sum(1 for spool in spools for _ in spool.records(run_id))
        if missing > 0:
            writer.forget_steps(run_id)
            with self._changed:
                self._unwritten[run_id] -= missing

    def _on_written(self, run_id: str, record: Record, store_id: str) -> None:
        with self._changed:
            self._alive_at = time.monotonic()
            self._unwritten[run_id] -= 1
            if run_id in self._opening and isinstance(record, StudyRun | TrialRun):
                self._opening[run_id] = store_id
                self._hidden.add(run_id)
                self._changed.notify_all()

    def _note(self, result: Replay, spool: Spool) -> None:
        """Keep the store's ids of runs that callers know by another, and report refusals that no caller waits for."""
        for run_id, written in result.done.items():
            if run_id not in self._hidden:
                spool.note_id(run_id, written.store_id)
            self._hidden.discard(run_id)
        with self._changed:
            self._refused |= result.refused
            reasons = [reason for run_id, reason in result.refused.items() if run_id not in self._opening]
            self._changed.notify_all()
        if reasons:
            self._notify(f"records in {spool.folder} cannot be written: {'; '.join(dict.fromkeys(reasons))}")

    def _set_away(self, problem: str) -> None:
        if not self._away:
            self._away = True
            with self._changed:  # who opens a run need not wait any longer
                self._changed.notify_all()
            self._notify(f"{redact(problem)}. Records wait on the local disk and are written when it answers")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
