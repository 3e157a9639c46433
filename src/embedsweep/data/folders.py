"""The splits of some data as files in a folder.

Owns the names of a folder's files and which reader a format has. What is in a file is the reader's to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedsweep.data.files import read_delimited
from embedsweep.data.json_lines import read_json_lines
from embedsweep.data.parquet import read_parquet
from embedsweep.data.rows import Findings, Table, joined, nearest
from embedsweep.data.semeval import read_semeval
from embedsweep.errors import ConfigError
from embedsweep.schema import DataConfig, DataFormat, Split

READERS: Mapping[DataFormat, Callable[[Path, DataConfig], Table]] = {
    "delimited": read_delimited,
    "json_lines": read_json_lines,
    "parquet": read_parquet,
    "semeval": read_semeval,
}


def read_path(given: str, config: DataConfig, splits: Sequence[Split]) -> dict[Split, Table]:
    """Reads splits from the files of a folder, or one split from a file.

    Args:
        given: the folder, or the file.
        config: its format and the names of its files.
        splits: which are wanted.

    Raises:
        ConfigError: none can be read; what is wrong with single files is found in their tables.
    """
    if config.format is None:
        formats = ", ".join(READERS)
        raise ConfigError.single("data.format", f"is not given: say what the files are, one of {formats}")
    read = READERS[config.format]
    path = Path(given).expanduser()
    if path.is_file():
        if len(splits) > 1:
            raise ConfigError.single("data.path", _one_file(path, splits))
        return {splits[0]: _table([path], config, read)}
    if not path.is_dir():
        raise ConfigError.single("data.path", no_folder(path))
    paths = {split: [path / name for name in file_names(config, split, splits)] for split in splits}
    if not any(_is_there(file) for files in paths.values() for file in files):
        _check_language(path, config)
    return {split: _table(files, config, read) for split, files in paths.items()}


def file_names(config: DataConfig, split: Split, splits: Sequence[Split]) -> list[str]:
    """The names of a split's files inside the folder; several are joined.

    Args:
        config: its ``files``, ``splits`` and ``language``.
        split: the split.
        splits: all that are wanted, which may not be one file.

    Raises:
        ConfigError: ``data.files`` does not name them.
    """
    template = config.files
    if template is None:
        raise ConfigError.single("data.files", "is not given: say which file a split is, as in '{split}.csv'")
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


def no_folder(path: Path) -> str:
    """What to say of a folder that is not there: the nearest that are."""
    parent = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(parent).parts[0]
    there = nearest(
        missing, (entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    )
    return f"there is no folder {path}; folders in {parent.absolute()}: {there}"


def _one_file(path: Path, splits: Sequence[Split]) -> str:
    wanted = ", ".join(splits)
    return (
        f"{path} is a file, and {wanted} are wanted: give its folder, and the name in data.files with {{split}} for "
        f"{wanted}; or choose what is scored by evaluation.dev and evaluation.test, and the file is train"
    )


def _is_there(path: Path) -> bool:
    return path.exists() or any(path.parent.glob(path.name))


def _table(paths: Sequence[Path], config: DataConfig, read: Callable[[Path, DataConfig], Table]) -> Table:
    tables: list[Table] = []
    for path in paths:
        try:
            tables.append(read(path, config))
        except ConfigError as error:
            tables.append(Table([], Findings(str(path))))
            tables[-1].found.add_problems(error.problems)
    return joined(tables)


def _check_language(folder: Path, config: DataConfig) -> None:
    """Raises where the folder has files of the right name in other languages; without any, each file is missed."""
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
        what = "is not given, and the files' names have one"
    elif languages:
        what = f"{config.language!r} is not there"
    else:
        return
    raise ConfigError.single(
        "data.language",
        f"{what}: for {template} there are {', '.join(languages) or 'no languages'} in {folder}",
    )
