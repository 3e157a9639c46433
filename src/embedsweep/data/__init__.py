"""Sentence pairs: where they come from and what shape they have.

``load_splits`` is the way in. Owns the choice of a source and the names of a folder's files; each source reads itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from embedsweep.config import canonical
from embedsweep.data.checks import Findings, Row, checked_pairs, nearest
from embedsweep.data.files import read_pairs
from embedsweep.data.hub import read_hub
from embedsweep.data.pairs import Pairs, Splits, as_examples
from embedsweep.errors import ConfigError, Problem
from embedsweep.schema import DataConfig, EvaluationConfig

__all__ = ["Pairs", "Splits", "load_splits"]

_SPLITS = ("train", "dev", "test")


def load_splits(data: DataConfig, evaluation: EvaluationConfig) -> Splits:
    """The examples to train on, and the pairs that select and report; read once a process.

    Raises:
        ConfigError: the problems of all three at once.
    """
    found = _load(_Asked(canonical([asdict(data), asdict(evaluation)]), data, evaluation))
    if isinstance(found, ConfigError):
        raise found
    return found


@dataclass(frozen=True)
class _Asked:
    """What is to be read; equal to another by its canonical form alone."""

    key: str
    data: DataConfig = field(compare=False)
    evaluation: EvaluationConfig = field(compare=False)


@functools.lru_cache(maxsize=4)
def _load(asked: _Asked) -> Splits | ConfigError:
    config = asked.data
    try:
        if config.path is not None:
            pairs = _from_folder(config.path, config)
        elif config.name == "demo":
            pairs = _generated(config)
        else:
            pairs = read_hub(config)
        pairs = pairs if config.limit is None else _limited(pairs, config.limit)
    except ConfigError as error:
        return error
    return Splits(as_examples(pairs["train"]), pairs["dev"], pairs["test"])


def _generated(config: DataConfig) -> dict[str, Pairs]:
    from embedsweep.data.demo import generate

    splits: dict[str, Pairs] = {}
    for split, generated in generate().items():
        origin = f"demo {split}"
        rows = [Row(f"{origin}, row {number}", *row) for number, row in enumerate(generated, start=1)]
        splits[split] = checked_pairs(rows, config.score_range, Findings(origin))
    return splits


def _from_folder(given: str, config: DataConfig) -> dict[str, Pairs]:
    if config.name == "demo":
        raise ConfigError.single("data.path", f"{given} is not read: demo data is generated; say data=csv for files")
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ConfigError.single("data.path", _no_folder(folder))
    if config.files is None:
        raise ConfigError.single("data.files", "is not given: say which file a split is, as in '{split}.csv'")
    paths = {split: folder / _file_name(config.files, split, config.language) for split in _SPLITS}
    if "{language}" in config.files and not any(path.exists() for path in paths.values()):
        _check_language(folder, config.files, config.language)
    pairs: dict[str, Pairs] = {}
    problems: list[Problem] = []
    for split, path in paths.items():
        try:
            pairs[split] = read_pairs(path, config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return pairs


def _no_folder(folder: Path) -> str:
    if folder.exists():
        return f"{folder} is a file: give its folder, and the name in data.files with {{split}} for train, dev and test"
    parent = next(parent for parent in folder.parents if parent.is_dir())
    missing = folder.relative_to(parent).parts[0]
    there = nearest(
        missing, (entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    )
    return f"there is no folder {folder}; folders in {parent.absolute()}: {there}"


def _file_name(template: str, split: str, language: str | None) -> str:
    problem = ""
    try:
        name = template.format(split=split, language=language)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        problem = f"cannot be filled in ({type(error).__name__}: {error})"
    if not problem and "{split}" not in template:
        problem = "has no {split}, so that all splits would be the same file"
    if problem:
        raise ConfigError.single(
            "data.files", f"{template!r} {problem}: write it with {{split}}, and {{language}} where names have one"
        )
    return name


def _check_language(folder: Path, template: str, language: str | None) -> None:
    """Raises where the folder has files of the right name in other languages; without any, each file is missed."""
    pattern = re.escape(template)
    for key, group in (("split", "(?:train|dev|test)"), ("language", "(?P<language>.+)")):
        # A template may repeat a key, a pattern's group may not.
        pattern = pattern.replace(re.escape(f"{{{key}}}"), group, 1).replace(re.escape(f"{{{key}}}"), ".+")
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    languages = sorted({match["language"] for name in names if (match := re.fullmatch(pattern, name))})
    if language is None:
        what = "is not given, and the files' names have one"
    elif languages:
        what = f"{language!r} is not there"
    else:
        return
    raise ConfigError.single(
        "data.language",
        f"{what}: for {template} there are {', '.join(languages) or 'no languages'} in {folder}",
    )


def _limited(splits: Mapping[str, Pairs], limit: int) -> dict[str, Pairs]:
    limited = {name: pairs.first(limit) for name, pairs in splits.items()}
    problems = [
        Problem("data.limit", f"the first {limit} rows of {pairs.origin} do not have two different scores: raise it")
        for pairs in limited.values()
        if len(set(pairs.scores)) < 2
    ]
    if problems:
        raise ConfigError(problems)
    return limited
