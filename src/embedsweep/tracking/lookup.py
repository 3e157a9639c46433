"""What the store holds already: experiments and runs, found by name, by trial or by id.

Owns how a run is found by an id that was made up while the store was away. Writes nothing but new experiments.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.errors import TrackingError
from embedsweep.secrets import redact
from embedsweep.tracking.records import Trial
from embedsweep.tracking.store import Store, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SPOOL_ID = "embedsweep.spool_id"
"""The tag of a run that was begun while the store was away: the id it had until then, as its folder has it."""

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow's pages show training runs; without it they guess, and may show what language models need."""


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


class Lookup:
    """An open store, asked.

    Every method raises UnreachableError where the store cannot be reached at this moment. A run's id may be the
    store's, or one made up while it was away.
    """

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self._store = store
        self._client = client
        self._ids: dict[str, str] = {}  # an id by which a run is asked for -> the store's

    def know(self, run_id: str, store_id: str) -> None:
        """Notes the store's id of a run, which is not looked for any more."""
        self._ids[run_id] = store_id

    def answers(self) -> bool:
        """Whether the store can be read at this moment."""
        try:
            with mlflow_errors("MLflow's store cannot be read"):
                self._client.search_experiments(max_results=1)
        except TrackingError:
            return False
        return True

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created where there is none."""
        with mlflow_errors(f"MLflow's experiment {name!r} cannot be opened"):
            found = self._client.get_experiment_by_name(name) or self._create_experiment(name)
        if found.lifecycle_stage != "active":
            raise TrackingError(_deleted_experiment(name, found.experiment_id, self._store))
        return str(found.experiment_id)

    def experiment_of(self, run_id: str) -> str:
        """The name of a run's experiment."""
        with mlflow_errors(f"run {run_id} cannot be read"):
            number = self._client.get_run(run_id).info.experiment_id
            return str(self._client.get_experiment(number).name)

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
        with mlflow_errors(f"the runs of experiment {experiment!r} cannot be searched"):
            if parent == study_id(experiment):
                parent = self.find_parent(experiment_id, experiment) or parent
            runs = self._client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"])
        ours = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
        return str(ours[0].info.run_id) if ours else None

    def find_created(self, experiment: str, record: Trial) -> str | None:
        """The run of a creation that was cut off, or whose answer was lost; None where there is none."""
        experiment_id = self.experiment(experiment)
        with mlflow_errors("runs cannot be searched"):
            runs = self._client.search_runs([experiment_id], f"attributes.start_time = {record.time_ms}")
        ours = [run for run in runs if record.tags.items() <= run.data.tags.items() and SPOOL_ID not in run.data.tags]
        return str(ours[0].info.run_id) if ours else None

    def id_of(self, experiment: str, run_id: str) -> str:
        """The store's id of a run that it holds."""
        found = self.find(run_id, experiment)
        if found is None and run_id == study_id(experiment):
            experiment_id = self.experiment(experiment)
            with mlflow_errors(f"the run of study {experiment!r} cannot be found"):
                found = self.find_parent(experiment_id, experiment)
        if found is None:
            raise TrackingError(f"MLflow's store {self._store} does not hold run {run_id}")
        return found

    def recorded(self, run_id: str) -> RecordedRun | None:
        """What the store knows of a run; None where it does not hold it."""
        found = self.find(run_id)
        if found is None:
            return None
        with mlflow_errors(f"run {run_id} cannot be read"):
            run = self._client.get_run(found)
        tags = run.data.tags
        return RecordedRun(
            state=tags.get("embedsweep.state", ""),
            config_hash=tags.get("embedsweep.config_hash", ""),
            data_digests=frozenset(entry.dataset.digest for entry in run.inputs.dataset_inputs),
        )

    def steps(self, run_id: str, metric: str) -> set[int]:
        """The steps at which a run has the metric."""
        with mlflow_errors(f"metrics of run {run_id} cannot be read"):
            return {point.step for point in self._client.get_metric_history(run_id, metric)}

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        with mlflow_errors(f"run {run_id} cannot be read"):
            try:
                self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
        return True

    def _find_spooled(self, run_id: str, experiment: str | None) -> str | None:
        with mlflow_errors(f"run {run_id} cannot be searched"):
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

    def find_parent(self, experiment_id: str, study: str) -> str | None:
        """The study's own run; None where it has none yet."""
        runs: list[Run] = list(self._client.search_runs([experiment_id], "tags.`embedsweep.kind` = 'study'"))
        ours = [run for run in runs if run.data.tags.get("embedsweep.study") == redact(study)]
        first = min(ours, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return str(first.info.run_id) if first else None


def study_id(study: str) -> str:
    """The id that a study's own run has while the store is away; the same for all who work on the study."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"embedsweep study {study}").hex


def _deleted_experiment(name: str, experiment_id: str, store: Store) -> str:
    command = f"MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id {experiment_id}"
    return f"MLflow's experiment {name!r} was deleted. Restore it ({command}) or choose another study.name"
