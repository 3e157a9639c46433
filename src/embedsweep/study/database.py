"""PostgreSQL as the storage of a study that many machines share.

A database may be restarted, fail over, or refuse a transaction that met another: what is safe to repeat is repeated,
for a minute at most. Many processes create trials under the study's lock, which is a connection of its own: whoever
holds it asks that connection before each write, because the lock is gone with it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, NullPool, create_engine, func, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from embedsweep.errors import LockLostError, StudyError, causes, first_line
from embedsweep.secrets import redact
from embedsweep.signals import is_deferred

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

WAIT_S = 60.0
"""Seconds for which a call waits for a database that does not answer."""

PAUSE_S, LONGEST_PAUSE_S = 0.25, 4.0

CONFLICTS = ("40001", "40P01")
"""SQLSTATEs of a transaction that was rolled back because it met another: serialisation failures and deadlocks."""

AWAY = ("57P01", "57P02", "57P03", "53300")
"""SQLSTATEs of a server that shuts down, has crashed, is starting, or has no connection left; so is all of class 08."""

KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""By which both sides notice within a minute that the other machine is gone. The server's default is two hours, for
which a machine without power would hold the study's lock."""

LIBPQ_DRIVERS = ("psycopg", "psycopg2")

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass
class _Outage:
    """The last time that a database was away, as all threads know it: it is said once, and not by each of them."""

    is_over: bool = True
    over_at: float = -math.inf  # on the monotonic clock


_outage = _Outage()


def engine_options(url: str) -> dict[str, Any]:
    """Return how SQLAlchemy connects to a database: dead connections are replaced before they are used."""
    driver = make_url(url).get_driver_name()
    return {"pool_pre_ping": True, "connect_args": dict(KEEPALIVE) if driver in LIBPQ_DRIVERS else {}}


def answers_since() -> float:
    """Return when a database answered again that was away, on the monotonic clock; -inf without an outage so far."""
    return _outage.over_at


def until_answered(call: Callable[[], T]) -> T:
    """Make a call of a database, and repeat it while the database is away or rolls it back, for `WAIT_S` at most.

    Args:
        call: may have been carried out before although its answer was lost.

    Raises:
        SQLAlchemyError, StorageInternalError: as the last call did.
    """
    started, pause = time.monotonic(), PAUSE_S
    while True:
        try:
            result = call()
        except (SQLAlchemyError, StorageInternalError) as error:
            is_over = time.monotonic() - started > WAIT_S or is_deferred()
            if is_over or not _may_be_repeated(error):
                raise
        else:
            if not _outage.is_over:
                _outage.is_over, _outage.over_at = True, time.monotonic()
                _log.warning("the study's storage answers again")
            return result
        time.sleep(pause * random.uniform(0.5, 1.0))  # others have met the same trouble at the same moment
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _may_be_repeated(error: BaseException) -> bool:
    """Return whether a call that raised this may be made again; say so if the database is away."""
    for each in causes(error, implicit=True):
        if isinstance(each, DBAPIError):
            state = getattr(each.orig, "sqlstate", None)
            if state in CONFLICTS:
                return True
            # Where no connection comes about, libpq gives no state.
            is_lost = state is None and not each.statement
            if each.connection_invalidated or is_lost or state in AWAY or str(state).startswith("08"):
                if _outage.is_over:
                    _outage.is_over = False
                    reason = redact(first_line(each.orig or each))
                    _log.warning("the study's storage does not answer (%s): waiting up to %g s", reason, WAIT_S)
                return True
    return False


class _Held(threading.local):
    """The locks that a thread holds: each is a connection, and the id of its server process."""

    def __init__(self) -> None:
        self.locks: list[tuple[Connection, int]] = []


_held = _Held()


def require_locks() -> None:
    """Check that the connections of all locks that this thread holds still exist, and the locks with them.

    Raises:
        LockLostError: one was lost.
    """
    for connection, pid in _held.locks:
        try:
            is_held = connection.scalar(text("SELECT pg_backend_pid()")) == pid  # else it was replaced
        except SQLAlchemyError as error:
            raise LockLostError(f"the study's lock was lost: {redact(first_line(error))}") from error
        if not is_held:
            raise LockLostError("the study's lock was lost with its connection")


