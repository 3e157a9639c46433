"""Read rows of splits from where a dataset lies: files in a folder, or the Hugging Face hub and its local cache."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from embedsweep.config.trial import SPLITS, DataConfig, DataFormat, Split
from embedsweep.data.formats import READERS
from embedsweep.data.tables import Findings, Table, choose, closest_names, joined_parts, layout_of
from embedsweep.errors import ConfigError
from embedsweep.files import user_path
from embedsweep.hub import hub_reachable, why_unreachable

_FORMATS: Mapping[str, tuple[DataFormat, str | None]] = {
    ".csv": ("delimited", ","),
    ".tsv": ("delimited", "tab"),
    ".jsonl": ("json_lines", None),
    ".parquet": ("parquet", None),
}
"""The usual suffix of a file -> its format, and its delimiter as it is set."""


def read_path(text: str, config: DataConfig, splits: Sequence[Split]) -> dict[Split, Table]:
    """Read splits from the files of a folder, or one split from a file.

    Args:
        text: path of the folder, or of the file.
        config: its format and the names of its files.
        splits: the splits to read.

    Raises:
        ConfigError: no split can be read; the problems of single files are in their tables.
    """
    if config.format is None:
        raise ConfigError.single("data.format", f"is not set: set the format of the files, one of {', '.join(READERS)}")
    reader, layout = READERS[config.format], layout_of(config)

    def read(file: Path) -> Table:
        if not file.exists() and (advice := _in_another_format(file, config)):
            raise ConfigError.single(str(file), advice)
        return reader(file, layout)

    path = user_path(text)
    if path.is_file():
        if len(splits) > 1:
            raise ConfigError.single("data.path", _one_file(path, splits))
        return {splits[0]: joined_parts([path], read)}
    if not path.is_dir():
        raise ConfigError.single("data.path", missing_folder(path))
    paths = {split: [path / name for name in file_names(config, split, splits)] for split in splits}
    if not any(file.exists() or any(file.parent.glob(file.name)) for files in paths.values() for file in files):
        _check_language(path, config)
    return {split: joined_parts(files, read) for split, files in paths.items()}


def splits_there(data: DataConfig) -> tuple[Split, ...]:
    """Return the splits that a source has: of a folder those with a file, else those that ``data.splits`` names."""
    named: tuple[Split, ...] = tuple(split for split in SPLITS if data.splits[split])
    if data.path is None or not (folder := user_path(data.path)).is_dir():
        return () if data.path is not None else named
    names = {split: file_names(data, split, named) for split in named}
    return tuple(split for split in named if any(any(folder.glob(name)) for name in names[split]))


def file_names(config: DataConfig, split: Split, splits: Sequence[Split]) -> list[str]:
    """Return the names of a split's files inside the folder; several are joined.

    Args:
        config: its ``files``, ``splits`` and ``language``.
        split: the split.
        splits: all splits to read, which cannot all be the same file.

    Raises:
        ConfigError: ``data.files`` is missing, or is not a template of their names.
    """
    template = config.files
    if template is None:
        raise ConfigError.single("data.files", "is not set: set the file name of a split, as in '{split}.csv'")
    names = config.splits[split]
    problem = ""
    try:
        files = [template.format(split=name, language=config.language) for name in names]
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        problem = f"cannot be filled in ({type(error).__name__}: {error})"
    if not problem and "{split}" not in template and (len(splits) > 1 or len(names) > 1):
        problem = "has no {split}, so that all splits would be the same file"
    if problem:
        raise ConfigError.single(
            "data.files", f"{template!r} {problem}: write it with {{split}}, and {{language}} where names have one"
        )
    return files


def _in_another_format(file: Path, config: DataConfig) -> str | None:
    """Return how a split's missing file can be read from one of another suffix beside it; None without one."""
    template = config.files or ""
    for suffix, (data_format, delimiter) in _FORMATS.items():
        there = file.with_suffix(suffix)
        if not template.endswith(file.suffix) or not there.is_file():
            continue
        settings = [f"'data.files=\"{template.removesuffix(file.suffix)}{suffix}\"'"]
        settings += [] if data_format == config.format else [f"data.format={data_format}"]
        if delimiter is not None and delimiter != config.delimiter.replace("\t", "tab"):
            settings += ["data.delimiter=tab" if delimiter == "tab" else f"'data.delimiter=\"{delimiter}\"'"]
        return f"no such file, but there is {there.name}: set {' '.join(settings)}"
    return None


def missing_folder(path: Path) -> str:
    """Return the message for a missing folder, with similar folders that exist."""
    parent = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(parent).parts[0]
    folders = sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return f"there is no folder {path}; folders in {parent.absolute()}: {closest_names(missing, folders)}"


def _one_file(path: Path, splits: Sequence[Split]) -> str:
    needed = ", ".join(splits)
    return (
        f"{path} is a file, but {needed} are needed: give its folder, and the name in data.files with {{split}} for "
        f"{needed}; or set evaluation.dev and evaluation.test, and the file is train"
    )


def _check_language(folder: Path, config: DataConfig) -> None:
    """Raise a ConfigError if the folder has the files in other languages; without any, each file is reported."""
    template = config.files or ""
    if "{language}" not in template:
        return
    pattern = re.escape(template).replace(r"\*", ".*")
    splits = "|".join(re.escape(name) for names in config.splits.values() for name in names)
    for key, group in (("split", f"(?:{splits})"), ("language", "(?P<language>.+)")):
        # A template may repeat a key, a pattern's group may not.
        pattern = pattern.replace(re.escape(f"{{{key}}}"), group, 1).replace(re.escape(f"{{{key}}}"), ".+")
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    languages = sorted({match["language"] for name in names if (match := re.fullmatch(pattern, name))})
    if config.language is None:
        what = "is not set, but the files' names have one"
    elif languages:
        what = f"there are no files in {config.language!r}"
    else:
        return
    raise ConfigError.single(
        "data.language",
        f"{what}: for {template} there are {', '.join(languages) or 'no languages'} in {folder}",
    )


