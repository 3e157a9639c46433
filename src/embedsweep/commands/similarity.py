"""``embedsweep similarity``: a file of pairs becomes a file of their scores.

Owns the form of that file. Loads the model when everything else was found right.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from embedsweep.chosen_model import ChosenModel, load_model
from embedsweep.commands.arguments import Argument, Place, Takes, Typed, Verb, asks_for_help, parse, print_help
from embedsweep.commands.encode import MODEL, model_of, texts_of
from embedsweep.commands.encoding import encoded_chunks, read_device, read_target, shown_progress, written_whole
from embedsweep.commands.sources import as_column
from embedsweep.comparison import COMPARISONS, Comparison, compared
from embedsweep.config import open_composer
from embedsweep.display import say
from embedsweep.launch import prepare_process

if TYPE_CHECKING:
    import numpy as np

VERB = Verb(
    name="similarity",
    about="Scores every pair of texts of a file.",
    places=(MODEL, Place("FILE", "pairs of texts: .csv, .tsv, .jsonl or .parquet")),
    arguments=(
        Argument("out", Takes.WORD, "FILE", "where to: .parquet or .csv (sentence1, sentence2, score)"),
        Argument("columns", Takes.WORDS, "A B", "the two columns: by name, or by position from 0 without a header"),
        Argument("similarity", Takes.WORD, "NAME", "cosine, or euclidean: 1 / (1 + distance)"),
        Argument("batch-size", Takes.NUMBER, "N", "texts encoded at once"),
        Argument("device", Takes.WORD, "D", "auto, cpu, cuda, cuda:N or mps"),
        Argument("overwrite", Takes.NOTHING, "", "writes over a file that is there"),
    ),
)


@dataclass(frozen=True)
class _Asked:
    """The arguments, checked."""

    model: ChosenModel
    sentences1: list[str]
    sentences2: list[str]
    out: Path
    similarity: Comparison
    batch_size: int
    device: str


def run(words: Sequence[str], console: Console) -> int:
    """Runs ``embedsweep similarity`` with the words after it.

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
    import numpy as np

    from embedsweep.models import torch_device

    model = load_model(asked.model, torch_device(asked.device))
    scores: list[np.ndarray] = []
    with shown_progress(console, 2 * len(asked.sentences1), "encoded") as progress:
        sides = (
            encoded_chunks(model, texts, asked.batch_size, progress) for texts in (asked.sentences1, asked.sentences2)
        )
        for (_, first), (_, second) in zip(*sides, strict=True):
            scores.append(compared(first, second, asked.similarity))
    write = _write_parquet if asked.out.suffix == ".parquet" else _write_csv
    found = np.concatenate(scores)
    with written_whole(asked.out) as temporary:
        write(temporary, asked, found)
    say(console, f"{asked.out}: {len(found)} pairs scored by {asked.similarity}, by {asked.model.what}")
    if missing := int(np.isnan(found).sum()):
        of = f"{missing} pair{'s' if missing > 1 else ''}"
        say(console, f"{of} without a score (nan): an embedding is zero, which has no cosine, or is no number")
    return 0


def _read(typed: Typed) -> _Asked:
    reader = typed.reader
    out = read_target(typed, "out", (".parquet", ".csv"))
    if out is None and not typed.is_told("out"):
        typed.problem("out", "must be given: --out scores.parquet")
    columns = reader.raw("columns")
    if len(columns) != 2:
        typed.problem("columns", f"must be two, but got {' '.join(map(str, columns)) or 'none'}")
    similarity = reader.one_of("similarity", COMPARISONS)
    batch_size, device = reader.integer("batch_size", at_least=1), read_device(typed)
    reader.finish()
    texts = texts_of(typed, [as_column(column) for column in columns]) if len(columns) == 2 else None
    with open_composer() as composer:
        model = model_of(typed, composer)
    typed.check()
    if out is None or texts is None or model is None:
        raise ValueError("what is missing was noted as a problem")
    return _Asked(model, texts[0], texts[1], out, similarity, batch_size, device)


def _write_parquet(path: Path, asked: _Asked, scores: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"sentence1": asked.sentences1, "sentence2": asked.sentences2, "score": scores.astype("float64")})
    pq.write_table(table, path)


def _write_csv(path: Path, asked: _Asked, scores: np.ndarray) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sentence1", "sentence2", "score"))
        writer.writerows(zip(asked.sentences1, asked.sentences2, scores.tolist(), strict=True))
