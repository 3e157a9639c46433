"""A trial's run while the trial is under way.

Owns what is written into it - metrics, tags, data sets, artifacts, its end - and that no point of a metric is logged
twice. Must not know how a run is created or found.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedsweep.errors import TrackingError
from embedsweep.secrets import MASK, is_secret_key, redact
from embedsweep.tracking.store import telling

if TYPE_CHECKING:
    from mlflow import MlflowClient

TrialState = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
"""Optuna's word for how a trial ended; RUNNING is one that was interrupted and will go on."""

_STATUS: Mapping[TrialState, str] = {
    "COMPLETE": "FINISHED",
    "PRUNED": "FINISHED",
    "FAIL": "FAILED",
    "RUNNING": "KILLED",
}

_MAX_DIGEST = 36
_MAX_TAGS = 100  # in one call
_MAX_METRICS = 1000  # in one call


class TrialTracker:
    """One trial's run. Made by ``Tracker.trial_run``.

    Every method raises TrackingError if MLflow does not take what it is given.

    Attributes:
        run_id: MLflow's id of the run.
    """

    def __init__(self, client: MlflowClient, run_id: str, *, reopened: bool) -> None:
        self.run_id = run_id
        self._client = client
        self._reopened = reopened
        self._logged: dict[str, set[int]] = {}  # metric -> steps the run has

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics at the step, but none that the run has at that step already, whatever its value there.

        Args:
            step: optimizer step, from 0.
            metrics: values by name (``dev/spearman_cosine``); all finite, as MLflow stores infinity as 1.8e308.
        """
        self.log_history([(step, metrics)])

    def log_history(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Logs metrics of several steps, as ``log_metrics`` does, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        for step, metrics in points:
            if bad := {name: value for name, value in metrics.items() if not math.isfinite(value)}:
                raise TrackingError(f"metrics must be finite numbers but got {bad} at step {step}")
        with telling(f"metrics cannot be logged to run {self.run_id}"):
            now_ms = int(time.time() * 1000)
            new = [
                Metric(name, float(value), now_ms, step)
                for step, metrics in points
                for name, value in metrics.items()
                if step not in self._steps_of(name)
            ]
            for start in range(0, len(new), _MAX_METRICS):
                self._client.log_batch(self.run_id, metrics=new[start : start + _MAX_METRICS], synchronous=True)
            for metric in new:
                self._steps_of(metric.key).add(metric.step)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets the tags, over those of the same name; secrets in values are redacted."""
        with telling(f"tags cannot be set on run {self.run_id}"):
            set_tags(self._client, self.run_id, tags)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Records a data set as an input of the run; once, however often it is called.

        Args:
            name: what people call it.
            digest: identifies its content; MLflow keeps the first 36 characters.
            source: the hub id, folder or URL it came from.
            context: what it was used for (``train``, ``dev``, ``test``).
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source_type = "http" if source.startswith(("http://", "https://")) else "local"
        described = json.dumps({"url" if source_type == "http" else "uri": redact(source)})
        dataset = Dataset(redact(name), digest[:_MAX_DIGEST], source_type, described)
        with telling(f"data set {name!r} cannot be logged to run {self.run_id}"):
            self._client.log_inputs(
                self.run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
            )

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copies a file into the run's artifacts, into a folder of them if one is named."""
        with telling(f"{path} cannot be stored with run {self.run_id}"):
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_artifacts(self, folder: Path, artifact_path: str | None = None) -> None:
        """Copies what is in a folder into the run's artifacts, under ``artifact_path`` if it is given."""
        with telling(f"{folder} cannot be stored with run {self.run_id}"):
            self._client.log_artifacts(self.run_id, str(folder), artifact_path)

    def finish(self, state: TrialState) -> None:
        """Ends the run. RUNNING is a trial that was interrupted: its run is KILLED and stays open to be resumed."""
        with telling(f"run {self.run_id} cannot be ended as {state}"):
            set_tags(self._client, self.run_id, {"embedsweep.state": state})
            self._client.set_terminated(self.run_id, _STATUS[state])

    def _steps_of(self, metric: str) -> set[int]:
        if metric not in self._logged:
            history = self._client.get_metric_history(self.run_id, metric) if self._reopened else []
            self._logged[metric] = {point.step for point in history}
        return self._logged[metric]


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets a run's tags, secrets in their values redacted."""
    from mlflow.entities import RunTag

    safe = [RunTag(*tag) for tag in redacted(tags).items()]
    for start in range(0, len(safe), _MAX_TAGS):
        client.log_batch(run_id, tags=safe[start : start + _MAX_TAGS], synchronous=True)


def redacted(values: Mapping[str, str]) -> dict[str, str]:
    """Tags or params without the secrets in their values."""
    return {key: MASK if is_secret_key(key) else redact(value) for key, value in values.items()}
