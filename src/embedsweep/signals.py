"""Handlers of SIGINT, SIGTERM and SIGHUP: raise `Interrupted`, but defer signals inside `shielded()`.

A `Deferral` holds the first signal back for longer, until work that must not be lost has reached a good end.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

from embedsweep.errors import Interrupted

_log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DEFERRED_S = 20.0
"""Seconds for which a `Deferral` holds a signal back: less than a supervisor, or a cluster, waits before it kills."""

JOB, BEGINS, ENDS = "EMBEDSWEEP_JOB", "begins", "ends"
"""The variable of a command that is a cluster's job, and its value: whether SIGTERM has come before the command."""
BEGUN_S = 100.0
"""Seconds within which a job's command has begun; a cluster warns a job two minutes before it kills it."""


@dataclass
class _Shield:
    depth: int = 0
    pending: int | None = None
    deferral: Deferral | None = None
    counts_once: bool = False
    has_come: bool = False


class Deferral:
    """Holds the first signal back, in a ``with`` block and while it is on; a second one is raised at once.

    So is the first one after a while: it may have come in work that takes long. A signal that nobody has raised is
    raised at the end of the block, instead of an error. Has no effect outside the main thread.

    Args:
        seconds: for how long it holds a signal back.

    Attributes:
        is_on: whether it holds signals back now; at first it does not.
        signum: the signal that it holds; None without one.
        is_late: whether it has held one back for as long as it may.
    """

    def __init__(self, seconds: float = DEFERRED_S) -> None:
        self.is_on = False
        self.signum: int | None = None
        self.is_late = False
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def take(self, signum: int) -> bool:
        """Hold a signal back and return True; return False if it has to be raised."""
        if not self.is_on or self.signum is not None:
            return False
        self.signum = signum
        self._timer = threading.Timer(self._seconds, self._expire, (signum,))
        self._timer.daemon = True
        self._timer.start()
        return True

    def _expire(self, signum: int) -> None:
        self.is_late = True
        os.kill(os.getpid(), signum)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Raise signals at once inside the block, one that was held back, too; it counts as held back afterwards.

        Raises:
            Interrupted: a signal came.
        """
        was_on, self.is_on = self.is_on, False
        try:
            self.raise_held()
            yield
        except Interrupted as error:
            self.signum = error.signum
            raise
        finally:
            self.is_on = was_on

    def raise_held(self) -> None:
        """Raise the signal that was held back, if there is one.

        Raises:
            Interrupted: there is.
        """
        if (signum := self._release()) is not None:
            raise Interrupted(signum)

    def _release(self) -> int | None:
        if self._timer is not None:
            self._timer.cancel()
        signum, self.signum = self.signum, None
        return signum

    def __enter__(self) -> Self:
        if is_main_thread():
            _shield.deferral = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _shield.deferral is self:
            _shield.deferral = None
        signum = self._release()
        if signum is not None and (error is None or isinstance(error, Exception)):
            if error is not None:
                _log.warning("interrupted, and the work that this waited for failed", exc_info=error)
            raise Interrupted(signum) from error


_shield = _Shield()


def hold_until_begun() -> None:
    """Hold back a SIGTERM that comes before the command of a cluster's job has begun its work; see `raise_if_held`.

    It can have itself requeued only then. Has no effect in any other process.
    """
    if (state := os.environ.pop(JOB, None)) is None:
        return
    _shield.deferral = Deferral(BEGUN_S)
    _shield.deferral.is_on = True
    signal.signal(signal.SIGTERM, _handle)
    if state == ENDS:
        _shield.deferral.take(signal.SIGTERM)


def raise_if_held() -> None:
    """Raise the signal that was held back until now, if there is one, and hold none back any more.

    Raises:
        Interrupted: there is.
    """
    deferral, _shield.deferral = _shield.deferral, None
    if deferral is not None:
        deferral.raise_held()


@contextmanager
def handled(signals: Iterable[signal.Signals] = SIGNALS, *, once: bool = False) -> Iterator[None]:
    """Turn signals into `Interrupted` inside the block, and restore the former handlers.

    A SIGHUP that is ignored at the start (``nohup``) stays ignored. Has no effect outside the main thread: there, a
    program that calls embedsweep keeps its own handlers.

    Args:
        signals: which.
        once: whether only the first one counts, where several senders may say the same.
    """
    if not is_main_thread():
        yield
        return
    _shield.pending, _shield.counts_once, _shield.has_come = None, once, False
    is_hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in signals if not (number is signal.SIGHUP and is_hangup_ignored)]
    former = {number: signal.signal(number, _handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Raise Ctrl-C in the block as KeyboardInterrupt, as a program expects it, but defer it inside `shielded` blocks.

    Other signals, and a handler of Ctrl-C that the program has set itself, stay as they are. Has no effect outside the
    main thread.
    """
    is_pythons_own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        with handled([signal.SIGINT] if is_pythons_own else []):
            yield
    except Interrupted:
        raise KeyboardInterrupt from None


@contextmanager
def shielded() -> Iterator[None]:
    """Defer signals until the block is finished, for writes that belong together.

    Without it an exception may leave a database's transaction open, so that the next write finds the database locked.
    Has no effect outside the main thread, which alone receives signals.

    Raises:
        Interrupted: a signal arrived during the block, and no `Deferral` holds it back.
    """
    if not is_main_thread():
        yield
        return
    _shield.depth += 1
    try:
        yield
    finally:
        _shield.depth -= 1
    raise_pending()


def raise_pending() -> None:
    """Raise the signal that was deferred by a `shielded` block that failed; no effect inside a `shielded` block.

    Raises:
        Interrupted: a signal was deferred.
    """
    if _shield.pending is not None and not _shield.depth and is_main_thread():
        signum, _shield.pending = _shield.pending, None
        _deliver(signum)


def is_deferred() -> bool:
    """Return whether a signal waits for the end of the `shielded` block that runs, which should not wait long then."""
    return _shield.pending is not None and is_main_thread()


def take_back() -> None:
    """Put the handlers of this process in place again after a library has put its own below them.

    Ray's prints a trace on SIGTERM and then ends the process. Has no effect outside the main thread.
    """
    if not is_main_thread():
        return
    for number in SIGNALS:
        if (handler := signal.getsignal(number)) is not None:
            signal.signal(number, handler)


def is_main_thread() -> bool:
    """Return whether this is the main thread, which alone receives signals."""
    return threading.current_thread() is threading.main_thread()


def _handle(signum: int, _: FrameType | None) -> None:
    is_late = _shield.deferral is not None and _shield.deferral.is_late
    if _shield.counts_once and _shield.has_come and not is_late:
        return
    _shield.has_come = True
    if _shield.depth:
        _shield.pending = signum
    else:
        _deliver(signum)


def _deliver(signum: int) -> None:
    if _shield.deferral is None or not _shield.deferral.take(signum):
        raise Interrupted(signum)
