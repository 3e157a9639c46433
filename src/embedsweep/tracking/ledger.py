"""Records carried out: MLflow's calls, each of which can be repeated without writing anything twice.

Owns the names, tags and params that identify a study's and a trial's run, and how a run is found by an id that was made
up while the store was away. Must not know that records are spooled, nor for how long.
"""

from __future__ import annotations

import getpass
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

from embedsweep.errors import TrackingError
from embedsweep.secrets import MASK, is_secret_key, redact
from embedsweep.tracking.params import differences
from embedsweep.tracking.records import DataSet, End, Files, Metrics, Record, Study, Tags, Trial
from embedsweep.tracking.store import Store, telling

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SPOOL_ID = "embedsweep.spool_id"
"""The tag of a run that was begun while the store was away: the id it had until then, as its folder has it."""

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow's pages show training runs; without it they guess, and may show what language models need."""

_MAX_DIGEST = 36
_MAX_TAGS = 100  # in one call
_MAX_METRICS = 1000  # in one call


@dataclass(frozen=True)
class RecordedRun:
    """What a trial's run says of it.

    Attributes:
        state: how it ended, in Optuna's word; RUNNING is under way or interrupted.
        config_hash: the identity of its configuration.
        data_digests: identities of its data; empty where it ended before data was recorded.
    """

    state: str
    config_hash: str
    data_digests: frozenset[str]


