"""Score a model on pairs by sentence-transformers' evaluator: dev, test, benchmarks; metric names, checks.

Metrics are named ``dev/spearman_cosine``, or ``dev-256/spearman_cosine`` for shortened embeddings. Imports torch.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
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
from embedsweep.errors import TrialError, first_line
from embedsweep.evaluation.scores import ItemScores
from embedsweep.machine import free_memory, is_out_of_memory

_log = logging.getLogger(__name__)

PREDICTIONS: Mapping[Similarity, Any] = {
    "cosine": pairwise_cos_sim,
    "euclidean": pairwise_euclidean_sim,
    "manhattan": pairwise_manhattan_sim,
    "dot": pairwise_dot_score,
}


class PairEvaluator(EmbeddingSimilarityEvaluator):  # type: ignore[misc]  # the library is untyped
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
        self._step = -1
        self._embeddings: list[np.ndarray] = []

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all correlations of ``model``, by the library's names; the trainer passes its step as ``steps``."""
        self._step = kwargs.get("steps", -1)
        metrics: dict[str, float] = super().__call__(model, *args, **kwargs)
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

    def embed_inputs(self, model: SentenceTransformer, sentences: list[str], **kwargs: Any) -> np.ndarray:
        """Encode sentences as the library does into ``(sentences, dim)``; keep the last two results.

        Raises:
            TrialError: the embeddings cannot be scored, as the model has diverged; or memory is too small for one.
        """
        encode = functools.partial(super().embed_inputs, model, sentences, **kwargs)
        embeddings: np.ndarray = self._within_memory(encode)
        check_embeddings(embeddings, sentences, self.name, self._step)
        self._embeddings = [*self._embeddings[-1:], embeddings]
        return embeddings

    def _within_memory(self, encode: Callable[[], np.ndarray]) -> np.ndarray:
        """Encode; when out of memory, encode fewer sentences at once from now on, with the same embeddings."""
        while True:
            try:
                return encode()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise TrialError(f"out of memory encoding one {self.name} sentence: {first_line(error)}") from None
            free_memory()
            self.batch_size //= 2
            _log.warning("out of memory: evaluation continues with %d sentences at once", self.batch_size)

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._embeddings)

    def item_scores(self) -> ItemScores:
        """Return every pair with its gold and predicted scores, of the model scored last."""
        items = tuple(zip(self.sentences1, self.sentences2, strict=True))
        return ItemScores(items, np.asarray(self.scores), dict(self.predicted().items()))

    def predicted(self, dim: int | None = None) -> dict[Similarity, np.ndarray]:
        """Return every pair's score by each similarity, of the model scored last; each ``(pairs,)``.

        Args:
            dim: number of first dimensions to use; None uses all.
        """
        first, second = (embeddings[:, :dim] for embeddings in self._embeddings)
        return {name: np.asarray(score(first, second)) for name, score in PREDICTIONS.items()}


MIN_SPREAD = math.sqrt(float(np.finfo(np.float32).eps))
"""Spread of embeddings, relative to their length, below which they count as constant: 3.5e-4. The cosine of two such
embeddings differs from 1 by the square of it, a float's last digit, so that scores would rank rounding errors. Measured
over the demo sentences: 0.22 for the untrained tiny model, 0.15 to 0.56 trained, 1e-3 at a learning rate that makes it
worse and worse; collapsed at lr=1, 3e-4 and then 5e-5."""


def check_embeddings(embeddings: np.ndarray, sentences: Sequence[str], where: str, step: int) -> None:
    """Check that a score can be computed from embeddings.

    Args:
        embeddings: ``(sentences, dim)``.
        sentences: the sentences they belong to.
        where: what is scored (``dev``), for the message.
        step: the optimizer step after which it is scored, for the message; -1 outside a training.

    Raises:
        TrialError: some are not finite, or those of different sentences are all alike.
    """
    after = f" after step {step}" if step >= 0 else ""
    broken = int((~np.isfinite(embeddings).all(axis=1)).sum())
    if broken:
        raise TrialError(f"the embeddings of {broken} of {len(sentences)} {where} sentences are not numbers{after}")
    if len(set(sentences)) < 2:
        return
    spread = _spread(embeddings)
    if spread < MIN_SPREAD:
        raise TrialError(
            f"the embeddings of {len(set(sentences))} different {where} sentences are constant{after}: they differ by "
            f"{spread:.1e} of their length; a lower optimizer.lr may help"
        )


def _spread(embeddings: np.ndarray) -> float:
    """Return the root mean square distance from the mean over the root mean square length; 0 if all are zero."""
    exact = embeddings.astype(np.float64)
    length = float(np.square(exact).sum())
    return math.sqrt(float(np.square(exact - exact.mean(axis=0)).sum()) / length) if length else 0.0
