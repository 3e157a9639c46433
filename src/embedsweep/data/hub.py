"""Rows of a dataset on the Hugging Face hub.

Owns what is asked of ``datasets`` and the order of it: the local cache, one probe of the network, then a download.
Knows no files of the user's. What a text or a label may be is said by ``checks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from embedsweep.config.trial import DataConfig, Split
from embedsweep.data.tables import Findings, Picker, Table, check_columns, choose, joined, nearest
from embedsweep.errors import ConfigError, Problem
from embedsweep.hub import hub_reachable, why_unreachable


class Build(NamedTuple):
    """A dataset that ``datasets`` has built in its cache: ``<dataset>/<config>/<version>/<commit>``."""

    config: str
    version: str
    commit: str


def read_hub(hub: str, config: DataConfig, splits: Sequence[Split], instead: str) -> dict[Split, Table]:
    """Reads splits of a dataset, from the local cache where it is there.

    Without a revision any cached copy serves, that of the hub's default branch first; a revision has to be in the cache
    itself, or is downloaded.

    Args:
        hub: its id.
        config: its revision, language (a subset's name), names of splits, columns (by name, or by position
            where an option serves files without header too) and conditions.
        splits: which are wanted.
        instead: what to say if the hub cannot be reached, so that it is not needed.

    Raises:
        ConfigError: the dataset is not cached and the hub cannot be reached, or it cannot be loaded; what is wrong with
            single splits is found in their tables.
    """
    check_columns(config.columns)
    build = _cached_build(hub, config)
    if build is None and not hub_reachable():
        at = f"{hub} at revision {config.revision}" if config.revision else hub
        raise ConfigError.single("data.hub", f"{at} is not in the local cache, and {why_unreachable()}: {instead}")
    dataset = _download(hub, config) if build is None else _from_cache(hub, build)
    build = build or _cached_build(hub, config)
    revision = build.commit[:12] if build else config.revision or "main"
    source = f"{hub}@{revision}" + (f"[{config.language}]" if config.language else "")
    return {
        split: joined([_table(dataset, name, config, split, source) for name in config.splits[split]])
        for split in splits
    }


def _table(dataset: Any, name: str, config: DataConfig, split: Split, source: str) -> Table:
    found = Findings(f"{source} {name}")
    if name not in dataset:
        message = f"{source} has no split {name!r}; it has {nearest(name, dataset)}"
        found.add_problems([Problem(f"data.splits.{split}", message)])
        return Table([], found)
    table = dataset[name]
    choice = choose(table.column_names, config, found, "it has")
    if choice is None:
        return Table([], found)
    picker = Picker(choice, config)
    needed = {*choice.cells, *(position for position, _ in choice.conditions)}
    columns = [
        _column(table, column) if index in needed else [None] * len(table)
        for index, column in enumerate(table.column_names)
    ]
    for number, fields in enumerate(zip(*columns, strict=True), start=1):
        picker.take(f"{found.origin}, row {number}", fields)
    return picker.table(found)


def _column(table: Any, name: str) -> list[object]:
    """A column's values; those of classes by their names, None where a row has none (-1)."""
    values: list[Any] = table[name][:]
    classes = getattr(table.features[name], "names", None)
    return values if classes is None else [classes[v] if v is not None and v >= 0 else None for v in values]


def _cached_build(hub: str, config: DataConfig) -> Build | None:
    """The build of this dataset in the cache of ``datasets`` that ``config`` asks for.

    ``datasets`` itself, when offline, takes the newest build there is, of whatever revision.
    """
    import datasets

    *namespace, name = hub.split("/")
    folder = "___".join([*namespace, datasets.naming.camelcase_to_snakecase(name)])
    found = Path(datasets.config.HF_DATASETS_CACHE, folder).glob("*/*/*/dataset_info.json")
    # A build that was interrupted lies in a folder of its own.
    builds = [path.parent for path in found if path.parent.suffix != ".incomplete"]
    subsets = {build.parts[-3] for build in builds}
    subset = config.language or ("default" if len(subsets) != 1 else subsets.pop())
    builds = sorted((build for build in builds if build.parts[-3] == subset), key=lambda build: build.stat().st_mtime)
    commit = _commit(hub, config.revision)
    chosen = [build for build in builds if build.name == commit]
    if not chosen and config.revision is None:
        chosen = builds
    return Build(*chosen[-1].parts[-3:]) if chosen else None


def _commit(hub: str, revision: str | None) -> str | None:
    """The commit a branch or tag stood at when it was last downloaded; what may be a commit already is returned."""
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(hub, "README.md", revision=revision, repo_type="dataset")
    return Path(card).parent.name if isinstance(card, str) else revision


def _from_cache(hub: str, build: Build) -> Any:
    # Not load_dataset: it would ask the hub first, and without one forget the revision.
    from datasets.packaged_modules.cache.cache import Cache

    builder = Cache(
        repo_id=hub,
        dataset_name=hub.rsplit("/", 1)[-1],
        config_name=build.config,
        version=build.version,
        hash=build.commit,
    )
    return builder.as_dataset()


def _download(hub: str, config: DataConfig) -> Any:
    import datasets

    try:
        return datasets.load_dataset(hub, name=config.language, revision=config.revision)
    except Exception as error:
        # Three libraries raise what they like here; their words name the subsets there are, or how to be given access.
        message = " ".join(str(error).split())
        raise ConfigError.single("data.hub", f"{hub} cannot be loaded: {type(error).__name__}: {message}") from error
