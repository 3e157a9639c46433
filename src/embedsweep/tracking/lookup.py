"""Find experiments and runs in an open store, by name, by trial or by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.errors import TrackingError
from embedsweep.secrets import redact
from embedsweep.tracking import names
from embedsweep.tracking.artifacts import artifacts_of, check_location, object_store_errors
from embedsweep.tracking.names import study_id
from embedsweep.tracking.store import Store, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

ACTIVE_ONLY = 1
"""MLflow's ``ViewType`` of runs that were not deleted, known before MLflow is imported."""

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's pages show training runs; without it they guess, and may show views for language models."""


@dataclass(frozen=True)
class RecordedRun:
    """The state of a trial's run in the store.

    Attributes:
        state: Optuna's state; RUNNING if the trial is under way or was interrupted.
        config_hash: the identity of its configuration.
        data_digests: digests of its data; empty if it ended before data was recorded.
    """

    state: str
    config_hash: str
    data_digests: frozenset[str]


@dataclass(frozen=True)
class KnownRun:
    """A run in the store.

    Attributes:
        store_id: the store's id of it.
        is_deleted: whether it was deleted there, and can be restored.
        metrics: the names of its metrics.
    """

    store_id: str
    is_deleted: bool
    metrics: frozenset[str]


class Lookup:
    """Reads an open store; creates nothing but experiments.

    Every method but `answers` raises UnreachableError if the store cannot be reached at this moment. A ``run_id`` may
    be the store's, or the one that the run has in the spool.
    """

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self._store = store
        self._client = client
        self._store_ids: dict[str, str] = {}  # ids by which runs were requested -> the store's

    def remember(self, store_id: str, other_id: str) -> None:
        """Keep both ids of a run, so that later requests need no search."""
        self._store_ids |= {store_id: store_id, other_id: store_id}

    def known_id(self, run_id: str) -> str:
        """Return the store's id of a run as far as it is known without a search, else ``run_id``."""
        return self._store_ids.get(run_id, run_id)

    def answers(self) -> bool:
        """Return whether the store can be read at this moment."""
        try:
            with mlflow_errors("MLflow's store cannot be read"):
                self._client.search_experiments(max_results=1)
        except TrackingError:
            return False
        return True

    def experiment(self, name: str) -> str:
        """Return the id of the experiment, which is created if it does not exist.

        Raises:
            TrackingError: the experiment was deleted, or its artifacts may not lie where the server says.
        """
        with mlflow_errors(f"MLflow's experiment {name!r} cannot be opened"):
            experiment = self._client.get_experiment_by_name(name) or self._create_experiment(name)
        if experiment.lifecycle_stage != "active":
            command = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            raise TrackingError(
                f"MLflow's experiment {name!r} was deleted. Restore it (embedsweep repair {name} --write for a study, "
                f"else MLFLOW_TRACKING_URI={self._store} {command}) or choose another study.name"
            )
        check_location(self._store, experiment.artifact_location)
        return str(experiment.experiment_id)

    def experiment_id(self, name: str) -> str | None:
        """Return the id of an experiment, or None if the store does not have it."""
        with mlflow_errors(f"MLflow's experiment {name!r} cannot be read"):
            found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id) if found is not None else None

    def find(self, run_id: str, experiment: str | None = None) -> str | None:
        """Return the store's id of a run, or None if the store does not have it or it was deleted there.

        Args:
            run_id: the store's id, or the one that it has in the spool.
            experiment: the experiment to search; None searches all.
        """
        if run_id not in self._store_ids and (store_id := self._search_id(run_id, experiment)) is not None:
            self._store_ids[run_id] = store_id
        return self._store_ids.get(run_id)

    def has(self, run_id: str) -> bool:
        """Return whether the store has a run now: one that was known may have been deleted since."""
        store_id = self.find(run_id)
        if store_id is not None and not self._has(store_id):
            self._store_ids = {known: store for known, store in self._store_ids.items() if store != store_id}
            return False
        return store_id is not None

    def id_of(self, experiment: str, run_id: str) -> str:
        """Return the store's id of a run that it must have.

        Raises:
            TrackingError: it does not.
        """
        store_id = self.find(run_id, experiment)
        if store_id is None:
            raise TrackingError(f"MLflow's store {self._store} does not hold run {run_id}")
        return store_id

    def known_runs(self, experiment: str) -> dict[str, KnownRun]:
        """Return all runs of an experiment, deleted ones too, by each id that a trial may have of them."""
        from mlflow.entities import ViewType

        with mlflow_errors(f"the runs of MLflow's experiment {experiment!r} cannot be read"):
            found = self._client.get_experiment_by_name(experiment)
            runs: list[Run] = []
            token: str | None = None
            while found is not None and (token or not runs):
                page = self._client.search_runs([found.experiment_id], "", ViewType.ALL, page_token=token)
                runs += page
                if not (token := page.token):
                    break
        known: dict[str, KnownRun] = {}
        for run in sorted(runs, key=lambda run: bool(run.info.lifecycle_stage == "active")):  # active ones count
            each = KnownRun(str(run.info.run_id), run.info.lifecycle_stage != "active", frozenset(run.data.metrics))
            ids = (each.store_id, *(run.data.tags.get(tag) for tag in (names.SPOOL_ID, names.FORMER_ID)))
            known |= dict.fromkeys(filter(None, ids), each)
        return known

    def artifacts(self, run_id: str) -> set[str]:
        """Return the names of the files and folders of a run; none if the store does not have the run."""
        store_id = self.find(run_id)
        if store_id is None:
            return set()
        with mlflow_errors(f"the artifacts of run {run_id} cannot be listed"), object_store_errors():
            files = artifacts_of(self._store, self._client, store_id).list_artifacts()
            return {str(entry.path) for entry in files}

    def download(self, run_id: str, name: str, folder: Path) -> None:
        """Copy a file or folder of a run's artifacts into an existing folder."""
        store_id = self.find(run_id) or run_id
        with mlflow_errors(f"{name} of run {run_id} cannot be downloaded"), object_store_errors():
            artifacts_of(self._store, self._client, store_id).download_artifacts(name, str(folder))

    def find_parent(self, experiment_id: str, study: str, *, deleted: bool = False) -> str | None:
        """Return the id of a study's parent run, or None if it has none yet; the oldest if there are several.

        Args:
            experiment_id: the id of the study's experiment.
            study: the study's name.
            deleted: whether to search among the deleted runs instead.
        """
        from mlflow.entities import ViewType

        view = ViewType.DELETED_ONLY if deleted else ACTIVE_ONLY
        runs = self._search([experiment_id], f"tags.`{names.KIND}` = 'study'", view=view)
        ours = [run for run in runs if run.data.tags.get(names.STUDY) == redact(study)]
        first = min(ours, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return str(first.info.run_id) if first else None

    def find_trial(self, experiment: str, kind: str, number: str, parent: str) -> str | None:
        """Return the id of the latest run of a trial, of the study or its finals, that is RUNNING, or None."""
        experiment_id = self.experiment(experiment)
        if parent == study_id(experiment):
            parent = self.find_parent(experiment_id, experiment) or parent
        wanted = f"tags.`{names.TRIAL}` = '{number}' AND tags.`{names.STATE}` = 'RUNNING'"
        runs = self._search([experiment_id], wanted, ["attributes.start_time DESC"])
        same = {names.KIND: kind, names.PARENT: parent}
        return next((str(run.info.run_id) for run in runs if same.items() <= run.data.tags.items()), None)

    def recorded(self, run_id: str) -> RecordedRun | None:
        """Return what the store has of a trial's run, or None if it does not have the run."""
        store_id = self.find(run_id)
        if store_id is None:
            return None
        with mlflow_errors(f"run {run_id} cannot be read"):
            run = self._client.get_run(store_id)
        tags = run.data.tags
        return RecordedRun(
            state=tags.get(names.STATE, ""),
            config_hash=tags.get(names.CONFIG_HASH, ""),
            data_digests=frozenset(entry.dataset.digest for entry in run.inputs.dataset_inputs),
        )

    def steps(self, run_id: str, metric: str) -> set[int]:
        """Return the steps at which a run has the metric."""
        with mlflow_errors(f"metrics of run {run_id} cannot be read"):
            return {point.step for point in self._client.get_metric_history(run_id, metric)}

    def _search_id(self, run_id: str, experiment: str | None) -> str | None:
        if self._has(run_id):
            return run_id
        if experiment is not None and run_id == study_id(experiment):
            return self.find_parent(self.experiment(experiment), experiment)
        with mlflow_errors(f"run {run_id} cannot be searched"):
            if experiment is None:
                experiments = list(self._client.search_experiments())
            else:
                experiments = list(filter(None, [self._client.get_experiment_by_name(experiment)]))
        ids = [each.experiment_id for each in experiments]
        for tag in (names.SPOOL_ID, names.FORMER_ID) if ids else ():
            if runs := self._search(ids, f"tags.`{tag}` = '{run_id}'"):
                return str(runs[0].info.run_id)
        return None

    def _has(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        with mlflow_errors(f"run {run_id} cannot be read"):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
        return bool(run.info.lifecycle_stage == "active")

    def _search(
        self, experiment_ids: Sequence[str], wanted: str, order_by: list[str] | None = None, view: int = ACTIVE_ONLY
    ) -> list[Run]:
        with mlflow_errors(f"MLflow's runs with {wanted} cannot be searched"):
            return list(self._client.search_runs(list(experiment_ids), wanted, view, order_by=order_by))

    def _create_experiment(self, name: str) -> Experiment:
        from mlflow.exceptions import MlflowException

        location = None
        if self._store.artifacts is not None:
            location = (self._store.artifacts / name).as_uri()
        try:
            created = self._client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS)
            return self._client.get_experiment(created)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_experiment_by_name(name)  # another process created it in the meantime
