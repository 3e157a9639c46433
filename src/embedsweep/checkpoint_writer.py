"""Checkpoints are written by a thread of their own while training goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from embedsweep.errors import TrialTakenError
from embedsweep.signals import shielded


class CheckpointWriter:
    """Carries out writes one after another, in the order they are handed over.

    After one that fails nothing more is written: a checkpoint must not be sealed that could not be written. Leaving the
    block waits for what was handed over; of a trial that another worker has taken up, nothing more is begun.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writes: list[Future[None]] = []
        self._error: BaseException | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Hand a write over.

        Raises:
            BaseException: what an earlier one raised.
        """
        self.check()
        with shielded():
            self._writes = [earlier for earlier in self._writes if not earlier.done()]
            self._writes.append(self._thread.submit(self._carry_out, write))

    def check(self) -> None:
        """Raise what a write has raised, without waiting for any."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait for all that was handed over.

        Raises:
            BaseException: what one of them raised.
        """
        wait(self._writes)
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=isinstance(error, TrialTakenError))
        if error is None:
            self.check()

    def _carry_out(self, write: Callable[[], None]) -> None:
        if self._error is None:
            try:
                write()
            except BaseException as error:  # whatever it is, the thread that trains raises it
                self._error = error
