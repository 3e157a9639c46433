"""SIGINT and SIGTERM: an exception where work is under way, a moment later where books are being kept.

Owns the handlers. Knows nothing of what is interrupted.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from embedsweep.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Turns signals into :class:`Interrupted`; to be created once, in the main thread."""

    def __init__(self) -> None:
        self._shielded = 0
        self._pending: int | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles the signals inside the block, and gives the former handlers back."""
        former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Lets the block finish before a signal is raised: for writes that belong together.

        Raises:
            Interrupted: a signal came during the block.
        """
        self._shielded += 1
        try:
            yield
        finally:
            self._shielded -= 1
        if self._pending is not None and not self._shielded:
            signum, self._pending = self._pending, None
            raise Interrupted(signum)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self._shielded:
            self._pending = signum
        else:
            raise Interrupted(signum)
