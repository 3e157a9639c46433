"""A trial's run while the trial is under way.

Owns what is written into it - metrics, tags, data sets, artifacts, its end - and that no point of a metric is logged
twice. Must not know how a run is created or found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from embedsweep.errors import TrackingError
from embedsweep.secrets import redact
from embedsweep.tracking.journal import Journal
from embedsweep.tracking.ledger import redacted
from embedsweep.tracking.records import DataSet, End, Files, Metrics, Record, Tags

TrialState = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
"""Optuna's word for how a trial ended; RUNNING is one that was interrupted and will go on."""

_STATUS: Mapping[TrialState, str] = {
    "COMPLETE": "FINISHED",
    "PRUNED": "FINISHED",
    "FAIL": "FAILED",
    "RUNNING": "KILLED",
}


class TrialTracker:
    """One trial's run. Made by ``Tracker.trial_run``.

    Every method raises TrackingError if MLflow does not take what it is given. Where the store is away it is recorded
    on this disk, and written when the store is back.

    Attributes:
        run_id: MLflow's id of the run; of a run begun while the store was away one of its own, which stays valid.
    """

    def __init__(self, journal: Journal, experiment: str, run_id: str, *, reopened: bool) -> None:
        self.run_id = run_id
        self._journal = journal
        self._experiment = experiment
        self._reopened = reopened
        self._logged: dict[str, set[int]] = {}  # metric -> steps this process has logged
        self._there: dict[str, set[int]] = {}  # metric -> steps the run had before

    @property
    def store_id(self) -> str:
        """The store's id of the run; ``run_id`` while it has none there."""
        return self._journal.store_id(self._experiment, self.run_id)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics at the step, but none that the run has at that step already, whatever its value there.

        Args:
            step: optimizer step, from 0.
            metrics: values by name (``dev/spearman_cosine``); all finite, as MLflow stores infinity as 1.8e308.
        """
        self.log_history([(step, metrics)])

    def log_history(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Logs metrics of several steps, as ``log_metrics`` does, in as few calls as MLflow allows."""
        for step, metrics in points:
            if bad := {name: value for name, value in metrics.items() if not math.isfinite(value)}:
                raise TrackingError(f"metrics must be finite numbers but got {bad} at step {step}")
        new = [
            (step, {name: float(value) for name, value in metrics.items() if step not in self._steps_of(name)})
            for step, metrics in points
        ]
        new = [(step, metrics) for step, metrics in new if metrics]
        if not new:
            return
        self._write(Metrics(new, now_ms()))
        for step, metrics in new:
            for name in metrics:
                self._logged.setdefault(name, set()).add(step)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets the tags, over those of the same name; secrets in values are redacted."""
        self._write(Tags(redacted(tags)))

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Records a data set as an input of the run; once, however often it is called.

        Args:
            name: what people call it.
            digest: identifies its content; MLflow keeps the first 36 characters.
            source: the hub id, folder or URL it came from.
            context: what it was used for (``train``, ``dev``, ``test``).
        """
        self._write(DataSet(redact(name), digest, redact(source), context))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copies a file into the run's artifacts, into a folder of them if one is named."""
        self._write(Files(str(path), folder))

    def log_artifacts(self, folder: Path, artifact_path: str | None = None) -> None:
        """Copies what is in a folder into the run's artifacts, under ``artifact_path`` if it is given."""
        self._write(Files(str(folder), artifact_path))

    def finish(self, state: TrialState) -> None:
        """Ends the run. RUNNING is a trial that was interrupted: its run is KILLED and stays open to be resumed."""
        self._write(End(_STATUS[state], state, now_ms()))

    def _write(self, record: Record) -> None:
        self._journal.write(self._experiment, self.run_id, record)

    def _steps_of(self, metric: str) -> set[int]:
        """The steps at which the run has the metric; where the store is away, those that this process has logged.

        A replay looks itself what a run has already.
        """
        known = self._logged.get(metric, set())
        if not self._reopened:
            return known
        if metric not in self._there and not self._journal.waits(self._experiment, self.run_id):
            there = self._journal.ask(lambda ledger: ledger.lookup.steps(self.store_id, metric), None)
            if there is not None:
                self._there[metric] = there
        return known | self._there.get(metric, set())


def now_ms() -> int:
    """This moment, as MLflow counts it."""
    return int(time.time() * 1000)
