"""Score a model on triplets by sentence-transformers' evaluator. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator

from embedsweep.config.metrics import Similarity, TripletScoring
from embedsweep.data.scored import TripletSet
from embedsweep.evaluation.encoding import CheckedEncoding
from embedsweep.evaluation.pairs import PREDICTIONS
from embedsweep.evaluation.scores import NEGATIVE, POSITIVE, ItemScores

Similarities = Mapping[Similarity, np.ndarray]
"""Similarity -> its value of every triplet, ``(triplets,)``."""


class TripletSetEvaluator(CheckedEncoding, TripletEvaluator):  # type: ignore[misc]  # the library is untyped
    """The library's evaluator over all four similarities, which keeps the embeddings it scored last.

    The anchor is a query and the others are documents, which decides their prompts.

    Args:
        triplets: the triplets to score.
        split: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        batch_size: texts encoded at once.
        dims: numbers of first dimensions for which shortened embeddings are scored too, each at most their width.
        scoring: the similarities that are compared.
    """

    def __init__(
        self, triplets: TripletSet, split: str, batch_size: int, dims: Sequence[int], scoring: TripletScoring
    ) -> None:
        super().__init__(
            list(triplets.anchors),
            list(triplets.positives),
            list(triplets.negatives),
            name=split,
            batch_size=batch_size,
            similarity_fn_names=list(scoring.similarities),
            write_csv=False,
        )
        self._dims = tuple(dims)
        self._functions = {name: PREDICTIONS[name] for name in scoring.similarities}
        self._embeddings: list[np.ndarray] = []

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return the share of triplets in order by each similarity, by our names (``dev_accuracy_cosine``)."""
        scores = super().__call__(model, *args, **kwargs)
        of_whole = {name: scores[f"{self.name}_{name}_accuracy"] for name in self.similarity_fn_names}
        metrics = _by_our_names(self.name, of_whole)
        for dim in self._dims:
            positive, negative = self.predicted(dim)
            of_cut: dict[str, float] = {name: float((positive[name] > negative[name]).mean()) for name in positive}
            metrics |= _by_our_names(f"{self.name}-{dim}", of_cut)
        return metrics

    def embed_inputs(self, model: SentenceTransformer, sentences: Sequence[str], **kwargs: Any) -> np.ndarray:
        """Encode sentences into ``(sentences, dim)``; keep the last three results."""
        embeddings: np.ndarray = super().embed_inputs(model, sentences, **kwargs)
        self._embeddings = [*self._embeddings[-2:], embeddings]
        return embeddings

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._embeddings)

    def predicted(self, dim: int | None = None) -> tuple[Similarities, Similarities]:
        """Return each anchor's similarities to its positive and to its negative, by the model scored last.

        Args:
            dim: number of first dimensions to use; None uses all.
        """
        anchors, *others = (embeddings[:, :dim] for embeddings in self._embeddings)
        positive, negative = (
            {name: np.asarray(score(anchors, each)) for name, score in self._functions.items()} for each in others
        )
        return positive, negative

    def item_scores(self) -> ItemScores:
        """Return every triplet with both similarities, of the model scored last."""
        positive, negative = self.predicted()
        return ItemScores(
            {
                "anchor": self.anchors,
                "positive": self.positives,
                "negative": self.negatives,
                **{f"{POSITIVE}{name}": values for name, values in positive.items()},
                **{f"{NEGATIVE}{name}": values for name, values in negative.items()},
            }
        )


def _by_our_names(prefix: str, accuracies: Mapping[str, float]) -> dict[str, float]:
    """Return accuracies by similarity, and the largest of several, under their metrics' names."""
    largest = {"max": max(accuracies.values())} if len(accuracies) > 1 else {}
    return {f"{prefix}_accuracy_{name}": value for name, value in {**accuracies, **largest}.items()}
