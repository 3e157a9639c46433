"""Locate, create and open MLflow's store, a database or a tracking server; its environment, loggers and errors."""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.files import access_problem
from embedsweep.secrets import redact
from embedsweep.signals import raise_pending, shielded
from embedsweep.tracking.relocation import relocate

if TYPE_CHECKING:
    from mlflow import MlflowClient

_T = TypeVar("_T")

Notify = Callable[[str], None]
"""Receives one line to show to the user."""

_LOCKED_S = 120.0  # how long to wait for a database that another process has locked; MLflow waits 20 s in each call
_LOCKED = "database is locked"

_REFUSED_CODES = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")

_TEMPORARY_CODES = frozenset(
    (
        *_REFUSED_CODES,  # an expired token concerns all records, and a new token solves it
        "INTERNAL_ERROR",  # of the server; also MLflow's code for a connection that was refused or timed out
        "TEMPORARILY_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
        "ABORTED",
    )
)
"""MLflow's error codes that concern the store and not the record."""
ALREADY_EXISTS = ("UNIQUE constraint failed", "duplicate key value", "Duplicate entry")
"""What databases say of a row that another request has just written, perhaps one that had timed out: a bad request to
MLflow. The next attempt finds the row."""

_REFUSED_TEXT = re.compile(r"\b(401|403|unauthorized|forbidden)\b", re.IGNORECASE)
_CREDENTIALS = (
    "The server refuses the credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN"
)

_TEMPORARY_STATUS = (401, 403, 408, 429)
_TEMPORARY_ERRNO = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENOTCONN),
)
"""Error numbers of an artifact store on a disk or network share."""


@contextmanager
def mlflow_errors(doing: str, advice: str = "") -> Iterator[None]:
    """Turn MLflow's errors inside the block into a TrackingError that says what failed and what to do.

    Args:
        doing: what cannot be done, as the start of the message: ``run 1a2b cannot be read``.
        advice: what the user can do, as its end.

    Raises:
        UnreachableError: the store cannot be reached or written at this moment.
        TrackingError: the store refuses the request.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        # SQLAlchemy appends the statement and its values, which help nobody. The original error is not chained,
        # because its text may contain a password that redact has just masked.
        reason = str(error).partition("\n[SQL:")[0].strip() or type(error).__name__
        kind = UnreachableError if _is_temporary(error) else TrackingError
        advice = _CREDENTIALS if _is_refused(error) else advice
        raise kind(redact(". ".join(filter(None, (f"{doing}: {reason.rstrip('.')}", advice))))) from None


def _is_temporary(error: Exception) -> bool:
    """Return whether an error concerns the store at this moment, and not the request."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import InterfaceError, OperationalError

    if isinstance(error, MlflowException):
        return error.error_code in _TEMPORARY_CODES or any(text in str(error) for text in ALREADY_EXISTS)
    if isinstance(error, RequestException):  # of an artifact store; check before OSError, its base class
        status = error.response.status_code if error.response is not None else None
        return status is None or status >= 500 or status in _TEMPORARY_STATUS
    if isinstance(error, OSError):
        return isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _TEMPORARY_ERRNO
    return isinstance(error, (OperationalError, InterfaceError, sqlite3.OperationalError))