class Ledger:
    """An open store, and what is written into it.

    Every method raises UnreachableError where the store cannot be reached or written at this moment, and TrackingError
    where it refuses what it is given. A run's id may be the store's, or one made up while it was away.
    """

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self._store = store
        self._client = client
        self._ids: dict[str, str] = {}  # made up -> the store's

    def answers(self) -> bool:
        """Whether the store can be read at this moment."""
        try:
            with telling("MLflow's store cannot be read"):
                self._client.search_experiments(max_results=1)
        except TrackingError:
            return False
        return True

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
                self.write(self.id_of(experiment, run_id), record)

    def write(self, run_id: str, record: Record) -> None:
        """Writes a record into a run that is there; points of metrics without looking what the run has already."""
        match record:
            case Metrics():
                self._log_metrics(run_id, record)
            case Tags():
                with telling(f"tags cannot be set on run {run_id}"):
                    self._set_tags(run_id, record.tags)
            case DataSet():
                self._log_data_set(run_id, record)
            case Files():
                path, folder = Path(record.path), record.folder
                with telling(f"{path} cannot be stored with run {run_id}"):
                    copy = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                    copy(run_id, str(path), folder)
            case End():
                with telling(f"run {run_id} cannot be ended as {record.state or record.status}"):
                    if record.state is not None:
                        self._set_tags(run_id, {"embedsweep.state": record.state})
                    self._client.set_terminated(run_id, record.status, end_time=record.time_ms)
            case Study() | Trial():
                raise TypeError("a run that is opened is carried out")

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created where there is none."""
        with telling(f"MLflow's experiment {name!r} cannot be opened"):
            found = self._client.get_experiment_by_name(name) or self._create_experiment(name)
        if found.lifecycle_stage != "active":
            raise TrackingError(_deleted_experiment(name, found.experiment_id, self._store))
        return str(found.experiment_id)

    def experiment_of(self, run_id: str) -> str:
        """The name of a run's experiment."""
        with telling(f"run {run_id} cannot be read"):
            number = self._client.get_run(run_id).info.experiment_id
            return str(self._client.get_experiment(number).name)

    def open_study(self, record: Study) -> str:
        """The id of the study's own run, RUNNING from now on."""
        experiment = self.experiment(record.study)
        with telling(f"the run of study {record.study!r} cannot be opened"):
            run_id = self._find_parent(experiment, record.study) or self._create_parent(experiment, record)
            self._client.update_run(run_id, status="RUNNING")
            self._set_tags(run_id, record.tags)
        self._ids |= {run_id: run_id, study_id(record.study): run_id}
        return run_id

    def create_trial(self, experiment: str, record: Trial) -> str:
        """The id of a new run."""
        experiment_id = self.experiment(experiment)
        parent = self._parent(experiment, experiment_id, record)
        with telling(f"a run for {record.name} cannot be created in experiment {experiment!r}"):
            run = self._client.create_run(experiment_id, record.time_ms, {**record.tags, **parent}, redact(record.name))
            self._log_params(run.info.run_id, record.params)
        self._ids[run.info.run_id] = run.info.run_id
        return str(run.info.run_id)

    def reopen(self, run_id: str, params: Mapping[str, str]) -> None:
        """Makes a run go on: RUNNING, with params that it lacks; it must not have others."""
        with telling(f"run {run_id} cannot be reopened"):
            run = self._client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise TrackingError(f"run {run_id} was deleted; restore it in MLflow, or start anew")
            if different := differences(redacted(run.data.params), params):
                raise TrackingError(f"run {run_id} has another configuration: {'; '.join(different)}")
            self._log_params(run_id, {key: value for key, value in params.items() if key not in run.data.params})
            self._client.update_run(run_id, status="RUNNING")
            self._set_tags(run_id, {"embedsweep.state": "RUNNING"})

    def find(self, run_id: str, experiment: str | None = None) -> str | None:
        """The store's id of a run; None where it does not hold it.

        Args:
            run_id: the store's, or one made up while it was away.
            experiment: where it is looked for; None is everywhere.
        """
        if run_id in self._ids:
            return self._ids[run_id]
        found = run_id if self._has(run_id) else self._find_spooled(run_id, experiment)
        if found is not None:
            self._ids[run_id] = found
        return found

    def find_trial(self, experiment: str, number: str, parent: str) -> str | None:
        """The youngest run of a trial that is under way; None where there is none."""
        experiment_id = self.experiment(experiment)
        wanted = f"tags.`embedsweep.trial` = '{number}' AND tags.`embedsweep.state` = 'RUNNING'"
        with telling(f"the runs of experiment {experiment!r} cannot be searched"):
            if parent == study_id(experiment):
                parent = self._find_parent(experiment_id, experiment) or parent
            runs = self._client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"])
        ours = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
        return str(ours[0].info.run_id) if ours else None

    def recorded(self, run_id: str) -> RecordedRun | None:
        """What the store knows of a run; None where it does not hold it."""
        found = self.find(run_id)
        if found is None:
            return None
        with telling(f"run {run_id} cannot be read"):
            run = self._client.get_run(found)
        tags = run.data.tags
        return RecordedRun(
            state=tags.get("embedsweep.state", ""),
            config_hash=tags.get("embedsweep.config_hash", ""),
            data_digests=frozenset(entry.dataset.digest for entry in run.inputs.dataset_inputs),
        )

    def steps(self, run_id: str, metric: str) -> set[int]:
        """The steps at which a run has the metric."""
        with telling(f"metrics of run {run_id} cannot be read"):
            return {point.step for point in self._client.get_metric_history(run_id, metric)}

    def id_of(self, experiment: str, run_id: str) -> str:
        """The store's id of a run that it holds."""
        found = self.find(run_id, experiment)
        if found is None and run_id == study_id(experiment):
            experiment_id = self.experiment(experiment)
            with telling(f"the run of study {experiment!r} cannot be found"):
                found = self._find_parent(experiment_id, experiment)
        if found is None:
            raise TrackingError(f"MLflow's store {self._store} does not hold run {run_id}")
        return found

    def find_created(self, experiment: str, record: Trial) -> str | None:
        """The run of a creation that was cut off, or whose answer was lost; None where there is none."""
        experiment_id = self.experiment(experiment)
        with telling("runs cannot be searched"):
            runs = self._client.search_runs([experiment_id], f"attributes.start_time = {record.time_ms}")
        ours = [run for run in runs if record.tags.items() <= run.data.tags.items() and SPOOL_ID not in run.data.tags]
        return str(ours[0].info.run_id) if ours else None

    def _open_trial(self, experiment: str, run_id: str, record: Trial) -> None:
        """Creates the run, or goes on with the one that an earlier try at this, or at the trial, has created."""
        found = self.find(run_id, experiment) or self.find_created(experiment, record)
        if found is None and record.adopts and record.parent is not None:
            found = self.find_trial(experiment, record.tags["embedsweep.trial"], record.parent)
        tag = {SPOOL_ID: run_id}
        if found is None:
            known = Trial(record.name, {**record.tags, **tag}, record.params, record.parent, False, record.time_ms)
            found = self.create_trial(experiment, known)
        else:
            if found != run_id:
                with telling(f"tags cannot be set on run {found}"):
                    self._set_tags(found, tag)
            self.reopen(found, record.params)
        self._ids[run_id] = found

    def _add_metrics(self, experiment: str, run_id: str, record: Metrics) -> None:
        found = self.id_of(experiment, run_id)
        names = {name for _, values in record.points for name in values}
        there = {name: self.steps(found, name) for name in names}
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
        with telling(f"metrics cannot be logged to run {run_id}"):
            for start in range(0, len(new), _MAX_METRICS):
                self._client.log_batch(run_id, metrics=new[start : start + _MAX_METRICS], synchronous=True)

    def _log_data_set(self, run_id: str, record: DataSet) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source_type = "http" if record.source.startswith(("http://", "https://")) else "local"
        described = json.dumps({"url" if source_type == "http" else "uri": record.source})
        dataset = Dataset(record.name, record.digest[:_MAX_DIGEST], source_type, described)
        context = InputTag("mlflow.data.context", record.context)
        with telling(f"data set {record.name!r} cannot be logged to run {run_id}"):
            self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, [context])])

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        if params:
            self._client.log_batch(run_id, params=[Param(*item) for item in params.items()], synchronous=True)

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        all_of_them = [RunTag(*tag) for tag in tags.items()]
        for start in range(0, len(all_of_them), _MAX_TAGS):
            self._client.log_batch(run_id, tags=all_of_them[start : start + _MAX_TAGS], synchronous=True)

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        with telling(f"run {run_id} cannot be read"):
            try:
                self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
        return True

    def _find_spooled(self, run_id: str, experiment: str | None) -> str | None:
        with telling(f"run {run_id} cannot be searched"):
            found = [] if experiment is None else [self._client.get_experiment_by_name(experiment)]
            experiments = found if experiment is not None else self._client.search_experiments()
            ids = [each.experiment_id for each in experiments if each is not None]
            runs = self._client.search_runs(ids, f"tags.`{SPOOL_ID}` = '{run_id}'") if ids else []
        return str(runs[0].info.run_id) if runs else None

    def _create_experiment(self, name: str) -> Experiment:
        from mlflow.exceptions import MlflowException

        location = None
        if self._store.artifacts is not None:
            if name in (".", "..") or Path(name).name != name:
                raise TrackingError(f"experiment {name!r} cannot be a folder's name; choose another study.name")
            location = (self._store.artifacts / name).as_uri()
        try:
            created = self._client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS)
            return self._client.get_experiment(created)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_experiment_by_name(name)  # another process was faster

    def _parent(self, experiment: str, experiment_id: str, record: Trial) -> dict[str, str]:
        """The tag that names the study's own run, which is created if nobody came to that yet."""
        if record.parent is None:
            return {}
        if record.parent != study_id(experiment):
            return {"mlflow.parentRunId": record.parent}
        with telling(f"the run of study {experiment!r} cannot be opened"):
            found = self._find_parent(experiment_id, experiment)
        return {"mlflow.parentRunId": found or self.open_study(Study(experiment, {}, record.time_ms))}

    def _find_parent(self, experiment_id: str, study: str) -> str | None:
        runs: list[Run] = list(self._client.search_runs([experiment_id], "tags.`embedsweep.kind` = 'study'"))
        ours = [run for run in runs if run.data.tags.get("embedsweep.study") == redact(study)]
        first = min(ours, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return str(first.info.run_id) if first else None

    def _create_parent(self, experiment_id: str, record: Study) -> str:
        """Creates the parent run, unless another process did in the same moment: then all settle on the first."""
        tags = redacted({**origin(), "embedsweep.kind": "study", "embedsweep.study": record.study})
        run = self._client.create_run(experiment_id, record.time_ms, tags, redact(record.study))
        created = str(run.info.run_id)
        first = self._find_parent(experiment_id, record.study) or created
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


def study_id(study: str) -> str:
    """The id that a study's own run has while the store is away; the same for all who work on the study."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"embedsweep study {study}").hex


def redacted(values: Mapping[str, str]) -> dict[str, str]:
    """Tags or params without the secrets in their values."""
    return {key: MASK if is_secret_key(key) else redact(value) for key, value in values.items()}


def _deleted_experiment(name: str, experiment_id: str, store: Store) -> str:
    command = f"MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id {experiment_id}"
    return f"MLflow's experiment {name!r} was deleted. Restore it ({command}) or choose another study.name"
