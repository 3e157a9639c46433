"""The one way into the store: a record is carried out at once or, while the store is away, spooled and replayed later.

Owns which of the two it is, and the thread that looks whether the store is back. Whoever records never waits for a
store that is away: the first call that fails is the last one that tries. Must not know what records mean.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.tracking.client import MlflowWriter
from embedsweep.tracking.records import Files, Record
from embedsweep.tracking.spool import Origin, Spool, spool_of
from embedsweep.tracking.store import Store, Tell, locate, open_store, waiting_for_lock


@dataclass(frozen=True)
class Written:
    """A run of which nothing is left.

    Attributes:
        store_id: the store's id of it.
        records: how many were carried out now.
    """

    store_id: str
    records: int


@dataclass
class Replay:
    """What came of a replay.

    Attributes:
        done: runs of which nothing is left.
        left: why records of a run are left.
        answered: whether the store answered to the end; false also where another process replays.
    """

    done: dict[str, Written] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    answered: bool = True


def replay(ledger: MlflowWriter, spool: Spool, store: str, deadline: float | None = None) -> Replay:
    """Carries out what waits in a spool for a store; a kill at any moment costs and doubles nothing.

    Args:
        ledger: the store, open.
        spool: where the records are.
        store: the store's URI without secrets; records for another one stay.
        deadline: the moment of the monotonic clock at which it stops between two records; None goes to the end.
    """
    found = Replay()
    if not spool.waiting(store):
        return found
    with spool.replaying() as alone:
        if not alone:
            return Replay(left=_all(spool, store, "another process replays them"), answered=False)
        for run_id in spool.waiting(store):
            try:
                written = _replay_run(ledger, spool, run_id, deadline)
            except UnreachableError as error:
                found.left[run_id] = str(error)
                if not ledger.lookup.answers():
                    found.left = _all(spool, store, str(error))
                    found.answered = False
                    break
            except TrackingError as error:
                found.left[run_id] = str(error)
            else:
                if written is None:
                    found.left = _all(spool, store, "there was no more time")
                    found.answered = False
                    break
                found.done[run_id] = written
    return found


def replay_spool(spool: Spool, origin: str, uri: str, tell: Tell) -> Replay:
    """Opens a store and writes what waits in a spool into it.

    Args:
        spool: where the records are.
        origin: the store's URI that they were recorded for, without secrets.
        uri: the store they are written to.
        tell: is told that a locked database is waited for.

    Raises:
        TrackingError: the store cannot be opened.
    """
    store = locate(uri)
    return replay(MlflowWriter(store, open_store(store, tell)), spool, origin)


def store_name(uri: str) -> str:
    """The URI of a store as a spool has it: a sqlite file's with its whole path, and without secrets."""
    return str(locate(uri))


