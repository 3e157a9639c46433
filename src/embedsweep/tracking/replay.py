"""Spooled records carried out, in the order they were made.

Owns what becomes of a run whose records are refused: it is left, and the others go on. Must not know who asked for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.signals import shielded
from embedsweep.tracking.ledger import Ledger
from embedsweep.tracking.outages import Tell
from embedsweep.tracking.records import Files, Record
from embedsweep.tracking.spool import Spool
from embedsweep.tracking.store import locate, open_store


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


def replay(ledger: Ledger, spool: Spool, store: str, deadline: float | None = None) -> Replay:
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
    return replay(Ledger(store, open_store(store, tell)), spool, origin)


def store_name(uri: str) -> str:
    """The URI of a store as a spool has it: a sqlite file's with its whole path, and without secrets."""
    return str(locate(uri))


def _all(spool: Spool, store: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(spool.waiting(store), reason)


def _replay_run(ledger: Ledger, spool: Spool, run_id: str, deadline: float | None) -> Written | None:
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
