"""``embedsweep similarity``: a file of pairs becomes a file of their scores.

Owns the form of that file. Loads the model when everything else was found right.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from rich.console import Console

from embedsweep.commands.arguments import Argument, Place, Takes, Typed, Verb, asks_for_help, parse, print_help
from embedsweep.commands.encode import (
    MODEL,
    as_column,
    encoded_chunks,
    model_of,
    read_device,
    read_target,
    shown_progress,
    texts_of,
    written_whole,
)
from embedsweep.commands.models import ChosenModel, load_model
from embedsweep.config.compose import open_composer
from embedsweep.console import say
from embedsweep.errors import TrialError
from embedsweep.machine import prepare_process

Comparison = Literal["cosine", "euclidean"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)

_TO_SPACE = str.maketrans({"\t": " ", "\n": " ", ",": " "})


def compared(first: np.ndarray, second: np.ndarray, by: Comparison) -> np.ndarray:
    """The similarity of every pair: the cosine, in [-1, 1], or ``1 / (1 + Euclidean distance)``, in (0, 1].

    Args:
        first: ``(pairs, dim)``.
        second: ``(pairs, dim)``.
        by: which of the two.

    Returns:
        ``(pairs,)``, computed in double precision; NaN where an embedding is zero and ``by`` the cosine.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    if by == "euclidean":
        return np.asarray(1 / (1 + np.linalg.norm(first - second, axis=1)))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    dots = np.einsum("pd,pd->p", first, second)
    return np.divide(dots, norms, out=np.full(len(dots), np.nan), where=norms > 0)


def normalized_text(text: str) -> str:
    """sts_eval's normalisation: lower case; tab, newline and comma become a space."""
    return text.lower().translate(_TO_SPACE)


@dataclass(frozen=True)
class Correlations:
    """How well predicted scores follow gold ones, with the two-sided p-values of no correlation at all."""

    pearson: float
    pearson_p: float
    spearman: float
    spearman_p: float


def correlations(gold: Sequence[float], predicted: np.ndarray) -> Correlations:
    """Correlates predicted with gold scores.

    Args:
        gold: at least two different scores.
        predicted: as many, ``(pairs,)``.

    Raises:
        TrialError: the predicted scores are constant or not numbers.
    """
    from scipy.stats import pearsonr, spearmanr

    if not np.isfinite(predicted).all() or np.ptp(predicted) < 1e-12:
        raise TrialError("there is no correlation: the embeddings are constant or not numbers")
    pearson, spearman = pearsonr(gold, predicted), spearmanr(gold, predicted)
    return Correlations(float(pearson[0]), float(pearson[1]), float(spearman[0]), float(spearman[1]))


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
    texts = texts_of(typed, [as_column(column) for column in columns], "--columns") if len(columns) == 2 else None
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