@contextmanager
def advisory_lock(url: str, name: str, *, waits: bool) -> Iterator[None]:
    """Hold the lock of a study while the block runs; the server releases it with its connection, however that ends.

    Args:
        url: the database.
        name: the study.
        waits: whether to wait for a database that is away.

    Raises:
        StudyError: the database does not answer.
    """
    key = int.from_bytes(hashlib.sha256(f"embedsweep {name}".encode()).digest()[:8], signed=True)
    lock = functools.partial(_locked, url, key)
    try:
        held = until_answered(lock) if waits else lock()
    except SQLAlchemyError as error:
        reason = redact(first_line(error))
        raise StudyError(f"the study's storage {redact(url)} cannot be opened: {reason}") from None
    _held.locks.append(held)
    try:
        yield
    finally:
        _held.locks.remove(held)
        with suppress(SQLAlchemyError):
            held[0].close()


@cache
def _lock_engine(url: str) -> Engine:
    """Return the engine of locks: each has its own connection, in no transaction, which servers end when it is idle."""
    return create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=engine_options(url)["connect_args"]
    )


LOCK_SETTINGS = {
    "lock_timeout": 0,
    "statement_timeout": 0,
    **{f"tcp_{name}": seconds for name, seconds in KEEPALIVE.items()},
}
"""Settings of the server for a lock's connection, which waits for long and is idle while the lock is held."""

IDLE_SETTING, IDLE_SINCE = "idle_session_timeout", (14,)
"""The same, and the first version of the server that has it."""


def _locked(url: str, key: int) -> tuple[Connection, int]:
    """Return a connection that holds a lock, once nobody else does, and the id of its server process."""
    connection = _lock_engine(url).connect()
    try:
        has_idle = (connection.dialect.server_version_info or ()) >= IDLE_SINCE
        settings = {**LOCK_SETTINGS, **({IDLE_SETTING: 0} if has_idle else {})}
        calls = [f"set_config('{name}', '{value}', false)" for name, value in settings.items()]
        pid = connection.scalar(text(f"SELECT pg_backend_pid(), {', '.join(calls)}"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
    except BaseException:
        with suppress(SQLAlchemyError):
            connection.close()
        raise
    assert pid is not None
    return connection, int(pid)


class DatabaseStorage(RDBStorage):
    """Optuna's storage in PostgreSQL, whose calls wait for a database that is away.

    All writes may be repeated after an answer that was lost: they set what they set before. Those that would not, a new
    trial and a trial's state, look first whether they were carried out, which is certain under the study's lock.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._creating = threading.local()
        self._trials_are_known = False
        super().__init__(*args, **kwargs)

    @contextmanager
    def known_trials(self) -> Iterator[None]:
        """Read no trials in the block: those that were read last are all there are."""
        self._trials_are_known = True
        try:
            yield
        finally:
            self._trials_are_known = False

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        """Return the trials that are new, or not finished, since Optuna's cache before this storage asked last."""
        if self._trials_are_known:
            return []
        return until_answered(lambda: super(DatabaseStorage, self)._get_trials(*args, **kwargs))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state and the values of a trial; see Optuna's documentation."""
        is_repeat = False

        def call() -> bool:
            nonlocal is_repeat
            require_locks()
            if is_repeat and self._is_set(trial_id, state, values):
                return True
            is_repeat = True
            return super(DatabaseStorage, self).set_trial_state_values(trial_id, state, values)

        return until_answered(call)

    def _is_set(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        """Return whether a trial has a state and values because this process has set them before."""
        trial = RDBStorage.get_trial(self, trial_id)
        is_own = state is not TrialState.RUNNING or bool(_held.locks)  # another process may have begun to run it
        return is_own and trial.state is state and (values is None or trial.values == list(values))

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        self._creating.after = None
        return until_answered(lambda: super(DatabaseStorage, self)._create_new_trial(study_id, template_trial))

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        """Add a trial in a transaction; Optuna repeats this, too, and does not look whether the trial is there."""
        require_locks()
        newest = session.query(func.max(models.TrialModel.trial_id)).filter_by(study_id=study_id).scalar() or 0
        if self._creating.after is None:
            self._creating.after = newest
        elif newest > self._creating.after and _held.locks:
            return session.get_one(models.TrialModel, newest)
        return super()._get_prepared_new_trial(study_id, template_trial, session)


READS = (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "get_trial",
    "_get_best_trial_id",
)
WRITES = (
    "set_study_user_attr",
    "set_study_system_attr",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


def _answered(name: str, *, writes: bool) -> Callable[..., Any]:
    """Return a method of Optuna's storage that waits for the database, and of one that writes also checks the locks."""
    original = getattr(RDBStorage, name)

    @functools.wraps(original)
    def method(storage: DatabaseStorage, *args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            if writes:
                require_locks()
            return original(storage, *args, **kwargs)

        return until_answered(call)

    return method


for _name in (*READS, *WRITES):
    setattr(DatabaseStorage, _name, _answered(_name, writes=_name in WRITES))
