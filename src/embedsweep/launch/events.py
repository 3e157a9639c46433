"""What a worker process tells its supervisor: lines of JSON, each a call of the display.

Owns their form. Knows nothing of processes or of what is done with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from embedsweep.display import Display
from embedsweep.schema import Choice


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
