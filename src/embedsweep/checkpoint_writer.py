"""Checkpoints are written by a thread of their own while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self


class CheckpointWriter:
    """Carries out writes one after another, in the order they are handed over.

    After one that fails nothing more is written: a checkpoint must not be sealed that could not be written. Leaving the
    block waits for what is under way.
    """

    def __init__(self) -> None:
        self._writes: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._n_left = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Hands a write over.

        Raises:
            BaseException: what an earlier one raised.
        """
        self.check()
        with self._lock:
            self._n_left += 1
            self._idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()
        self._writes.put(write)

    def check(self) -> None:
        """Raises what a write has raised, without waiting for any."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Waits for all that was handed over.

        Raises:
            BaseException: what one of them raised.
        """
        self._idle.wait()
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._idle.wait()
        if self._thread is not None:
            self._writes.put(None)
            self._thread.join()
            self._thread = None
        if error is None:
            self.check()

    def _run(self) -> None:
        while (write := self._writes.get()) is not None:
            if self._error is None:
                try:
                    write()
                except BaseException as error:  # whatever it is, the thread that trains raises it
                    self._error = error
            del write
            with self._lock:
                self._n_left -= 1
                if not self._n_left:
                    self._idle.set()
