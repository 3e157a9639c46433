"""Records carried out: MLflow's calls, each of which can be repeated without writing anything twice.

Owns what MLflow is given for each kind of record. Must not know that records are spooled, nor for how long.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

from embedsweep.errors import TrackingError
from embedsweep.secrets import MASK, is_secret_key, redact
from embedsweep.tracking.lookup import SPOOL_ID, Lookup, study_id
from embedsweep.tracking.records import DataSet, End, Files, Metrics, Record, Study, Tags, Trial, differences
from embedsweep.tracking.store import Store, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MAX_DIGEST = 36
_MAX_TAGS = 100  # in one call
ALREADY_THERE = ("UNIQUE constraint failed", "duplicate key value", "Duplicate entry")
"""What SQLite, PostgreSQL and MySQL say of a row that another process has just written."""

_MAX_METRICS = 1000  # in one call


class MlflowWriter:
    """An open store, and what is written into it.

    Every method raises UnreachableError where the store cannot be reached or written at this moment, and TrackingError
    where it refuses what it is given. A run's id may be the store's, or one made up while it was away.
    """

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self._client = client
        self.lookup = Lookup(store, client)

    def carry_out(self, experiment: str, run_id: str, record: Record) -> None:
        """Writes a record, or what of it is not there yet."""
        match record:
            case Study():
                self.open_study(record)
            case Trial():
                self._open_trial(experiment, run_id, record)
            case Metrics():
                self._add_metrics(experiment, run_id, record)
            case _:
                self.write(self.lookup.id_of(experiment, run_id), record)

    def write(self, run_id: str, record: Record) -> None:
        """Writes a record into a run that is there; points of metrics without looking what the run has already."""
        match record:
            case Metrics():
                self._log_metrics(run_id, record)
            case Tags():
                with mlflow_errors(f"tags cannot be set on run {run_id}"):
                    self._set_tags(run_id, record.tags)
            case DataSet():
                self._log_data_set(run_id, record)
            case Files():
                path, folder = Path(record.path), record.folder
                with mlflow_errors(f"{path} cannot be stored with run {run_id}"):
                    copy = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                    copy(run_id, str(path), folder)
            case End():
                with mlflow_errors(f"run {run_id} cannot be ended as {record.state or record.status}"):
                    if record.state is not None:
                        self._set_tags(run_id, {"embedsweep.state": record.state})
                    self._client.set_terminated(run_id, record.status, end_time=record.time_ms)
            case Study() | Trial():
                raise TypeError("a run that is opened is carried out")

    def open_study(self, record: Study) -> str:
        """The id of the study's own run, RUNNING from now on."""
        experiment = self.lookup.experiment(record.study)
        with mlflow_errors(f"the run of study {record.study!r} cannot be opened"):
            run_id = self.lookup.find_parent(experiment, record.study) or self._create_parent(experiment, record)
            self._client.update_run(run_id, status="RUNNING")
            self._set_tags(run_id, record.tags)
        for known in (run_id, study_id(record.study)):
            self.lookup.know(known, run_id)
        return run_id

    def create_trial(self, experiment: str, record: Trial) -> str:
        """The id of a new run."""
        experiment_id = self.lookup.experiment(experiment)
        parent = self._parent(experiment, experiment_id, record)
        with mlflow_errors(f"a run for {record.name} cannot be created in experiment {experiment!r}"):
            run = self._client.create_run(experiment_id, record.time_ms, {**record.tags, **parent}, redact(record.name))
            self._log_params(run.info.run_id, record.params)
        self.lookup.know(run.info.run_id, run.info.run_id)
        return str(run.info.run_id)

    def reopen(self, run_id: str, params: Mapping[str, str]) -> None:
        """Makes a run go on: RUNNING, with params that it lacks; it must not have others."""
        with mlflow_errors(f"run {run_id} cannot be reopened"):
            run = self._client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise TrackingError(f"run {run_id} was deleted; restore it in MLflow, or start anew")
            if different := differences(redacted(run.data.params), params):
                raise TrackingError(f"run {run_id} has another configuration: {'; '.join(different)}")
            self._log_params(run_id, {key: value for key, value in params.items() if key not in run.data.params})
            self._client.update_run(run_id, status="RUNNING")
            self._set_tags(run_id, {"embedsweep.state": "RUNNING"})

    def _open_trial(self, experiment: str, run_id: str, record: Trial) -> None:
        """Creates the run, or goes on with the one that an earlier try at this, or at the trial, has created."""
        found = self.lookup.find(run_id, experiment) or self.lookup.find_created(experiment, record)
        if found is None and record.adopts and record.parent is not None:
            found = self.lookup.find_trial(experiment, record.tags["embedsweep.trial"], record.parent)
        tag = {SPOOL_ID: run_id}
        if found is None:
            known = Trial(record.name, {**record.tags, **tag}, record.params, record.parent, False, record.time_ms)
            found = self.create_trial(experiment, known)
        else:
            if found != run_id:
                with mlflow_errors(f"tags cannot be set on run {found}"):
                    self._set_tags(found, tag)
            self.reopen(found, record.params)
        self.lookup.know(run_id, found)

    def _add_metrics(self, experiment: str, run_id: str, record: Metrics) -> None:
        found = self.lookup.id_of(experiment, run_id)
        names = {name for _, values in record.points for name in values}
        there = {name: self.lookup.steps(found, name) for name in names}
        points: list[tuple[int, dict[str, float]]] = []
        for step, values in record.points:
            points.append((step, {name: value for name, value in values.items() if step not in there[name]}))
            for name in values:
                there[name].add(step)
        self._log_metrics(found, Metrics(points, record.time_ms))

    def _log_metrics(self, run_id: str, record: Metrics) -> None:
        from mlflow.entities import Metric

        new = [
            Metric(name, value, record.time_ms, step)
            for step, values in record.points
            for name, value in values.items()
        ]
        with mlflow_errors(f"metrics cannot be logged to run {run_id}"):
            for start in range(0, len(new), _MAX_METRICS):
                self._client.log_batch(run_id, metrics=new[start : start + _MAX_METRICS], synchronous=True)

    def _log_data_set(self, run_id: str, record: DataSet) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source_type = "http" if record.source.startswith(("http://", "https://")) else "local"
        described = json.dumps({"url" if source_type == "http" else "uri": record.source})
        dataset = Dataset(record.name, record.digest[:_MAX_DIGEST], source_type, described)
        context = InputTag("mlflow.data.context", record.context)
        inputs = [DatasetInput(dataset, [context])]
        with mlflow_errors(f"data set {record.name!r} cannot be logged to run {run_id}"):
            try:
                self._client.log_inputs(run_id, datasets=inputs)
            except Exception as error:
                if not any(sign in str(error) for sign in ALREADY_THERE):
                    raise
                # Another run wrote the same data set in the same moment, and by now it is found.
                self._client.log_inputs(run_id, datasets=inputs)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        if params:
            self._client.log_batch(run_id, params=[Param(*item) for item in params.items()], synchronous=True)

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        all_of_them = [RunTag(*tag) for tag in tags.items()]
        for start in range(0, len(all_of_them), _MAX_TAGS):
            self._client.log_batch(run_id, tags=all_of_them[start : start + _MAX_TAGS], synchronous=True)

    def _parent(self, experiment: str, experiment_id: str, record: Trial) -> dict[str, str]:
        """The tag that names the study's own run, which is created if nobody came to that yet."""
        if record.parent is None:
            return {}
        if record.parent != study_id(experiment):
            return {"mlflow.parentRunId": record.parent}
        with mlflow_errors(f"the run of study {experiment!r} cannot be opened"):
            found = self.lookup.find_parent(experiment_id, experiment)
        return {"mlflow.parentRunId": found or self.open_study(Study(experiment, {}, record.time_ms))}

    def _create_parent(self, experiment_id: str, record: Study) -> str:
        """Creates the parent run, unless another process did in the same moment: then all settle on the first."""
        tags = redacted({**origin(), "embedsweep.kind": "study", "embedsweep.study": record.study})
        run = self._client.create_run(experiment_id, record.time_ms, tags, redact(record.study))
        created = str(run.info.run_id)
        first = self.lookup.find_parent(experiment_id, record.study) or created
        if first != created:
            self._client.delete_run(created)
        return first


def origin() -> dict[str, str]:
    """Tags of who creates a run, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container may know nobody by that number
    return {"mlflow.user": user, "mlflow.source.name": "embedsweep", "embedsweep.host": gethostname()}


def redacted(values: Mapping[str, str]) -> dict[str, str]:
    """Tags or params without the secrets in their values."""
    return {key: MASK if is_secret_key(key) else redact(value) for key, value in values.items()}
