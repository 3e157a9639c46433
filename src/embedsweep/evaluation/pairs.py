"""How a model is scored on pairs: sentence-transformers' own evaluator, and every pair's predicted score.

Owns the names of metrics (``dev/spearman_cosine``, ``dev-256/spearman_cosine``) and the file of scores. Knows nothing
of training. Imports torch.
"""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import pearsonr, spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.util import (
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
)

from embedsweep.config.trial import SIMILARITIES, EvaluationConfig, Similarity
from embedsweep.data.examples import Pairs
from embedsweep.errors import TrialError, first_line
from embedsweep.machine import free_memory, is_out_of_memory

_log = logging.getLogger(__name__)

PREDICTIONS: Mapping[Similarity, Any] = {
    "cosine": pairwise_cos_sim,
    "euclidean": pairwise_euclidean_sim,
    "manhattan": pairwise_manhattan_sim,
    "dot": pairwise_dot_score,
}


class PairEvaluator(EmbeddingSimilarityEvaluator):  # type: ignore[misc]  # the library is untyped
    """The library's evaluator over all four similarities, which remembers the embeddings it scored last.

    Each pair's predicted score, and the scores of embeddings cut short, can then be had without encoding everything
    again. Cut scores are among the metrics, as ``dev-256_spearman_cosine``; the library's card is told of the others.

    Args:
        pairs: what is scored; gold scores in [0, 1].
        split: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        config: how many sentences are encoded at once.
        dims: embeddings are scored once more when cut to so many of their first dimensions, each at most their width.
    """

    def __init__(self, pairs: Pairs, split: str, config: EvaluationConfig, dims: Sequence[int]) -> None:
        super().__init__(
            list(pairs.sentences1),
            list(pairs.sentences2),
            list(pairs.scores),
            name=split,
            batch_size=config.batch_size,
            similarity_fn_names=list(SIMILARITIES),
            write_csv=False,
        )
        self._dims = tuple(dims)
        self._step = -1
        self._embeddings: list[np.ndarray] = []

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """All correlations of ``model``, by the library's names; the trainer calls it and names its ``steps``."""
        self._step = kwargs.get("steps", -1)
        metrics: dict[str, float] = super().__call__(model, *args, **kwargs)
        for dim in self._dims:
            metrics |= {f"{self.name}-{dim}_{name}": value for name, value in self._cut_scores(dim).items()}
        return metrics

    def _cut_scores(self, dim: int) -> dict[str, float]:
        """The correlations of the first ``dim`` dimensions, as the library computes them with ``truncate_dim``."""
        predicted = self._predicted(dim)
        scores: dict[str, float] = {}
        for correlation, function in (("pearson", pearsonr), ("spearman", spearmanr)):
            values = {name: float(function(self.scores, each)[0]) for name, each in predicted.items()}
            scores |= {f"{correlation}_{name}": value for name, value in values.items()}
            scores[f"{correlation}_max"] = max(values.values())
        return scores

    def embed_inputs(self, model: SentenceTransformer, sentences: list[str], **kwargs: Any) -> np.ndarray:
        """Encodes sentences, as the library does, into ``(sentences, dim)``; keeps the last two results.

        Raises:
            TrialError: no score can be computed of them, as the model has diverged; or memory does not do for one.
        """
        encode = functools.partial(super().embed_inputs, model, sentences, **kwargs)
        embeddings: np.ndarray = self._within_memory(encode)
        check_embeddings(embeddings, sentences, self.name, self._step)
        self._embeddings = [*self._embeddings[-1:], embeddings]
        return embeddings

    def _within_memory(self, encode: Callable[[], np.ndarray]) -> np.ndarray:
        """Encodes fewer sentences at once, from now on, where memory does not do; their embeddings stay the same."""
        while True:
            try:
                return encode()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise TrialError(
                        f"memory does not do to encode one {self.name} sentence: {first_line(error)}"
                    ) from None
            free_memory()
            self.batch_size //= 2
            _log.warning("out of memory: evaluation goes on with %d sentences at once", self.batch_size)

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._embeddings)

    def predicted(self) -> dict[Similarity, np.ndarray]:
        """Every pair's score by each similarity, of the model scored last; each ``(pairs,)``."""
        return self._predicted(None)

    def _predicted(self, dim: int | None) -> dict[Similarity, np.ndarray]:
        first, second = (embeddings[:, :dim] for embeddings in self._embeddings)
        return {name: np.asarray(score(first, second)) for name, score in PREDICTIONS.items()}


