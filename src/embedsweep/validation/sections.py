"""Read the sections of a configuration: the keys whose type does not say all, and what must hold within a section.

Types and bounds stand on the dataclasses of ``config``; how sections go together is checked by ``rules``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_args

from embedsweep.config.metrics import FAMILIES, scoring_keys
from embedsweep.config.reader import KeyReaders, Reader, as_typed
from embedsweep.config.study import EmissionsConfig, PruningConfig, SearchConfig, StudyConfig, TrackingConfig
from embedsweep.config.trial import (
    SHAPES,
    AlsoConfig,
    BenchmarkConfig,
    Column,
    DataConfig,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    ParameterValue,
    Pooling,
    Shape,
    TrialConfig,
)
from embedsweep.config.types import TokenLimit, fields_of
from embedsweep.config.values import nearest, resolve, shown
from embedsweep.config.workers import WorkersConfig
from embedsweep.data.examples import COLUMNS, text_columns
from embedsweep.errors import Problem
from embedsweep.losses.table import LOSSES

T = TypeVar("T")

TRIAL_SECTIONS = tuple(field.name for field in fields(TrialConfig) if field.name not in ("objective", "rungs"))
"""The sections that decide the result of a trial: model, loss, data, dataloader, optimizer, trainer, evaluation."""

SERVICES: Mapping[str, type] = {
    "search": SearchConfig,
    "study": StudyConfig,
    "workers": WorkersConfig,
    "tracking": TrackingConfig,
    "emissions": EmissionsConfig,
}
"""The other sections, which all trials of a command share."""


def read_sections(
    composed: Mapping[str, Any], kinds: Mapping[str, type[Any]], problems: list[Problem]
) -> dict[str, Any]:
    """Resolve sections of a composed configuration and read each as its type; what is wrong goes to ``problems``."""
    tree = resolve(composed, {}, kinds)
    return {name: read_section(kind, name, tree[name], problems) for name, kind in kinds.items()}


def read_trial(
    tree: Mapping[str, Any], objective: str, rungs: tuple[float, ...], problems: list[Problem]
) -> TrialConfig:
    """Return the part of a resolved configuration that decides a trial's result.

    Args:
        tree: section -> its keys and values.
        objective: the dev metric that chooses the best checkpoint.
        rungs: fractions of the steps at which the pruner decides.
        problems: where everything wrong is added.
    """
    root = Reader({name: tree.get(name) for name in TRIAL_SECTIONS}, "", problems, KEY_READERS)
    types = fields_of(TrialConfig)
    sections: dict[str, Any] = {
        name: read_loss(root.section(name)) if name == "loss" else root.value(name, types[name][1])
        for name in TRIAL_SECTIONS
    }
    return TrialConfig(objective=objective, rungs=rungs, **sections)


def read_section(kind: type[T], where: str, section: object, problems: list[Problem]) -> T:
    """Return one section as its dataclass; everything wrong with it is added to ``problems``.

    Args:
        kind: the dataclass, such as ``StudyConfig``.
        where: the section's name in messages.
        section: its keys and values, resolved.
        problems: where problems are added.
    """
    return Reader(section, where, problems, KEY_READERS).read(kind)


def read_loss(reader: Reader) -> LossConfig:
    """Return the loss by its name, with the parameters that the table of losses gives it, and the loss inside."""
    name: str = reader.value("name", str)
    if name not in LOSSES:
        if name:
            reader.problem("name", f"no loss {name}{nearest(name, LOSSES)}; there are: {', '.join(LOSSES)}")
        return LossConfig(name, {}, None)
    row = LOSSES[name]
    parameters = {key: _parameter(reader, key, kind) for key, kind in row.parameters.items()}
    inner = read_loss(reader.section("inner")) if row.wraps else None
    known = [*row.parameters, *(["inner"] if row.wraps else [])]
    for key in reader.rest():
        reader.problem(
            key, f"loss={name} has no such parameter{nearest(key, known)}; it has: {', '.join(known) or 'none'}"
        )
    return LossConfig(name, parameters, inner)


def _parameter(reader: Reader, key: str, kind: Any) -> ParameterValue:
    before = len(reader.problems)
    value: ParameterValue = reader.value(key, kind)
    if value == () and len(reader.problems) == before:
        reader.problem(key, "must have at least one number in it, as [128,64]")
    return value


def _shape(reader: Reader) -> Shape:
    """Return the shape of the data in a section, whatever else is wrong; its own reader reports a wrong one."""
    shape = reader.peek("shape")
    return shape if shape in SHAPES else SHAPES[0]


def _columns(reader: Reader) -> tuple[Column, ...]:
    shape = _shape(reader)
    wanted = COLUMNS[shape]
    value = reader.raw("columns")
    if isinstance(value, list | tuple) and (
        len(value) == len(wanted) or (shape == "tuples" and len(value) > len(wanted))
    ):
        are_names = all(isinstance(item, str) for item in value)
        are_positions = all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value)
        if (are_names or are_positions) and len(set(value)) == len(value):
            return tuple(value)
    reader.problem(
        "columns",
        f"must be {'at least ' if shape == 'tuples' else ''}{len(wanted)} names of a header ({', '.join(wanted)} of "
        f"data.shape={shape}, in that order), or as many positions from 0 where there is none: "
        f"[{','.join(wanted)}], but got {shown(value)}",
    )
    return tuple(range(len(wanted)))


def _where(reader: Reader) -> Mapping[str, str]:
    return {name: shown(value) for name, value in reader.value("where", Mapping[str, object]).items()}


def _titles(reader: Reader) -> bool:
    value: bool = reader.value("titles", bool)
    data_format = reader.peek("format")
    if value and data_format not in ("beir", "generated"):  # demo data checks for itself
        message = f"are of documents in the layout of BEIR, and data.format={shown(data_format)} has none: leave it at"
        reader.problem("titles", f"{message} false, or take data=beir")
    return value


def _labels(reader: Reader) -> tuple[str, ...] | None:
    value = reader.raw("labels")
    if value is None:
        return None
    are_names = isinstance(value, list | tuple) and all(
        isinstance(item, str | int) and not isinstance(item, bool) and str(item).strip() for item in value
    )
    labels = tuple(str(item).strip() for item in value) if are_names else ()
    shape = _shape(reader)
    if len(labels) < 2 or len(set(labels)) < len(labels):
        what = "must be the names of at least two classes in the order of their numbers, as [no match,match]"
        reader.problem(
            "labels", f"{what} (quote yes and no, which YAML takes for true and false), but got {shown(value)}"
        )
    elif not shape.startswith("class_"):
        reader.problem("labels", f"are names of classes, and data.shape={shape} has none: leave them out (null)")
    return labels or None


def _max_tokens(reader: Reader) -> tuple[int, ...] | None:
    value: tuple[int, ...] | None = reader.value("max_tokens", tuple[TokenLimit, ...] | None)
    shape = _shape(reader)
    texts = text_columns(shape, len(reader.peek("columns") or ()))
    if value and len(value) != len(texts):
        message = f"must be a number for each of {', '.join(texts)} (data.shape={shape}), but got {shown(list(value))}"
        reader.problem("max_tokens", message)
    return value


def _delimiter(reader: Reader) -> str:
    is_tab = reader.raw("delimiter") in ("\t", "\\t", "tab")
    value: str = "\t" if is_tab else reader.value("delimiter", str)
    if len(value) > 1 or value in ('"', "\r", "\n"):
        reader.problem("delimiter", f'must be one character, such as "," or ";" or "\\t", but got {value!r}')
    return value or ","


def _encoding(reader: Reader) -> str:
    value: str = reader.value("encoding", str)
    try:
        # Unlike codecs.lookup this refuses codecs that give no text, such as base64.
        io.TextIOWrapper(io.BytesIO(), encoding=value or "utf-8")
    except LookupError:
        reader.problem("encoding", f"is unknown: {value}; usual are utf-8, latin-1, cp1252, utf-16")
    return value


def _score_range(reader: Reader) -> tuple[float, float]:
    value = reader.raw("score_range")
    are_numbers = isinstance(value, list | tuple) and all(
        isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound) for bound in value
    )
    if are_numbers and len(value) == 2 and value[0] < value[1]:
        return (float(value[0]), float(value[1]))
    reader.problem(
        "score_range", f"must be the lowest and the highest possible score, as [0,5], but got {shown(value)}"
    )
    return (0.0, 1.0)


def _also(reader: Reader) -> Mapping[str, AlsoConfig]:
    outer = reader.section("also")
    also: dict[str, AlsoConfig] = {}
    for name in outer.rest():
        # The data's own keys stand beside its loss: data.also.nli.path and data.also.nli.loss.name.
        inner = outer.section(name)
        if name == reader.peek("name"):
            outer.problem(name, "is the name of the data itself; give the further dataset another")
        loss = read_loss(inner.section("loss"))
        also[name] = AlsoConfig(inner.read(DataConfig), loss)
        if also[name].data.also:
            inner.problem("also", "a further dataset cannot have further ones itself")
    return also


def _scored_data(reader: Reader) -> DataConfig:
    data = reader.section("data").read(DataConfig)
    if data.limit is not None:
        message = f"cuts what is trained on, and a benchmark is scored whole: leave it out, but got {data.limit}"
        reader.problem("data.limit", message)
    return data


def _benchmarks(reader: Reader, key: str = "benchmarks") -> tuple[BenchmarkConfig, ...]:
    """Return the benchmarks, each as its whole option: the composer has put it in the place of its name."""
    value = reader.raw(key)
    items = [] if value is None else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, Mapping) for item in items):
        reader.problem(key, f"must be a list of benchmarks' names, but got {shown(value)}")
        return ()
    benchmarks = [
        read_section(BenchmarkConfig, f"{reader.where}.{key}.{item.get('name')}", item, reader.problems)
        for item in items
    ]
    names = [benchmark.name for benchmark in benchmarks]
    for name in {name for name in names if names.count(name) > 1}:
        reader.problem(key, f"names {name} twice")
    return tuple(benchmarks)


def _evaluation_name(reader: Reader) -> str:
    """Return the name of an evaluation; one that is no family's has only the keys that all share, which score pairs."""
    name: str = reader.value("name", str)
    if name in FAMILIES:
        return name
    found = {family: [key for key in scoring_keys(family) if reader.peek(key) is not None] for family in FAMILIES}
    most = max(map(len, found.values()))
    if most:
        families = [family for family, keys in found.items() if len(keys) == most]
        keys = ", ".join(found[families[0]])
        message = f"must be {' or '.join(families)}, which this option has keys of ({keys}), but got {shown(name)}"
        reader.problem("name", f"{message}; its file may have any name")
        reader.rest()  # nothing more is said about its keys
    return name


