"""``embedsweep similarity``: the score of every pair of a file, as a parquet or csv file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from rich.console import Console

from embedsweep.commands.arguments import Option, Positional, Verb, one_of, parse
from embedsweep.commands.encode import encoded_chunks, read_inputs
from embedsweep.commands.models import MODEL, load_model
from embedsweep.commands.output import BATCH_SIZE, DEVICE, OVERWRITE, QUOTING, shown_progress, written_whole
from embedsweep.console import say
from embedsweep.errors import TrialError

if TYPE_CHECKING:
    import numpy as np

Comparison = Literal["cosine", "euclidean"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)
SIMILARITY = Option(
    "--similarity", "NAME", "cosine, or euclidean: 1 / (1 + distance)", one_of(COMPARISONS), choices=COMPARISONS
)

_TO_SPACE = str.maketrans({"\t": " ", "\n": " ", ",": " "})


def compared(first: np.ndarray, second: np.ndarray, by: Comparison) -> np.ndarray:
    """Return the similarity of every pair: the cosine, in [-1, 1], or ``1 / (1 + Euclidean distance)``, in (0, 1].

    Args:
        first: ``(pairs, dim)``.
        second: ``(pairs, dim)``.
        by: which of the two.

    Returns:
        ``(pairs,)``, computed in double precision; NaN where an embedding is zero and ``by`` the cosine.
    """
    import numpy as np

    first, second = first.astype(np.float64), second.astype(np.float64)
    if by == "euclidean":
        return np.asarray(1 / (1 + np.linalg.norm(first - second, axis=1)))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    dots = np.einsum("pd,pd->p", first, second)
    return np.divide(dots, norms, out=np.full(len(dots), np.nan), where=norms > 0)


def normalized_text(text: str) -> str:
    """Normalise a text as sts_eval does: lower case; tab, newline and comma become a space."""
    return text.lower().translate(_TO_SPACE)


@dataclass(frozen=True)
class Correlations:
    """How well predicted scores follow gold ones, each in [-1, 1].

    The p-values are two-sided, of the hypothesis of no correlation; None where they are not known.
    """

    pearson: float
    pearson_p: float | None
    spearman: float
    spearman_p: float | None


def correlations(gold: Sequence[float], predicted: np.ndarray) -> Correlations:
    """Correlate predicted with gold scores.

    Args:
        gold: at least two different scores.
        predicted: as many, ``(pairs,)``.

    Raises:
        TrialError: the predicted scores are constant or not numbers.
    """
    import numpy as np
    from scipy.stats import pearsonr, spearmanr

    if not np.isfinite(predicted).all() or np.ptp(predicted) < 1e-12:
        raise TrialError("there is no correlation: the embeddings are constant or not numbers")
    pearson, spearman = pearsonr(gold, predicted), spearmanr(gold, predicted)
    return Correlations(float(pearson[0]), float(pearson[1]), float(spearman[0]), float(spearman[1]))


def run(words: Sequence[str], console: Console) -> int:
    """Run ``embedsweep similarity`` with the words after it and return 0. The model is loaded last.

    Raises:
        ConfigError: all that is wrong with the arguments, the file or the model's name; nothing was written.
        EmbedsweepError: the model cannot be loaded, or the file cannot be written.
    """
    arguments = parse(VERB, words)
    values = arguments.values
    out, sentences, resolved = read_inputs(arguments, (".parquet", ".csv"), values.columns or (), "--columns")
    model = load_model(resolved, values.device)
    scores: list[float] = []
    with shown_progress(console, sum(map(len, sentences)), "encoded") as progress:
        sides = [encoded_chunks(model, texts, values.batch_size, progress) for texts in sentences]
        for (_, first), (_, second) in zip(*sides, strict=True):
            scores += compared(first, second, values.similarity).tolist()
    write = _write_parquet if out.suffix == ".parquet" else _write_csv
    with written_whole(out) as temporary:
        write(temporary, {"sentence1": sentences[0], "sentence2": sentences[1], "score": scores})
    say(console, f"{out}: {len(scores)} pairs scored by {values.similarity}, by {resolved.description}")
    if missing := sum(map(math.isnan, scores)):
        pairs = f"{missing} pair{'s' if missing > 1 else ''}"
        say(console, f"{pairs} without a score (nan): an embedding is zero, which has no cosine, or is not a number")
    return 0


def _write_parquet(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def _write_csv(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


VERB = Verb(
    name="similarity",
    summary="score every pair of texts of a file",
    run=run,
    positionals=(MODEL, Positional("FILE", "pairs of texts: .csv, .tsv, .jsonl or .parquet")),
    options=(
        Option("--out", "FILE", ".parquet or .csv (sentence1, sentence2, score)", is_required=True),
        Option("--columns", "A B", "the two columns: by name, or by position from 0 without a header", nargs=2),
        QUOTING,
        SIMILARITY,
        BATCH_SIZE,
        DEVICE,
        OVERWRITE,
    ),
)
