"""Where MLflow keeps its records: found by its URI, created once, opened without hanging.

Owns everything that depends on the kind of store: sqlite's file, lock and artifacts, a server's time-outs, MLflow's
environment and loggers. Must not know what a run is.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.secrets import redact
from embedsweep.signals import raise_pending, shielded

if TYPE_CHECKING:
    from mlflow import MlflowClient

_T = TypeVar("_T")

Tell = Callable[[str], None]
"""Is given one line for people."""

_LOCKED_S = 120.0  # so long a database that another process has locked is waited for; each call waits 20 s by itself
_LOCKED = "database is locked"

_PASSING = frozenset(
    (
        "INTERNAL_ERROR",  # of the server, and what MLflow makes of a connection that was refused or swallowed
        "TEMPORARILY_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
        "ABORTED",
        "UNAUTHENTICATED",  # a token that has run out concerns all records, and is cured by another token
        "CUSTOMER_UNAUTHORIZED",
        "PERMISSION_DENIED",
    )
)
"""MLflow's words for what is wrong with the store, and not with what it was given."""

_PASSING_STATUS = (401, 403, 408, 429)
_PASSING_ERRNO = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENOTCONN),
)
"""What an artifact store on a disk or network share says."""


@contextmanager
def mlflow_errors(doing: str, advice: str = "") -> Iterator[None]:
    """Whatever MLflow raises inside becomes a TrackingError that says what was being done and what to do.

    Raises:
        UnreachableError: the store cannot be reached or written at this moment.
        TrackingError: the store refuses what it is given.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        # SQLAlchemy appends the statement and its values, which nobody can act on. The original error is not
        # chained: its text may hold a password that redact has just taken out.
        reason = str(error).partition("\n[SQL:")[0].strip() or type(error).__name__
        kind = UnreachableError if _is_passing(error) else TrackingError
        raise kind(redact(". ".join(filter(None, (f"{doing}: {reason.rstrip('.')}", advice))))) from None


def _is_passing(error: Exception) -> bool:
    """Whether the store, and not what it was given, is what is wrong."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import InterfaceError, OperationalError

    if isinstance(error, MlflowException):
        return error.error_code in _PASSING
    if isinstance(error, RequestException):  # of an artifact; it is an OSError, too
        status = error.response.status_code if error.response is not None else None
        return status is None or status >= 500 or status in _PASSING_STATUS
    if isinstance(error, OSError):
        return isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _PASSING_ERRNO
    return isinstance(error, (OperationalError, InterfaceError))


def waiting_for_lock(call: Callable[[], _T], tell: Tell, seconds: float = _LOCKED_S) -> _T:
    """Makes the call, again and again while another process has locked the database; signals wait between two tries.

    Args:
        call: raises UnreachableError where the database is locked; may be made several times.
        tell: is told, once, that it is waited for.
        seconds: how long.

    Raises:
        UnreachableError: the database is still locked, or the store cannot be reached for another reason.
    """
    deadline, pause = time.monotonic() + seconds, 0.25
    told = False
    while True:
        try:
            with shielded():
                return call()
        except UnreachableError as error:
            if _LOCKED not in str(error) or time.monotonic() + pause > deadline:
                raise
        raise_pending()
        if not told:
            tell(f"another process has locked MLflow's database; it is waited for, {seconds:.0f} s at most")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, 8.0)


def log_line(line: str) -> None:
    """Tells those for whom there is no screen."""
    logging.getLogger(__name__).warning(line)


_SQLITE = "sqlite:///"

_ENVIRONMENT = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # of copies, on stderr
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own values block 247 s on a server that is gone. These give up at once where connections are refused and
    # after 5 s where they are swallowed: what could not be written is spooled and replayed, so that nothing is gained
    # by waiting, and a call that MLflow repeated by itself could create a run twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
"""What MLflow is told through its environment, where the user has not."""

