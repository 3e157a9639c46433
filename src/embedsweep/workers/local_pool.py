"""Worker processes on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions.machine_emissions import MachineEmissions
from embedsweep.errors import WorkerError
from embedsweep.processes import PYTHON, ChildProcess, ProcessPool
from embedsweep.workers.job import worker_log

COMMAND = (*PYTHON, "embedsweep.workers.process")


class WorkerPool(ProcessPool):
    """Worker processes. On entering the block they are started and import their libraries while they wait for a job.

    Args:
        folder: the study's folder.
        arguments: the command line of each: ``trainer.device``, the processes per trial, and the kind of MLflow store.
        environments: variables added to the environment of each; one worker for each entry.
        gpus: names of the GPUs that the workers train on, as in ``CUDA_VISIBLE_DEVICES``.

    Attributes:
        size: how many workers there are.
    """

    room = 0
    is_starting = False
    waits_for = ""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        gpus: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.size = len(environments)
        self._folder = folder
        self._arguments = arguments
        self._environments = environments
        self._gpus = gpus
        self._started: list[ChildProcess] = []

    def start_worker(self, number: int) -> ChildProcess:
        """Start the worker with a number.

        Raises:
            WorkerError: the process cannot be started.
        """
        log = worker_log(self._folder, number)
        try:
            process = self.start(number, (*COMMAND, *self._arguments), log, self._environments[number])
        except OSError as error:
            raise WorkerError(f"worker {number} cannot be started: {error}") from None
        self._started.append(process)
        return process

    def start_more(self, count: int) -> None:
        """Start nothing: there are as many workers as there are environments."""

    def take_started(self) -> list[ChildProcess]:
        """Return the workers that were started since the last call."""
        started, self._started = self._started, []
        return started

    def take_lines(self) -> list[str]:
        """Return nothing: this machine stays."""
        return []

    @contextmanager
    def measured(self, emissions: EmissionsConfig) -> Iterator[tuple[MachineEmissions, Path]]:
        """Measure this machine, with the workers' GPUs, while the block runs; yield the folder of their parts, too."""
        with (
            tempfile.TemporaryDirectory(prefix="embedsweep-") as folder,
            MachineEmissions(emissions, Path(folder), self._gpus) as shared,
        ):
            yield shared, Path(folder)

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._environments)):
                self.start_worker(number)
        except BaseException:
            self.end()
            raise
        return self
