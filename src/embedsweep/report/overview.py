"""All studies of a working directory in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from embedsweep.console import duration
from embedsweep.errors import ConfigError, StudyError
from embedsweep.report.status import study_status
from embedsweep.report.tables import aligned, score_text
from embedsweep.study.finals import expects_finals
from embedsweep.study.reading import read_study
from embedsweep.study.record import StudyRecord
from embedsweep.study.storage import storage_errors

DAY_S = 86400


@dataclass(frozen=True)
class StudyRow:
    """A study in the table.

    Attributes:
        name: its name.
        changed: when a trial last began or ended; None without trials and of a study that cannot be read.
        cells: the other columns as text.
    """

    name: str
    changed: datetime | None
    cells: tuple[str, str, str, str]


def overview(names: Sequence[str]) -> list[str]:
    """Return the lines of a table of studies, the one that changed last first; then why some cannot be read."""
    rows: list[StudyRow] = []
    unread: list[str] = []
    for name in names:
        try:
            with storage_errors():
                rows.append(_row(read_study(name)))
        except ConfigError as error:
            unread += [f"study {problem.where} cannot be read: {problem.message}" for problem in error.problems]
        except StudyError as error:
            unread.append(f"study {name} cannot be read: {error}")
    rows.sort(key=lambda row: row.changed or datetime.min, reverse=True)
    header = ("study", "state", "trials", "best", "objective", "changed")
    cells = [(row.name, *row.cells, _age(row.changed)) for row in rows]
    return [*(aligned(header, cells, left={0, 1, 2, 4}) if rows else []), *unread]


def _row(study: StudyRecord) -> StudyRow:
    status, objective = study_status(study), study.plan.objective
    notes = f", {status.n_failed} failed" if status.n_failed else ""
    notes += ", stopped" if status.stopped else ""
    times = [
        time
        for trial in (*study.trials, *(study.finals.trials if study.finals is not None else ()))
        for time in (trial.datetime_start, trial.datetime_complete)
        if time is not None
    ]
    score = "-" if status.best is None else score_text(objective, status.best[1])
    finals = study.finals
    if finals is not None:
        notes += f", finals {study_status(finals).n_finished} of {finals.n_trials}"
    cells = (_state(study), f"{status.n_finished} of {status.n_trials}{notes}", score, objective)
    return StudyRow(study.name, max(filter(None, times), default=None), cells)


def _state(study: StudyRecord) -> str:
    """Return the state of a study; once it is complete, that of the finals it asks for."""
    state, finals = study.state, study.finals
    if state != "complete" or not expects_finals(study):
        return state
    if finals is None:
        return "finals not begun"
    if not finals.is_complete:
        return f"finals {finals.state}"
    return state if study.is_answered else "finals not compared"


def _age(time: datetime | None) -> str:
    """Return how long ago a local time was."""
    if time is None:
        return "-"
    seconds = max(0.0, (datetime.now() - time).total_seconds())  # as Optuna notes times
    return f"{seconds / DAY_S:.0f} days ago" if seconds >= 2 * DAY_S else f"{duration(seconds)} ago"
