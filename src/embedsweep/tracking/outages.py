"""What MLflow raises, told to people: whether the store is away or refuses, and what is only a matter of waiting.

Owns the words by which libraries say so. Must not know which store it is, nor what is done about it.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.secrets import redact
from embedsweep.signals import heed, shielded

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
def telling(doing: str, advice: str = "") -> Iterator[None]:
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
        heed()
        if not told:
            tell(f"another process has locked MLflow's database; it is waited for, {seconds:.0f} s at most")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, 8.0)


def log_line(line: str) -> None:
    """Tells those for whom there is no screen."""
    logging.getLogger(__name__).warning(line)
