"""The runs of studies and trials: create them, record into them, find them again and resume them."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

from embedsweep.config.result import RunContext
from embedsweep.config.study import TrackingConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.files import SINGLE
from embedsweep.secrets import redact
from embedsweep.tracking import names
from embedsweep.tracking.lookup import KnownRun, RecordedRun
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.names import flatten, origin, redacted, study_id
from embedsweep.tracking.record_writer import RecordWriter
from embedsweep.tracking.records import (
    DataSet,
    End,
    ExperimentTags,
    Files,
    Metrics,
    Record,
    StudyRun,
    Tags,
    TrialRun,
)
from embedsweep.tracking.spool import spool_of
from embedsweep.tracking.store import Notify, log_line
from embedsweep.tracking.study_run import StudyTracker
from embedsweep.tracking.tables import Table, log_table
from embedsweep.tracking.view import view_path

TrialState = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
"""Optuna's state of a trial at its end; RUNNING is a trial that was interrupted and will be resumed."""

ParentStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""MLflow's status of a parent run at the end of a command."""

_STATUS: Mapping[TrialState, str] = {
    "COMPLETE": "FINISHED",
    "PRUNED": "FINISHED",
    "FAIL": "FAILED",
    "RUNNING": "KILLED",
}

_DEFAULT_DATABASE = Path("mlruns", "mlflow.db")


class TrialTracker:
    """The run of one trial, from ``Tracker.trial_run``.

    Records are written in the background; what the store refuses is reported when it does so. Every method raises
    UnreachableError if a record cannot be kept on the local disk.

    Attributes:
        run_id: MLflow's id of the run; if it was opened while the store was unreachable, an id that stays valid.
    """

    def __init__(
        self, writer: RecordWriter, experiment: str, run_id: str, tags: Mapping[str, str] | None = None
    ) -> None:
        self.run_id = run_id
        self._writer = writer
        self._experiment = experiment
        self._tags = dict(tags or {})
        self._data_sets: dict[DataSet, None] = {}

    @property
    def context(self) -> RunContext:
        """The tags and data sets that the run got through this object."""
        return RunContext(dict(self._tags), [asdict(each) for each in self._data_sets])

    @property
    def store_id(self) -> str:
        """The store's id of the run; ``run_id`` while the store does not have it."""
        return self._writer.store_id(self._experiment, self.run_id)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics at a step; those that the run already has at this step keep their value.

        Args:
            step: optimizer step, from 0.
            metrics: values by name (``dev/spearman_cosine``); all finite, because MLflow stores infinity as 1.8e308.
        """
        self.log_history([(step, metrics)])

    def log_history(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics of several steps, as ``log_metrics`` does, in as few calls as MLflow allows."""
        for step, metrics in points:
            if bad := {name: value for name, value in metrics.items() if not math.isfinite(value)}:
                raise TrackingError(f"metrics must be finite numbers but got {bad} at step {step}")
        values = [
            (step, {name: float(value) for name, value in metrics.items()}) for step, metrics in points if metrics
        ]
        if values:
            self._write(Metrics(values, now_ms()))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; they replace those of the same name. Secrets in values are redacted."""
        self._tags |= redacted(tags)
        self._write(Tags(redacted(tags)))

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Log a data set as an input of the run; repeated calls change nothing.

        Args:
            name: a readable name.
            digest: identifies the content; MLflow keeps the first 36 characters.
            source: the hub id, folder or URL of the data.
            context: the use of the data (``train``, ``dev``, ``test``; ``corpus`` of what negatives are mined from).
        """
        data_set = DataSet(redact(name), digest, redact(source), context)
        self._data_sets[data_set] = None
        self._write(data_set)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or the content of a folder, into the run's artifacts, or into a folder of them."""
        self._write(Files(str(path), folder))

    def log_table(self, name: str, table: Table) -> None:
        """Store a table as the artifact ``name`` (``scores/dev.json``), which MLflow's pages show as such."""
        log_table(self._write, name, table)

    def set_experiment_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run's experiment, in the same way as those of the run."""
        self._write(ExperimentTags(redacted(tags)))

    def finish(self, state: TrialState, ended_ms: int | None = None) -> None:
        """End the run. RUNNING means that the trial was interrupted: its run is KILLED, and can be resumed.

        Args:
            state: Optuna's state of the trial.
            ended_ms: when the trial ended, in milliseconds since 1970; None is now.
        """
        self._write(End(_STATUS[state], state, ended_ms if ended_ms is not None else now_ms()))

    def _write(self, record: Record) -> None:
        self._writer.write(self._experiment, self.run_id, record)


