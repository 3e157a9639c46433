"""What a worker process tells its supervisor: lines of JSON, each a call of the display.

Owns their form. Knows nothing of processes or of what is done with them.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TextIO

from embedsweep.config.study import Choice, EmissionsConfig, TrackingConfig
from embedsweep.config.trial import KeepModels
from embedsweep.console import Display
from embedsweep.files import SWEEPS
from embedsweep.study.study import Study
from embedsweep.validation.sweep import Sweep


@dataclass(frozen=True)
class Event:
    """A call of the display, or ``outage``: what ails all trials and ends the command.

    Attributes:
        name: the method's.
        arguments: its arguments, in order.
    """

    name: str
    arguments: tuple[Any, ...]

    @classmethod
    def of(cls, line: str) -> Event:
        """The event that a line tells."""
        name, *arguments = json.loads(line)
        return cls(name, tuple(arguments))

    def line(self) -> str:
        """The event as one line."""
        return json.dumps([self.name, *self.arguments])


def show(event: Event, display: Display) -> None:
    """Calls the display as the worker called its own."""
    calls: Mapping[str, Callable[..., None]] = {
        "say": display.say,
        "begin": display.begin,
        "progress": display.progress,
        "score": display.score,
        "end": display.end,
    }
    calls[event.name](*event.arguments)


class EventLines:
    """The display of a worker process: everything is told to the supervisor.

    One that is gone is told nothing, and no trial fails for it: the worker is ended for that reason elsewhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Passes the line on."""
        self._tell("say", text)

    def begin(self, label: str, params: Mapping[str, Choice], note: str) -> None:
        """Passes on which trial begins."""
        self._tell("begin", label, dict(params), note)

    def progress(self, label: str, step: int, total: int) -> None:
        """Passes on how far it is."""
        self._tell("progress", label, step, total)

    def score(self, label: str, objective: float) -> None:
        """Passes its latest value on."""
        self._tell("score", label, objective)

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Passes on what came of it."""
        self._tell("end", label, state, objective, note)

    def outage(self, message: str) -> None:
        """Tells what ails all trials and not only this worker's."""
        self._tell("outage", message)

    def _tell(self, name: str, *arguments: object) -> None:
        try:
            self._stream.write(f"{Event(name, arguments).line()}\n")
            self._stream.flush()
        except BrokenPipeError:
            pass


@dataclass(frozen=True)
class Job:
    """All that a worker process needs.

    Attributes:
        number: the worker's, from 0.
        sweep: how the study is opened: by its name, wherever it lies.
        n_trials: how many trials the study has when it is complete.
        parent: the id of the study's own run.
        device: ``trainer.device``, the same for all trials.
        tracking: where trials are recorded.
        emissions: whose electricity is used.
        keep_models: which trials' models stay.
        seconds: after which, counted from when it is received, no trial is begun; None has no limit.
        share_folder: where its share of the machine's energy is told.
    """

    number: int
    sweep: Sweep
    n_trials: int
    parent: str
    device: str
    tracking: TrackingConfig
    emissions: EmissionsConfig
    keep_models: KeepModels
    seconds: float | None
    share_folder: Path | None

    @classmethod
    def of(cls, study: Study, asked: Sweep, parent: str, device: str) -> Job:
        """The job of the first worker, without a limit, on a study that the command has opened."""
        by_name = replace(
            asked, plan=None, n_trials=None, study=replace(asked.study, name=study.name), said=frozenset()
        )
        shared = study.services
        return cls(
            number=0,
            sweep=by_name,
            n_trials=study.n_trials,
            parent=parent,
            device=device,
            tracking=shared.tracking,
            emissions=shared.emissions,
            keep_models=shared.keep_models,
            seconds=None,
            share_folder=None,
        )

    @property
    def log(self) -> Path:
        """See :func:`worker_log`."""
        return worker_log(SWEEPS / str(self.sweep.study.name), self.number)

    @staticmethod
    def receive(stream: IO[bytes]) -> Job:
        """Reads the job that a worker is sent through its stdin."""
        job = pickle.load(stream)
        assert isinstance(job, Job)
        return job


def worker_log(study_folder: Path, number: int) -> Path:
    """Where all goes that libraries print or log between trials; what they say of a trial is in its own log."""
    return study_folder / "workers" / f"{number}.log"
