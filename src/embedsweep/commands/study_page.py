"""Keep what MLflow's pages show of a study up to date while it runs: its view, its descriptions and its ranking."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from embedsweep.report.description import (
    LONGEST_OF_EXPERIMENT,
    LONGEST_OF_RUN,
    best_tags,
    description,
    trials_table,
)
from embedsweep.report.results import StudyResults, study_results
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.study.record import StudyRecord
from embedsweep.tracking.names import NOTE
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.view import VIEW_TAG, shared_view

UPDATE_S = 10.0
"""Seconds between two updates, at least."""

RANKING = "ranking.json"
"""Artifact of a study's run: all trials as a table."""


@dataclass(eq=False)
class StudyPage:
    """The pages of one study.

    Attributes:
        study: the study.
        tracker: writes to MLflow.
        parent: the id of the study's own run.
        program: how this program was started, for the commands in descriptions.
    """

    study: StudyRecord
    tracker: Tracker
    parent: str
    program: str
    _experiment_id: str | None = field(default=None, init=False)
    _updated_at: float = field(default=0.0, init=False)

    def open(self) -> None:
        """Record the view and a first description."""
        self._experiment_id = self.tracker.experiment_id(self.study.name)
        run = self.tracker.study_run(self.parent)
        run.set_experiment_tags({VIEW_TAG: shared_view(self.study.plan)})
        self._describe(study_results(self.study), with_answer=False)

    def update(self) -> None:
        """Record the results so far, unless that was done a moment ago."""
        if time.monotonic() - self._updated_at >= UPDATE_S:
            self._describe(study_results(self.study), with_answer=False)

    def close(self) -> StudyResults:
        """Record the results at the end of a command, the ranking as a table among them, and return them."""
        results = study_results(self.study)
        self._describe(results, with_answer=True)
        with shielded():
            run = self.tracker.study_run(self.parent)
            run.set_tags(best_tags(results, self.program))
            run.log_table(RANKING, trials_table(results))
        return results

    def _describe(self, results: StudyResults, *, with_answer: bool) -> None:
        texts = [
            redact(description(results, self.program, self._experiment_id, longest, with_answer=with_answer))
            for longest in (LONGEST_OF_RUN, LONGEST_OF_EXPERIMENT)
        ]
        with shielded():
            run = self.tracker.study_run(self.parent)
            run.set_tags({NOTE: texts[0]})
            run.set_experiment_tags({NOTE: texts[1]})
        self._updated_at = time.monotonic()