class Tracker:
    """Access to a store; records are written in the background, from the local disk (``sweeps/<study>/spool``).

    Args:
        config: the store; a sqlite file that does not exist is created, with its folder. With ``spool`` it may be
            unreachable from the start.
        notify: receives a line, possibly from another thread, when the store becomes unreachable or answers again.

    Raises:
        TrackingError: the store cannot be opened; a server must answer within 12 s.
    """

    def __init__(self, config: TrackingConfig, notify: Notify = log_line) -> None:
        self._writer = RecordWriter(config, notify)
        self._studies: dict[str, str] = {}  # id of a parent run that this tracker opened -> its study

    def close(self) -> bool:
        """End the command's recording: wait until all is written, or the store does not answer, and report the rest.

        Returns:
            Whether nothing is left for ``embedsweep sync``.
        """
        return self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Close; a command that ends by an error or a signal does not wait for a store that does not answer."""
        if error is None:
            self._writer.close()
        else:
            self._writer.close(patience=0.0)

    def stop(self) -> None:
        """Stop recording in a process whose parent, which uses the same folder, writes what is left."""
        self._writer.stop()

    def parent_run(self, study: str, tags: Mapping[str, str], params: Mapping[str, str] | None = None) -> str:
        """Create a study's parent run, or reopen it: its status becomes RUNNING.

        Args:
            study: the study's name, which is also the experiment's and the run's.
            tags: tags to set; later commands replace those of earlier ones.
            params: what was searched and what was fixed; a run keeps those that it has.

        Returns:
            The id of the run.
        """
        self._writer.spool_of(study, study_id(study))  # first write what an earlier command left
        run_id = self._writer.write(study, None, StudyRun(study, redacted(tags), now_ms(), redacted(params or {})))
        self._studies[run_id] = study
        return run_id

    def study_run(self, run_id: str) -> StudyTracker:
        """Return access to a study's parent run, whose id is from ``parent_run``, and to the study's experiment."""
        return StudyTracker(self._writer, self._studies[run_id], run_id)

    def log_parent(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of a study.

        Args:
            run_id: the study's parent run, from ``parent_run``.
            step: the number of finished trials.
            metrics: values by name; those that the run already has at this step keep their value.
        """
        TrialTracker(self._writer, self._studies[run_id], run_id).log_metrics(step, metrics)

    def finish_parent(self, run_id: str, status: ParentStatus) -> None:
        """End a study's parent run, whose id is from ``parent_run``, until the next command opens it."""
        self._writer.write(self._studies[run_id], run_id, End(status, None, now_ms()))

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
        adopts: bool = False,
        started_ms: int | None = None,
        finalist: int | None = None,
    ) -> TrialTracker:
        """Create a trial's run, or reopen the run of this id.

        Args:
            experiment: the experiment's name: the study's, or ``single``.
            number: the trial's number in its study; 0 without a study.
            config: the trial's configuration, which becomes the run's params.
            config_hash: the configuration's identity.
            parent: id of the study's parent run; None without a study.
            run_id: a run of this trial to resume. It keeps its content; params that it lacks are added, its status and
                state become RUNNING.
            run_name: the run's name; None is ``trial-0007``. A reopened run keeps its own.
            tags: further tags of a new run (host, worker); set those of a reopened run by ``set_tags``.
            adopts: whether an earlier attempt may have created a run whose id is unknown, because the store is
                unreachable.
            started_ms: when the trial started, in milliseconds since 1970; None is now.
            finalist: of a trial of finals the trial whose configuration it trains again; ``number`` is its own.

        Raises:
            TrackingError: the run to reopen does not exist, was deleted, or has other params.
        """
        identity = {
            names.KIND: _kind(finalist),
            names.TRIAL: str(number),
            names.CONFIG_HASH: config_hash,
            names.STATE: "RUNNING",
        }
        identity |= {names.PARENT: parent} if parent and parent != study_id(experiment) else {}
        identity |= {names.FINALIST: str(finalist)} if finalist is not None else {}
        own_tags = redacted({**origin(), **(tags or {})})
        name = redact(run_name or f"trial-{number:04d}")
        if run_id is not None and not self._writer.waits(experiment, run_id) and not self.has_run(run_id):
            store = self._writer.store
            raise TrackingError(f"run {run_id} cannot be reopened: MLflow's store {store} lacks it, or it was deleted")
        start = started_ms if started_ms is not None else now_ms()
        all_tags, params = own_tags | redacted(identity), redacted(flatten(config))
        record = TrialRun(name, all_tags, params, parent, adopts, start, is_new=run_id is None)
        return TrialTracker(self._writer, experiment, self._writer.write(experiment, run_id, record), own_tags)

    def finished_run(self, experiment: str, run_id: str) -> TrialTracker:
        """Return access to a run that has ended, and stays so while what it lacks is added."""
        return TrialTracker(self._writer, experiment, run_id)

    def find_trial(self, experiment: str, number: int, parent: str, finalist: int | None = None) -> str | None:
        """Find the run that an attempt at a trial opened before it died without noting the run's id.

        Args:
            experiment: the study's name.
            number: the trial's number.
            parent: id of the study's parent run.
            finalist: as that of `trial_run`.

        Returns:
            The latest run of the trial that is under way; None if there is none, or the store is unreachable.
        """
        spool, kind = self._writer.spool_of(experiment, parent), _kind(finalist)
        return spool.run_of_trial(kind, number, parent, str(self._writer.store)) or self._writer.query(
            lambda writer: writer.lookup.find_trial(experiment, kind, str(number), parent)
        )

    def has_run(self, run_id: str) -> bool:
        """Return whether this store holds the run or, while it is unreachable, may; a study may have used another."""
        if self._writer.holds(run_id):
            return True
        return self._writer.query(lambda writer: writer.lookup.has(run_id)) is not False

    def can_resume(self, experiment: str, run_id: str) -> bool:
        """Return whether a trial goes on in this run: the store has it, will have it or, while it is unreachable, may.

        What waits of a run that was deleted is set aside: the trial records all of it anew, in another one.
        """
        return self._writer.will_have(experiment, run_id) or self.has_run(run_id)

    def answers(self) -> bool:
        """Return whether the store can be read at this moment."""
        return self._writer.query(lambda writer: writer.lookup.answers()) is True

    def waiting(self, study: str) -> dict[str, str | None]:
        """Return the runs of a study of which records wait, each with why the store refused one; None: it did not.

        They are not written by this.
        """
        spool = spool_of(study, study_id(study))
        return {run_id: spool.refusal(run_id) for run_id in spool.waiting(str(self._writer.store))}

    def refusals(self) -> dict[str, str]:
        """Return the runs that were recorded by this and of which the store refused a record that waits, and why."""
        return self._writer.refusals()

    def known_runs(self, experiment: str) -> dict[str, KnownRun] | None:
        """Return all runs of an experiment, deleted ones too, by each id that a trial may have of them.

        Returns:
            None while the store is unreachable.
        """
        return self._writer.query(lambda writer: writer.lookup.known_runs(experiment))

    def restore(self, experiment: str, store_ids: Iterable[str]) -> None:
        """Restore runs that were deleted in the store, and their experiment.

        Raises:
            TrackingError: the store refuses it.
        """

        def restore(writer: MlflowWriter) -> None:
            writer.restore_experiment(experiment)
            for store_id in store_ids:
                writer.restore(store_id)

        self._writer.query(restore)

    def artifacts(self, run_id: str) -> set[str]:
        """Return the names of a run's files and folders; none if the store does not have it, or is unreachable."""
        return self._writer.query(lambda writer: writer.lookup.artifacts(run_id)) or set()

    def download(self, run_id: str, name: str, folder: Path) -> None:
        """Copy a file or folder of a run's artifacts into an existing folder.

        Raises:
            TrackingError: the store does not give it.
        """
        self._writer.query(lambda writer: writer.lookup.download(run_id, name, folder))

    def recorded(self, run_id: str) -> RecordedRun | None:
        """Return what this store has of a run without a study, or None if it does not have the run.

        Raises:
            UnreachableError: the store is unreachable, or records of the run wait for it.
        """
        answer: tuple[RecordedRun | None] | None = None
        if not self._writer.waits(SINGLE, run_id):
            answer = self._writer.query(lambda writer: (writer.lookup.recorded(run_id),))
        if answer is None:
            raise UnreachableError(f"MLflow's store {self._writer.store} cannot be read for run {run_id}")
        return answer[0]

    def experiment_id(self, name: str) -> str | None:
        """Return the id of an experiment; None if the store does not have it, or is unreachable."""
        return self._writer.query(lambda writer: writer.lookup.experiment_id(name))

    def ui_hint(self, study: str | None = None) -> str:
        """Return the command, or a server's address, that shows the runs of a study, or all."""
        store = self._writer.store
        if store.is_server:
            found = self.experiment_id(study) if study is not None else None
            return f"{str(store).rstrip('/')}/{view_path(found)}" if found is not None else str(store)
        words = ["embedsweep", "ui", *([study] if study is not None else [])]
        if store.database != _DEFAULT_DATABASE.resolve():
            words += ["--tracking-uri", str(store)]
        return shlex.join(words)


def _kind(finalist: int | None) -> str:
    return "trial" if finalist is None else "final"


def now_ms() -> int:
    """Return the time in milliseconds since 1970, as MLflow counts it."""
    return int(time.time() * 1000)
