"""``embedsweep encode``: embeddings of a file's texts, as a parquet or npy file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from embedsweep.commands.arguments import Option, ParsedArguments, Positional, Verb, parse, whole_number
from embedsweep.commands.models import MODEL, ResolvedModel, load_model, read_model_argument
from embedsweep.commands.output import (
    BATCH_SIZE,
    DEVICE,
    OVERWRITE,
    QUOTING,
    read_target,
    shown_progress,
    written_whole,
)
from embedsweep.config.trial import Column
from embedsweep.config.values import nearest
from embedsweep.console import say
from embedsweep.data.formats import read_texts
from embedsweep.errors import ConfigError
from embedsweep.files import user_path

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

BATCHES_AT_ONCE = 32
"""Batches that are encoded in one call, in which the library sorts texts by length."""

Write = Callable[[Sequence[str], "np.ndarray"], object]


def run(words: Sequence[str], console: Console) -> int:
    """Run ``embedsweep encode`` with the words after it and return 0. The model is loaded last.

    Raises:
        ConfigError: all that is wrong with the arguments, the file or the model's name; nothing was written.
        EmbedsweepError: the model cannot be loaded, or the file cannot be written.
    """
    arguments = parse(VERB, words)
    values = arguments.values
    out, (texts,), resolved = read_inputs(arguments, (".parquet", ".npy"), [values.column or ""], "--column")
    model = load_model(resolved, values.device)
    _check_model(model, values.prompt, values.truncate_dim)
    dim = min(filter(None, (values.truncate_dim, model.get_embedding_dimension())))
    encode_options: dict[str, Any] = {
        "prompt_name": values.prompt,
        "truncate_dim": values.truncate_dim,
        "normalize_embeddings": values.normalize,
    }
    open_writer = _parquet if out.suffix == ".parquet" else _npy
    with (
        written_whole(out) as temporary,
        open_writer(temporary, len(texts), dim) as write,
        shown_progress(console, len(texts), "encoded") as progress,
    ):
        for chunk, embeddings in encoded_chunks(model, texts, values.batch_size, progress, **encode_options):
            write(chunk, embeddings)
    say(console, f"{out}: {len(texts)} embeddings of {dim} dimensions, by {resolved.description}")
    return 0


def read_inputs(
    arguments: ParsedArguments, suffixes: Sequence[str], columns: Sequence[str | int], flag: str
) -> tuple[Path, list[list[str]], ResolvedModel]:
    """Return the file to write, the texts of ``FILE`` as a list for each column, and the model.

    Args:
        arguments: the parsed arguments; the file to write is ``--out``.
        suffixes: what the name of the file to write must end in.
        columns: of the texts, as typed.
        flag: the option that sets them, for messages.

    Raises:
        ConfigError: all that is wrong with the arguments, the file or the model's name.
    """
    out = read_target(arguments, "out", suffixes)
    texts: list[list[str]] | None = None
    if not columns:
        arguments.add_problem(flag, "must be given")
    elif arguments.positionals[1]:
        path = user_path(arguments.positionals[1][0])
        texts = arguments.collect(read_texts, path, list(map(as_column, columns)), flag, arguments.values.quoting)
    model = read_model_argument(arguments)
    arguments.check()
    if out is None or texts is None or model is None:
        raise ValueError("what is missing was noted as a problem")
    return out, texts, model


def as_column(word: str | int) -> Column:
    """Return a column as typed: digits are a position from 0, anything else is a name."""
    return int(word) if str(word).isdigit() else word


def encoded_chunks(
    model: SentenceTransformer,
    texts: Sequence[str],
    batch_size: int,
    progress: Callable[[int], None],
    **encode_options: Any,
) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Yield texts in their order, each chunk with its embeddings ``(texts, dim)``.

    Args:
        model: encodes them.
        texts: at least one.
        batch_size: texts encoded at once.
        progress: is called with the number of texts of each finished chunk.
        encode_options: further arguments of the model's ``encode``.
    """
    step = batch_size * BATCHES_AT_ONCE
    for start in range(0, len(texts), step):
        chunk = texts[start : start + step]
        yield chunk, model.encode(list(chunk), batch_size=batch_size, show_progress_bar=False, **encode_options)
        progress(len(chunk))


def _check_model(model: SentenceTransformer, prompt: str | None, truncate_dim: int | None) -> None:
    """Raise where the loaded model has no such prompt, or fewer dimensions."""
    if prompt is not None and prompt not in model.prompts:
        known = ", ".join(model.prompts) or "none"
        hint = nearest(prompt, model.prompts)
        raise ConfigError.single("--prompt", f"the model has no prompt {prompt}{hint}; there are: {known}")
    width = model.get_embedding_dimension()
    if truncate_dim is not None and width is not None and truncate_dim > width:
        message = f"the model's embeddings have {width} dimensions, but got {truncate_dim}"
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

    # Written in order, and not through a memory map: a full disk would end the process without a message.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": (count, dim)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda _, embeddings: file.write(embeddings.astype("<f4").tobytes())


VERB = Verb(
    name="encode",
    summary="write the embedding of every text of a file",
    run=run,
    positionals=(MODEL, Positional("FILE", "texts: .txt (one a line), .csv, .tsv, .jsonl or .parquet")),
    options=(
        Option("--out", "FILE", ".parquet (text, embedding) or .npy (float32, texts x dim)", is_required=True),
        Option("--column", "NAME", "column of the texts: by name, or by position from 0 without a header"),
        QUOTING,
        Option("--prompt", "NAME", "one of the model's prompts, put before every text"),
        BATCH_SIZE,
        DEVICE,
        Option("--truncate-dim", "N", "keep the first N dimensions", whole_number(1)),
        Option("--normalize", "", "give every embedding length 1"),
        OVERWRITE,
    ),
)
