"""Spooled records carried out, in the order they were made.

Owns what becomes of a run whose records are refused: it is left, and the others go on. Must not know who asked for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.tracking.ledger import Ledger
from embedsweep.tracking.records import Files, Record
from embedsweep.tracking.spool import Spool


@dataclass
class Replay:
    """What came of a replay.

    Attributes:
        done: how many records of each run were carried out, of runs of which nothing is left.
        left: why records of a run are left.
        answered: whether the store answered to the end; false also where another process replays.
    """

    done: dict[str, int] = field(default_factory=dict)
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
                count = _replay_run(ledger, spool, run_id, deadline)
            except UnreachableError as error:
                found.left[run_id] = str(error)
                if not ledger.answers():
                    found.left = _all(spool, store, str(error))
                    found.answered = False
                    break
            except TrackingError as error:
                found.left[run_id] = str(error)
            else:
                if count is None:
                    found.left = _all(spool, store, "there was no more time")
                    found.answered = False
                    break
                found.done[run_id] = count
    return found


def _all(spool: Spool, store: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(spool.waiting(store), reason)


def _replay_run(ledger: Ledger, spool: Spool, run_id: str, deadline: float | None) -> int | None:
    """How many records were carried out; None where there was no more time."""
    experiment = spool.origin(run_id).experiment
    count = 0
    while not spool.remove(run_id):  # some may have been added meanwhile
        for position, record in spool.records(run_id):
            if deadline is not None and time.monotonic() > deadline:
                return None
            ledger.carry_out(experiment, run_id, _located(record, spool))
            spool.carried_out(run_id, position)
            count += 1
    return count


def _located(record: Record, spool: Spool) -> Record:
    return replace(record, path=str(spool.folder / record.path)) if isinstance(record, Files) else record


def described(left: Mapping[str, str]) -> str:
    """Why records of runs are left, in one line."""
    reasons = list(dict.fromkeys(left.values()))
    return "; ".join(reasons)
