"""The thread of a process that writes what waits in its spools, as fast as the store takes it."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from embedsweep.errors import TrackingError
from embedsweep.secrets import redact
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.records import Record, StudyRun, TrialRun
from embedsweep.tracking.replay import BUSY, STOPPED, Replay, replay
from embedsweep.tracking.spool import Spool
from embedsweep.tracking.store import Notify, Store, is_locked, open_store

PAUSES_S = (0.2, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Pauses after attempts that failed, one after another; the last one repeats."""

OPENING_S = 10.0
"""How long a caller waits, at most, until the run that it opens is in the store."""

RESTART_S = 20.0
"""How long the end of a command waits for a store that fails, such as a server that is restarted."""

REST = 5.0
"""How many times longer than it wrote the thread rests then, unless somebody waits for it.

What comes meanwhile is written in one call: a store that many processes keep busy gets fewer calls, and one that
answers at once gets each record at once.
"""

LONGEST_REST_S = 5.0


class Drainer:
    """Writes the records of a process in the background, while there are any.

    Args:
        store: where to.
        notify: receives a line, possibly from the thread, when the store becomes unreachable or answers again.

    Attributes:
        name: tells the records of its owner from those of others.
        spools: those that were used, in order.
        refused: run -> why the store refuses its records.
        is_away: whether the user was told that the store is unreachable.
    """

    def __init__(self, store: Store, notify: Notify) -> None:
        self.name = uuid.uuid4().hex  # a process may have several writers
        self.spools: dict[Spool, None] = {}
        self.refused: dict[str, str] = {}
        self.is_away = False
        self._store, self._notify = store, notify
        self._writer: MlflowWriter | None = None
        self._next: dict[str, int] = {}  # run -> position of the record after those that this one has written
        self._unwritten: Counter[str] = Counter()  # run -> records that this process appended and has not written
        self._opening: dict[str, str | None] = {}  # run that a caller waits for -> the store's id, once it is open
        self._hidden: set[str] = set()  # ids that only the spool knows, because their callers got the store's
        self._failures = 0  # attempts that failed since the last one that did not
        self._attempts = 0
        self._locked = False  # whether the last attempt failed because another process has locked the database
        self._alive_at = -math.inf  # when the store last answered, on the monotonic clock
        self._rests_until = -math.inf  # on the monotonic clock
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._stopped = threading.Event()

    def open_writer(self) -> MlflowWriter:
        """Return the way into the store, which is opened at the first call.

        Raises:
            TrackingError: the store cannot be opened.
        """
        if self._writer is None:
            self._writer = MlflowWriter(self._store, open_store(self._store, self._notify))
            self.note_answer()
        return self._writer

    def known_id(self, run_id: str) -> str:
        """Return the store's id of a run as far as it is known without a search, else ``run_id``."""
        return self._writer.lookup.known_id(run_id) if self._writer is not None else run_id

    def note_answer(self) -> None:
        """Note that the store has just answered."""
        self._alive_at = time.monotonic()

    def set_away(self, problem: str) -> None:
        """Say that the store is unreachable, unless that is known."""
        if not self.is_away:
            self.is_away = True
            with self._changed:  # who opens a run need not wait any longer
                self._changed.notify_all()
            self._notify(f"{redact(problem)}. Records wait on the local disk and are written when it answers")

    def add(self, spool: Spool) -> None:
        """Use a spool; at its first use, the records that others left there are written, or as many as soon can be.

        Those of a process that lives are written by it.
        """
        if spool in self.spools:
            return
        self.spools[spool] = None
        waiting = {run_id: spool.is_left(run_id) for run_id in spool.waiting(str(self._store))}
        left = [run_id for run_id, is_left in waiting.items() if is_left is not False]
        counts = {run_id: sum(1 for _ in spool.records(run_id)) for run_id in left}
        with self._changed:
            self._unwritten.update(counts)  # the thread writes those that cannot be written now
        if left and not self.is_away:
            until = time.monotonic() + OPENING_S
            writer, store = self.open_writer(), str(self._store)
            result = replay(writer, spool, store, left, self._on_written, lambda _: time.monotonic() > until)
            self._note(result, spool)
            if records := sum(written.records for run_id, written in result.done.items() if waiting[run_id]):
                self._notify(f"{counted(records, 'waiting record')} of another process written")
            self.start()

    def note_append(self, run_id: str) -> None:
        """Note that a record of a run was appended to its spool."""
        with self._changed:
            self._unwritten[run_id] += 1
        if run_id not in self.refused:
            self.start()

    def forget(self, run_id: str) -> None:
        """Forget a run of which no record waits any more."""
        with self._changed:
            self.refused.pop(run_id, None)
            self._unwritten.pop(run_id, None)

    @contextmanager
    def opening(self, run_id: str) -> Iterator[None]:
        """Write a run before all others while the block runs, which appends its first record and waits for it."""
        self.refused.pop(run_id, None)
        with self._changed:  # what this process wrote for one that recorded the run before counts no more
            self._unwritten[run_id] = max(0, self._unwritten[run_id])
        self._opening[run_id] = None
        try:
            yield
        finally:
            self._opening.pop(run_id, None)

    def wait_open(self, spool: Spool, run_id: str) -> str | None:
        """Return the store's id of a run that was just recorded; None if the store does not answer in time.

        Raises:
            TrackingError: the store refuses to open the run; the record is withdrawn.
        """
        deadline = time.monotonic() + OPENING_S
        with self._changed:
            while (store_id := self._opening[run_id]) is None:
                if (reason := self.refused.get(run_id)) is not None and spool.withdraw(run_id):
                    del self.refused[run_id], self._unwritten[run_id]
                    raise TrackingError(reason)
                left_s = deadline - time.monotonic()
                if reason is not None:
                    self._notify(f"records in {spool.folder} cannot be written: {reason}")
                if reason is not None or self.is_away or left_s < 0:
                    break
                self._changed.wait(left_s)
            del self._opening[run_id]  # from now on the caller knows the run by another id than the store's
        return store_id

    def start(self) -> None:
        """Start the thread that writes, unless one is running."""
        with self._changed:
            self._changed.notify_all()  # it does not rest while somebody waits for a run
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._drain, name="write-mlflow", daemon=True)
                self._thread.start()

    def finish(self, patience: float) -> None:
        """Write all that waits, and stop.

        Args:
            patience: how many seconds to wait for a store that writes nothing.
        """
        began, attempts = time.monotonic(), self._attempts
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
                self.start()
                self._changed.wait(0.1)
        self.stop()

    def stop(self) -> None:
        """Stop writing after the present record; whoever uses the same folder next writes what waits."""
        self._stopped.set()
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if (thread := self._thread) is not None:
            thread.join(1.0 if self._failures else OPENING_S)

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
                    self._thread = None
                    return
            if problem is not None and problem not in (BUSY, STOPPED):  # for another process it has waited already
                if self._failures > 1:  # a single failure is repeated at once, and does not concern the user
                    self.set_away(problem)
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
            writer = self.open_writer()
            if self.is_away and not writer.lookup.answers():
                return f"MLflow's store {self._store} does not answer"
            written = 0
            chosen = [(spool, self._chosen(spool)) for spool in list(self.spools)]
            for spool, runs in sorted(chosen, key=lambda each: not self._opening.keys() & set(each[1])):
                result = replay(
                    writer,
                    spool,
                    str(self._store),
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
        if self.is_away:
            self.is_away = False
            self._notify(f"MLflow's store answers: {counted(written, 'waiting record')} written")
        return None

    def _chosen(self, spool: Spool) -> list[str]:
        """Return the runs to write: this process's, at the end of the command all; not those that the store refuses.

        One that a caller waits for comes first.
        """
        with self._changed:
            own = [run_id for run_id, count in self._unwritten.items() if count > 0]
        waiting = spool.waiting(str(self._store), None if self._closing.is_set() else own)
        chosen = [run_id for run_id in waiting if run_id not in self.refused]
        return sorted(chosen, key=lambda run_id: run_id not in self._opening)

    def _waiting(self) -> bool:
        return any(self._chosen(spool) for spool in list(self.spools))

    def _forget_written_by_others(self, writer: MlflowWriter, run_id: str) -> None:
        """Read the steps of a run's metrics anew if another process, such as ``sync``, has written its records."""
        count = self._unwritten.get(run_id, 0)
        spools = [spool for spool in list(self.spools) if spool.holds(run_id, str(self._store))]
        missing = count - sum(1 for spool in spools for _ in spool.records(run_id))
        # Others may have appended as many as they wrote: who began the file, and which record comes next, tells that.
        at = next((number for spool in spools for number, _ in spool.records(run_id)), 0)
        is_own = all((origin := spool.origin(run_id)) is None or origin.writer == self.name for spool in spools)
        if missing > 0 or not is_own or at not in (0, self._next.get(run_id, 0)):
            writer.forget_steps(run_id)
        self._next[run_id] = at
        if missing > 0:
            with self._changed:
                self._unwritten[run_id] -= missing

    def _on_written(self, run_id: str, record: Record, store_id: str) -> None:
        with self._changed:
            self.note_answer()
            self._unwritten[run_id] -= 1
            if run_id in self._next:
                self._next[run_id] += 1
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
            self.refused |= result.refused
            reasons = [reason for run_id, reason in result.refused.items() if run_id not in self._opening]
            self._changed.notify_all()
        if reasons:
            self._notify(f"records in {spool.folder} cannot be written: {'; '.join(dict.fromkeys(reasons))}")


def counted(number: int, noun: str) -> str:
    """Return ``1 record``, ``2 records``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
