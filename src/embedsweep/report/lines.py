"""Displays that print lines: for people, in a file or pipe, or as JSON for programs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from embedsweep.config.study import Choice
from embedsweep.console import FINISHED, duration, say, short_params
from embedsweep.report.running import RunningTrial, RunningTrials
from embedsweep.report.status import UNSHOWN
from embedsweep.secrets import redact_tree


def end_line(label: str, state: str, trial: RunningTrial, seconds: float, value: float | None, note: str) -> str:
    """Return how a trial ended in one line: ``7 COMPLETE after 20s loss=mnrl 0.4185 0.0356 g CO2eq``."""
    score = "" if value is None else f"{value:.4f}"
    return " ".join(
        filter(None, (f"{label} {state} after {duration(seconds)}", short_params(trial.params), score, note))
    )


class PlainLines:
    """Prints a line with the time when a trial starts, is evaluated and ends.

    Args:
        console: where lines are printed, never folded.
        trials: what is known of the trials.
        unit: what they are called: ``trial``, ``final`` of finals, or ``run`` of one by itself.
    """

    def __init__(self, console: Console, trials: RunningTrials, unit: str = "trial") -> None:
        self.trials = trials
        self._console = console
        self._unit = unit

    def say(self, text: str) -> None:
        """Print a line."""
        say(self._console, f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}")

    def open(self, line: str, _: Mapping[str, Any]) -> None:
        """Print what the command is about to run, and where the study stands if there is something to tell."""
        self.say(line)
        self.trials.read()
        if (status := self.trials.status) is not None and status.n_finished:
            self.say(self.trials.line())

    def begin(self, label: str, params: Mapping[str, Choice], note: str, worker: int) -> None:
        """Print that a trial starts."""
        self.trials.begin(label, RunningTrial(worker, params, note))
        self.say(" ".join(filter(None, (f"{self._unit} {label} RUNNING", short_params(params), note))))

    def progress(self, label: str, step: int, total: int) -> None:
        """Keep how many steps of a trial are done."""
        self.trials.step(label, step, total)

    def score(self, label: str, objective: float) -> None:
        """Print a trial's progress and objective."""
        trial = self.trials.by_label[label]
        trial.score = objective
        passed = duration(self.trials.estimate.seconds(label))
        self.say(f"{self._unit} {label} {trial.share} {passed} {objective:.4f}")

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Print a trial's result and where the study stands."""
        trial, seconds = self.trials.end(label, is_finished=state in FINISHED)
        self.say(f"{self._unit} {end_line(label, state, trial, seconds, objective, note)}")
        if state in FINISHED and (line := self.trials.line()):
            self.say(line)


class QuietLines(PlainLines):
    """Prints warnings and problems only."""

    def open(self, line: str, fields: Mapping[str, Any]) -> None:
        """Print nothing."""

    def begin(self, label: str, params: Mapping[str, Choice], note: str, worker: int) -> None:
        """Print nothing."""

    def progress(self, label: str, step: int, total: int) -> None:
        """Print nothing."""

    def score(self, label: str, objective: float) -> None:
        """Print nothing."""

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:  # noqa: ARG002
        """Print why a trial failed or stopped before its end."""
        if state not in ("COMPLETE", "PRUNED"):
            self.say(f"{self._unit} {label} {state} {note}")


class JsonLines:
    """Prints each event as a JSON object in a line, without secrets; docs/OUTPUT.md lists the fields.

    Args:
        console: where events are printed.
        trials: what is known of the trials.
        unit: the field with a trial's label: ``trial``, ``final`` of finals, or ``run`` of one by itself.
    """

    def __init__(self, console: Console, trials: RunningTrials, unit: str = "trial") -> None:
        self.trials = trials
        self._file = console.file
        self._unit = unit
        self._lock = threading.Lock()  # MLflow's records are written, and their problems reported, by a thread

    def emit(self, event: str, **fields: Any) -> None:
        """Print an event."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # In ASCII, as the stream may have any encoding, and the name of a file be no Unicode at all.
        line = json.dumps(redact_tree({"time": now, "event": event, **fields}))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def _emit_of(self, event: str, label: str, **fields: Any) -> None:
        name: int | str = int(label) if self._unit in ("trial", "final") else label
        self.emit(event, **{self._unit: name}, **fields)

    def say(self, text: str) -> None:
        """Print a message."""
        self.emit("message", text=text)

    def open(self, _: str, fields: Mapping[str, Any]) -> None:
        """Print what the command is about to run, and where the study stands."""
        self.emit("start", **fields)
        self.trials.read()
        self._emit_status()

    def begin(self, label: str, params: Mapping[str, Choice], note: str, worker: int) -> None:
        """Print that a trial starts."""
        self.trials.begin(label, RunningTrial(worker, params, note))
        self._emit_of("begin", label, worker=worker, params=dict(params), note=note)

    def progress(self, label: str, step: int, total: int) -> None:
        """Print how many steps of a trial are done."""
        self.trials.step(label, step, total)
        self._emit_of("progress", label, step=step, steps=total)

    def score(self, label: str, objective: float) -> None:
        """Print the latest value of the objective."""
        self._emit_of("score", label, step=self.trials.by_label[label].step, value=objective)

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Print how a trial ended and where the study stands."""
        trial, seconds = self.trials.end(label, is_finished=state in FINISHED)
        values = {"state": state, "value": objective, "seconds": round(seconds, 3), "note": note}
        self._emit_of("end", label, worker=trial.worker, params=dict(trial.params), **values)
        self._emit_status()

    def _emit_status(self) -> None:
        if (status := self.trials.status) is None:
            return
        fields = {name: value for name, value in vars(status).items() if name not in UNSHOWN}
        number, value = status.best or (None, None)
        left = self.trials.seconds_left()
        rate = self.trials.estimate.trials_per_s()
        self.emit("status", **fields, best_trial=number, best=value, seconds_left=left, trials_per_s=rate)
