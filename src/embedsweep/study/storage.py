"""Optuna's storage of a study: a journal file, which is repaired after a crash, or a database; and the study's lock."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from embedsweep.errors import StudyError, causes, first_line
from embedsweep.files import DISK_FULL, FINALS, STUDY_FILE, is_disk_full, whole_length
from embedsweep.secrets import redact
from embedsweep.study.database import DatabaseStorage, advisory_lock, engine_options

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "journal.log"
JOURNAL_LOCK = "journal.lock"
"""Not ``journal.log.lock``: that is the name of Optuna's own lock, a link, which other programs may take."""
LOCK = "study.lock"

RETRY_S = 1.0
"""Seconds after which a study is opened once more if the connection to its database was lost."""

P = ParamSpec("P")
T = TypeVar("T")


class _JournalLock:
    """The journal's lock, which the system releases when its holder is killed; Optuna's own would block for 30 s."""

    def __init__(self, path: Path, journal: Path) -> None:
        self._lock = FileLock(path)
        self._journal = journal

    def acquire(self) -> bool:
        # Optuna takes the lock only to append: a line that another process left incomplete since is removed first.
        self._lock.acquire()
        _remove_torn_line(self._journal)
        return True

    def release(self) -> None:
        self._lock.release()


class _BatchedJournal:
    """A journal that collects what is written in a `batch` block and appends it in one step at its end.

    Each append takes the lock and waits for the disk, some milliseconds, which a trial of six parameters did six times.
    """

    def __init__(self, journal: JournalFileBackend) -> None:
        self._journal = journal
        self._batch: list[dict[str, Any]] | None = None

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._journal.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._batch is None:
            self._journal.append_logs(logs)
        else:
            self._batch += logs

    @contextmanager
    def batch(self) -> Iterator[None]:
        self._batch = []
        try:
            yield
        finally:
            logs, self._batch = self._batch, None
            if logs:
                self._journal.append_logs(logs)


def batched_writes(storage: BaseStorage) -> AbstractContextManager[None]:
    """Append all writes of the block to a journal in one step; the block must not read them. No effect on databases."""
    journal = getattr(storage, "_backend", None)
    return journal.batch() if isinstance(journal, _BatchedJournal) else nullcontext()


def known_trials(storage: BaseStorage) -> AbstractContextManager[None]:
    """Read no trials from a database in the block, as the caller has just read them and holds the study's lock.

    Optuna reads all that are not finished whenever it looks at trials. It has no effect on journals, which only read
    what is new.
    """
    database = getattr(storage, "_backend", None)
    return database.known_trials() if isinstance(database, DatabaseStorage) else nullcontext()


class _ReadOnlyJournal:
    """A journal that is only read: no file is created, locked or repaired."""

    def __init__(self, journal: JournalFileBackend) -> None:
        self._journal = journal

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._journal.read_logs(log_number_from)

    def append_logs(self, _: list[dict[str, Any]]) -> None:
        raise StudyError("this study was opened for reading only; a command of embedsweep writes it")


def open_storage(url: str | None, folder: Path, *, read_only: bool = False) -> BaseStorage:
    """Open Optuna's storage. The caller holds the study's lock, as two processes cannot create tables at once.

    Args:
        url: an Optuna storage URL; None is a journal file in ``folder``.
        folder: the study's folder.
        read_only: create, lock and repair nothing; what is there is read without the study's lock.

    Raises:
        StudyError: the storage cannot be opened.
    """
    try:
        if url is None:
            path = folder / JOURNAL
            if read_only:
                backend = _ReadOnlyJournal(JournalFileBackend(str(path)))
                return JournalStorage(backend)  # type: ignore[arg-type]  # same methods
            repair_journal(path)
            lock = _JournalLock(path.with_name(JOURNAL_LOCK), path)
            journal = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # same methods
            return JournalStorage(_BatchedJournal(journal))  # type: ignore[arg-type]  # same methods
        if url.startswith("postgresql"):
            return DatabaseStorage(url, engine_kwargs=engine_options(url), skip_table_creation=read_only)
        return RDBStorage(url, skip_table_creation=read_only)
    except Exception as error:
        where = redact(url) if url is not None else str(folder / JOURNAL)
        name = folder.parent.name if (folder.parent / STUDY_FILE).is_file() else folder.name  # of finals, the study
        advice = f". {repair_hint(name)}" if url is None and not isinstance(error, OSError) else ""
        raise StudyError(f"the study's storage {where} cannot be opened: {redact(first_line(error))}{advice}") from None


