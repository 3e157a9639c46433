"""Score a model on pairs by sentence-transformers' evaluator: dev, test, benchmarks; metric names, checks.

Metrics are named ``dev/spearman_cosine``, or ``dev-256/spearman_cosine`` for shortened embeddings. Imports torch.
"""

from __future__ import annotations

import math
import re
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

from embedsweep.config.trial import SIMILARITIES, Similarity, TrialConfig
from embedsweep.data.examples import Pairs
from embedsweep.data.load import load_benchmark, load_splits
from embedsweep.errors import TrialError
from embedsweep.evaluation.encoding import CheckedEncoding
from embedsweep.evaluation.scores import PREDICTED, ItemScores
from embedsweep.losses.nesting import dims

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


def dev_evaluator(config: TrialConfig, model: SentenceTransformer) -> PairEvaluator:
    """Return the evaluator of dev, with all dimensions of ``model`` and those that are configured."""
    splits = load_splits(config.data, config.evaluation)
    return PairEvaluator(splits.dev, "dev", config.evaluation.batch_size, _cut_dims(config, model))


def score_test(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """Return all test metrics of ``model``, by name."""
    splits = load_splits(config.data, config.evaluation)
    evaluator = PairEvaluator(splits.test, "test", config.evaluation.batch_size, _cut_dims(config, model))
    return scores_of(evaluator, model)


def score_further(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """Return all metrics of ``model`` on the further benchmarks, by name (``sts2017-es/spearman_cosine``).

    Embeddings are cut as on dev and test (``sts2017-es-256/spearman_cosine``).
    """
    evaluation, cut_dims = config.evaluation, _cut_dims(config, model)
    scores: dict[str, float] = {}
    for benchmark in evaluation.benchmarks:
        pairs = load_benchmark(benchmark, evaluation.path)
        scores |= scores_of(PairEvaluator(pairs, benchmark.name, evaluation.batch_size, cut_dims), model)
    return scores


def _cut_dims(config: TrialConfig, model: SentenceTransformer) -> tuple[int, ...]:
    """Return the numbers of dimensions to score beside all of them, descending."""
    width = model.get_embedding_dimension()
    requested = {*dims(config.loss), *config.evaluation.dims}
    if too_many := [dim for dim in config.evaluation.dims if dim > width]:
        raise TrialError(f"evaluation.dims: must be at most {width}, the model's dimensions, but got {too_many[0]}")
    return tuple(sorted((dim for dim in requested if dim < width), reverse=True))


def scores_of(evaluator: PairEvaluator, model: SentenceTransformer) -> dict[str, float]:
    """Return all correlations of ``model``, by name (``dev/spearman_cosine``).

    Raises:
        TrialError: all pairs have the same similarity, or embeddings are not finite.
    """
    return metric_names(evaluator(model), evaluator.name)


def metric_names(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """Return the evaluator's metrics of ``split`` (``dev_spearman_cosine``, ``eval_dev-256_...``) by our names.

    Raises:
        TrialError: one of them is not finite.
    """
    pattern = re.compile(rf"(?:eval_)?({re.escape(split)}(?:-\d+)?)_((?:pearson|spearman)_\w+)")
    named = {
        f"{match[1]}/{match[2]}": float(value) for key, value in metrics.items() if (match := pattern.fullmatch(key))
    }
    broken = [name for name, value in named.items() if not math.isfinite(value)]
    if broken:
        raise TrialError(
            f"{broken[0]} is not a number: all pairs have the same similarity, or the embeddings are not numbers"
        )
    return named