_SERVER_DEADLINE_S = 12.0
_DATABASE_DEADLINE_S = 60.0  # a new PostgreSQL or MySQL store runs its migrations within this
_LOCK_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Store:
    """A store that was located, not necessarily opened.

    Attributes:
        uri: MLflow's tracking URI; of a sqlite store with an absolute path.
        database: the sqlite file; None for servers and other databases.
    """

    uri: str
    database: Path | None

    def __str__(self) -> str:
        return redact(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether a tracking server answers at the URI."""
        return store_kind(self.uri) == "server"

    @property
    def artifacts(self) -> Path | None:
        """The folder of all artifacts; None where the server decides."""
        return self.database.parent / "artifacts" if self.database else None


def locate(uri: str) -> Store:
    """Reads a tracking URI; a relative sqlite path is relative to the working directory.

    Raises:
        TrackingError: a sqlite URI names no file.
    """
    if not uri.startswith("sqlite:"):
        return Store(uri, None)
    path, mark, query = uri.removeprefix(_SQLITE).partition("?")
    if not uri.startswith(_SQLITE) or path in ("", ":memory:"):
        raise TrackingError(f"{redact(uri)} keeps nothing: tracking.uri needs a file, as in sqlite:///mlruns/mlflow.db")
    database = Path(path).resolve()
    return Store(f"{_SQLITE}{database.as_posix()}{mark}{query}", database)


def open_store(store: Store, tell: Tell = log_line) -> MlflowClient:
    """A client of the store, which is created where it is a sqlite file that does not exist.

    Args:
        store: where it is.
        tell: is told that a locked database is waited for.

    Raises:
        UnreachableError: a server did not answer; it is given up after 12 s, a locked database after two minutes.
        TrackingError: the store cannot be opened.
    """
    prepare_mlflow()
    if store.database is not None:
        return _open_sqlite(store, store.database, tell)
    deadline = _SERVER_DEADLINE_S if store.is_server else _DATABASE_DEADLINE_S
    with mlflow_errors(f"MLflow's store {store} cannot be opened", "Check that it runs and that tracking.uri is right"):
        try:
            return _connect_within(deadline, store.uri)
        except TimeoutError:
            raise UnreachableError(
                f"MLflow's store {store} did not answer within {deadline:.0f} s. "
                "Check that it runs and that tracking.uri is right"
            ) from None


def prepare_mlflow() -> None:
    """Sets MLflow's environment and makes its loggers ordinary ones; to be called before its first import."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (its import gives its loggers handlers of their own, which are taken away below)

    for name in ("mlflow", "alembic", "sqlalchemy.engine", "huey"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logger.setLevel(logging.WARNING)
    # It logs with a traceback what it raises too, and what is raised is reported by `mlflow_errors`.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def import_mlflow(kind: str) -> None:
    """Imports what a client of a store needs, so that it is there when one is opened; ``kind`` by `store_kind`."""
    prepare_mlflow()
    if kind == "database":
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def store_kind(uri: str) -> Literal["server", "database"]:
    """What is at a tracking URI."""
    return "server" if uri.startswith(("http://", "https://")) else "database"


def _open_sqlite(store: Store, database: Path, tell: Tell) -> MlflowClient:
    from filelock import FileLock, Timeout

    lock = database.with_name(f"{database.name}.lock")
    with mlflow_errors(
        f"MLflow's store {store} cannot be opened",
        "Check that its folder can be written, or name another file by tracking.uri=sqlite:///PATH",
    ):
        database.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=_LOCK_DEADLINE_S):
                if not database.exists() or database.stat().st_size == 0:
                    _create_sqlite(database)
                return waiting_for_lock(lambda: _connect_told(store), tell)
        except Timeout:
            raise TrackingError(f"another process has held {lock} for {_LOCK_DEADLINE_S:.0f} s; end it") from None


def _create_sqlite(database: Path) -> None:
    """Creates the database beside its place and moves it there.

    MLflow runs its migrations outside a transaction: a process killed among them would leave a file that can neither
    be opened nor repaired.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f"{database.name}.new")
    unfinished.unlink(missing_ok=True)
    artifacts = (database.parent / "artifacts").as_uri()
    SqlAlchemyStore(f"{_SQLITE}{unfinished.as_posix()}", artifacts).engine.dispose()
    unfinished.replace(database)


def _connect(uri: str) -> MlflowClient:
    """A client that has had an answer; MLflow itself connects to a server only at the first call."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _connect_told(store: Store) -> MlflowClient:
    with mlflow_errors(f"MLflow's store {store} cannot be opened"):
        return _connect(store.uri)


def _connect_within(seconds: float, uri: str) -> MlflowClient:
    """The client, or TimeoutError; by a thread, because name resolution heeds no time-out of MLflow's."""
    future: Future[MlflowClient] = Future()

    def connect() -> None:
        try:
            future.set_result(_connect(uri))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=connect, name="open-mlflow", daemon=True).start()
    return future.result(timeout=seconds)
