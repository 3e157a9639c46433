"""``embedsweep encode``: a file of texts becomes a file of their embeddings.

Owns the two forms of that file. Loads the model when everything else was found right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embedsweep.commands.arguments import Argument, Place, Takes, Typed, Verb, asks_for_help, parse, print_help
from embedsweep.commands.models import ChosenModel, choose_model, load_model
from embedsweep.config.compose import Composer, open_composer
from embedsweep.config.trial import Column
from embedsweep.config.values import nearest
from embedsweep.console import say
from embedsweep.data.formats import read_texts
from embedsweep.errors import ConfigError, EmbedsweepError
from embedsweep.machine import device_problem, prepare_process

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


MODEL = Place("MODEL", "a folder, a study's name (its best), a run's id or its first 6 digits, or a hub id")
VERB = Verb(
    name="encode",
    about="Writes the embedding of every text of a file.",
    places=(MODEL, Place("FILE", "texts: .txt (one a line), .csv, .tsv, .jsonl or .parquet")),
    arguments=(
        Argument("out", Takes.WORD, "FILE", "where to: .parquet (text, embedding) or .npy (float32, texts x dim)"),
        Argument("column", Takes.WORD, "NAME", "column of the texts: by name, or by position from 0 without a header"),
        Argument("prompt", Takes.WORD, "NAME", "one of the model's prompts, put before every text"),
        Argument("batch-size", Takes.NUMBER, "N", "texts encoded at once"),
        Argument("device", Takes.WORD, "D", "auto, cpu, cuda, cuda:N or mps"),
        Argument("truncate-dim", Takes.NUMBER, "N", "keeps the first N dimensions"),
        Argument("normalize", Takes.NOTHING, "", "gives every embedding length 1"),
        Argument("overwrite", Takes.NOTHING, "", "writes over a file that is there"),
    ),
)

Write = Callable[[Sequence[str], "np.ndarray"], object]


@dataclass(frozen=True)
class _Asked:
    """The arguments, checked."""

    model: ChosenModel
    texts: list[str]
    out: Path
    prompt: str | None
    batch_size: int
    device: str
    truncate_dim: int | None
    normalize: bool


def run(words: Sequence[str], console: Console) -> int:
    """Runs ``embedsweep encode`` with the words after it.

    Returns:
        0.

    Raises:
        ConfigError: all that is wrong with the arguments, the file or the model's name; nothing was written.
        EmbedsweepError: the model cannot be loaded, or the file cannot be written.
    """
    if asks_for_help(words):
        print_help(VERB, console)
        return 0
    asked = _read(parse(VERB, words))
    prepare_process(asked.device)
    from embedsweep.models import torch_device

    model = load_model(asked.model, torch_device(asked.device))
    _check_model(model, asked)
    dim = min(filter(None, (asked.truncate_dim, model.get_embedding_dimension())))
    how: dict[str, Any] = {
        "prompt_name": asked.prompt,
        "truncate_dim": asked.truncate_dim,
        "normalize_embeddings": asked.normalize,
    }
    opened = _parquet if asked.out.suffix == ".parquet" else _npy
    with (
        written_whole(asked.out) as temporary,
        opened(temporary, len(asked.texts), dim) as write,
        shown_progress(console, len(asked.texts), "encoded") as progress,
    ):
        for texts, embeddings in encoded_chunks(model, asked.texts, asked.batch_size, progress, **how):
            write(texts, embeddings)
    say(console, f"{asked.out}: {len(asked.texts)} embeddings of {dim} dimensions, by {asked.model.what}")
    return 0


def _read(typed: Typed) -> _Asked:
    reader = typed.reader
    out = read_target(typed, "out", (".parquet", ".npy"))
    if out is None and not typed.is_told("out"):
        typed.problem("out", "must be given: --out embeddings.parquet")
    column = as_column(reader.text("column"))
    batch_size, device = reader.integer("batch_size", at_least=1), read_device(typed)
    truncate_dim = reader.optional_integer("truncate_dim", at_least=1)
    prompt, normalize = reader.optional_text("prompt"), reader.boolean("normalize")
    reader.finish()
    texts = texts_of(typed, [column], "--column")
    with open_composer() as composer:
        model = model_of(typed, composer)
    typed.check()
    if out is None or texts is None or model is None:
        raise ValueError("what is missing was noted as a problem")
    return _Asked(model, texts[0], out, prompt, batch_size, device, truncate_dim, normalize)


def as_column(word: str | int) -> Column:
    """Return a column as typed: digits are a position from 0, anything else is a name."""
    return int(word) if str(word).isdigit() else word


def texts_of(typed: Typed, columns: Sequence[Column], flag: str) -> list[list[str]] | None:
    """Return the texts of the ``FILE`` argument; None, and a problem, if it cannot be read.

    Args:
        typed: the parsed arguments.
        columns: names or positions of the columns.
        flag: the argument that sets them, for messages.
    """
    if not typed.places[1]:
        return None
    try:
        return read_texts(Path(typed.places[1][0]).expanduser(), columns, flag)
    except ConfigError as error:
        typed.problems.extend(error.problems)
        return None


def model_of(typed: Typed, composer: Composer) -> ChosenModel | None:
    """The ``MODEL`` that was typed; None where there is none, which is noted."""
    if not typed.places[0]:
        return None
    try:
        return choose_model(typed.places[0][0], composer)
    except ConfigError as error:
        typed.problems.extend(error.problems)
        return None


def _check_model(model: SentenceTransformer, asked: _Asked) -> None:
    """Raises where the model has no such prompt, or fewer dimensions: only now it is known."""
    if asked.prompt is not None and asked.prompt not in model.prompts:
        there = ", ".join(model.prompts) or "none"
        message = f"the model has no prompt {asked.prompt}{nearest(asked.prompt, model.prompts)}; there are: {there}"
        raise ConfigError.single("--prompt", message)
    width = model.get_embedding_dimension()
    if asked.truncate_dim is not None and width is not None and asked.truncate_dim > width:
        message = f"the model's embeddings have {width} dimensions, but got {asked.truncate_dim}"
        raise ConfigError.single("--truncate-dim", message)


@contextmanager
def _parquet(path: Path, _count: int, _dim: int) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda texts, embeddings: writer.write_table(
            pa.table({"text": list(texts), "embedding": list(embeddings.astype("float32"))}, schema=schema)
        )


@contextmanager
def _npy(path: Path, count: int, dim: int) -> Iterator[Write]:
    import numpy as np

    # Written in order, and not through a memory map: a full disk would end the process without a word.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": (count, dim)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda _, embeddings: file.write(embeddings.astype("<f4").tobytes())
