"""The splits of some data as files in a folder.

Owns the names of a folder's files and which reader a format has. What is in a file is the reader's to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from embedsweep.config.trial import DataConfig, DataFormat, Split
from embedsweep.data.delimited import read_delimited
from embedsweep.data.semeval import read_semeval
from embedsweep.data.tables import Findings, Picker, Table, check_columns, choose, content_of, joined, nearest, text_of
from embedsweep.errors import ConfigError

Line = tuple[int, object]


def read_json_lines(path: Path, config: DataConfig) -> Table:
    """Reads one file; blank lines are skipped, keys that are not asked for too.

    Args:
        path: the file.
        config: its columns (names: every line is an object; positions: every line is a list), conditions, encoding.

    Raises:
        ConfigError: no row can be read.
    """
    check_columns(config.columns)
    text = text_of(path, config.encoding)
    found = Findings(str(path))
    lines = list(_values(text, found))
    if not lines and not found:
        found.add("is empty: at least two rows are needed")
    if len(lines) == 1 and isinstance(lines[0][1], list) and any(isinstance(item, dict) for item in lines[0][1]):
        raise ConfigError.single(str(path), _one_document(path))
    named = isinstance(config.columns[0], str)
    rows = list(_objects(lines, config, found) if named else _lists(lines, found))
    if not rows:
        raise found.error()
    if named:
        names: Sequence[str] = [*dict.fromkeys([*map(str, config.columns), *config.where])]
    else:
        names = [str(position) for position in range(max(len(fields) for _, fields in rows))]
    choice = choose(names, config, found, "there are")
    if choice is None:
        raise found.error()
    picker = Picker(choice, config)
    for line, fields in rows:
        if len(fields) == len(names):
            picker.take(f"{path}, line {line}", fields)
        else:
            message = f"{len(fields)} values, where others have {len(names)}: complete the line or leave it out"
            found.add_row("lines with another number of values", f"{path}, line {line}", message)
    return picker.table(found)


def _values(text: str, found: Findings) -> Iterator[Line]:
    # JSON knows no line break inside of a value but \n; splitlines() would also break at U+2028, which it may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            if line.strip() in ("[", "{") and number == 1:
                raise ConfigError.single(found.origin, _one_document(Path(found.origin))) from None
            at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            found.add_row(
                "lines that are not JSON",
                f"{found.origin}, line {number}",
                f"is not JSON ({what}{at}): one value a line, texts in double quotes",
            )


def _one_document(path: Path) -> str:
    return f"is one JSON document over all lines, not one value a line: turn it round with jq -c '.[]' {path.name}"


def _objects(lines: Sequence[Line], config: DataConfig, found: Findings) -> Iterator[tuple[int, list[object]]]:
    """The values asked for of every line that has them all."""
    names = [*dict.fromkeys([*map(str, config.columns), *config.where])]
    objects = [(number, value) for number, value in lines if isinstance(value, dict)]
    for number, value in lines:
        if not isinstance(value, dict):
            told = f"is {json.dumps(value)[:40]}, not an object: columns are named (data.columns)"
            found.add_row("lines that are no objects", f"{found.origin}, line {number}", told)
    nowhere = [name for name in names if objects and all(name not in value for _, value in objects)]
    for name in nowhere:
        key = "data.columns" if name in config.columns else "data.where"
        found.add(f"has no {name!r} ({key}) in any line; the first has {nearest(name, objects[0][1])}")
    if nowhere:
        return
    for number, value in objects:
        missing = [name for name in names if name not in value]
        if not missing:
            yield number, [value[name] for name in names]
        for name in missing:
            message = f"has no {name!r}; it has {nearest(name, value)}: fill it in or leave the line out"
            found.add_row("lines without a column", f"{found.origin}, line {number}", message)


def _lists(lines: Sequence[Line], found: Findings) -> Iterator[tuple[int, list[object]]]:
    for number, value in lines:
        if isinstance(value, list):
            yield number, value
            continue
        keys = f"; it has {nearest('', value)}" if isinstance(value, dict) else ""
        message = f"is no list, and data.columns counts positions: name the columns{keys}"
        found.add_row("lines that are no lists", f"{found.origin}, line {number}", message)


_MAGIC = b"PAR1"
"""First and last four bytes of every parquet file (https://parquet.apache.org/docs/file-format/)."""


def read_parquet(path: Path, config: DataConfig) -> Table:
    """Reads the columns asked for of one file.

    Args:
        path: the file.
        config: its columns, by name or by position, and conditions.

    Raises:
        ConfigError: it is no parquet file, or a column is not there.
    """
    check_columns(config.columns)
    content = content_of(path)
    if not content:
        raise ConfigError.single(str(path), "is empty: at least two rows are needed")
    if not content.startswith(_MAGIC):
        raise ConfigError.single(
            str(path), "is no parquet file (it does not begin with PAR1): say what it is, data.format=delimited or so"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = Findings(str(path))
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = file.schema_arrow.names
        choice = choose(names, config, found, "it has")
        if choice is None:
            raise found.error()
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise ConfigError.single(str(path), f"is a broken parquet file: {message}; get or write it anew") from None
    picker = Picker(choice, config)
    needed = {*choice.cells, *(position for position, _ in choice.conditions)}
    columns = [
        table.column(index).to_pylist() if index in needed else [None] * table.num_rows for index in range(len(names))
    ]
    for number, fields in enumerate(zip(*columns, strict=True), start=1):
        picker.take(f"{path}, row {number}", fields)
    return picker.table(found)


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
