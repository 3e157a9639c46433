"""What a worker process is sent, its job or an order to measure for a quote, and what it sends back: events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedsweep.config.checkpoints import KEY as CHECKPOINTS_KEY
from embedsweep.config.finals import NO_FINALS
from embedsweep.config.study import Choice, EmissionsConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.console import Display
from embedsweep.files import SWEEPS
from embedsweep.study.services import TRACKING
from embedsweep.study.study import Study
from embedsweep.training.shared_checkpoints import LAST_S
from embedsweep.validation.sweep import Sweep

Event = tuple[Any, ...]
"""The name of a method of `Display` and its arguments; `OUTAGE` and a message; or `ALIVE` alone."""

OUTAGE = "outage"
"""The event that reports a problem which affects all trials, so that the command ends."""


ALIVE = "alive"
"""The event of a worker that has nothing to show, but does not hang."""

RELEASE_S = 30.0
"""Seconds for which a worker may release its trial, beside sending its last checkpoint."""


def show(event: Event, display: Display) -> None:
    """Make the call of an event on another display."""
    name, *arguments = event
    getattr(display, name)(*arguments)


class RemoteDisplay:
    """The display of a worker process: each call is sent to the supervisor as an event.

    Args:
        send: sends an event.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send

    def say(self, text: str) -> None:
        """Send a line for people."""
        self._send(("say", text))

    def begin(self, label: str, params: Mapping[str, Choice], note: str, worker: int) -> None:
        """Send that a trial starts."""
        self._send(("begin", label, dict(params), note, worker))

    def progress(self, label: str, step: int, total: int) -> None:
        """Send how many steps of a trial are done."""
        self._send(("progress", label, step, total))

    def score(self, label: str, objective: float) -> None:
        """Send a trial's latest value of the objective."""
        self._send(("score", label, objective))

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Send how a trial ended."""
        self._send(("end", label, state, objective, note))


@dataclass(frozen=True)
class QuoteOrder:
    """All that a process of a quote needs.

    Attributes:
        configs: index of a kind -> a trial of it.
        folder: for its files, which it deletes.
        emissions: where the electricity comes from.
        allocation: file with the energy allocated to this worker; None measures the machine in this process.
        mixes_models: whether most trials are of another model than the one before, which each builds anew.
    """

    configs: Mapping[int, TrialConfig]
    folder: Path
    emissions: EmissionsConfig
    allocation: Path | None
    mixes_models: bool


@dataclass(frozen=True)
class Job:
    """All that a worker process needs.

    Attributes:
        number: the worker's number, from 0.
        sweep: how the study is opened: by its name, in whatever storage.
        n_trials: how many trials the study has when it is complete.
        parent: the id of the study's own run.
        seconds: time from receiving the job after which no trial is started; None for no limit.
        allocation_folder: the folder of the files with the energy allocated to each worker.
    """

    number: int
    sweep: Sweep
    n_trials: int
    parent: str
    seconds: float | None
    allocation_folder: Path | None

    @classmethod
    def of(cls, study: Study, request: Sweep, parent: str, allocation_folder: Path | None = None) -> Job:
        """Return the job of the first worker, without a time limit, on a study that the command has opened."""
        place = study.services.checkpoints
        by_name = replace(
            request,
            plan=None,
            n_trials=None,
            # What decides when the study ends has become a number of trials, or is kept with it.
            study=replace(
                request.study,
                name=study.name,
                checkpoints=place.url if place is not None else None,
                budget_hours=None,
                patience=None,
                finals=NO_FINALS,
            ),
            tracking=study.services.tracking,
            overridden=frozenset({TRACKING, CHECKPOINTS_KEY}),  # all other values are the study's own
        )
        return cls(0, by_name, study.n_trials, parent, seconds=None, allocation_folder=allocation_folder)

    @property
    def release_s(self) -> float:
        """Seconds after which a worker that was told to end is killed: it releases its trial before, and ends."""
        return RELEASE_S + (LAST_S if self.sweep.study.checkpoints is not None else 0.0)

    @property
    def log(self) -> Path:
        """See `worker_log`."""
        return worker_log(SWEEPS / str(self.sweep.study.name), self.number)


def worker_log(study_folder: Path, number: int) -> Path:
    """Return the file for what libraries print or log between trials; what concerns a trial is in its own log."""
    return study_folder / "workers" / f"{number}.log"
