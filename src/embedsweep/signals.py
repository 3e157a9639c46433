"""Handlers of SIGINT, SIGTERM and SIGHUP: raise `Interrupted`, but defer signals inside `shielded()`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from embedsweep.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Shield:
    depth: int = 0
    pending: int | None = None


_shield = _Shield()


@contextmanager
def handled(signals: Iterable[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Turn signals into `Interrupted` inside the block, and restore the former handlers.

    A SIGHUP that is ignored at the start (``nohup``) stays ignored. Has no effect outside the main thread: there, a
    program that calls embedsweep keeps its own handlers.
    """
    if not _is_main_thread():
        yield
        return
    _shield.pending = None
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
        Interrupted: a signal arrived during the block.
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
    """Raise the signal that was deferred by a `shielded` block that failed; no effect inside a `shielded` block.

    Raises:
        Interrupted: a signal was deferred.
    """
    if _shield.pending is not None and not _shield.depth and _is_main_thread():
        signum, _shield.pending = _shield.pending, None
        raise Interrupted(signum)


def is_deferred() -> bool:
    """Return whether a signal waits for the end of the `shielded` block that runs, which should not wait long then."""
    return _shield.pending is not None and _is_main_thread()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(signum: int, _: FrameType | None) -> None:
    if _shield.depth:
        _shield.pending = signum
    else:
        raise Interrupted(signum)