def _is_refused(error: Exception) -> bool:
    """Return whether a server refuses this user. A proxy's answer in JSON keeps only its text, not its status."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, RequestException):
        return error.response is not None and error.response.status_code in (401, 403)
    if not isinstance(error, MlflowException):
        return False
    is_unknown = error.error_code == "INTERNAL_ERROR"
    return error.error_code in _REFUSED_CODES or (is_unknown and _REFUSED_TEXT.search(str(error)) is not None)


def is_locked(problem: str) -> bool:
    """Return whether a call failed because another process has locked the database."""
    return _LOCKED in problem


def waiting_for_lock(call: Callable[[], _T], notify: Notify, seconds: float = _LOCKED_S) -> _T:
    """Make a call, and repeat it while another process has locked the database; signals are raised between attempts.

    Args:
        call: raises UnreachableError if the database is locked; may be made several times.
        notify: receives one line if the database is locked.
        seconds: how long to repeat the call.

    Raises:
        UnreachableError: the database is still locked, or the store cannot be reached for another reason.
    """
    deadline, pause = time.monotonic() + seconds, 0.25
    notified = False
    while True:
        try:
            with shielded():
                return call()
        except UnreachableError as error:
            if _LOCKED not in str(error) or time.monotonic() + pause > deadline:
                raise
        raise_pending()
        if not notified:
            notify(f"another process has locked MLflow's database; waiting up to {seconds:.0f} s")
            notified = True
        time.sleep(pause)
        pause = min(2 * pause, 8.0)


def log_line(line: str) -> None:
    """Log the line as a warning, where there is no console."""
    logging.getLogger(__name__).warning(line)


_SQLITE = "sqlite:///"

_ENVIRONMENT = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # of copies, on stderr
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A call that MLflow repeats by itself could create a run twice; `_RepeatingClient` repeats all others. A server
    # that hangs is waited for, because it may carry out a request whose client has given up; only the thread that
    # writes records waits so long.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""Defaults of MLflow's environment variables; those that the user has set are kept."""

_SERVER_DEADLINE_S = 12.0
_DATABASE_DEADLINE_S = 60.0  # a new PostgreSQL or MySQL store runs its migrations within this
_LOCK_DEADLINE_S = 120.0
_REPEAT_S = 3.0  # how long a call to a server that fails is repeated


