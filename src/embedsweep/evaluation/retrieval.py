"""Score a model on retrieval by sentence-transformers' evaluator, with graded relevance. Imports torch."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim, dot_score
from torch import Tensor

from embedsweep.config.metrics import RetrievalScoring, Similarity
from embedsweep.data.scored import Retrieval
from embedsweep.evaluation.encoding import CheckedEncoding
from embedsweep.evaluation.scores import FIRST_RELEVANT, SHOWN, TOP, ItemScores

_log = logging.getLogger(__name__)

MOST_SCORES = 20_000_000
"""Scores of queries with documents that are in memory at once: 80 MB, and a few times that where many are tied."""

Score = Callable[[Tensor, Tensor], Tensor]
"""Takes embeddings of queries and documents; returns their similarities, ``(queries, documents)``."""

SCORES: Mapping[Similarity, Score] = {"cosine": cos_sim, "dot": dot_score}

Hits = Sequence[Mapping[str, Any]]
"""The best documents of a query, the best one first: ``corpus_id`` and ``score``."""


class RetrievalEvaluator(CheckedEncoding, InformationRetrievalEvaluator):  # type: ignore[misc]  # it is untyped
    """The library's evaluator, which keeps the metrics of every query and scores shortened embeddings, too.

    Relevance is graded: nDCG has linear gain (Jarvelin and Kekalainen, Cumulated gain-based evaluation of IR
    techniques, 2002), as in trec_eval; with one grade it is the library's. The other metrics count relevance above 0.
    Documents with equal scores are ordered by ascending id, as in the library.

    Args:
        retrieval: queries, documents and their relevance.
        split: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        batch_size: texts encoded at once.
        dims: numbers of first dimensions for which shortened embeddings are scored too, each at most their width.
        scoring: the similarities and the numbers of documents that metrics are of.
    """

    def __init__(
        self, retrieval: Retrieval, split: str, batch_size: int, dims: Sequence[int], scoring: RetrievalScoring
    ) -> None:
        relevant = {query: _above_zero(judged) for query, judged in retrieval.relevant.items()}
        whole: dict[str, Score] = {name: SCORES[name] for name in scoring.similarities}
        cut = {f"{name}-{dim}": functools.partial(_cut, score, dim) for name, score in whole.items() for dim in dims}
        super().__init__(
            queries=dict(zip(retrieval.query_ids, retrieval.queries, strict=True)),
            corpus=dict(zip(retrieval.document_ids, retrieval.documents, strict=True)),
            relevant_docs={query: set(documents) for query, documents in relevant.items()},
            mrr_at_k=list(scoring.mrr_at_k),
            ndcg_at_k=list(scoring.ndcg_at_k),
            accuracy_at_k=list(scoring.accuracy_at_k),
            precision_recall_at_k=list(scoring.precision_recall_at_k),
            map_at_k=list(scoring.map_at_k),
            batch_size=batch_size,
            name=split,
            write_csv=False,
            score_functions={**whole, **cut},
            main_score_function=scoring.similarities[0],
        )
        self.corpus_chunk_size = _chunk_size(len(self.corpus), len(self.queries), scoring.corpus_chunk_size)
        self._similarities = scoring.similarities
        self._relevance = relevant
        self._of_queries: list[dict[str, NDArray[Any]]] = []
        self._found: list[dict[str, list[Any]]] = []
        if left_out := len(retrieval) - len(self.queries):
            _log.warning("%d %s queries have no relevant document and are not scored", left_out, split)

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics of ``model``, by our names (``dev_ndcg_at_10_cosine``, ``dev-256_ndcg_at_10_cosine``)."""
        self._of_queries, self._found = [], []
        super().__call__(model, *args, **kwargs)
        metrics: dict[str, float] = {}
        for function, values in zip(self.score_functions, self._of_queries, strict=True):
            similarity, _, dim = function.partition("-")
            prefix = f"{self.name}-{dim}" if dim else self.name
            metrics |= {f"{prefix}_{metric}_{similarity}": float(each.mean()) for metric, each in values.items()}
        return metrics

    def compute_metrics(self, queries_result_list: Sequence[Hits]) -> dict[str, dict[int, float]]:
        """Return the metrics of one score function, the means over all queries; keep those of every query.

        The library calls it once for each score function, in their order.
        """
        one = copy.copy(self)
        of_queries = []
        for query_id, query, hits in zip(self.queries_ids, self.queries, queries_result_list, strict=True):
            one.queries_ids, one.queries = [query_id], [query]
            metrics = super(RetrievalEvaluator, one).compute_metrics([hits])
            metrics["ndcg@k"] = {k: self._ndcg(query_id, hits, k) for k in self.ndcg_at_k}
            of_queries.append(metrics)
        keys = [(metric, k) for metric, values in of_queries[0].items() for k in values]
        values = {(metric, k): np.array([each[metric][k] for each in of_queries]) for metric, k in keys}
        self._of_queries.append({f"{metric.replace('@k', '_at')}_{k}": each for (metric, k), each in values.items()})
        ids = [[hit["corpus_id"] for hit in hits] for hits in queries_result_list]
        first = [self._first_relevant(*each) for each in zip(self.queries_ids, ids, strict=True)]
        self._found.append({FIRST_RELEVANT: first, TOP: [each[:SHOWN] for each in ids]})
        means: dict[str, dict[int, float]] = {}
        for (metric, k), each in values.items():
            means.setdefault(metric, {})[k] = float(each.mean())
        return means

    def _first_relevant(self, query_id: str, found: Sequence[str]) -> int | None:
        relevant = self._relevance[query_id]
        return next((rank for rank, document in enumerate(found, 1) if document in relevant), None)

    def _ndcg(self, query_id: str, hits: Hits, k: int) -> float:
        relevance = self._relevance[query_id]
        gains = [relevance.get(hit["corpus_id"], 0.0) for hit in hits[:k]]
        ideal = sorted(relevance.values(), reverse=True)
        return float(self.compute_dcg_at_k(gains, k) / self.compute_dcg_at_k(ideal, k))

    def store_metrics_in_model_card_data(
        self, model: SentenceTransformer, metrics: Mapping[str, float], epoch: int = 0, step: int = 0
    ) -> None:
        """Give the card the metrics of whole embeddings."""
        whole = {
            name: value for name, value in metrics.items() if name.removeprefix(f"{self.name}_").split("_")[0] in SCORES
        }
        super().store_metrics_in_model_card_data(model, whole, epoch, step)

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._of_queries)

    def item_scores(self) -> ItemScores:
        """Return every query with its metrics, the rank of its first relevant document and the ids of its best ones.

        They are those of the model scored last. The rank is among the documents that any metric looks at, else None.
        """
        relevant = [sorted(self.relevant_docs[query]) for query in self.queries_ids]
        columns: dict[str, Any] = {"query_id": self.queries_ids, "query": self.queries, "relevant": relevant}
        kept = dict(zip(self.score_functions, zip(self._of_queries, self._found, strict=True), strict=True))
        for name in self._similarities:
            values, found = kept[name]
            columns |= {f"{metric}_{name}": each for metric, each in values.items()}
            columns |= {f"{prefix}{name}": each for prefix, each in found.items()}
        return ItemScores(columns)


def _above_zero(judged: Mapping[str, float]) -> dict[str, float]:
    return {document: relevance for document, relevance in judged.items() if relevance > 0}


def _cut(score: Score, dim: int, queries: Tensor, documents: Tensor) -> Tensor:
    """Return the similarities of shortened embeddings, ``(queries, documents)``."""
    return score(queries[:, :dim], documents[:, :dim])


def _chunk_size(n_documents: int, n_queries: int, at_most: int) -> int:
    """Return how many documents are scored at once: chunks of about one size, whose scores fit into memory."""
    largest = max(1, min(at_most, MOST_SCORES // max(1, n_queries)))
    return math.ceil(n_documents / math.ceil(n_documents / largest))
