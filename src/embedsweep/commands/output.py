"""What several verbs share: the file that a verb writes, and progress."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from embedsweep.commands.arguments import Option, ParsedArguments, one_of, usable_device, whole_number
from embedsweep.config.trial import Quoting
from embedsweep.console import say
from embedsweep.errors import EmbedsweepError, gather_problems
from embedsweep.files import access_problem, user_path

BATCH_SIZE = Option("--batch-size", "N", "texts encoded at once", whole_number(1))
DEVICE = Option("--device", "D", "auto, cpu, cuda, cuda:N or mps", usable_device, choices=("auto", "cpu", "cuda"))
QUOTINGS: tuple[Quoting, ...] = get_args(Quoting)
QUOTING = Option(
    "--quoting",
    "NAME",
    "of .csv and .tsv: double_quotes around texts, none, or auto: none of .tsv",
    one_of(QUOTINGS),
    choices=QUOTINGS,
)
OVERWRITE = Option("--overwrite", "", "replace an existing file")

_SECONDS_BETWEEN_LINES = 10.0


def read_target(arguments: ParsedArguments, key: str, suffixes: Sequence[str] = ()) -> Path | None:
    """Return the file to write: in an existing folder, and a new one unless ``--overwrite`` is given.

    Args:
        arguments: their ``problems`` get what is wrong with the file.
        key: the option that names it.
        suffixes: what its name must end in; empty allows all.
    """
    text = getattr(arguments.values, key)
    if text is None:
        return None
    path = user_path(text)
    if suffixes and path.suffix not in suffixes:
        arguments.add_problem(f"--{key}", f"must end in {' or '.join(suffixes)}, but got {text}")
    with gather_problems(arguments.problems):
        if not text or path.is_dir():
            arguments.add_problem(f"--{key}", f"{text or 'nothing'} is not a file: give a file, as --{key} FILE")
        elif path.exists() and not arguments.values.overwrite:
            arguments.add_problem(f"--{key}", f"{path} exists: give another name, or --overwrite")
        elif not path.parent.is_dir():
            arguments.add_problem(f"--{key}", f"there is no folder {path.parent.absolute()}")
        elif (message := access_problem(path)) is not None:
            arguments.add_problem(f"--{key}", f"{path} {message}")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which replaces ``path`` when the block ends without an error.

    Raises:
        EmbedsweepError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise EmbedsweepError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # in a folder that cannot be written there is nothing to remove
            temporary.unlink(missing_ok=True)


def write_json(path: Path, tree: Any) -> None:
    """Write a JSON file in one step.

    Raises:
        EmbedsweepError: the folder cannot be written, or the disk is full.
    """
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def shown_progress(console: Console, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts finished items: a bar in a terminal, elsewhere a line every 10 seconds.

    Args:
        console: where progress is shown.
        total: items in all.
        what: what happens to them (``encoded``).
    """
    if console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, last_line = 0, time.monotonic()

    def progress(count: int) -> None:
        nonlocal done, last_line
        done += count
        if time.monotonic() - last_line > _SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            say(console, f"{what}: {done} of {total}")

    yield progress
