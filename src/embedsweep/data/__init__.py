"""Examples to train on and pairs to evaluate on: where they come from and what shape they have.

``load_splits`` is the way in; ``load_train``, ``load_also`` and ``load_benchmark`` load one of them alone. Owns
which splits are needed and by which keys their problems are told; ``sources`` reads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embedsweep.config.identity import canonical
from embedsweep.config.trial import SPLITS, BenchmarkConfig, DataConfig, EvaluationConfig, Shape, Split
from embedsweep.config.values import shown
from embedsweep.data.checks import checked_examples, limited
from embedsweep.data.examples import COLUMNS, WORDS, Examples, Pairs, Splits, as_pairs, in_words
from embedsweep.data.folders import file_names, no_folder, read_path
from embedsweep.data.hub import read_hub
from embedsweep.data.tables import Table
from embedsweep.errors import ConfigError, Problem

if TYPE_CHECKING:
    from embedsweep.data.demo import DemoName

NOT_READ_BY = ("convert", "max_tokens", "drop_leaked", "limit", "also")
"""Keys of a data configuration that say what becomes of examples, and nothing of how they are read."""

DEMO_VALUES: Mapping[str, object] = {
    "hub": None,
    "files": None,
    "splits": {"train": ("train",), "dev": ("dev",), "test": ("test",)},
    "where": {},
    "labels": None,
    "revision": None,
    "language": None,
    "delimiter": ",",
    "encoding": "utf-8",
    "score_range": (0.0, 5.0),
}
"""What demo data must leave as it stands in ``conf/base/data.yaml``, since it reads none of it."""

Loaded = Mapping[Split, Examples | ConfigError] | ConfigError
"""What came of each split; or of all, where nothing could be read."""


def source_key(data: DataConfig) -> dict[str, object]:
    """All that decides which examples there are."""
    return {key: value for key, value in asdict(data).items() if key not in NOT_READ_BY}


@dataclass(frozen=True)
class _Wanted:
    """Splits of some data; equal to others by their canonical form alone."""

    key: str
    data: DataConfig = field(compare=False)
    splits: tuple[Split, ...] = field(compare=False)
    folder: str | None = field(compare=False)


def load(data: DataConfig, splits: tuple[Split, ...], folder: str | None = None) -> Loaded:
    """Splits of some data in its own shape, each checked or with all that is wrong with it; read once a process.

    Args:
        data: where from and what.
        splits: which; no other is read.
        folder: of a benchmark, where it is one: what to say where it lies.
    """
    return _read(_Wanted(canonical([source_key(data), splits, folder]), data, splits, folder))


@functools.lru_cache(maxsize=8)
def _read(wanted: _Wanted) -> Loaded:
    if is_generated(wanted.data):
        return _generated(wanted.data, wanted.splits)
    loaded: dict[Split, Examples | ConfigError] = {}
    try:
        tables = _tables(wanted)
    except ConfigError as error:
        return error
    for split, table in tables.items():
        try:
            loaded[split] = checked_examples(table, wanted.data)
        except ConfigError as error:
            loaded[split] = error
    return loaded


def _tables(wanted: _Wanted) -> Mapping[Split, Table]:
    data = wanted.data
    if data.path is not None:
        return read_path(data.path, data, wanted.splits)
    if data.hub is None:
        raise ConfigError.single("data.path", f"is not given, and {data.name} is on no hub: {_instead(wanted)}")
    return read_hub(data.hub, data, wanted.splits, _instead(wanted))


def _instead(wanted: _Wanted) -> str:
    """What to do without the hub, by the file names this option would look for."""
    data = wanted.data
    in_files = data if data.files is not None else replace(data, files="{split}.csv")
    say = "say data.path=FOLDER" + ("" if data.files is not None else " 'data.files=\"{split}.csv\"'")
    folder = f"{wanted.folder}/" if wanted.folder else ""
    try:
        names = [folder + name for split in wanted.splits for name in file_names(in_files, split, wanted.splits)]
    except ConfigError:  # data.files is wrong, and not needed where the hub is read
        return say
    return f"{say}, with {', '.join(names)} in that folder"


def is_generated(data: DataConfig) -> bool:
    """Whether the data is made here, by the project's own grammar."""
    return data.format == "generated"


def _generated(data: DataConfig, splits: Sequence[Split]) -> Loaded:
    """What is trained on has the option's shape; dev and test are the same scored pairs for all demo data."""
    from embedsweep.data.demo import DEMOS, demo_examples

    if problems := list(_not_of_demo(data, DEMOS)):
        return ConfigError(problems)
    demo = next(name for name, shape in DEMOS.items() if shape == data.shape)
    return {split: demo_examples(demo, split) for split in splits}


def _not_of_demo(data: DataConfig, demos: Mapping[DemoName, Shape]) -> Iterator[Problem]:
    """Values that demo data does not read; a trial told apart by them would be the same trial."""
    why = "is not read: demo data is generated"
    if data.path is not None:
        yield Problem("data.path", f"{data.path} {why}; say data=csv for files")
    if data.shape not in demos.values():
        there = ", ".join(f"{shape} (data={name})" for name, shape in demos.items())
        can = f"demo data is {there}; what a loss wants is made of it by data.convert.to"
        yield Problem("data.shape", f"there is no demo data of {in_words(data.shape)}: {can}")
        return
    columns = COLUMNS[data.shape]
    if data.columns != columns:
        yield Problem("data.columns", f"{shown(list(data.columns))} {why}; leave it at {shown(list(columns))}")
    for key, value in DEMO_VALUES.items():
        given = getattr(data, key)
        if given != value:
            yield Problem(f"data.{key}", f"{_told(given)} {why}; leave it at {_told(value)}")


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return shown([f"{item:g}" if isinstance(item, float) else item for item in value])
    return repr(value) if isinstance(value, str) else shown(value)


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