def _watch(reader: Reader) -> tuple[BenchmarkConfig, ...]:
    benchmarks = _benchmarks(reader, "watch")
    for benchmark in benchmarks:
        if benchmark.split == "test":
            message = (
                f"{benchmark.name} is a test benchmark, and dev selects: watch a dev benchmark, or score it with "
                f"test: evaluation.benchmarks=[{benchmark.name}]"
            )
            reader.problem("watch", message)
    return benchmarks


def _pooling(reader: Reader) -> str | None:
    value: str | None = reader.value("pooling", str | None)
    modes = value.split("+") if value is not None else []
    known = get_args(Pooling)
    for mode in modes:
        if mode not in known:
            allowed = f"{', '.join(known)}, several joined by + (mean+cls), or null"
            reader.problem("pooling", f"must be of {allowed}, but got {shown(value)}{nearest(mode, known)}")
            return None
    if len(set(modes)) < len(modes):
        reader.problem("pooling", f"names a mode twice: {value}")
        return None
    return value


def _objectives(reader: Reader) -> tuple[str, ...]:
    """Return the objectives; empty for null. Which metrics there are depends on the evaluation."""
    before = len(reader.problems)
    objectives: tuple[str, ...] = reader.value("objective", tuple[str, ...])
    if len(set(objectives)) < len(objectives):
        reader.problem("objective", f"names a metric twice: {', '.join(objectives)}")
    return objectives if len(reader.problems) == before else ()


