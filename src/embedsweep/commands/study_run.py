"""One command's work on a study: its trials, its finals and its answer, with the study's own run in MLflow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from embedsweep.commands.quoting import device_of
from embedsweep.commands.study_page import StudyPage
from embedsweep.config.metrics import direction_of
from embedsweep.errors import Interrupted, TrackingError
from embedsweep.machine import prepare_process
from embedsweep.report.live import TrialDisplay, shown
from embedsweep.report.results import StudyResults
from embedsweep.signals import shielded
from embedsweep.study.finals import open_finals
from embedsweep.study.keep import is_kept
from embedsweep.study.record import EMISSIONS_KG, ENERGY_KWH, GPU_H, StudyRecord, cost_attributes
from embedsweep.study.study import Study
from embedsweep.tracking.names import study_params
from embedsweep.tracking.runs import ParentStatus, Tracker
from embedsweep.training.group import TrainingGroup
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.conclusion import conclude
from embedsweep.workers.elsewhere import CheckpointsElsewhere
from embedsweep.workers.job import Job
from embedsweep.workers.leftovers import Leftovers
from embedsweep.workers.missing_runs import damage
from embedsweep.workers.pool import Pool
from embedsweep.workers.results_elsewhere import ResultsElsewhere
from embedsweep.workers.supervisor import Supervisor
from embedsweep.workers.worker import Worker


@dataclass(frozen=True)
class StudyRun:
    """One command's work on a study, with the study's own (parent) run in MLflow.

    Attributes:
        request: the validated command.
        study: the study, open.
        tracker: writes to MLflow.
        display: shows trials and messages.
        start: when the command started, by the monotonic clock.
        program: how this program was started.
        make_pool: makes the worker processes of the finals; they start on entering it.
        show_finals: makes the display of the finals, given how many workers run them.
    """

    request: Sweep
    study: Study
    tracker: Tracker
    display: TrialDisplay
    start: float
    program: str
    make_pool: Callable[[Study], Pool]
    show_finals: Callable[[Study, int], TrialDisplay]

    def run(self, pool: Pool, group: TrainingGroup | None) -> StudyResults:
        """Run the trials that are left, then the finals, and give the study its answer; return its results.

        Args:
            pool: the worker processes; none with ``workers=inline``.
            group: the processes that train each trial together with ``workers=inline``; None trains in this one.
        """
        study, tracker, display = self.study, self.tracker, self.display
        parent: str | None = None
        status: ParentStatus = "FAILED"
        is_over = False
        try:
            with shielded():
                parent = tracker.parent_run(study.name, study_tags(study), study_params(study.plan, study.fixed))
            page = StudyPage(study, tracker, parent, self.program, display.say)
            page.open()
            self._work(study, display, pool, group, parent, page.update)
            if (finals := open_finals(study)) is not None:
                with self.make_pool(finals) as finals_pool:
                    of_finals = self.show_finals(finals, finals_pool.size)
                    self._work(finals, of_finals, finals_pool, group, parent, page.update)
            if study.is_complete:
                # Not earlier: while workers are measured, this process has to see all their GPUs.
                prepare_process(device_of(study.plan))
                is_over = conclude(study, tracker, parent, display.say)
            with shielded():
                log_study(study, tracker, parent)
            results = page.close()
            status = "FINISHED" if is_over else "KILLED"
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            if parent is not None:
                _finish_parent(tracker, parent, status)
        return results

    def _work(
        self,
        study: Study,
        display: TrialDisplay,
        pool: Pool,
        group: TrainingGroup | None,
        parent: str,
        after_trial: Callable[[], None],
    ) -> None:
        """Run the trials that are left of the study or of its finals."""
        if self.request.study.retry_failed and (retried := study.retry_failed()):
            display.say(retry_line(study, retried))
        for line in damage(study, self.tracker):
            display.say(line)
        with shown(display):
            Leftovers(study).delete()
            CheckpointsElsewhere(study, display.say).delete_unneeded()
            results = ResultsElsewhere(study, study.services, display.say)
            results.send_missing()
            results.delete_unneeded()
            if self.request.workers.name == "inline":
                Worker(study, self.tracker, parent, display, self.deadline, group=group, after_trial=after_trial).work()
            else:
                self._supervise(study, display, pool, parent, after_trial)

    @cached_property
    def deadline(self) -> float | None:
        """Time of the monotonic clock after which no trial is started; None for no limit."""
        timeout = self.request.study.timeout
        return self.start + timeout if timeout is not None else None

    def _supervise(
        self, study: Study, display: TrialDisplay, pool: Pool, parent: str, after_trial: Callable[[], None]
    ) -> None:
        """Run trials in worker processes; one tracker measures each machine, with their GPUs, for all of them."""
        with pool.measured(study.services.emissions) as (meter, folder):
            job = Job.of(study, self.request, parent, folder)
            workers, n_left = self.request.workers, lambda: study.n_left
            Supervisor(pool, job, workers, self.deadline, n_left, meter, display, after_trial).run()


def _finish_parent(tracker: Tracker, parent: str, status: ParentStatus) -> None:
    """End the study's own run; if another error is being raised already, that one is reported."""
    is_raising = sys.exc_info()[0] is not None
    with shielded():
        try:
            tracker.finish_parent(parent, status)
        except TrackingError:
            if not is_raising:
                raise


