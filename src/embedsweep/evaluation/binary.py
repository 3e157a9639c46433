"""Score a model on pairs that mean the same or do not, by sentence-transformers' evaluator. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

from embedsweep.config.metrics import BinaryScoring
from embedsweep.data.scored import BinaryPairs
from embedsweep.evaluation.encoding import CheckedEncoding
from embedsweep.evaluation.pairs import PREDICTIONS
from embedsweep.evaluation.scores import PREDICTED, ItemScores


class BinaryPairEvaluator(CheckedEncoding, BinaryClassificationEvaluator):  # type: ignore[misc]  # it is untyped
    """The library's evaluator, which keeps the embeddings it scored last and scores shortened ones, too.

    Args:
        pairs: the pairs to score.
        split: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        batch_size: sentences encoded at once.
        dims: numbers of first dimensions for which shortened embeddings are scored too, each at most their width.
        scoring: the similarities that have a threshold.
    """

    def __init__(
        self, pairs: BinaryPairs, split: str, batch_size: int, dims: Sequence[int], scoring: BinaryScoring
    ) -> None:
        super().__init__(
            list(pairs.sentences1),
            list(pairs.sentences2),
            list(pairs.labels),
            name=split,
            batch_size=batch_size,
            similarity_fn_names=list(scoring.similarities),
            write_csv=False,
        )
        self._dims = tuple(dims)
        self._functions = {name: PREDICTIONS[name] for name in scoring.similarities}
        self._embeddings: dict[str, np.ndarray] = {}
        self._dim: int | None = None
        self._scores: Mapping[str, Mapping[str, float]] = {}

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics and thresholds of ``model``, by our names (``dev_ap_cosine``)."""
        self._embeddings, self._dim = {}, None
        super().__call__(model, *args, **kwargs)
        metrics = _by_our_names(self.name, self._scores)
        for dim in self._dims:
            self._dim = dim
            metrics |= _by_our_names(f"{self.name}-{dim}", self.compute_metrics(model))
        return metrics

    def compute_metrics(self, model: SentenceTransformer) -> Mapping[str, Mapping[str, float]]:
        """Return the library's metrics by similarity."""
        self._scores = super().compute_metrics(model)
        return self._scores

    def embed_inputs(self, model: SentenceTransformer, sentences: Sequence[str], **kwargs: Any) -> np.ndarray:
        """Encode sentences into ``(sentences, dim)``, or return the first dimensions of what was encoded in this call.

        The library takes them from a set, whose order differs between processes, and with it the rounding.
        """
        if not self._embeddings:
            ordered = sorted(sentences)
            self._embeddings = dict(zip(ordered, super().embed_inputs(model, ordered, **kwargs), strict=True))
        return self._rows(sentences)[:, : self._dim]

    def _rows(self, sentences: Sequence[str]) -> np.ndarray:
        return np.stack([self._embeddings[sentence] for sentence in sentences])

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._embeddings)

    def item_scores(self) -> ItemScores:
        """Return every pair with its label and predicted scores, of the model scored last."""
        first, second = self._rows(self.sentences1), self._rows(self.sentences2)
        texts = {"sentence1": self.sentences1, "sentence2": self.sentences2}
        predicted = {f"{PREDICTED}{name}": np.asarray(score(first, second)) for name, score in self._functions.items()}
        return ItemScores({**texts, "label": np.asarray(self.labels), **predicted})


def _by_our_names(prefix: str, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return metrics by similarity, and the largest of several, under their names; a largest threshold says nothing."""
    named = {f"{metric}_{name}": float(value) for name, of_name in scores.items() for metric, value in of_name.items()}
    if len(scores) > 1:
        metrics = [metric for metric in next(iter(scores.values())) if not metric.endswith("_threshold")]
        named |= {f"{metric}_max": float(max(each[metric] for each in scores.values())) for metric in metrics}
    return {f"{prefix}_{name}": value for name, value in named.items()}
