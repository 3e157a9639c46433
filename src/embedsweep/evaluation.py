"""How a model is scored on pairs: sentence-transformers' own evaluator, and every pair's predicted score.

Owns the names of metrics (``dev/spearman_cosine``) and the file of scores. Knows nothing of training. Imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.util import (
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
)

from embedsweep.data.pairs import Pairs
from embedsweep.errors import TrialError
from embedsweep.schema import SIMILARITIES, EvaluationConfig, Similarity

PREDICTIONS: Mapping[Similarity, Any] = {
    "cosine": pairwise_cos_sim,
    "euclidean": pairwise_euclidean_sim,
    "manhattan": pairwise_manhattan_sim,
    "dot": pairwise_dot_score,
}


class PairEvaluator(EmbeddingSimilarityEvaluator):  # type: ignore[misc]  # the library is untyped
    """The library's evaluator over all four similarities, which remembers the embeddings it scored last.

    Each pair's predicted score can then be had without encoding everything again.

    Args:
        pairs: what is scored; gold scores in [0, 1].
        split: ``dev`` or ``test``: prefix of the metrics' names.
        config: how many sentences are encoded at once.
    """

    def __init__(self, pairs: Pairs, split: str, config: EvaluationConfig) -> None:
        super().__init__(
            list(pairs.sentences1),
            list(pairs.sentences2),
            list(pairs.scores),
            name=split,
            batch_size=config.batch_size,
            similarity_fn_names=list(SIMILARITIES),
            write_csv=False,
        )
        self._embeddings: list[np.ndarray] = []

    def embed_inputs(self, model: SentenceTransformer, sentences: list[str], **kwargs: Any) -> np.ndarray:
        """Encodes sentences, as the library does, into ``(sentences, dim)``; keeps the last two results."""
        embeddings: np.ndarray = super().embed_inputs(model, sentences, **kwargs)
        self._embeddings = [*self._embeddings[-1:], embeddings]
        return embeddings

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._embeddings)

    def predicted(self) -> dict[Similarity, np.ndarray]:
        """Every pair's score by each similarity, of the model scored last; each ``(pairs,)``."""
        first, second = self._embeddings
        return {name: np.asarray(score(first, second)) for name, score in PREDICTIONS.items()}


def scores_of(evaluator: PairEvaluator, model: SentenceTransformer) -> dict[str, float]:
    """Scores ``model``: all correlations, by name (``dev/spearman_cosine``).

    Raises:
        TrialError: the embeddings are constant or not numbers.
    """
    return metric_names(evaluator(model), evaluator.name)


def metric_names(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """The library's metrics of ``split`` (``dev_spearman_cosine``, ``eval_dev_...``) under this project's names.

    Raises:
        TrialError: one of them is not a number.
    """
    found: dict[str, float] = {}
    for key, value in metrics.items():
        name = key.removeprefix("eval_")
        if name.startswith(f"{split}_"):
            found[f"{split}/{name.removeprefix(f'{split}_')}"] = float(value)
    broken = [name for name, value in found.items() if not math.isfinite(value)]
    if broken:
        raise TrialError(f"{broken[0]} is not a number: the embeddings are constant or not numbers themselves")
    return found


def write_scores(path: Path, pairs: Pairs, evaluator: PairEvaluator) -> None:
    """Writes every pair with its gold and predicted scores as a parquet file."""
    columns: dict[str, Any] = {
        "sentence1": list(pairs.sentences1),
        "sentence2": list(pairs.sentences2),
        "gold": list(pairs.scores),
        **{f"predicted_{name}": scores for name, scores in evaluator.predicted().items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
