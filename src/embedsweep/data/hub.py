"""Sentence pairs from a dataset on the Hugging Face hub.

Owns what is asked of ``datasets`` and the order of it: the local cache, one probe of the network, then a download.
Knows no files of the user's. What a text or a score may be is said by ``checks``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from embedsweep.data.checks import Findings, Row, check_columns, checked_pairs, nearest
from embedsweep.data.pairs import Pairs
from embedsweep.errors import ConfigError, Problem
from embedsweep.hub import hub_reachable, why_unreachable
from embedsweep.schema import DataConfig

_SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation"), "test": ("test",)}
"""The names a split may have on the hub, the first one first."""


class Build(NamedTuple):
    """A dataset that ``datasets`` has built in its cache: ``<dataset>/<config>/<version>/<commit>``."""

    config: str
    version: str
    commit: str


def read_hub(config: DataConfig) -> dict[str, Pairs]:
    """Reads and checks the three splits of a dataset, from the local cache where it is there.

    Without a revision any cached copy serves, that of the hub's default branch first; a revision has to be in the cache
    itself, or is downloaded.

    Args:
        config: its hub id, revision, language (a subset's name), columns (by name, or by position
            where an option serves files without header too) and score range.

    Raises:
        ConfigError: the dataset is not cached and the hub cannot be reached, it is not what ``config`` says, or its
            rows have problems; those of all splits at once.
    """
    hub = config.hub
    if hub is None:
        raise ConfigError.single("data.hub", "is not given: say data.path=FOLDER, or the dataset's id")
    check_columns(config.columns)
    build = _cached_build(hub, config)
    if build is None and not hub_reachable():
        raise ConfigError.single("data.hub", _how_without(hub, config))
    dataset = _download(hub, config) if build is None else _from_cache(hub, build)
    build = build or _cached_build(hub, config)
    revision = build.commit[:12] if build else config.revision or "main"
    source = f"{hub}@{revision}" + (f"[{config.language}]" if config.language else "")

    pairs: dict[str, Pairs] = {}
    problems: list[Problem] = []
    for split, names in _SPLIT_NAMES.items():
        name = next((name for name in names if name in dataset), None)
        if name is None:
            problems.append(Problem("data.hub", f"{source} has no split {split!r}; it has {nearest(split, dataset)}"))
            continue
        try:
            pairs[split] = _read_split(dataset[name], config, f"{source} {name}")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return pairs


def _read_split(table: Any, config: DataConfig, origin: str) -> Pairs:
    found = Findings(origin)
    there: list[str] = table.column_names
    names: list[str] = []
    for column in config.columns:
        name = column if isinstance(column, str) else "".join(there[column : column + 1])
        names.append(name)
        if name not in there:
            found.add(f"has no column {column!r} (data.columns); it has {nearest(name, there)}")
    if found:
        raise found.error()
    columns = [table[name] for name in names]
    rows = [Row(f"{origin}, row {number}", *cells) for number, cells in enumerate(zip(*columns, strict=True), start=1)]
    return checked_pairs(rows, config.score_range, found)


def _how_without(hub: str, config: DataConfig) -> str:
    """What to do without the hub, by the file names this option would look for."""
    files = config.files or "{split}.csv"
    names = ", ".join(files.format(split=split, language=config.language) for split in _SPLIT_NAMES)
    say = "data.path=FOLDER" if config.files else "data.path=FOLDER 'data.files=\"{split}.csv\"'"
    at = f"{hub} at revision {config.revision}" if config.revision else hub
    return f"{at} is not in the local cache, and {why_unreachable()}: say {say}, with {names} in that folder"


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
