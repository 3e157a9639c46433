"""Keep what is shown of a study up to date: its view, descriptions and ranking in MLflow's pages, and its report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from embedsweep.errors import TrackingError, first_line
from embedsweep.files import is_disk_full
from embedsweep.report.description import (
    LONGEST_OF_EXPERIMENT,
    LONGEST_OF_RUN,
    best_tags,
    description,
    finals_table,
    trials_table,
)
from embedsweep.report.page.build import REPORT, write_report
from embedsweep.report.results import StudyResults, study_results
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.study.study import Study
from embedsweep.tracking.names import NOTE
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.view import VIEW_TAG, shared_view

UPDATE_S = 10.0
"""Seconds between two updates, at least."""

MOST_OF_TIME = 0.02
"""Share of the time that updates take, at most: each reads all trials, some 1.6 s for 10,000."""

RANKING = "ranking.json"
"""Artifact of a study's run: all trials as a table."""


FINALS_TABLE = "finals.json"
"""Artifact of a study's run: the trials of its finals as a table."""


@dataclass(eq=False)
class StudyPage:
    """The pages of one study. A description that cannot be made is told of and ends nothing.

    Attributes:
        study: the study.
        tracker: writes to MLflow.
        parent: the id of the study's own run.
        program: how this program was started, for the commands in descriptions.
        notify: is told once why descriptions cannot be made.
    """

    study: Study
    tracker: Tracker
    parent: str
    program: str
    notify: Callable[[str], None]
    _experiment_id: str | None = field(default=None, init=False)
    _next_at: float = field(default=0.0, init=False)
    _has_told: bool = field(default=False, init=False)

    def open(self) -> None:
        """Record the view and a first description."""
        run = self.tracker.study_run(self.parent)
        run.set_experiment_tags({VIEW_TAG: shared_view(self.study.plan)})
        self._describe_now()

    def update(self) -> None:
        """Record the results so far, unless that was done a moment ago."""
        if time.monotonic() >= self._next_at:
            self._describe_now()

    def _describe_now(self) -> None:
        begun = time.monotonic()
        with self._lasting():
            self._describe(study_results(self.study), with_answer=False)
        now = time.monotonic()
        self._next_at = now + max(UPDATE_S, (now - begun) / MOST_OF_TIME)

    def close(self) -> StudyResults:
        """Record the results at the end of a command, and return them.

        The ranking as a table is among them, and the report of a complete study.
        """
        results = study_results(self.study)
        with self._lasting():
            self._describe(results, with_answer=True)
        with self._lasting(), shielded():
            run = self.tracker.study_run(self.parent)
            run.set_tags(best_tags(results, self.program))
            run.log_table(RANKING, trials_table(results))
            if self.study.finals is not None:
                run.log_table(FINALS_TABLE, finals_table(results))
        with self._lasting("the report of the study"):
            self._report(results)
        return results

    def _report(self, results: StudyResults) -> None:
        """Keep what the report needs; of a complete study, write and record it."""
        if results.best is not None:
            self.study.keep_differences(results.best.number, len(results.ranked), results.differences)
        if self.study.is_complete:
            path = write_report(results, self.program)
            with shielded():
                self.tracker.study_run(self.parent).log_artifact(path, REPORT.parent.name)

    @contextmanager
    def _lasting(self, what: str = "the description of the study in MLflow") -> Iterator[None]:
        """Go on after a problem of the block; workers report a storage that stays away, and end the command.

        Args:
            what: what the block brings up to date.

        Raises:
            TrackingError: a record cannot be kept, as those of trials cannot be, then.
            OSError: the disk is full.
        """
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            logging.getLogger(__name__).info("%s cannot be made", what, exc_info=True)
            if not self._has_told:
                self._has_told = True
                reason = redact(f"{type(error).__name__}: {first_line(error)}")
                self.notify(f"{what} is not up to date ({reason})")

    def _describe(self, results: StudyResults, *, with_answer: bool) -> None:
        if self._experiment_id is None:  # asked again where the store was away, for the links
            self._experiment_id = self.tracker.experiment_id(self.study.name)
        texts = [
            redact(description(results, self.program, self._experiment_id, longest, with_answer=with_answer))
            for longest in (LONGEST_OF_RUN, LONGEST_OF_EXPERIMENT)
        ]
        with shielded():
            run = self.tracker.study_run(self.parent)
            run.set_tags({NOTE: texts[0]})
            run.set_experiment_tags({NOTE: texts[1]})
