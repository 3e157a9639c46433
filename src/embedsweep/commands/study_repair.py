"""Compare a study's storage, its folders and its MLflow runs, and rebuild each from the others."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from optuna.trial import TrialState
from rich.console import Console

from embedsweep.commands.study_page import StudyPage
from embedsweep.commands.study_run import log_study, study_tags
from embedsweep.console import say
from embedsweep.errors import ConfigError, StudyError
from embedsweep.files import FINALS
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.study.opening import find_study, open_study, place, quiet_optuna
from embedsweep.study.record import RUN_ID
from embedsweep.study.repair import StudyRepair
from embedsweep.study.services import frozen_attributes
from embedsweep.study.storage import storage_errors, study_lock
from embedsweep.study.study import Study
from embedsweep.tracking.names import study_params
from embedsweep.tracking.replay import Replay, write_or_set_aside
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.spool import SPOOL
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.missing_runs import (
    add_best,
    missing_files,
    missing_runs,
    owner_of,
    record_again,
    without_best,
)


def repair_study(request: Sweep, console: Console, *, is_written: bool) -> int:
    """Print how the records of the study that ``request`` names differ, and rebuild what differs if ``is_written``.

    Returns:
        0 if the records agree now, 1 if something is left.

    Raises:
        StudyError: the records contradict each other, or the study's plan is lost.
        TrackingError: MLflow's store cannot be opened.
    """
    repair = _Repair(request, console, is_written)
    with storage_errors():
        repair.run()
        finals = replace(request, study=replace(request.study, name=f"{request.study.name}/{FINALS}"))
        if place(finals)[1].is_dir():
            repair.run(finals)
    return repair.conclude()


@dataclass
class _Repair:
    """One command's comparison of a study's records, and their repair.

    Attributes:
        request: names the study, its storage and MLflow's store.
        console: where the findings are printed.
        is_written: whether what differs is rebuilt.
        found: how many differences were found.
        left: how many of them are left.
    """

    request: Sweep
    console: Console
    is_written: bool
    found: int = 0
    left: int = 0

    def run(self, finals: Sweep | None = None) -> None:
        """Compare the storage with the folders first: MLflow's runs are rebuilt from both.

        Args:
            finals: the same request about the finals of the study, which are compared then; None compares the study.
        """
        request = finals or self.request
        self._compare_storage(request)
        try:
            study = open_study(request) if self.is_written else find_study(request)
        except (ConfigError, StudyError):
            if self.is_written or not self.found:
                raise
            study = None
        if study is None:
            say(self.console, "MLflow's runs are compared once these are rebuilt")
            return
        with closing(Tracker(study.services.tracking, partial(say, self.console))) as tracker:
            if not tracker.answers():
                self._say("MLflow's runs were not compared", "repeat this when the store answers", can_be_done=False)
                return
            is_restored = self._restore_deleted(study, tracker)
            self._write_waiting(study, tracker)
            self._record_missing(study, tracker, is_restored=is_restored)
            self._add_best(study, tracker)
            self._compare_files(study, tracker)

    def conclude(self) -> int:
        """Print what to do next; return the exit code."""
        name = self.request.study.name
        if not self.found:
            say(self.console, f"study {name}: storage, folders and MLflow's runs agree")
        elif not self.is_written:
            say(self.console, f"nothing was changed; embedsweep repair {name} --write does what each arrow points to")
        else:
            say(self.console, f"the study resumes by: embedsweep train -m study.name={name}")
        return 1 if self.left else 0

    def _say(self, what: str, remedy: str, *, can_be_done: bool) -> None:
        self.found += 1
        self.left += not (can_be_done and self.is_written)
        say(self.console, redact(f"{what} -> {remedy}"))

    def _compare_storage(self, request: Sweep) -> None:
        quiet_optuna()
        name, folder, url = place(request)
        with study_lock(url, folder, name):
            for finding in StudyRepair(name, folder, url, frozen_attributes(request)).findings():
                if self.is_written and finding.act is not None:
                    finding.act()
                self._say(finding.what, finding.remedy, can_be_done=finding.act is not None)

    def _restore_deleted(self, study: Study, tracker: Tracker) -> bool:
        """Return whether runs were restored."""
        missing = missing_runs(study, tracker)
        for each in missing:
            if each.deleted is not None:
                what = f"the run of {study.unit} {each.trial.number} was deleted in MLflow"
                self._say(what, "restored", can_be_done=True)
        if not missing or not self.is_written:
            return False
        tracker.restore(study.experiment, [each.deleted for each in missing if each.deleted is not None])
        return True

    def _write_waiting(self, study: Study, tracker: Tracker) -> None:
        """Write the records that wait in the spool; one that the store still refuses is set aside there."""
        if study.is_finals:  # they wait in the folder of the study, and were written with its own
            return
        waiting = tracker.waiting(study.name)
        result = Replay(refused={run_id: reason for run_id, reason in waiting.items() if reason is not None})
        if self.is_written and waiting:
            result = write_or_set_aside(study.name, study.services.tracking.uri, partial(say, self.console))
        for run_id in waiting:
            reason = result.left.get(run_id)
            what = f"records of {owner_of(study, run_id)} wait in {study.folder / SPOOL}"
            remedy = "written; what MLflow refuses is set aside there" if run_id in result.refused else "written"
            self._say(f"{what}: {reason}" if reason else what, remedy, can_be_done=run_id not in result.delayed)

    def _record_missing(self, study: Study, tracker: Tracker, *, is_restored: bool) -> None:
        """Record the runs that are missing again, and the study's own run, which may have been deleted, too."""
        missing = [each.trial for each in missing_runs(study, tracker) if each.deleted is None]
        for trial in missing:
            what = f"the run of {study.unit} {trial.number} is not in MLflow's store"
            self._say(what, "recorded again from its folder and the storage", can_be_done=True)
        if older := [str(trial.number) for trial in missing if study.context_of(trial) is None]:
            numbers = ", ".join(older)
            say(self.console, f"(an older version kept no data sets and not all tags of trials {numbers})")
        if not (missing or is_restored) or not self.is_written:
            return
        with shielded():
            of = self._study_of(study)
            parent = tracker.parent_run(of.name, study_tags(of), study_params(of.plan, of.fixed))
        page = StudyPage(of, tracker, parent, "embedsweep train", partial(say, self.console))
        page.open()
        for trial in missing:
            with shielded():
                record_again(study, tracker, parent, trial, of)
        with shielded():
            log_study(of, tracker, parent)
        page.close()
        with shielded():
            tracker.finish_parent(parent, "FINISHED" if of.is_complete else "KILLED")

    def _study_of(self, study: Study) -> Study:
        """Return the study; of finals the one whose finals they are."""
        found = find_study(self.request) if study.is_finals else study
        assert found is not None, "its finals were found"
        return found

    def _add_best(self, study: Study, tracker: Tracker) -> None:
        trials = without_best(study, tracker)
        if not trials:
            return
        if self.is_written:
            for trial in trials:
                add_best(study, tracker, trial)
        numbers = ", ".join(str(trial.number) for trial in trials)
        what = f"{len(trials)} run{'s' if len(trials) > 1 else ''} ({study.unit}s {numbers}) without best/..."
        self._say(what, "added from the trials' results", can_be_done=True)

    def _compare_files(self, study: Study, tracker: Tracker) -> None:
        """Compare the files of finished trials with the artifacts of their runs."""
        of = self._study_of(study)
        for trial in study.trials:
            names = missing_files(study, trial, of) if trial.state.is_finished() else []
            if not names or RUN_ID not in trial.user_attrs:
                continue
            run_id, folder = trial.user_attrs[RUN_ID], study.trial_folder(trial.number)
            has = tracker.artifacts(run_id)
            for name in names:
                if name in has:
                    if self.is_written:
                        folder.mkdir(parents=True, exist_ok=True)
                        tracker.download(run_id, name, folder)
                    self._say(f"{folder} lacks {name}", "copied from its run in MLflow", can_be_done=True)
                elif trial.state is not TrialState.FAIL:  # which may never have had it
                    self._say(f"{folder} lacks {name}", "cannot come back: its run has none", can_be_done=False)
