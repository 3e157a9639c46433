"""Where some data comes from: generated here, from files, or from the hub.

Owns the choice of a source and what is kept of it in this process; each source reads itself. Knows nothing of what the
splits are wanted for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, cast

from embedsweep.config import canonical
from embedsweep.data.checks import checked_examples, limited
from embedsweep.data.folders import file_names, read_path
from embedsweep.data.hub import read_hub
from embedsweep.data.rows import Table
from embedsweep.data.shapes import Examples
from embedsweep.errors import ConfigError
from embedsweep.schema import DataConfig, Split

if TYPE_CHECKING:
    from embedsweep.data.demo import DemoName

NOT_READ_BY = ("convert", "max_tokens", "drop_leaked", "also")
"""Keys of a data configuration that say what becomes of examples, and nothing of how they are read."""

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
    """Whether the data is made here."""
    return data.name in ("demo", "demo_nli", "demo_topics")


def _generated(data: DataConfig, splits: Sequence[Split]) -> Loaded:
    """What is trained on has the option's shape; dev and test are the same scored pairs for all demo data."""
    from embedsweep.data.demo import generate, train_examples

    if data.path is not None:
        message = f"{data.path} is not read: demo data is generated; say data=csv for files"
        return ConfigError.single("data.path", message)
    pairs = generate()
    loaded: dict[Split, Examples | ConfigError] = {}
    for split in splits:
        if split == "train" and data.name != "demo":
            examples = train_examples(cast("DemoName", data.name))
        else:
            origin = f"demo {split}"
            first, second, scores = zip(*pairs[split], strict=True)
            examples = Examples("scored_pairs", (first, second), tuple(s / 5 for s in scores), None, origin, None)
        try:
            loaded[split] = limited(examples, data.limit)
        except ConfigError as error:
            loaded[split] = error
    return loaded