def score_benchmarks(
    benchmarks: Mapping[str, Pairs], model: SentenceTransformer, config: EvaluationConfig, dims: Sequence[int]
) -> dict[str, float]:
    """Scores ``model`` on every benchmark: all correlations, by name (``sts2017-es/spearman_cosine``).

    Args:
        benchmarks: their pairs, by name.
        model: what is scored.
        config: how many sentences are encoded at once.
        dims: embeddings are scored once more when cut to so many of their first dimensions.

    Raises:
        TrialError: all pairs have the same similarity, or the embeddings are not numbers.
    """
    scores: dict[str, float] = {}
    for name, pairs in benchmarks.items():
        scores |= scores_of(PairEvaluator(pairs, name, config, dims), model)
    return scores


def scores_of(evaluator: PairEvaluator, model: SentenceTransformer) -> dict[str, float]:
    """Scores ``model``: all correlations, by name (``dev/spearman_cosine``).

    Raises:
        TrialError: all pairs have the same similarity, or the embeddings are not numbers.
    """
    return metric_names(evaluator(model), evaluator.name)


def metric_names(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """The evaluator's metrics of ``split`` (``dev_spearman_cosine``, ``eval_dev-256_...``) under this project's names.

    Raises:
        TrialError: one of them is not a number.
    """
    pattern = re.compile(rf"(?:eval_)?({re.escape(split)}(?:-\d+)?)_((?:pearson|spearman)_\w+)")
    found = {
        f"{match[1]}/{match[2]}": float(value) for key, value in metrics.items() if (match := pattern.fullmatch(key))
    }
    broken = [name for name, value in found.items() if not math.isfinite(value)]
    if broken:
        raise TrialError(
            f"{broken[0]} is not a number: all pairs have the same similarity, or the embeddings are not numbers"
        )
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


LEAST_SPREAD = math.sqrt(float(np.finfo(np.float32).eps))
"""Spread of embeddings, relative to their length, below which they count as constant: 3.5e-4. The cosine of two that
lie so close differs from 1 by the square of it, a float's last digit, so that scores rank rounding errors. Measured
over the demo sentences: the untrained tiny model 0.22, trained 0.15 to 0.56, at a rate at which it gets worse and worse
1e-3; collapsed at lr=1 3e-4, then 5e-5."""


def check_embeddings(embeddings: np.ndarray, sentences: Sequence[str], where: str, step: int) -> None:
    """Lets only embeddings pass that a score can be computed of.

    Args:
        embeddings: ``(sentences, dim)``.
        sentences: what they are of.
        where: what is scored (``dev``), for the reason.
        step: the optimizer step after which, for the reason; -1 outside of a training.

    Raises:
        TrialError: some are no numbers, or those of different sentences are all alike.
    """
    after = f" after step {step}" if step >= 0 else ""
    broken = int((~np.isfinite(embeddings).all(axis=1)).sum())
    if broken:
        raise TrialError(f"the embeddings of {broken} of {len(sentences)} {where} sentences are not numbers{after}")
    if len(set(sentences)) < 2:
        return
    spread = _spread(embeddings)
    if spread < LEAST_SPREAD:
        raise TrialError(
            f"the embeddings of {len(set(sentences))} different {where} sentences are constant{after}: they differ by "
            f"{spread:.1e} of their length; a lower optimizer.lr may help"
        )


def _spread(embeddings: np.ndarray) -> float:
    """Root mean square distance from the mean, relative to the root mean square length; 0 where all are zero."""
    exact = embeddings.astype(np.float64)
    length = float(np.square(exact).sum())
    return math.sqrt(float(np.square(exact - exact.mean(axis=0)).sum()) / length) if length else 0.0
