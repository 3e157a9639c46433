"""The worker processes of a command, from their start to their end.

Owns that each can be started early, and that none is left behind. Knows nothing of what they do.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from embedsweep.errors import WorkerError
from embedsweep.launch.child import PYTHON, Child
from embedsweep.launch.events import Event
from embedsweep.launch.job import worker_log
from embedsweep.signals import shielded

COMMAND = (*PYTHON, "embedsweep.launch.process")


class Crew:
    """Worker processes. Entered, it starts them, and they import what takes long; left, none runs any more.

    Args:
        folder: the study's.
        words: what each is told on its command line: ``trainer.device``, how many processes train a trial, and what
            MLflow's store is.
        environments: what is added to the environment of each; there are as many processes.

    Attributes:
        children: those that run, or ended without that it was heard.
        told: gets each child and each event it tells, and, when it has ended, the child and None.
    """

    def __init__(self, folder: Path, words: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        self.children: list[Child] = []
        self.told: SimpleQueue[tuple[Child, Event | None]] = SimpleQueue()
        self._folder = folder
        self._words = words
        self._environments = environments

    def start(self, number: int) -> Child:
        """Starts the process with a number.

        Raises:
            WorkerError: it cannot be started.
        """
        log, environment = worker_log(self._folder, number), self._environments[number]
        with shielded():  # a signal in between must find it
            try:
                child = Child(number, (*COMMAND, *self._words), log, environment, self.told)
            except OSError as error:
                raise WorkerError(f"worker {number} cannot be started: {error}") from None
            self.children.append(child)
        return child

    def remove(self, child: Child) -> None:
        """Forgets one that has ended."""
        self.children.remove(child)
        child.close()

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._environments)):
                self.start(number)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        """Those that are left were never sent to work: who sends them ends them."""
        with shielded():
            for child in list(self.children):
                child.send_signal(signal.SIGKILL)
                child.wait()
                self.remove(child)