def read_hub(hub: str, config: DataConfig, splits: Sequence[Split], instead: str) -> dict[Split, Table]:
    """Read splits of a dataset, from the local cache if it is there.

    Args:
        hub: its id.
        config: its revision, language (a subset's name), names of splits, columns (by name, or by position
            where an option serves files without header too) and conditions.
        splits: the splits to read.
        instead: advice for users who cannot reach the hub.

    Raises:
        ConfigError: the dataset is not cached and the hub cannot be reached, or it cannot be loaded; the problems of
            single splits are in their tables.
    """
    dataset = hub_dataset(hub, config, instead)
    return {split: joined_parts(config.splits[split], partial(_table, dataset, config, split)) for split in splits}


class HubDataset(NamedTuple):
    """A subset of a dataset on the hub.

    Attributes:
        splits: name -> the rows, a ``datasets.Dataset``.
        source: its id, revision and subset, for messages.
    """

    splits: Mapping[str, Any]
    source: str

    def split(self, name: str, of: Split) -> Any:
        """Return the rows of a split, one of those that ``data.splits`` names for ``of``.

        Raises:
            ConfigError: there is no such split.
        """
        if name not in self.splits:
            message = f"{self.source} has no split {name!r}; it has {closest_names(name, self.splits)}"
            raise ConfigError.single(f"data.splits.{of}", message)
        return self.splits[name]


def hub_dataset(hub: str, config: DataConfig, instead: str) -> HubDataset:
    """Return a subset of a dataset, from the local cache if it is there.

    Without a revision any cached copy will do, that of the hub's default branch first; a revision must itself be in the
    cache, or is downloaded.

    Args:
        hub: its id.
        config: its revision and language (the subset's name).
        instead: advice for users who cannot reach the hub.

    Raises:
        ConfigError: the dataset is not cached and the hub cannot be reached, or it cannot be loaded.
    """
    build = _cached_build(hub, config)
    if build is None and not hub_reachable():
        at = f"{hub} at revision {config.revision}" if config.revision else hub
        raise ConfigError.single("data.hub", f"{at} is not in the local cache, and {why_unreachable()}: {instead}")
    dataset = _download(hub, config) if build is None else _from_cache(hub, build)
    build = build or _cached_build(hub, config)
    revision = build.name[:12] if build else config.revision or "main"
    return HubDataset(dataset, f"{hub}@{revision}" + (f"[{config.language}]" if config.language else ""))


def _table(dataset: HubDataset, config: DataConfig, split: Split, name: str) -> Table:
    table, findings = dataset.split(name, split), Findings(f"{dataset.source} {name}")
    picker = choose(table.column_names, layout_of(config), findings, "it has")
    picker.take_columns(findings.origin, len(table), lambda position: _column(table, table.column_names[position]))
    return picker.table()


def _column(table: Any, name: str) -> list[object]:
    """Return a column's values; classes by their names, None for a row without a class (-1)."""
    values: list[Any] = table[name][:]
    classes = getattr(table.features[name], "names", None)
    return values if classes is None else [classes[v] if v is not None and v >= 0 else None for v in values]


def _cached_build(hub: str, config: DataConfig) -> Path | None:
    """Return the folder in the cache of ``datasets`` that ``config`` selects; None if there is none.

    A dataset is cached in ``<dataset>/<subset>/<version>/<commit>``. Offline, ``datasets`` itself takes the newest
    build of any revision.
    """
    import datasets

    *namespace, name = hub.split("/")
    folder = "___".join([*namespace, datasets.naming.camelcase_to_snakecase(name)])
    files = Path(datasets.config.HF_DATASETS_CACHE, folder).glob("*/*/*/dataset_info.json")
    # An interrupted build has a folder of its own.
    builds = [path.parent for path in files if path.parent.suffix != ".incomplete"]
    subsets = {build.parts[-3] for build in builds}
    subset = config.language or ("default" if len(subsets) != 1 else subsets.pop())
    builds = sorted((build for build in builds if build.parts[-3] == subset), key=lambda build: build.stat().st_mtime)
    commit = _commit(hub, config.revision)
    chosen = [build for build in builds if build.name == commit]
    if not chosen and config.revision is None:
        chosen = builds
    return chosen[-1] if chosen else None


def _commit(hub: str, revision: str | None) -> str | None:
    """Return the commit of a branch or tag at its last download; a revision that may be a commit is returned itself."""
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(hub, "README.md", revision=revision, repo_type="dataset")
    return Path(card).parent.name if isinstance(card, str) else revision


def _from_cache(hub: str, build: Path) -> Any:
    # Not load_dataset: it would ask the hub first, and without one forget the revision.
    from datasets.packaged_modules.cache.cache import Cache

    subset, version, commit = build.parts[-3:]
    builder = Cache(repo_id=hub, dataset_name=hub.rsplit("/", 1)[-1], config_name=subset, version=version, hash=commit)
    return builder.as_dataset()


def _download(hub: str, config: DataConfig) -> Any:
    import datasets

    try:
        return datasets.load_dataset(hub, name=config.language, revision=config.revision)
    except Exception as error:
        # Three libraries raise errors of many types here; their messages name the subsets, or how to get access.
        message = " ".join(str(error).split())
        raise ConfigError.single("data.hub", f"{hub} cannot be loaded: {type(error).__name__}: {message}") from error
