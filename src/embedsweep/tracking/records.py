"""What is written into a run, one small record after the other, as it is carried out or spooled.

Owns the kinds of records and their form as JSON. A record holds what it takes to be written later, times included, and
no secrets. Must not know MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import ClassVar

from embedsweep.config.trial import BenchmarkConfig, LossConfig, TrialConfig


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


_MAX_LENGTH = 6000  # MLflow cuts longer values


def flatten(config: TrialConfig) -> dict[str, str]:
    """The configuration as MLflow's params: ``optimizer.lr`` -> ``2e-05``.

    The loss's own parameters stand directly under ``loss.``. None is ``null``, a boolean ``true`` or ``false``, a
    float its shortest exact form, a tuple a JSON list. A benchmark is its name; what it is stands in ``config.yaml``.
    """
    return dict(_flat("", config))


def differences(logged: Mapping[str, str], params: Mapping[str, str]) -> list[str]:
    """In words, which of the params a run has with another value; params it lacks do not differ."""
    return [
        f"{key} is {logged[key]} there and {value} now"
        for key, value in params.items()
        if key in logged and logged[key][:_MAX_LENGTH] != value[:_MAX_LENGTH]
    ]


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BenchmarkConfig):
        yield key, value.name
    elif isinstance(value, LossConfig):
        yield f"{key}.name", value.name
        yield from _flat(key, value.parameters)
        if value.inner is not None:
            yield from _flat(f"{key}.inner", value.inner)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _flat(f"{key}.{field.name}".lstrip("."), getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, _text(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        names = [item.name if isinstance(item, BenchmarkConfig) else item for item in value]
        return json.dumps(names, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)
