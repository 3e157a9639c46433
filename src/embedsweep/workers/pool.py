"""What a supervisor needs of worker processes, wherever they run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from embedsweep.config.study import EmissionsConfig


class WorkerProcess(Protocol):
    """A worker process, here or on another machine; see `embedsweep.processes.ChildProcess`.

    Attributes:
        number: its number among the workers of a command, from 0.
        is_lost: whether it ended with its machine, which says nothing about the worker.
    """

    number: int
    is_lost: bool

    @property
    def pid(self) -> int:
        """The process id, on its machine."""

    @property
    def exit_code(self) -> int | None:
        """The exit code, or the negative number of the signal that killed the process; None while it runs."""

    def send(self, message: object) -> None:
        """Send a message; a process that has ended is reported by its exit code, not here."""

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""

    def kill(self, reason: str | None = None) -> None:
        """Kill the process; ``reason`` replaces the description of its end."""

    def describe_end(self) -> str:
        """Return how the process ended, followed by the last lines of its log if it wrote any."""


class Meter(Protocol):
    """Splits the energy of machines between workers; see `embedsweep.emissions.machine_emissions`."""

    def add(self, worker: int, pid: int) -> None:
        """Count a process and its children as a worker's from now on."""

    def remove(self, worker: int) -> None:
        """Stop counting for a worker."""


class Pool(Protocol):
    """Worker processes. On entering the block they are started; on leaving it, those that still run are killed."""

    @property
    def size(self) -> int:
        """How many workers run at the same time, as far as is known when the block is entered."""

    @property
    def room(self) -> int:
        """How many more workers can be started now on machines with room; 0 where their number is fixed."""

    @property
    def is_starting(self) -> bool:
        """Whether a worker is to start, once a machine has room for it."""

    @property
    def waits_for(self) -> str:
        """What it waits for, in words; empty while it does not wait, or others run."""

    @property
    def processes(self) -> list[Any]:
        """Those that run, or whose end was not handled yet (`WorkerProcess`)."""

    def receive(self, timeout: float) -> tuple[Any, Any] | None:
        """Return the next message with its sender, or None; see `embedsweep.processes.ProcessPool.receive`."""

    def take_started(self) -> list[Any]:
        """Return the workers that have started since the last call; each waits for its job."""

    def take_lines(self) -> list[str]:
        """Return lines for people about machines, new since the last call."""

    def start_worker(self, number: int) -> object:
        """Start the worker with a number, now or as soon as a machine has room for it.

        Raises:
            WorkerError: the process cannot be started.
        """

    def start_more(self, count: int) -> None:
        """Start more workers, at most as many as there is ``room`` for."""

    def remove(self, process: Any) -> None:
        """Drop a process that has ended."""

    def measured(self, emissions: EmissionsConfig) -> AbstractContextManager[tuple[Meter, Path | None]]:
        """Measure the machines for the workers while the block runs.

        Returns:
            The meter, and the folder of the workers' parts where it is the same for all.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