def _rungs(reader: Reader) -> tuple[float, ...]:
    rungs: tuple[float, ...] = reader.value("rungs", fields_of(PruningConfig)["rungs"][1])
    if list(rungs) != sorted(set(rungs)):
        reader.problem("rungs", f"must rise, as [0.25,0.5], but got {shown(rungs)}")
    return rungs


def _points(reader: Reader) -> tuple[Mapping[str, object], ...]:
    """Return a list of configurations; one counts as a list of one, null as none."""
    value = reader.raw("enqueue")
    points = [value] if isinstance(value, Mapping) else value or []
    if isinstance(points, list) and all(isinstance(point, Mapping) and point for point in points):
        return tuple(points)
    reader.problem(
        "enqueue", f"must be a list of configurations, as [{{optimizer.lr:2e-5,loss:mnrl}}], but got {as_typed(value)}"
    )
    return ()


KEY_READERS: KeyReaders = {
    (ModelConfig, "pooling"): _pooling,
    (DataConfig, "columns"): _columns,
    (DataConfig, "where"): _where,
    (DataConfig, "titles"): _titles,
    (DataConfig, "labels"): _labels,
    (DataConfig, "delimiter"): _delimiter,
    (DataConfig, "encoding"): _encoding,
    (DataConfig, "score_range"): _score_range,
    (DataConfig, "max_tokens"): _max_tokens,
    (DataConfig, "also"): _also,
    (BenchmarkConfig, "data"): _scored_data,
    (EvaluationConfig, "name"): _evaluation_name,
    (EvaluationConfig, "benchmarks"): _benchmarks,
    (EvaluationConfig, "watch"): _watch,
    (StudyConfig, "objectives"): _objectives,
    (StudyConfig, "enqueue"): _points,
    (PruningConfig, "rungs"): _rungs,
}
"""Dataclass and field -> what reads the key where its type does not say all."""
