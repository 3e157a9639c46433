"""Score a model on pairs by sentence-transformers' evaluator. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.util import (
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
)

from embedsweep.config.metrics import SIMILARITIES, Similarity
from embedsweep.data.scored import Pairs
from embedsweep.evaluation.encoding import CheckedEncoding
from embedsweep.evaluation.scores import PREDICTED, ItemScores

PREDICTIONS: Mapping[Similarity, Any] = {
    "cosine": pairwise_cos_sim,
    "euclidean": pairwise_euclidean_sim,
    "manhattan": pairwise_manhattan_sim,
    "dot": pairwise_dot_score,
}


class PairEvaluator(CheckedEncoding, EmbeddingSimilarityEvaluator):  # type: ignore[misc]  # the library is untyped
    """The library's evaluator over all four similarities, which keeps the embeddings it scored last.

    Each pair's predicted score, and the scores of shortened embeddings, need no second encoding then. Scores of
    shortened embeddings are among the metrics, as ``dev-256_spearman_cosine``; the library's card gets the others.

    Args:
        pairs: the pairs to score; gold scores in [0, 1].
        split: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        batch_size: sentences encoded at once.
        dims: numbers of first dimensions for which shortened embeddings are scored too, each at most their width.
    """

    def __init__(self, pairs: Pairs, split: str, batch_size: int, dims: Sequence[int]) -> None:
        super().__init__(
            list(pairs.sentences1),
            list(pairs.sentences2),
            list(pairs.scores),
            name=split,
            batch_size=batch_size,
            similarity_fn_names=list(SIMILARITIES),
            write_csv=False,
        )
        self._dims = tuple(dims)
        self._embeddings: list[np.ndarray] = []

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all correlations of ``model``, by the library's names."""
        metrics = super().__call__(model, *args, **kwargs)
        for dim in self._dims:
            metrics |= {f"{self.name}-{dim}_{name}": value for name, value in self._cut_scores(dim).items()}
        return metrics

    def _cut_scores(self, dim: int) -> dict[str, float]:
        """Return the correlations of the first ``dim`` dimensions; the library's with ``truncate_dim`` are equal."""
        predicted = self.predicted(dim)
        scores: dict[str, float] = {}
        for correlation, function in (("pearson", pearsonr), ("spearman", spearmanr)):
            values = {name: float(function(self.scores, each)[0]) for name, each in predicted.items()}
            scores |= {f"{correlation}_{name}": value for name, value in values.items()}
            scores[f"{correlation}_max"] = max(values.values())
        return scores

    def embed_inputs(self, model: SentenceTransformer, sentences: Sequence[str], **kwargs: Any) -> np.ndarray:
        """Encode sentences into ``(sentences, dim)``; keep the last two results."""
        embeddings: np.ndarray = super().embed_inputs(model, sentences, **kwargs)
        self._embeddings = [*self._embeddings[-1:], embeddings]
        return embeddings

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._embeddings)

    def predicted(self, dim: int | None = None) -> dict[Similarity, np.ndarray]:
        """Return every pair's score by each similarity, of the model scored last; each ``(pairs,)``.

        Args:
            dim: number of first dimensions to use; None uses all.
        """
        first, second = (embeddings[:, :dim] for embeddings in self._embeddings)
        return {name: np.asarray(score(first, second)) for name, score in PREDICTIONS.items()}

    def item_scores(self) -> ItemScores:
        """Return every pair with its gold and predicted scores, of the model scored last."""
        predicted = {f"{PREDICTED}{name}": values for name, values in self.predicted().items()}
        gold = np.asarray(self.scores)
        return ItemScores({"sentence1": self.sentences1, "sentence2": self.sentences2, "gold": gold, **predicted})
