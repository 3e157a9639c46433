"""Examples to train on and pairs to evaluate on: where they come from and what shape they have.

``load_splits`` is the way in; ``load_train``, ``load_also`` and ``load_benchmark`` load one of them alone. Owns
which splits are needed and by which keys their problems are told; ``sources`` reads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from embedsweep.config import canonical
from embedsweep.data.checks import limited
from embedsweep.data.folders import no_folder
from embedsweep.data.pairs import Pairs, Splits, as_pairs
from embedsweep.data.shapes import WORDS, Examples
from embedsweep.data.sources import is_generated, load, source_key
from embedsweep.errors import ConfigError, Problem
from embedsweep.schema import SPLITS, BenchmarkConfig, DataConfig, EvaluationConfig, Split

__all__ = ["Pairs", "Splits", "load_also", "load_benchmark", "load_splits", "load_train"]

T = TypeVar("T")


def load_splits(data: DataConfig, evaluation: EvaluationConfig) -> Splits:
    """The examples to train on, and the pairs that select and report; read once a process.

    Dev and test are the benchmarks that ``evaluation`` names, else the data's own; what is not needed is not read.

    Raises:
        ConfigError: the problems of all three at once.
    """
    chosen = (evaluation.dev, evaluation.test)
    key = [
        source_key(data),
        data.limit,
        [benchmark and _benchmark_key(benchmark) for benchmark in chosen],
        evaluation.path,
    ]
    return _raised(_load_splits(_Asked(canonical(key), (data, evaluation))))


def load_train(data: DataConfig) -> Examples:
    """The examples of some data to train on, in its own shape; read once a process.

    Raises:
        ConfigError: all that is wrong with them.
    """
    return limited(_raised(_raised(load(data, ("train",)))["train"]), data.limit)


def load_also(data: DataConfig) -> dict[str, Examples]:
    """The further datasets to train on, by name, each in its own shape.

    Raises:
        ConfigError: the problems of all at once, under their own keys (``data.also.nli.path``).
    """
    loaded: dict[str, Examples] = {}
    problems: list[Problem] = []
    for name, also in data.also.items():
        try:
            loaded[name] = load_train(also.data)
        except ConfigError as error:
            problems += _under(error.problems, f"data.also.{name}")
    if problems:
        raise ConfigError(problems)
    return loaded


def load_benchmark(benchmark: BenchmarkConfig, path: str | None) -> Pairs:
    """The pairs of a benchmark; read once a process.

    Args:
        benchmark: which split of which data.
        path: a folder that has the benchmark's folder in it; None reads ``benchmark.data.path``, else the hub.

    Raises:
        ConfigError: all that is wrong with them.
    """
    data, name = benchmark.data, benchmark.name
    if data.shape != "scored_pairs":
        message = f"is {WORDS[data.shape]} (shape: {data.shape}), and only scored pairs can be scored"
        raise ConfigError.single(f"benchmark {name}", message)
    if not data.splits[benchmark.split]:
        raise ConfigError.single(f"benchmark {name}", f"has no split {benchmark.split} (data.splits.{benchmark.split})")
    if path is not None and not is_generated(data):
        root = Path(path).expanduser()
        if not root.is_dir():
            raise ConfigError.single("evaluation.path", no_folder(root))
        data = replace(data, path=str(root / benchmark.folder))
    try:
        return as_pairs(_raised(_raised(load(data, (benchmark.split,), benchmark.folder))[benchmark.split]))
    except ConfigError as error:
        raise ConfigError(_of_benchmark(error.problems, name)) from None


@dataclass(frozen=True)
class _Asked:
    """What is to be loaded; equal to another by its canonical form alone."""

    key: str
    configs: tuple[DataConfig, EvaluationConfig] = field(compare=False)


@functools.lru_cache(maxsize=4)
def _load_splits(asked: _Asked) -> Splits | ConfigError:
    data, evaluation = asked.configs
    benchmarks: dict[Split, BenchmarkConfig | None] = {"dev": evaluation.dev, "test": evaluation.test}
    own: list[Split] = []
    problems: list[Problem] = []
    for split in SPLITS:
        if benchmarks.get(split) is None:
            missing = list(_not_there(data, split))
            problems += missing
            own += [] if missing else [split]
    found = load(data, tuple(own)) if own else {}
    loaded: dict[Split, Examples] = {}
    for split in own:
        outcome = found if isinstance(found, ConfigError) else found[split]
        if isinstance(outcome, ConfigError):
            problems += outcome.problems
        else:
            loaded[split] = outcome
    if "train" in loaded:
        try:
            loaded["train"] = limited(loaded["train"], data.limit)
        except ConfigError as error:
            problems += error.problems
    pairs: dict[Split, Pairs] = {split: as_pairs(examples) for split, examples in loaded.items() if split != "train"}
    for split, benchmark in benchmarks.items():
        try:
            if benchmark is not None:
                pairs[split] = load_benchmark(benchmark, evaluation.path)
        except ConfigError as error:
            problems += error.problems
    return ConfigError(problems) if problems else Splits(loaded["train"], pairs["dev"], pairs["test"])


def _not_there(data: DataConfig, split: Split) -> Iterator[Problem]:
    """Why the data itself cannot give a split, whatever lies in its files."""
    if split == "train":
        if not data.splits["train"]:
            yield Problem("data.splits.train", f"data={data.name} has nothing to train on: name its split, as [train]")
        return
    why = ""
    if is_generated(data):
        return
    if data.shape != "scored_pairs":
        why = f"is {WORDS[data.shape]} (data.shape={data.shape}), which cannot be scored"
    elif not data.splits[split]:
        why = f"has no {split} split (data.splits.{split})"
    if why:
        example = f"choose a benchmark of conf/benchmark/, for example evaluation.{split}=stsb-es-{split}"
        yield Problem(f"evaluation.{split}", f"is not given, and data={data.name} {why}: {example}")


def _benchmark_key(benchmark: BenchmarkConfig) -> list[object]:
    return [benchmark.name, benchmark.folder, benchmark.split, source_key(benchmark.data)]


def _raised(outcome: T | ConfigError) -> T:
    if isinstance(outcome, ConfigError):
        raise outcome
    return outcome


_KEY = re.compile(r"(?<![\w/.-])data\.(?=(?:" + "|".join(DataConfig.__dataclass_fields__) + r")\b)")
"""A key of a data configuration in a message; no file's name."""


def _under(problems: Sequence[Problem], section: str) -> Iterator[Problem]:
    """Problems of some data, told by the keys it has in another section."""
    for problem in problems:
        yield Problem(_KEY.sub(f"{section}.", problem.where), _KEY.sub(f"{section}.", problem.message))


def _of_benchmark(problems: Sequence[Problem], name: str) -> Iterator[Problem]:
    """Problems of a benchmark: its place is ``evaluation.path``, its other keys stand in its own file."""
    for problem in problems:
        where = problem.where
        if where in ("data.path", "data.hub"):
            where = "evaluation.path"
        elif where.startswith("data."):
            where = f"benchmark {name}, {where}"
        message = re.sub(r"\bdata\.path\b", "evaluation.path", problem.message)
        yield Problem(where, f"benchmark {name}: {message}" if where == "evaluation.path" else message)
