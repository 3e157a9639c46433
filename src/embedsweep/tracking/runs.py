"""Experiments and runs: found, created, reopened.

Owns the names, tags and params that identify a study's and a trial's run. Must not know which kind of store it writes
to beyond where a new experiment's artifacts lie.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Literal

from embedsweep.errors import TrackingError
from embedsweep.schema import TrackingConfig, TrialConfig
from embedsweep.secrets import redact
from embedsweep.tracking.params import differences, flatten
from embedsweep.tracking.store import Store, locate, open_store, telling
from embedsweep.tracking.trial_run import TrialTracker, redacted, set_tags

if TYPE_CHECKING:
    from mlflow.entities import Experiment

ParentStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""MLflow's word for how the command that worked on a study ended."""

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow's pages show training runs; without it they guess, and may show what language models need."""

_DEFAULT_DATABASE = Path("mlruns", "mlflow.db")


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


class Tracker:
    """An opened store.

    Args:
        config: where the store is; a sqlite file that does not exist is created, with its folder.

    Raises:
        TrackingError: the store cannot be opened; a server that cannot be reached is given up after 12 s.
    """

    def __init__(self, config: TrackingConfig) -> None:
        self._store = locate(config.uri)
        self._client = open_store(self._store)

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created where there is none.

        Raises:
            TrackingError: the name belongs to a deleted experiment, or cannot be a folder's.
        """
        with telling(f"MLflow's experiment {name!r} cannot be opened"):
            found = self._client.get_experiment_by_name(name) or self._create_experiment(name)
        if found.lifecycle_stage != "active":
            raise TrackingError(_deleted_experiment(name, found.experiment_id, self._store))
        return str(found.experiment_id)

    def parent_run(self, study: str, tags: Mapping[str, str]) -> str:
        """The id of the study's own run, RUNNING from now on; created by the first command that works on the study.

        Args:
            study: the study's name, which is its experiment's and the run's too.
            tags: what this command knows about the study; later commands overwrite earlier ones.
        """
        experiment = self.experiment(study)
        with telling(f"the run of study {study!r} cannot be opened"):
            run_id = self._find_parent(experiment, study) or self._create_parent(experiment, study)
            self._client.update_run(run_id, status="RUNNING")
            set_tags(self._client, run_id, tags)
        return run_id

    def log_parent(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Logs a study's own figures.

        Args:
            run_id: the study's own run.
            step: how many of its trials are finished.
            metrics: values by name; what stands at that step already stays.
        """
        TrialTracker(self._client, run_id, reopened=True).log_metrics(step, metrics)

    def finish_parent(self, run_id: str, status: ParentStatus) -> None:
        """Ends the study's own run, until the next command works on it."""
        with telling(f"run {run_id} cannot be ended"):
            self._client.set_terminated(run_id, status)

    def trial_run(
        self,
        experiment: str,
        number: int,
        config: TrialConfig,
        config_hash: str,
        *,
        parent: str | None = None,
        run_id: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrialTracker:
        """A trial's run, new or, by its id, reopened.

        Args:
            experiment: the experiment's name: the study's, or ``single``.
            number: the trial's number in its study; 0 where there is none.
            config: what the trial is; its params.
            config_hash: the configuration's identity.
            parent: id of the study's own run, if there is one.
            run_id: a run of this trial to go on with. It keeps what it has; params it lacks are added, its status and
                state become RUNNING.
            run_name: what people read; None is ``trial-0007``. A reopened run keeps its own.
            tags: further tags of a new run (host, worker); a reopened one gets them by ``set_tags``.

        Raises:
            TrackingError: the run to reopen does not exist, was deleted, or has other params.
        """
        params = redacted(flatten(config))
        if run_id is not None:
            self._reopen(run_id, params)
            return TrialTracker(self._client, run_id, reopened=True)
        identity = {
            "embedsweep.kind": "trial",
            "embedsweep.trial": str(number),
            "embedsweep.config_hash": config_hash,
            "embedsweep.state": "RUNNING",
        } | ({"mlflow.parentRunId": parent} if parent else {})
        experiment_id = self.experiment(experiment)
        name = run_name or f"trial-{number:04d}"
        with telling(f"a run for {name} cannot be created in experiment {experiment!r}"):
            run_id = self._create_run(experiment_id, name, {**(tags or {}), **identity})
            self._log_params(run_id, params)
        return TrialTracker(self._client, run_id, reopened=False)

    def find_trial(self, experiment: str, number: int, parent: str) -> str | None:
        """The id of the run that an attempt at a trial opened before it died, had it no time to note the id.

        Args:
            experiment: the study's name.
            number: the trial's number.
            parent: id of the study's own run.

        Returns:
            The youngest run of that trial that is under way; None where there is none.
        """
        experiment_id = self.experiment(experiment)
        wanted = f"tags.`embedsweep.trial` = '{number}' AND tags.`embedsweep.state` = 'RUNNING'"
        with telling(f"the runs of experiment {experiment!r} cannot be searched"):
            runs = self._client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"])
        ours = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
        return str(ours[0].info.run_id) if ours else None

    def has_run(self, run_id: str) -> bool:
        """Whether this store holds the run; a study may be resumed with another one."""
        from mlflow.exceptions import MlflowException

        with telling(f"run {run_id} cannot be read"):
            try:
                self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
        return True

    def recorded(self, run_id: str) -> RecordedRun | None:
        """What this store knows of a run; None where it does not hold it."""
        if not self.has_run(run_id):
            return None
        with telling(f"run {run_id} cannot be read"):
            run = self._client.get_run(run_id)
        tags = run.data.tags
        return RecordedRun(
            state=tags.get("embedsweep.state", ""),
            config_hash=tags.get("embedsweep.config_hash", ""),
            data_digests=frozenset(entry.dataset.digest for entry in run.inputs.dataset_inputs),
        )

    def answers(self) -> bool:
        """Whether the store can be read at this moment."""
        try:
            with telling("MLflow's store cannot be read"):
                self._client.search_experiments(max_results=1)
        except TrackingError:
            return False
        return True

    def ui_hint(self) -> str:
        """What a person types, or opens in a browser, to see the runs."""
        if self._store.database is None:
            return str(self._store)
        if self._store.database == _DEFAULT_DATABASE.resolve():
            return "embedsweep ui"
        return f"embedsweep ui tracking.uri={self._store}"

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

    def _find_parent(self, experiment_id: str, study: str) -> str | None:
        runs = self._client.search_runs([experiment_id], "tags.`embedsweep.kind` = 'study'")
        ours = [run for run in runs if run.data.tags.get("embedsweep.study") == redact(study)]
        first = min(ours, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return str(first.info.run_id) if first else None

    def _create_parent(self, experiment_id: str, study: str) -> str:
        """Creates the parent run, unless another process did in the same moment: then all settle on the first."""
        created = self._create_run(experiment_id, study, {"embedsweep.kind": "study", "embedsweep.study": study})
        first = self._find_parent(experiment_id, study) or created
        if first != created:
            self._client.delete_run(created)
        return first

    def _create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        origin = {
            "mlflow.user": _user(),
            "mlflow.source.name": "embedsweep",
            "embedsweep.host": gethostname(),
        }
        run = self._client.create_run(experiment_id, run_name=redact(name), tags=redacted({**origin, **tags}))
        return str(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        if params:
            self._client.log_batch(run_id, params=[Param(*item) for item in params.items()], synchronous=True)

    def _reopen(self, run_id: str, params: Mapping[str, str]) -> None:
        with telling(f"run {run_id} cannot be reopened"):
            run = self._client.get_run(run_id)
            if run.info.lifecycle_stage != "active":
                raise TrackingError(f"run {run_id} was deleted; restore it in MLflow, or start anew")
            if different := differences(redacted(run.data.params), params):
                raise TrackingError(f"run {run_id} has another configuration: {'; '.join(different)}")
            self._log_params(run_id, {key: value for key, value in params.items() if key not in run.data.params})
            self._client.update_run(run_id, status="RUNNING")
            set_tags(self._client, run_id, {"embedsweep.state": "RUNNING"})


def _user() -> str:
    """Who runs this; a container may know nobody by that number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _deleted_experiment(name: str, experiment_id: str, store: Store) -> str:
    command = f"MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id {experiment_id}"
    return f"MLflow's experiment {name!r} was deleted. Restore it ({command}) or choose another study.name"
