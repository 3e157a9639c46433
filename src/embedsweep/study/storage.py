"""Where Optuna keeps a study: a journal file or a database, opened safely, and the lock around it.

Owns the journal's repair and the lock that makes several steps one. Knows nothing of trials.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from embedsweep.errors import StudyError
from embedsweep.files import DISK_FULL, is_disk_full
from embedsweep.secrets import redact

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "journal.log"
JOURNAL_LOCK = "journal.lock"
"""Not ``journal.log.lock``: Optuna's own lock, which other programs on this journal take, is a link of that name."""
LOCK = "study.lock"


class _DyingLock:
    """A lock that the system gives back when its holder is killed; Optuna's own would block everyone for 30 s."""

    def __init__(self, path: Path, journal: Path) -> None:
        self._lock = FileLock(path)
        self._journal = journal

    def acquire(self) -> bool:
        # Optuna takes the lock to append only: what another process tore since this one opened is cut off first.
        self._lock.acquire()
        _cut_torn_tail(self._journal)
        return True

    def release(self) -> None:
        self._lock.release()


class _OneAppend:
    """A journal that holds back what is written in a ``with`` block and appends it at its end, all at once.

    Each append takes the lock and waits for the disk, some milliseconds that a trial of six parameters took six times.
    """

    def __init__(self, journal: JournalFileBackend) -> None:
        self._journal = journal
        self._held: list[dict[str, Any]] | None = None

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._journal.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._held is None:
            self._journal.append_logs(logs)
        else:
            self._held += logs

    @contextmanager
    def held(self) -> Iterator[None]:
        self._held = []
        try:
            yield
        finally:
            logs, self._held = self._held, None
            if logs:
                self._journal.append_logs(logs)


def written_at_once(storage: BaseStorage) -> AbstractContextManager[None]:
    """A block whose writes reach a journal together; nothing in it may read what it wrote. Databases do as ever."""
    journal = getattr(storage, "_backend", None)
    return journal.held() if isinstance(journal, _OneAppend) else nullcontext()


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Opens Optuna's storage; the caller holds the study's lock, as creating tables twice at once fails.

    Args:
        url: an Optuna storage URL; None is a journal file in ``folder``.
        folder: the study's own.

    Raises:
        StudyError: it cannot be opened.
    """
    try:
        if url is None:
            path = folder / JOURNAL
            repair_journal(path)
            lock = _DyingLock(path.with_name(JOURNAL_LOCK), path)
            journal = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # same methods
            return JournalStorage(_OneAppend(journal))  # type: ignore[arg-type]  # same methods
        # A database that was restarted drops its connections; the ping replaces them before they are used.
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except Exception as error:
        where = redact(url) if url is not None else str(folder / JOURNAL)
        raise StudyError(f"the study's storage {where} cannot be opened: {_first_line(error)}") from None


def existing_storage(url: str | None, folder: Path) -> BaseStorage | None:
    """Opens Optuna's storage if it is there, and creates none.

    Raises:
        StudyError: it cannot be opened.
    """
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.engine import make_url

    if url is None:
        return open_storage(url, folder) if (folder / JOURNAL).is_file() else None
    parts = make_url(url)
    # To ask sqlite for a file's tables creates the file.
    if parts.drivername.startswith("sqlite") and not Path(parts.database or "").is_file():
        return None
    engine = create_engine(url)
    try:
        with storage_errors():
            has_studies = inspect(engine).has_table("studies")
    finally:
        engine.dispose()
    return open_storage(url, folder) if has_studies else None


def repair_journal(path: Path) -> None:
    """Cuts a last line off that a crash tore: once something was appended to it, nobody could read the journal again.

    What is cut off is kept beside the journal, in ``journal.log.torn``.
    """
    if path.is_file():
        with FileLock(path.with_name(JOURNAL_LOCK)):
            _cut_torn_tail(path)


def _cut_torn_tail(path: Path) -> None:
    with path.open("r+b") as journal:
        size = journal.seek(0, os.SEEK_END)
        if size == 0 or (journal.seek(-1, os.SEEK_END), journal.read(1))[1] == b"\n":
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        kept = path.with_name(f"{JOURNAL}.torn")
        with kept.open("ab") as torn:
            torn.write(content[whole:] + b"\n")
        journal.truncate(whole)
    message = "a crash tore the last line of %s; its %d bytes were cut off and are kept in %s"
    logging.getLogger(__name__).warning(message, path, size - whole, kept)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Whatever a storage raises inside becomes a StudyError, its password taken out.

    Raises:
        StudyError: the storage cannot be read or written, or the disk is full.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, JSONDecodeError) as error:
        raise StudyError(f"the study's storage cannot be used: {_first_line(error)}") from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise StudyError(f"{DISK_FULL} ({redact(str(error))})") from None


def _first_line(error: Exception) -> str:
    return next(iter(redact(str(error)).splitlines()), type(error).__name__)


@contextmanager
def study_lock(url: str | None, folder: Path, name: str) -> Iterator[None]:
    """Holds everyone else's steps on the study off: by a file, or by PostgreSQL's advisory lock across machines."""
    if url is not None and url.startswith("postgresql"):
        with _advisory_lock(url, name):
            yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        yield


@contextmanager
def _advisory_lock(url: str, name: str) -> Iterator[None]:
    from sqlalchemy import create_engine, text

    key = int.from_bytes(hashlib.sha256(f"embedsweep {name}".encode()).digest()[:8], signed=True)
    engine = create_engine(url)
    try:
        with ExitStack() as held:
            try:
                connection = held.enter_context(engine.connect())
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
            except SQLAlchemyError as error:
                reason = _first_line(error)
                raise StudyError(f"the study's storage {redact(url)} cannot be opened: {reason}") from None
            yield  # the lock is the connection's and ends with it
    finally:
        engine.dispose()