@dataclass(frozen=True)
class Store:
    """The location of a store.

    Attributes:
        uri: MLflow's tracking URI; with an absolute path if it is sqlite.
        database: the sqlite file; None for servers and other databases.
    """

    uri: str
    database: Path | None

    def __str__(self) -> str:
        return redact(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether the URI is a tracking server's."""
        return store_kind(self.uri) == "server"

    @property
    def artifacts(self) -> Path | None:
        """The folder of all artifacts; None if the server chooses it."""
        return self.database.parent / "artifacts" if self.database else None


def locate(uri: str) -> Store:
    """Read a tracking URI; a relative sqlite path is relative to the working directory.

    Raises:
        TrackingError: a sqlite URI without a file.
    """
    if not uri.startswith("sqlite:"):
        return Store(uri, None)
    path, mark, query = uri.removeprefix(_SQLITE).partition("?")
    if not uri.startswith(_SQLITE) or path in ("", ":memory:"):
        raise TrackingError(f"{redact(uri)} keeps nothing: tracking.uri needs a file, as in sqlite:///mlruns/mlflow.db")
    database = Path(path).resolve()
    return Store(f"{_SQLITE}{database.as_posix()}{mark}{query}", database)


def database_problem(database: Path) -> str | None:
    """Return why a sqlite file cannot hold records; None if it can. MLflow itself would try again for 100 s."""
    for path in (database.parent, database):  # sqlite creates files beside the database
        if (message := access_problem(path)) is not None:
            return f"{path} {message}"
    if database.is_dir():
        return f"{database} is a folder, and records need a file in one: sqlite:///{database / 'mlflow.db'}"
    if database.is_file() and not _begins_like_sqlite(database):
        return f"{database} is not a sqlite database: move it, or name another file by tracking.uri=sqlite:///PATH"
    return None


def _begins_like_sqlite(database: Path) -> bool:
    with database.open("rb") as file:
        begin = file.read(16)
    return begin in (b"", b"SQLite format 3\0")


def open_store(store: Store, notify: Notify = log_line) -> MlflowClient:
    """Return a client of the store; create the store if it is a sqlite file that does not exist.

    Args:
        store: the location of the store.
        notify: receives a line if the database is locked.

    Raises:
        UnreachableError: a server did not answer within 12 s, or a database stayed locked for two minutes.
        TrackingError: the store cannot be opened.
    """
    prepare_mlflow()
    if store.database is not None:
        return _open_sqlite(store, store.database, notify)
    deadline = _SERVER_DEADLINE_S if store.is_server else _DATABASE_DEADLINE_S
    with mlflow_errors(f"MLflow's store {store} cannot be opened", "Check that it runs and that tracking.uri is right"):
        try:
            return within(deadline, lambda: _connect(store))
        except TimeoutError:
            raise UnreachableError(
                f"MLflow's store {store} did not answer within {deadline:.0f} s. "
                "Check that it runs and that tracking.uri is right"
            ) from None


def prepare_mlflow() -> None:
    """Set MLflow's environment and remove the handlers of its loggers; call this before MLflow's first import."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (its import adds handlers to its loggers, which are removed below)

    for name in ("mlflow", "alembic", "sqlalchemy.engine", "huey"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logger.setLevel(logging.WARNING)
    # It logs a traceback of every error that it raises, and `mlflow_errors` reports those.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def import_mlflow(kind: str) -> None:
    """Import in advance what a client of this kind of store (see `store_kind`) needs."""
    prepare_mlflow()
    if kind == "database":
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def store_kind(uri: str) -> Literal["server", "database"]:
    """Return the kind of store at a tracking URI."""
    return "server" if uri.startswith(("http://", "https://")) else "database"


def _open_sqlite(store: Store, database: Path, notify: Notify) -> MlflowClient:
    from filelock import FileLock, Timeout

    failure = f"MLflow's store {store} cannot be opened"
    if (problem := database_problem(database)) is not None:
        raise TrackingError(f"{failure}: {problem}")

    def connect() -> MlflowClient:
        with mlflow_errors(failure):
            if former := relocate(database):
                roots = ", ".join(former)
                notify(f"MLflow's store was moved or copied from {roots}: its runs have the artifacts beside it now")
            return _connect(store)

    lock = database.with_name(f"{database.name}.lock")
    with mlflow_errors(
        failure, "Check that its folder can be written, or name another file by tracking.uri=sqlite:///PATH"
    ):
        database.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=_LOCK_DEADLINE_S):
                if not database.exists() or database.stat().st_size == 0:
                    _create_sqlite(database)
                return waiting_for_lock(connect, notify)
        except Timeout:
            raise TrackingError(f"another process has held {lock} for {_LOCK_DEADLINE_S:.0f} s; end it") from None


def _create_sqlite(database: Path) -> None:
    """Create the database under a temporary name and rename it.

    MLflow runs its migrations outside a transaction: a process that is killed in between would leave a file that can
    be neither opened nor repaired.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f"{database.name}.new")
    unfinished.unlink(missing_ok=True)
    artifacts = (database.parent / "artifacts").as_uri()
    SqlAlchemyStore(f"{_SQLITE}{unfinished.as_posix()}", artifacts).engine.dispose()
    unfinished.replace(database)


def _connect(store: Store) -> MlflowClient:
    """Return a client after a first call has succeeded; MLflow does not connect before that."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store.uri)
    if store.is_server:
        client = cast(MlflowClient, _RepeatingClient(client))
    client.search_experiments(max_results=1)
    return client


class _RepeatingClient:
    """A server's client, whose calls are repeated for some seconds while the server fails; all but `create_run`.

    Writing the same again changes nothing, except that each call of `create_run` may create a run.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._client, name)
        return call if name == "create_run" else partial(repeated, call)


def repeated(call: Callable[..., _T], *args: object, **options: object) -> _T:
    """Return the result of a call to a server, which is repeated for some seconds while the server fails."""
    deadline, pause = time.monotonic() + _REPEAT_S, 0.1
    while True:
        try:
            return call(*args, **options)
        except Exception as error:
            if not _is_temporary(error) or _is_refused(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause *= 2


def within(seconds: float | None, call: Callable[[], _T]) -> _T:
    """Return the result of a call, which is made in a thread if it is limited: MLflow's time-outs do not limit all.

    Args:
        seconds: how long to wait; None makes the call in this thread.
        call: goes on in its thread if it takes longer.

    Raises:
        TimeoutError: it takes longer.
    """
    if seconds is None:
        return call()
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="call-mlflow", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"MLflow's store did not answer within {seconds:.0f} s") from None
