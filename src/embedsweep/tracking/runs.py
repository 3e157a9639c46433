"""The store as a study and its trials see it: their runs, begun, gone on with and found again.

Owns what a run is called and tagged. Must not know whether the store answers at the moment, nor MLflow's calls.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from embedsweep.config.study import TrackingConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.files import SINGLE
from embedsweep.secrets import redact
from embedsweep.tracking.client import MlflowWriter, origin, redacted
from embedsweep.tracking.journal import RecordWriter
from embedsweep.tracking.lookup import RecordedRun, study_id
from embedsweep.tracking.records import DataSet, End, Files, Metrics, Record, Study, Tags, Trial, flatten
from embedsweep.tracking.store import Tell, log_line

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

    def __init__(self, journal: RecordWriter, experiment: str, run_id: str, *, reopened: bool) -> None:
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


ParentStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""MLflow's word for how the command that worked on a study ended."""

_DEFAULT_DATABASE = Path("mlruns", "mlflow.db")


class Tracker:
    """A store, and the way into it; where it goes away, records wait on this disk (``sweeps/<study>/spool``).

    Args:
        config: where the store is; a sqlite file that does not exist is created, with its folder. With ``spool`` it may
            be away from the start.
        tell: is given a line when the store goes away or comes back, by another thread, too.

    Raises:
        TrackingError: the store cannot be opened; a server that cannot be reached is given up after 12 s.
    """

    def __init__(self, config: TrackingConfig, tell: Tell = log_line) -> None:
        self._journal = RecordWriter(config, tell)
        self._studies: dict[str, str] = {}  # id of a study's own run -> its experiment

    def close(self) -> bool:
        """Ends the command's part: what waits is written if the store answers, within a minute; the rest is told of.

        Returns:
            Whether nothing is left to ``embedsweep sync``.
        """
        return self._journal.close()

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is created where there is none.

        Raises:
            UnreachableError: the store is away.
            TrackingError: the name belongs to a deleted experiment, or cannot be a folder's.
        """
        found = self._journal.ask(lambda ledger: ledger.lookup.experiment(name), None)
        if found is None:
            raise UnreachableError(f"MLflow's store {self._journal.store} does not answer")
        return found

    def parent_run(self, study: str, tags: Mapping[str, str]) -> str:
        """The id of the study's own run, RUNNING from now on; created by the first command that works on the study.

        Args:
            study: the study's name, which is its experiment's and the run's too.
            tags: what this command knows about the study; later commands overwrite earlier ones.
        """
        record = Study(study, redacted(tags), now_ms())
        self._journal.visit(study, study_id(study))
        run_id = self._journal.ask(lambda ledger: ledger.open_study(record), None)
        if run_id is None:
            run_id = study_id(study)
            self._journal.spool(study, run_id, record)
        self._studies[run_id] = study
        return run_id

    def log_parent(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Logs a study's own figures.

        Args:
            run_id: the study's own run.
            step: how many of its trials are finished.
            metrics: values by name; what stands at that step already stays.
        """
        TrialTracker(self._journal, self._study_of(run_id), run_id, reopened=True).log_metrics(step, metrics)

    def finish_parent(self, run_id: str, status: ParentStatus) -> None:
        """Ends the study's own run, until the next command works on it."""
        self._journal.write(self._study_of(run_id), run_id, End(status, None, now_ms()))

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
            adopts: whether an earlier attempt may have made a run whose id is not known, because the store is away.

        Raises:
            TrackingError: the run to reopen does not exist, was deleted, or has other params.
        """
        identity = {
            "embedsweep.kind": "trial",
            "embedsweep.trial": str(number),
            "embedsweep.config_hash": config_hash,
            "embedsweep.state": "RUNNING",
        } | ({"mlflow.parentRunId": parent} if parent and parent != study_id(experiment) else {})
        every_tag = redacted({**origin(), **(tags or {}), **identity})
        name = redact(run_name or f"trial-{number:04d}")
        record = Trial(name, every_tag, redacted(flatten(config)), parent, adopts, now_ms())
        found = self._reopen(experiment, run_id, record) if run_id is not None else self._create(experiment, record)
        if found is None:
            found = run_id or uuid.uuid4().hex
            self._journal.spool(experiment, found, record)
        return TrialTracker(self._journal, experiment, found, reopened=run_id is not None)

    def find_trial(self, experiment: str, number: int, parent: str) -> str | None:
        """The id of the run that an attempt at a trial opened before it died, had it no time to note the id.

        Args:
            experiment: the study's name.
            number: the trial's number.
            parent: id of the study's own run.

        Returns:
            The youngest run of that trial that is under way; None where there is none, or the store is away.
        """
        spool = self._journal.visit(experiment, parent)
        return spool.of_trial(number, parent, str(self._journal.store)) or self._journal.ask(
            lambda ledger: ledger.lookup.find_trial(experiment, str(number), parent), None
        )

    def has_run(self, run_id: str) -> bool:
        """Whether this store holds the run, or will; a study may be resumed with another one."""
        return self._journal.holds(run_id) or self._journal.ask(
            lambda ledger: ledger.lookup.find(run_id) is not None, True
        )

    def recorded(self, run_id: str) -> RecordedRun | None:
        """What this store knows of a single run; None where it does not hold it.

        Raises:
            UnreachableError: the store is away, or records of the run wait for it.
        """
        answer: tuple[RecordedRun | None] | None = None
        if not self._journal.waits(SINGLE, run_id):
            answer = self._journal.ask(lambda ledger: (ledger.lookup.recorded(run_id),), None)
        if answer is None:
            raise UnreachableError(f"MLflow's store {self._journal.store} cannot say what it holds of run {run_id}")
        return answer[0]

    def ui_hint(self) -> str:
        """What a person types, or opens in a browser, to see the runs."""
        store = self._journal.store
        if store.database is None:
            return str(store)
        if store.database == _DEFAULT_DATABASE.resolve():
            return "embedsweep ui"
        return f"embedsweep ui tracking.uri={store}"

    def _create(self, experiment: str, record: Trial) -> str | None:
        """The id of a new run; None where the store is away."""
        tried = False

        def create(ledger: MlflowWriter) -> str:
            nonlocal tried
            # A database may have been locked between the run and its params.
            found = ledger.lookup.find_created(experiment, record) if tried else None
            tried = True
            if found is None:
                return ledger.create_trial(experiment, record)
            ledger.reopen(found, record.params)
            return found

        return self._journal.ask(create, None)

    def _reopen(self, experiment: str, run_id: str, record: Trial) -> str | None:
        """The id, once the run goes on; None where the store is away, or records of the run wait."""

        def reopen(ledger: MlflowWriter) -> str:
            found = ledger.lookup.find(run_id, experiment)
            if found is None:
                raise TrackingError(f"run {run_id} cannot be reopened: MLflow's store {self._journal.store} lacks it")
            ledger.reopen(found, record.params)
            return run_id

        return None if self._journal.waits(experiment, run_id) else self._journal.ask(reopen, None)

    def _study_of(self, run_id: str) -> str:
        if run_id not in self._studies:
            name = self._journal.ask(lambda ledger: ledger.lookup.experiment_of(run_id), None)
            if name is None:
                raise UnreachableError(f"the study of run {run_id} is not known while MLflow's store is away")
            self._studies[run_id] = name
        return self._studies[run_id]