def retry_line(study: StudyRecord, retried: Sequence[int]) -> str:
    """Return in words which failed trials of a study get another one."""
    plural, numbers = "s" if len(retried) > 1 else "", ", ".join(map(str, retried))
    return f"{len(retried)} failed {study.unit}{plural} ({numbers}) no longer counted but retried"


def study_tags(study: Study) -> dict[str, str]:
    """Return the tags of the study's own run, beside those that identify it."""
    return {"embedsweep.n_trials": str(study.n_trials), "embedsweep.sampler": study.plan.sampler}


def log_study(study: StudyRecord, tracker: Tracker, parent: str) -> None:
    """Record the best value of each objective, test scores and the sums of all costs in the study's own run.

    All metrics begin with ``study/``, because charts of the trials would draw a point for those of the same name.
    """
    metrics = {**_costs(study), **_test_scores(study)}
    for index, name in enumerate(study.plan.objectives):
        values = [trial.values[index] for trial in study.complete_trials if is_kept(trial)]
        if values:
            # Without "best/", the emissions are the sum over all trials.
            metric = f"best/{name}" if name.startswith("emissions/") else name
            metrics[metric] = max(values) if direction_of(name) == "maximize" else min(values)
    if (answer := study.answer) is not None and (verdict := answer.verdict) is not None:
        metrics[f"finals/{verdict.metric}"] = verdict.finalists[0].mean
    finals = study.finals
    trials = [*study.trials, *(finals.trials if finals is not None else [])]
    finished = sum(trial.state.is_finished() for trial in trials)
    tracker.log_parent(parent, finished, {f"study/{name}": value for name, value in metrics.items()})


def _test_scores(study: StudyRecord) -> dict[str, float]:
    """Return all test metrics: of the best finalist the means over its trainings, else those of the best trial."""
    test, tested, best = study.finals_test, study.test_scores, study.best
    if test is not None:
        return test.mean()
    is_current = tested is not None and best is not None and tested.number == best.number
    return tested.scores if tested is not None and is_current else {}


def _costs(study: StudyRecord) -> dict[str, float]:
    """Return the sum over all trials, finals and the scoring of test of each cost that any recorded, by metric."""
    names = {"emissions/co2eq_kg": EMISSIONS_KG, "emissions/energy_kwh": ENERGY_KWH, "time/gpu_h": GPU_H}
    finals = study.finals
    trials = [*study.trials, *(finals.trials if finals is not None else [])]
    attributes: list[Mapping[str, float]] = [trial.user_attrs for trial in trials]
    times: dict[str, float] = {}
    if (cost := study.scoring_cost) is not None:
        attributes.append(cost_attributes(cost))
        times["time/test_s"] = cost.duration_s
    known = {metric: [each[name] for each in attributes if name in each] for metric, name in names.items()}
    sums = {metric: sum(figures) for metric, figures in known.items() if figures or metric == "emissions/co2eq_kg"}
    return {**sums, **times}
