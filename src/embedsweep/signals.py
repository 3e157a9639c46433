"""SIGINT and SIGTERM: an exception where work is under way, a moment later where books are being kept.

Owns the handlers, which a process has once. Knows nothing of what is interrupted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from embedsweep.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _Shield:
    depth: int = 0
    pending: int | None = None


_shield = _Shield()


@contextmanager
def handled() -> Iterator[None]:
    """Turns signals into :class:`Interrupted` inside the block, in the main thread; gives the former handlers back."""
    _shield.pending = None
    former = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Lets the block finish before a signal is raised: for writes that belong together.

    Without it an exception may leave a database's transaction open, and whoever writes next finds the database locked.
    Of use in the main thread only, as signals reach no other.

    Raises:
        Interrupted: a signal came during the block.
    """
    if not _is_main_thread():
        yield
        return
    _shield.depth += 1
    try:
        yield
    finally:
        _shield.depth -= 1
    raise_pending()


def raise_pending() -> None:
    """Raises the signal that came during a block that failed, if there was one, and no block is around this call.

    Raises:
        Interrupted: there was.
    """
    if _shield.pending is not None and not _shield.depth and _is_main_thread():
        signum, _shield.pending = _shield.pending, None
        raise Interrupted(signum)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(signum: int, _: FrameType | None) -> None:
    if _shield.depth:
        _shield.pending = signum
    else:
        raise Interrupted(signum)
