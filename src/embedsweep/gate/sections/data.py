"""The ``data`` section: a source of examples."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import get_args

from embedsweep.config import shown
from embedsweep.data.shapes import COLUMNS
from embedsweep.gate.reader import Reader
from embedsweep.gate.sections.loss import read_loss
from embedsweep.schema import SHAPES, SPLITS, AlsoConfig, Column, ConvertConfig, DataConfig, FileFormat, Shape, Split


def read_data(reader: Reader) -> DataConfig:
    """Where examples come from, what they consist of and what is made of them."""
    shape = reader.one_of("shape", SHAPES)
    config = DataConfig(
        name=reader.text("name"),
        path=reader.optional_text("path"),
        hub=reader.optional_text("hub"),
        revision=reader.optional_text("revision"),
        language=reader.optional_text("language"),
        format=reader.optional_one_of("format", get_args(FileFormat)),
        files=reader.optional_text("files"),
        splits=_splits(reader.section("splits")),
        shape=shape,
        columns=_columns(reader, shape),
        where=_where(reader),
        labels=reader.optional_texts("labels"),
        delimiter=_delimiter(reader),
        encoding=_encoding(reader),
        score_range=_score_range(reader),
        max_tokens=reader.integers("max_tokens", at_least=1) or None,
        convert=_convert(reader.section("convert")),
        drop_leaked=reader.boolean("drop_leaked"),
        limit=reader.optional_integer("limit", at_least=2),
        also=_also(reader),
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


def _delimiter(reader: Reader) -> str:
    value = reader.text("delimiter") if reader.raw("delimiter") != "\t" else "\t"
    value = "\t" if value in ("\\t", "tab") else value
    if len(value) > 1:
        reader.problem("delimiter", f'must be one character, such as "," or ";" or "\\t", but got {value!r}')
    return value or ","


def _encoding(reader: Reader) -> str:
    value = reader.text("encoding")
    try:
        codecs.lookup(value or "utf-8")
    except LookupError:
        reader.problem("encoding", f"is unknown: {value}; usual are utf-8, latin-1, cp1252, utf-16")
    return value


def _score_range(reader: Reader) -> tuple[float, float]:
    value = reader.raw("score_range")
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
        low, high = float(value[0]), float(value[1])
        if low < high:
            return (low, high)
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


def _also(reader: Reader) -> Mapping[str, AlsoConfig]:
    outer = reader.section("also")
    also: dict[str, AlsoConfig] = {}
    for name in outer.rest():
        # The data's own keys stand beside its loss: data.also.nli.path and data.also.nli.loss.name.
        inner = outer.section(name)
        loss = read_loss(inner.section("loss"))
        also[name] = AlsoConfig(read_data(inner), loss)
        if also[name].data.also:
            inner.problem("also", "a further dataset cannot have further ones itself")
    return also
