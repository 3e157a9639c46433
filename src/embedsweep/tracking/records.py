"""The kinds of records that are written to MLflow, and their form as lines of JSON in a spool.

A record holds all that is needed to write it later, including times, and no secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, get_args


@dataclass(frozen=True)
class StudyRun:
    """Create a study's parent run, or reopen it; its status becomes RUNNING.

    Attributes:
        study: the study's name, which is also the experiment's and the run's.
        tags: tags to set; they replace those of the same name.
        time_ms: the start of the run if it is created, in milliseconds since 1970.
        params: what was searched and what was fixed; a reopened run gets those it lacks.
    """

    kind: ClassVar[str] = "study"
    study: str
    tags: Mapping[str, str]
    time_ms: int
    params: Mapping[str, str] = field(default_factory=dict)  # which earlier versions did not record


@dataclass(frozen=True)
class TrialRun:
    """Create a trial's run, or reopen it; its status and state become RUNNING.

    Attributes:
        name: the run's name if it is created.
        tags: the run's tags if it is created; they identify the trial.
        params: all params; a reopened run gets those it lacks.
        parent: id of the study's parent run; None without a study.
        adopts: whether an earlier attempt may have created a run whose id is not known.
        time_ms: the start of the run if it is created, in milliseconds since 1970.
        is_new: whether the run's id was made for this record, so that the store cannot have the run before it is
            written; earlier versions did not say.
    """

    kind: ClassVar[str] = "trial"
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    parent: str | None
    adopts: bool
    time_ms: int
    is_new: bool = False


@dataclass(frozen=True)
class Metrics:
    """Log metrics; each of ``points`` is a step with values by name."""

    kind: ClassVar[str] = "metrics"
    points: list[tuple[int, dict[str, float]]]
    time_ms: int


@dataclass(frozen=True)
class Tags:
    """Set tags; they replace those of the same name."""

    kind: ClassVar[str] = "tags"
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ExperimentTags:
    """Set tags of the run's experiment; they replace those of the same name."""

    kind: ClassVar[str] = "experiment_tags"
    tags: Mapping[str, str]


@dataclass(frozen=True)
class DataSet:
    """Log a data set as an input of the run; attributes as in ``TrialTracker.log_dataset``."""

    kind: ClassVar[str] = "data_set"
    name: str
    digest: str
    source: str
    context: str


@dataclass(frozen=True)
class Files:
    """Copy a file, or the content of a folder, into the run's artifacts.

    Attributes:
        path: the file or folder; in a spool's file, relative to the spool's folder.
        folder: the folder among the artifacts; None is their root.
    """

    kind: ClassVar[str] = "files"
    path: str
    folder: str | None


@dataclass(frozen=True)
class End:
    """End the run.

    Attributes:
        status: MLflow's status of the run.
        state: Optuna's state of the trial; None for a parent run.
        time_ms: the end of the run, in milliseconds since 1970.
    """

    kind: ClassVar[str] = "end"
    status: str
    state: str | None
    time_ms: int


Record = StudyRun | TrialRun | Metrics | Tags | ExperimentTags | DataSet | Files | End

_KINDS: Mapping[str, type[Record]] = {kind.kind: kind for kind in get_args(Record)}


def to_line(record: Record) -> str:
    """Return the record as one line of JSON, without the line's end."""
    return json.dumps({"record": record.kind, **asdict(record)}, ensure_ascii=False)


def from_line(line: str) -> Record:
    """Read the record of a line.

    Raises:
        ValueError, KeyError, TypeError: the line is not a valid record.
    """
    fields = json.loads(line)
    kind = _KINDS[fields.pop("record")]
    if kind is Metrics:
        fields["points"] = [(int(step), dict(values)) for step, values in fields["points"]]
    return kind(**fields)
