"""The store as a study and its trials see it: their runs, begun, gone on with and found again.

Owns what a run is called and tagged. Must not know whether the store answers at the moment, nor MLflow's calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.paths import SINGLE
from embedsweep.schema import TrackingConfig, TrialConfig
from embedsweep.secrets import redact
from embedsweep.tracking.journal import Journal
from embedsweep.tracking.ledger import Ledger, origin, redacted
from embedsweep.tracking.lookup import RecordedRun, study_id
from embedsweep.tracking.outages import Tell, log_line
from embedsweep.tracking.params import flatten
from embedsweep.tracking.records import End, Study, Trial
from embedsweep.tracking.trial_run import TrialTracker, now_ms

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
        self._journal = Journal(config, tell)
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

        def create(ledger: Ledger) -> str:
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

        def reopen(ledger: Ledger) -> str:
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