def repair_hint(name: str) -> str:
    """Return the sentence that names the command which repairs a study, and its finals with it."""
    return f"embedsweep repair {name.removesuffix(f'/{FINALS}')} compares what is left, and with --write rebuilds it"


def existing_storage(url: str | None, folder: Path, *, read_only: bool = False) -> BaseStorage | None:
    """Open Optuna's storage if it exists; create nothing.

    Args: as those of `open_storage`.

    Raises:
        StudyError: the storage cannot be opened.
    """
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.engine import make_url

    if url is None:
        return open_storage(url, folder, read_only=read_only) if (folder / JOURNAL).is_file() else None
    parts = make_url(url)
    # Asking sqlite for the tables of a file creates the file.
    if parts.drivername.startswith("sqlite") and not Path(parts.database or "").is_file():
        return None
    try:
        engine = create_engine(url)
    except ImportError as error:
        reason = f"{first_line(error)}: install the driver of this database"
        raise StudyError(f"the study's storage {redact(url)} cannot be opened: {reason}") from None
    try:
        with storage_errors():
            has_studies = inspect(engine).has_table("studies")
    finally:
        engine.dispose()
    return open_storage(url, folder, read_only=read_only) if has_studies else None


def without_finals(names: Iterable[str]) -> set[str]:
    """Return the names of studies in a storage that are not the finals of another."""
    return {name for name in names if not name.endswith(f"/{FINALS}")}


def repair_journal(path: Path) -> None:
    """Remove an incomplete last line that a crash left: anything appended to it would make the journal unreadable.

    What is removed is kept beside the journal, in ``journal.log.torn``.
    """
    if path.is_file():
        with FileLock(path.with_name(JOURNAL_LOCK)):
            _remove_torn_line(path)


def _remove_torn_line(path: Path) -> None:
    whole, size = whole_length(path), path.stat().st_size
    if whole == size:
        return
    kept = path.with_name(f"{JOURNAL}.torn")
    with path.open("r+b") as journal, kept.open("ab") as torn:
        journal.seek(whole)
        torn.write(journal.read() + b"\n")
        torn.flush()
        journal.truncate(whole)
    message = "a crash left the last line of %s incomplete; its %d bytes were removed and are kept in %s"
    logging.getLogger(__name__).warning(message, path, size - whole, kept)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what a storage raises in the block into a StudyError, without passwords.

    Raises:
        StudyError: the storage cannot be read or written, or the disk is full.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"the study's storage cannot be used: {redact(first_line(error))}") from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise StudyError(f"{DISK_FULL} ({redact(str(error))})") from None


def tried_twice(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function that opens a study try a second time if its connection to a database was lost meanwhile."""

    @functools.wraps(function)
    def trying(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (StudyError, SQLAlchemyError, StorageInternalError) as error:
            lost = (OperationalError, InterfaceError)
            if not any(isinstance(each, lost) for each in causes(error, implicit=True)):
                raise
            reason = redact(first_line(error))
        logging.getLogger(__name__).warning("%s; trying once more in %g s", reason, RETRY_S)
        time.sleep(RETRY_S)
        return function(*args, **kwargs)

    return trying


@contextmanager
def study_lock(url: str | None, folder: Path, name: str, *, waits: bool = False) -> Iterator[None]:
    """Exclude other processes from the study while the block runs: by a file, or by an advisory lock of PostgreSQL.

    Args:
        url: the study's storage; None is a journal.
        folder: the study's folder.
        name: its name.
        waits: whether to wait for a database that is away, as `until_answered` does.

    Raises:
        StudyError: the database does not answer.
    """
    if url is not None and url.startswith("postgresql"):
        with advisory_lock(url, name, waits=waits):
            yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        yield
