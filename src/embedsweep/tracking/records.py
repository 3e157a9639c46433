"""What is written into a run, one small record after the other, as it is carried out or spooled.

Owns the kinds of records and their form as JSON. A record holds what it takes to be written later, times included, and
no secrets. Must not know MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Study:
    """A study's own run is found or created, and RUNNING from now on.

    Attributes:
        study: its name, which is its experiment's, too.
        tags: what is known about it.
        time_ms: when that was.
    """

    kind: ClassVar[str] = "study"
    study: str
    tags: Mapping[str, str]
    time_ms: int


@dataclass(frozen=True)
class Trial:
    """A trial's run is created, or goes on.

    Attributes:
        name: the run's, if it is created.
        tags: of the run, if it is created; its identity among them.
        params: all of them.
        parent: id of the study's own run, if there is one.
        adopts: whether an earlier attempt may have created a run of which nobody knows the id.
        time_ms: when it began.
    """

    kind: ClassVar[str] = "trial"
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    parent: str | None
    adopts: bool
    time_ms: int


@dataclass(frozen=True)
class Metrics:
    """Points of metrics: step, then values by name."""

    kind: ClassVar[str] = "metrics"
    points: list[tuple[int, dict[str, float]]]
    time_ms: int


@dataclass(frozen=True)
class Tags:
    """Tags, over those of the same name."""

    kind: ClassVar[str] = "tags"
    tags: Mapping[str, str]


@dataclass(frozen=True)
class DataSet:
    """A data set is an input of the run; attributes as in ``TrialTracker.log_dataset``."""

    kind: ClassVar[str] = "data_set"
    name: str
    digest: str
    source: str
    context: str


@dataclass(frozen=True)
class Files:
    """A file, or what is in a folder, belongs to the artifacts, in ``folder`` of them if it is named.

    Attributes:
        path: where it lies; in a spool, relative to the spool's folder.
    """

    kind: ClassVar[str] = "files"
    path: str
    folder: str | None


@dataclass(frozen=True)
class End:
    """The run ends.

    Attributes:
        status: MLflow's word.
        state: Optuna's word, of a trial.
    """

    kind: ClassVar[str] = "end"
    status: str
    state: str | None
    time_ms: int


Record = Study | Trial | Metrics | Tags | DataSet | Files | End

_KINDS: Mapping[str, type[Record]] = {
    "study": Study,
    "trial": Trial,
    "metrics": Metrics,
    "tags": Tags,
    "data_set": DataSet,
    "files": Files,
    "end": End,
}


def to_line(record: Record) -> str:
    """The record as one line of JSON, without its end."""
    return json.dumps({"record": record.kind, **asdict(record)}, ensure_ascii=False)


def from_line(line: str) -> Record:
    """The record of a line.

    Raises:
        ValueError, KeyError, TypeError: the line is no record's.
    """
    fields = json.loads(line)
    kind = _KINDS[fields.pop("record")]
    if kind is Metrics:
        fields["points"] = [(int(step), dict(values)) for step, values in fields["points"]]
    return kind(**fields)