def _all(spool: Spool, store: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(spool.waiting(store), reason)


def _replay_run(ledger: MlflowWriter, spool: Spool, run_id: str, deadline: float | None) -> Written | None:
    """What was carried out; None where there was no more time."""
    experiment = spool.origin(run_id).experiment
    count = 0
    while not spool.remove(run_id):  # some may have been added meanwhile
        for position, record in spool.records(run_id):
            if deadline is not None and time.monotonic() > deadline:
                return None
            with shielded():
                ledger.carry_out(experiment, run_id, _located(record, spool))
                spool.carried_out(run_id, position)
            count += 1
    written = Written(ledger.lookup.id_of(experiment, run_id), count)
    spool.note_id(run_id, written.store_id)
    return written


def _located(record: Record, spool: Spool) -> Record:
    return replace(record, path=str(spool.folder / record.path)) if isinstance(record, Files) else record


def described(left: Mapping[str, str]) -> str:
    """Why records of runs are left, in one line."""
    reasons = list(dict.fromkeys(left.values()))
    return "; ".join(reasons)


_T = TypeVar("_T")

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Between two looks at a store that is away; the last one for ever."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

CLOSING_S = 60.0
"""How long the end of a command waits, at most, while records are replayed to a store that answers."""


class RecordWriter:
    """Where all records of a command go.

    Args:
        config: where the store is, and whether it may be away from the start.
        tell: is given a line when the store goes away or comes back, by whichever thread sees it.

    Raises:
        TrackingError: the store cannot be opened, and ``tracking.spool`` is false or it would refuse later, too.
    """

    def __init__(self, config: TrackingConfig, tell: Tell) -> None:
        self.store: Store = locate(config.uri)
        self._tell = tell
        self._ledger: MlflowWriter | None = None
        self._spools: dict[Spool, None] = {}
        self._refused: dict[str, str] = {}  # run -> why its records stay where they are
        self._away = False
        self._watcher: threading.Thread | None = None
        self._watching = threading.Lock()
        self._closing = threading.Event()
        self._replaying = threading.Lock()
        try:
            self._ledger = MlflowWriter(self.store, open_store(self.store, tell))
        except UnreachableError as error:
            if not config.spool:
                raise UnreachableError(f"{error}; or go on without it: tracking.spool=true") from None
            self._leave(error)

    @property
    def is_away(self) -> bool:
        """Whether records are spooled at this moment."""
        return self._away

    def write(self, experiment: str, run_id: str, record: Record) -> None:
        """Carries the record out, or spools it where the store is away or earlier ones of the run still wait.

        Raises:
            TrackingError: the store refuses the record.
            UnreachableError: the store is away and the spool cannot be written.
        """
        if not self.waits(experiment, run_id):

            def carry_out() -> None:
                ledger = self._open_ledger()
                ledger.write(ledger.lookup.id_of(experiment, run_id), record)

            try:
                waiting_for_lock(carry_out, self._tell)
            except UnreachableError as error:
                self._leave(error)
            else:
                return
        self.spool(experiment, run_id, record)

    def ask(self, call: Callable[[MlflowWriter], _T], otherwise: _T) -> _T:
        """What the store says, or ``otherwise`` where it is away."""
        if not self._away:
            try:
                return waiting_for_lock(lambda: call(self._open_ledger()), self._tell)
            except UnreachableError as error:
                self._leave(error)
        return otherwise

    def waits(self, experiment: str, run_id: str) -> bool:
        """Whether a record of the run would have to wait; what an earlier command left is replayed first."""
        spool = self.visit(experiment, run_id)
        return self._away or spool.holds(run_id, str(self.store))

    def visit(self, experiment: str, run_id: str) -> Spool:
        """The spool of a run; when it is met for the first time, what waits there is replayed."""
        spool = spool_of(experiment, run_id)
        if spool not in self._spools:
            self._spools[spool] = None
            if not self._away and spool.waiting(str(self.store)) and not self._replay(None):
                self._watch()
        return spool

    def holds(self, run_id: str) -> bool:
        """Whether records of the run wait in a spool that was met."""
        return any(spool.holds(run_id, str(self.store)) for spool in self._spools)

    def spool(self, experiment: str, run_id: str, record: Record) -> None:
        """Lets a record wait; and looks for the store, if nobody does."""
        spool = self.visit(experiment, run_id)
        try:
            with shielded():
                spool.append(run_id, record, Origin(str(self.store), experiment))
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise UnreachableError(f"the records of run {run_id} cannot be kept in {spool.folder}: {error}") from None
        if run_id not in self._refused:
            self._watch()

    def store_id(self, experiment: str, run_id: str) -> str:
        """The store's id of a run; while it has none there, the one it was given."""
        if self.waits(experiment, run_id):
            return run_id
        return self.ask(lambda ledger: ledger.lookup.find(run_id, experiment), None) or run_id

    def close(self) -> bool:
        """Replays what is left if the store answers, and tells of the rest; whether nothing is left."""
        self._closing.set()
        deadline = time.monotonic() + CLOSING_S
        if (watcher := self._watcher) is not None:
            watcher.join(CLOSING_S)
        if any(spool.waiting(str(self.store)) for spool in self._spools):
            self._replay(deadline)
        left = {spool: runs for spool in self._spools if (runs := spool.waiting(str(self.store)))}
        for spool, runs in left.items():
            records = sum(1 for run_id in runs for _ in spool.records(run_id))
            self._tell(
                f"{_counted(records, 'record')} of {_counted(len(runs), 'run')} wait in {spool.folder} for "
                f"MLflow's store {self.store}; embedsweep sync writes them when it answers"
            )
        return not left

    def _open_ledger(self) -> MlflowWriter:
        if self._ledger is None:
            self._ledger = MlflowWriter(self.store, open_store(self.store, self._tell))
        return self._ledger

    def _leave(self, error: UnreachableError) -> None:
        if not self._away:
            self._away = True
            self._tell(f"{redact(str(error))}. What is recorded waits on this disk, and is written when it answers")
        self._watch()

    def _watch(self) -> None:
        """Lets a thread look whether the store is back, unless one does."""
        with self._watching:
            if self._watcher is None and not self._closing.is_set():
                self._watcher = threading.Thread(target=self._look, name="watch-mlflow", daemon=True)
                self._watcher.start()

    def _look(self) -> None:
        tries = 0
        while not self._closing.wait(PAUSES_S[min(tries, len(PAUSES_S) - 1)]):
            tries = 0 if self._replay(None) else tries + 1
            with self._watching:  # a record that is added from here on finds no watcher, and starts another
                if not self._away and not self._waiting():
                    self._watcher = None
                    return

    def _waiting(self) -> list[str]:
        """Runs that wait for the store and were not refused by it."""
        runs = (run_id for spool in list(self._spools) for run_id in spool.waiting(str(self.store)))
        return [run_id for run_id in runs if run_id not in self._refused]

    def _replay(self, deadline: float | None) -> bool:
        """Replays what waits in all spools that were met; whether the store took it, or refused it for good."""
        if not self._replaying.acquire(blocking=False):
            return False
        try:
            return self._replay_alone(deadline)
        finally:
            self._replaying.release()

    def _replay_alone(self, deadline: float | None) -> bool:
        try:
            ledger = self._open_ledger()
        except TrackingError:
            return False
        if self._away and not ledger.lookup.answers():
            return False
        done = 0
        for spool in list(self._spools):
            found = replay(ledger, spool, str(self.store), deadline)
            done += sum(written.records for written in found.done.values())
            if not found.answered:
                return False
            self._tell_refused(found, spool)
        if self._away or done:
            self._tell(f"MLflow's store answers: {_counted(done, 'waiting record')} written")
        self._away = False
        return True

    def _tell_refused(self, found: Replay, spool: Spool) -> None:
        new = {run_id: reason for run_id, reason in found.left.items() if self._refused.get(run_id) != reason}
        if new:
            self._tell(f"records in {spool.folder} cannot be written: {described(new)}")
        self._refused = {**self._refused, **new}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
