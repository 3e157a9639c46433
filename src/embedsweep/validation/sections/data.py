"""The ``data`` section: a source of examples."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import get_args

from embedsweep.config.reader import Reader
from embedsweep.config.trial import (
    SHAPES,
    SPLITS,
    AlsoConfig,
    Column,
    ConvertConfig,
    DataConfig,
    DataFormat,
    Shape,
    Split,
)
from embedsweep.config.values import shown
from embedsweep.data.examples import COLUMNS, text_columns
from embedsweep.validation.sections.loss import read_loss


def read_data(reader: Reader) -> DataConfig:
    """Where examples come from, what they consist of and what is made of them."""
    name = reader.text("name")
    shape = reader.one_of("shape", SHAPES)
    config = DataConfig(
        name=name,
        path=reader.optional_text("path"),
        hub=reader.optional_text("hub"),
        revision=reader.optional_text("revision"),
        language=reader.optional_text("language"),
        format=reader.optional_one_of("format", get_args(DataFormat)),
        files=reader.optional_text("files"),
        splits=_splits(reader.section("splits")),
        shape=shape,
        columns=_columns(reader, shape),
        where=_where(reader),
        labels=_labels(reader, shape),
        delimiter=_delimiter(reader),
        encoding=_encoding(reader),
        score_range=_score_range(reader),
        max_tokens=_max_tokens(reader, shape),
        convert=_convert(reader.section("convert")),
        drop_leaked=reader.boolean("drop_leaked"),
        limit=reader.optional_integer("limit", at_least=2),
        also=_also(reader, name),
    )
    reader.finish()
    return config


def _splits(reader: Reader) -> Mapping[Split, tuple[str, ...]]:
    splits: dict[Split, tuple[str, ...]] = {split: reader.texts(split) for split in SPLITS}
    reader.finish()
    return splits


def _columns(reader: Reader, shape: Shape) -> tuple[Column, ...]:
    wanted = COLUMNS[shape]
    value = reader.raw("columns")
    if isinstance(value, list | tuple) and len(value) == len(wanted):
        named = all(isinstance(item, str) for item in value)
        counted = all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value)
        if (named or counted) and len(set(value)) == len(value):
            return tuple(value)
    reader.problem(
        "columns",
        f"must be {len(wanted)} names of a header ({', '.join(wanted)} of data.shape={shape}, in that order), or as "
        f"many positions from 0 where there is none: [{','.join(wanted)}], but got {shown(value)}",
    )
    return tuple(range(len(wanted)))


def _where(reader: Reader) -> Mapping[str, str]:
    return {name: shown(value) for name, value in reader.mapping("where").items()}


def _labels(reader: Reader, shape: Shape) -> tuple[str, ...] | None:
    value = reader.raw("labels")
    if value is None:
        return None
    named = isinstance(value, list | tuple) and all(
        isinstance(item, str | int) and not isinstance(item, bool) and str(item).strip() for item in value
    )
    labels = tuple(str(item).strip() for item in value) if named else ()
    if len(labels) < 2 or len(set(labels)) < len(labels):
        what = "must be the names of at least two classes in the order of their numbers, as [no match,match]"
        reader.problem(
            "labels", f"{what} (quote yes and no, which YAML takes for true and false), but got {shown(value)}"
        )
    elif not shape.startswith("class_"):
        reader.problem("labels", f"are names of classes, and data.shape={shape} has none: leave them out (null)")
    return labels or None


def _max_tokens(reader: Reader, shape: Shape) -> tuple[int, ...] | None:
    value = reader.integers("max_tokens", at_least=1)
    texts = text_columns(shape)
    if value and len(value) != len(texts):
        message = f"must be a number for each of {', '.join(texts)} (data.shape={shape}), but got {shown(list(value))}"
        reader.problem("max_tokens", message)
    return value or None


def _delimiter(reader: Reader) -> str:
    value = reader.text("delimiter") if reader.raw("delimiter") != "\t" else "\t"
    value = "\t" if value in ("\\t", "tab") else value
    if len(value) > 1 or value in ('"', "\r", "\n"):
        reader.problem("delimiter", f'must be one character, such as "," or ";" or "\\t", but got {value!r}')
    return value or ","


def _encoding(reader: Reader) -> str:
    value = reader.text("encoding")
    try:
        # Unlike codecs.lookup this knows codecs that make no text, such as base64.
        io.TextIOWrapper(io.BytesIO(), encoding=value or "utf-8")
    except LookupError:
        reader.problem("encoding", f"is unknown: {value}; usual are utf-8, latin-1, cp1252, utf-16")
    return value


def _score_range(reader: Reader) -> tuple[float, float]:
    value = reader.raw("score_range")
    numbers = isinstance(value, list | tuple) and all(
        isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound) for bound in value
    )
    if numbers and len(value) == 2 and value[0] < value[1]:
        return (float(value[0]), float(value[1]))
    reader.problem(
        "score_range", f"must be the lowest and the highest possible score, as [0,5], but got {shown(value)}"
    )
    return (0.0, 1.0)


def _convert(reader: Reader) -> ConvertConfig:
    config = ConvertConfig(
        to=reader.optional_one_of("to", SHAPES),
        positive_threshold=reader.real("positive_threshold", at_least=0, at_most=1),
        both_directions=reader.boolean("both_directions"),
        seed=reader.integer("seed", at_least=0),
    )
    reader.finish()
    return config


def _also(reader: Reader, own_name: str) -> Mapping[str, AlsoConfig]:
    outer = reader.section("also")
    also: dict[str, AlsoConfig] = {}
    for name in outer.rest():
        # The data's own keys stand beside its loss: data.also.nli.path and data.also.nli.loss.name.
        inner = outer.section(name)
        if name == own_name:
            outer.problem(name, "is the name of the data itself; give the further dataset another")
        loss = read_loss(inner.section("loss"))
        also[name] = AlsoConfig(read_data(inner), loss)
        if also[name].data.also:
            inner.problem("also", "a further dataset cannot have further ones itself")
    return also
