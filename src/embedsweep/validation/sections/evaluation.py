"""The ``evaluation`` section: what a model is scored on.

A benchmark stands here as its whole option: the composer has put it in the place of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from embedsweep.config.reader import Reader
from embedsweep.config.trial import BenchmarkConfig, EvaluationConfig, Split
from embedsweep.config.values import shown
from embedsweep.validation.sections.data import read_data


def read_evaluation(reader: Reader) -> EvaluationConfig:
    """How a model is scored."""
    config = EvaluationConfig(
        name=reader.text("name"),
        batch_size=reader.integer("batch_size", at_least=1),
        dev=_optional_benchmark(reader, "dev"),
        test=_optional_benchmark(reader, "test"),
        benchmarks=_benchmarks(reader),
        path=reader.optional_text("path"),
        dims=reader.integers("dims", at_least=1),
        before=reader.boolean("before"),
    )
    reader.finish()
    return config


def read_benchmark(reader: Reader) -> BenchmarkConfig:
    """One benchmark's option."""
    config = BenchmarkConfig(
        name=reader.text("name"),
        folder=reader.text("folder"),
        split=reader.one_of("split", get_args(Split)),
        data=read_data(reader.section("data")),
    )
    reader.finish()
    if config.data.limit is not None:
        message = f"cuts what is trained on, and a benchmark is scored whole: leave it out, but got {config.data.limit}"
        reader.problem("data.limit", message)
    return config


def _optional_benchmark(reader: Reader, key: str) -> BenchmarkConfig | None:
    return None if reader.raw(key) is None else read_benchmark(reader.section(key))


def _benchmarks(reader: Reader) -> tuple[BenchmarkConfig, ...]:
    value = reader.raw("benchmarks")
    items = [] if value is None else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, Mapping) for item in items):
        reader.problem("benchmarks", f"must be a list of benchmarks' names, but got {shown(value)}")
        return ()
    found = [
        read_benchmark(Reader(item, f"{reader.where}.benchmarks.{item.get('name')}", reader.problems)) for item in items
    ]
    names = [benchmark.name for benchmark in found]
    for name in {name for name in names if names.count(name) > 1}:
        reader.problem("benchmarks", f"names {name} twice")
    return tuple(found)
