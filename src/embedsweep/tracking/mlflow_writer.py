"""Write records to an open MLflow store; writing a record again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.secrets import redact
from embedsweep.tracking import names
from embedsweep.tracking.artifacts import artifacts_at, artifacts_of, object_store_errors
from embedsweep.tracking.lookup import Lookup
from embedsweep.tracking.names import differences, origin, redacted, study_id
from embedsweep.tracking.records import DataSet, End, ExperimentTags, Files, Metrics, Record, StudyRun, Tags, TrialRun
from embedsweep.tracking.store import ALREADY_EXISTS, Store, mlflow_errors, repeated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run, RunTag
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

Together = Metrics | Tags | DataSet | End
"""Records of a run that can be written in one step."""

_MAX_DIGEST = 36
_MAX_OLDER_NOTE = 5000  # characters of an experiment's description that servers before MLflow 3.17 store


class MlflowWriter:
    """The one way into an open store: records are written, or what the store lacks of them.

    Attributes:
        lookup: reads the same store.
    """

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self._store, self._client = store, client
        self.lookup = Lookup(store, client)
        # The metrics of runs that this process alone writes into: their steps, or None if not read from the store yet.
        self._steps: dict[str, dict[str, set[int] | None]] = {}
        self._repository: tuple[str, ArtifactRepository] | None = None  # of the run that got the last file
        self._locations: dict[str, str] = {}  # run that was opened and has not ended -> where its files lie
        self._experiments: dict[str, str] = {}  # name -> id of those in which a run was created

    def write(self, experiment: str, run_id: str, record: Record, *, is_untried: bool = False) -> str:
        """Write a record, or what the store lacks of it.

        Args:
            experiment: the experiment's name.
            run_id: the run's id in the store, or the one that it has in the spool.
            record: what to write.
            is_untried: whether no process has tried to write it before: a new run need not be searched for then.

        Returns:
            The store's id of the run.

        Raises:
            UnreachableError: the store cannot be reached or written at this moment.
            TrackingError: the store refuses the record.
        """
        if isinstance(record, StudyRun):
            return self._open_study(record)
        if isinstance(record, TrialRun):
            opened = self._open_trial(experiment, run_id, record, is_known=not (record.is_new and is_untried))
            self.lookup.remember(opened, run_id)
            return opened
        if isinstance(record, Together):
            return self.write_together(experiment, run_id, [record])
        store_id = self.lookup.id_of(experiment, run_id)
        if isinstance(record, ExperimentTags):
            self.tag_experiment(experiment, record.tags)
        else:
            self._log_files(store_id, record)
        return store_id

    def write_together(self, experiment: str, run_id: str, records: Sequence[Together]) -> str:
        """Write records of a run that follow each other, or what the store lacks of them, in as few calls as possible.

        Args, Returns and Raises: as those of `write`. If the store refuses one, some of the others may be written.
        """
        store_id = self.lookup.id_of(experiment, run_id)
        self._log_data_sets(store_id, [record for record in records if isinstance(record, DataSet)])
        tags: dict[str, str] = {}
        for record in records:
            if isinstance(record, Tags):
                tags |= record.tags
            elif isinstance(record, End) and record.state is not None:
                tags[names.STATE] = record.state
        self._log(store_id, [record for record in records if isinstance(record, Metrics)], tags)
        for record in records:
            if isinstance(record, End):
                self._end(store_id, record)
        return store_id

    def tag_experiment(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment; they replace those of the same name."""
        from mlflow.exceptions import MlflowException

        experiment_id = self.lookup.experiment(name)
        with mlflow_errors(f"tags cannot be set on experiment {name!r}"):
            for key, value in tags.items():
                try:
                    self._client.set_experiment_tag(experiment_id, key, value)
                except MlflowException:
                    if key != names.NOTE or len(value) <= _MAX_OLDER_NOTE:
                        raise
                    # Refused, it would keep all later records of the run waiting.
                    self._client.set_experiment_tag(experiment_id, key, value[:_MAX_OLDER_NOTE])

    def restore(self, run_id: str) -> None:
        """Restore a run that was deleted in the store."""
        with mlflow_errors(f"run {run_id} cannot be restored"):
            self._client.restore_run(run_id)

    def restore_experiment(self, name: str) -> None:
        """Restore an experiment, if there is one of this name that was deleted in the store, with its runs."""
        with mlflow_errors(f"MLflow's experiment {name!r} cannot be restored"):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage != "active":
                self._client.restore_experiment(experiment.experiment_id)

    def forget_steps(self, run_id: str) -> None:
        """Read the steps of a run's metrics from the store again: another process may write into the run."""
        self._steps.pop(self.lookup.known_id(run_id), None)

    def _open_study(self, record: StudyRun) -> str:
        experiment_id = self.lookup.experiment(record.study)
        run_id = self.lookup.find_parent(experiment_id, record.study)
        if run_id is None and (deleted := self.lookup.find_parent(experiment_id, record.study, deleted=True)):
            self.restore(deleted)  # the runs of its trials belong to it
            run_id = deleted
        run_id = run_id or self._create_parent(experiment_id, record)
        with mlflow_errors(f"the run of study {record.study!r} cannot be opened"):
            logged = self._client.get_run(run_id).data.params if record.params else {}
            self._log_params(run_id, {key: value for key, value in record.params.items() if key not in logged})
            self._client.update_run(run_id, status="RUNNING")
        self._set_tags(run_id, record.tags)
        self.lookup.remember(run_id, study_id(record.study))
        return run_id

    def _create_parent(self, experiment_id: str, record: StudyRun) -> str:
        """Create a parent run; if another process did so at the same moment, all use the first one."""
        tags = redacted({**origin(), names.KIND: "study", names.STUDY: record.study})
        with mlflow_errors(f"the run of study {record.study!r} cannot be created"):
            run = self._client.create_run(experiment_id, record.time_ms, tags, redact(record.study))
            created = str(run.info.run_id)
            first = self.lookup.find_parent(experiment_id, record.study) or created
            if first != created:
                self._client.delete_run(created)
        return first

    def _open_trial(self, experiment: str, run_id: str, record: TrialRun, *, is_known: bool) -> str:
        """Reopen the run that the id names or an earlier attempt has created; create one if there is none."""
        store_id = self.lookup.find(run_id, experiment) if is_known else None
        if store_id is None and record.adopts and record.parent is not None:
            store_id = self.lookup.find_trial(
                experiment, record.tags[names.KIND], record.tags[names.TRIAL], record.parent
            )
        if store_id is None:
            return self._create_trial(experiment, run_id, record)
        if run_id != store_id:
            self._set_tags(store_id, {names.SPOOL_ID: run_id})
        self._reopen(store_id, record.params)
        return store_id

    def _create_trial(self, experiment: str, run_id: str, record: TrialRun) -> str:
        known = self._experiments.pop(experiment, None)
        try:
            created = self._create_run(experiment, known or self.lookup.experiment(experiment), run_id, record)
        except UnreachableError:
            raise
        except TrackingError:
            if known is None:
                raise
            created = self._create_run(experiment, self.lookup.experiment(experiment), run_id, record)
        store_id = str(created.info.run_id)
        self._experiments[experiment] = str(created.info.experiment_id)
        self._locations[store_id] = str(created.info.artifact_uri)
        with mlflow_errors(f"params cannot be logged to run {store_id}"):
            self._log_params(store_id, record.params)
        self._steps[store_id] = {}
        return store_id

    def _create_run(self, experiment: str, experiment_id: str, run_id: str, record: TrialRun) -> Run:
        tags = {**record.tags, names.SPOOL_ID: run_id}  # by which the run is found if the answer is lost
        if record.parent == study_id(experiment):
            parent = self.lookup.find_parent(experiment_id, experiment)
            tags[names.PARENT] = parent or self._open_study(StudyRun(experiment, {}, record.time_ms))
        elif record.parent is not None:
            tags[names.PARENT] = record.parent
        with mlflow_errors(f"a run for {record.name} cannot be created in experiment {experiment!r}"):
            return self._client.create_run(experiment_id, record.time_ms, tags, redact(record.name))

    def _reopen(self, run_id: str, params: Mapping[str, str]) -> None:
        """Make a run RUNNING and add the params that it lacks.

        Raises:
            TrackingError: the run was deleted, or has a param with another value.
        """
        with mlflow_errors(f"run {run_id} cannot be reopened"):
            run = self._client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise TrackingError(f"run {run_id} was deleted; restore it in MLflow, or start anew")
            if different := differences(redacted(run.data.params), params):
                raise TrackingError(f"run {run_id} has another configuration: {'; '.join(different)}")
            self._log_params(run_id, {key: value for key, value in params.items() if key not in run.data.params})
            self._client.update_run(run_id, status="RUNNING")
        self._set_tags(run_id, {names.STATE: "RUNNING"})
        self._steps[run_id] = dict.fromkeys(run.data.metrics)
        self._locations[run_id] = str(run.info.artifact_uri)

    def _log(self, run_id: str, records: Sequence[Metrics], tags: Mapping[str, str]) -> None:
        """Log metrics and set tags: in one call, which MLflow's client divides where the store takes fewer at once."""
        steps = self._steps.get(run_id)
        if steps is None:  # read from the store, but once for all records: those that repeat a step are not there yet
            steps = dict.fromkeys(name for record in records for _, values in record.points for name in values)
        try:
            points = [point for record in records for point in self._missing_points(run_id, record, steps)]
            doing = "metrics cannot be logged to" if points else "tags cannot be set on"
            if points or tags:
                with mlflow_errors(f"{doing} run {run_id}"):
                    self._client.log_batch(run_id, metrics=points, tags=_run_tags(tags), synchronous=True)
        except BaseException:
            if run_id in self._steps:  # some may have been written: read the steps from the store next time
                self._steps[run_id] = dict.fromkeys(self._steps[run_id])
            raise

    def _missing_points(self, run_id: str, record: Metrics, steps: dict[str, set[int] | None]) -> list[Metric]:
        """Return the points at steps at which the run does not have the metric yet, and add them to ``steps``."""
        from mlflow.entities import Metric

        points = []
        for step, values in record.points:
            for name, value in values.items():
                logged = steps.setdefault(name, set())
                if logged is None:
                    logged = steps[name] = self.lookup.steps(run_id, name)
                if step not in logged:
                    logged.add(step)
                    points.append(Metric(name, value, record.time_ms, step))
        return points

    def _log_data_sets(self, run_id: str, records: Sequence[DataSet]) -> None:
        if not records:
            return
        inputs = [_input(record) for record in records]
        known = ", ".join(repr(record.name) for record in records)
        with mlflow_errors(f"data set{'s' if len(records) > 1 else ''} {known} cannot be logged to run {run_id}"):
            try:
                self._client.log_inputs(run_id, datasets=inputs)
            except Exception as error:
                if not any(message in str(error) for message in ALREADY_EXISTS):
                    raise
                # Another run wrote the same data set at the same moment; now MLflow finds it.
                self._client.log_inputs(run_id, datasets=inputs)

    def _log_files(self, run_id: str, record: Files) -> None:
        path = Path(record.path)
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        with mlflow_errors(f"{path} cannot be stored with run {run_id}"), object_store_errors():
            log = self._artifacts(run_id).log_artifact
            for file in files:  # one by one, so that a server's failure repeats one of them only
                inner = str(file.parent.relative_to(path)) if path.is_dir() else "."
                folder = "/".join(part for part in (record.folder, inner) if part not in (None, ".")) or None
                repeated(log, str(file), folder) if self._store.is_server else log(str(file), folder)

    def _artifacts(self, run_id: str) -> ArtifactRepository:
        """Return the access to a run's artifacts; their place, which never changes, is known or asked for once."""
        if self._repository is None or self._repository[0] != run_id:
            if (location := self._locations.get(run_id)) is not None:
                self._repository = run_id, artifacts_at(self._store, location)
            else:
                self._repository = run_id, artifacts_of(self._store, self._client, run_id)
        return self._repository[1]

    def _end(self, run_id: str, record: End) -> None:
        with mlflow_errors(f"run {run_id} cannot be ended as {record.state or record.status}"):
            self._client.set_terminated(run_id, record.status, end_time=record.time_ms)
        self._steps.pop(run_id, None)  # another process may continue the run
        self._locations.pop(run_id, None)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        # MLflow's client divides what a store takes in several calls.
        self._client.log_batch(run_id, params=[Param(*item) for item in params.items()], synchronous=True)

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        with mlflow_errors(f"tags cannot be set on run {run_id}"):
            self._client.log_batch(run_id, tags=_run_tags(tags), synchronous=True)


def _run_tags(tags: Mapping[str, str]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(*tag) for tag in tags.items()]


def _input(record: DataSet) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source_type = "http" if record.source.startswith(("http://", "https://")) else "local"
    source = json.dumps({"url" if source_type == "http" else "uri": record.source})
    dataset = Dataset(record.name, record.digest[:_MAX_DIGEST], source_type, source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", record.context)])
