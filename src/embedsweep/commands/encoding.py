"""Texts become embeddings while a person watches, and a file appears whole or not at all.

Owns what ``encode``, ``similarity`` and ``evaluate`` share: checks of the device and of the file to write, the progress
bar, the temporary name. Knows nothing of where texts come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embedsweep.commands.arguments import Typed
from embedsweep.display import say
from embedsweep.errors import EmbedsweepError
from embedsweep.gate.devices import device_problem

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

BATCHES_AT_ONCE = 32
"""Batches that are encoded in one call, in which the library sorts texts by length."""

_LINE_EVERY_S = 10.0


def read_device(typed: Typed) -> str:
    """The ``--device``, if this machine has it."""
    device = typed.reader.text("device")
    if device and (message := device_problem(device)) is not None:
        typed.problem("device", message)
    return device


def read_target(typed: Typed, key: str, suffixes: Sequence[str]) -> Path | None:
    """The file to write: in a folder that is there, and not over another unless ``--overwrite`` says so."""
    overwrite = typed.reader.boolean("overwrite")
    text = typed.reader.optional_text(key)
    if text is None:
        return None
    path = Path(text).expanduser()
    if suffixes and path.suffix not in suffixes:
        typed.problem(key, f"must end in {' or '.join(suffixes)}, but got {text}")
    if path.is_dir():
        typed.problem(key, f"{path} is a folder: give a file")
    elif path.exists() and not overwrite:
        typed.problem(key, f"{path} is there already: give another name, or --overwrite")
    elif not path.parent.is_dir():
        typed.problem(key, f"there is no folder {path.parent}")
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes the place of ``path`` when the block ends without an error.

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
        with suppress(OSError):  # in a folder that cannot be written there is nothing to take away
            temporary.unlink(missing_ok=True)


def encoded_chunks(
    model: SentenceTransformer,
    texts: Sequence[str],
    batch_size: int,
    progress: Callable[[int], None],
    **how: Any,
) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Texts in their order, each chunk with its embeddings ``(texts, dim)``.

    Args:
        model: encodes them.
        texts: at least one.
        batch_size: texts encoded at once.
        progress: is told how many more are done.
        how: further arguments of the model's ``encode``.
    """
    step = batch_size * BATCHES_AT_ONCE
    for begin in range(0, len(texts), step):
        chunk = texts[begin : begin + step]
        yield chunk, model.encode(list(chunk), batch_size=batch_size, show_progress_bar=False, **how)
        progress(len(chunk))


@contextmanager
def shown_progress(console: Console, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Is told how many more are done: a bar in a terminal; elsewhere a line every 10 seconds, and none for less."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, told = 0, time.monotonic()

    def progress(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told > _LINE_EVERY_S:
            told = time.monotonic()
            say(console, f"{what}: {done} of {total}")

    yield progress
