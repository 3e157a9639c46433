"""Where some data comes from: generated here, from files, or from the hub.

Owns the choice of a source and what is kept of it in this process; each source reads itself. Knows nothing of what the
splits are wanted for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from embedsweep.config import canonical, shown
from embedsweep.data.checks import checked_examples
from embedsweep.data.folders import file_names, read_path
from embedsweep.data.hub import read_hub
from embedsweep.data.rows import Table
from embedsweep.data.shapes import COLUMNS, Examples, in_words
from embedsweep.errors import ConfigError, Problem
from embedsweep.schema import DataConfig, Shape, Split

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
    from embedsweep.data.demo import DEMOS, generate, train_examples

    if problems := list(_not_of_demo(data, DEMOS)):
        return ConfigError(problems)
    demo = next(name for name, shape in DEMOS.items() if shape == data.shape)
    pairs = generate()
    loaded: dict[Split, Examples | ConfigError] = {}
    for split in splits:
        if split == "train":
            loaded[split] = train_examples(demo)
        else:
            first, second, scores = zip(*pairs[split], strict=True)
            scores = tuple(score / 5 for score in scores)
            loaded[split] = Examples("scored_pairs", (first, second), scores, None, f"demo {split}", None)
    return loaded


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
