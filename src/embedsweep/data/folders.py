"""Find the files of splits in a folder and read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from embedsweep.config.trial import DataConfig, Split
from embedsweep.data.formats import READERS
from embedsweep.data.tables import Table, closest_names, joined_files, layout_of
from embedsweep.errors import ConfigError


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
    read, layout = READERS[config.format], layout_of(config)
    path = Path(text).expanduser()
    if path.is_file():
        if len(splits) > 1:
            raise ConfigError.single("data.path", _one_file(path, splits))
        return {splits[0]: joined_files([path], lambda file: read(file, layout))}
    if not path.is_dir():
        raise ConfigError.single("data.path", missing_folder(path))
    paths = {split: [path / name for name in file_names(config, split, splits)] for split in splits}
    if not any(file.exists() or any(file.parent.glob(file.name)) for files in paths.values() for file in files):
        _check_language(path, config)
    return {split: joined_files(files, lambda file: read(file, layout)) for split, files in paths.items()}


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


def missing_folder(path: Path) -> str:
    """Return the message for a missing folder, with similar folders that exist."""
    parent = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(parent).parts[0]
    folders = (entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
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
