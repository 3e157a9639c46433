"""Score a model on reranking each query's judged documents, as sentence-transformers does. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import RerankingEvaluator
from sentence_transformers.util import cos_sim
from sklearn.metrics import average_precision_score, ndcg_score

from embedsweep.config.metrics import RerankingScoring
from embedsweep.data.scored import Retrieval
from embedsweep.evaluation.encoding import CheckedEncoding
from embedsweep.evaluation.scores import FIRST_RELEVANT, SHOWN, TOP, ItemScores

NAMES = {"map": "map", "mrr": "mrr_at_{}", "ndcg": "ndcg_at_{}"}
"""The library's metric -> ours, with the number of documents."""


class CandidateEvaluator(CheckedEncoding, RerankingEvaluator):  # type: ignore[misc]  # the library is untyped
    """The library's evaluator over each query's judged documents, which keeps the metrics of every query.

    With graded relevance, nDCG has linear gain; the other metrics count relevance above 0. A document that several
    queries share is encoded once.

    Args:
        retrieval: queries whose judged documents are their candidates, at least one relevant and one not.
        split: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        batch_size: texts encoded at once.
        dims: numbers of first dimensions for which shortened embeddings are scored too, each at most their width.
        scoring: the number of documents that metrics are of.
    """

    def __init__(
        self, retrieval: Retrieval, split: str, batch_size: int, dims: Sequence[int], scoring: RerankingScoring
    ) -> None:
        documents = dict(zip(retrieval.document_ids, retrieval.documents, strict=True))
        # Of documents with equal scores the one with the lower id is first, as in retrieval.
        self._judged = {name: dict(sorted(judged.items())) for name, judged in retrieval.relevant.items()}
        self._ids = retrieval.query_ids
        samples = []
        for name, query in zip(retrieval.query_ids, retrieval.queries, strict=True):
            judged = self._judged[name].items()
            positive, negative = (
                [documents[document] for document, relevance in judged if (relevance > 0) is wanted]
                for wanted in (True, False)
            )
            samples.append({"query": query, "positive": positive, "negative": negative})
        super().__init__(samples, at_k=scoring.at_k, name=split, batch_size=batch_size, write_csv=False)
        self._texts = documents
        self._dims = tuple(dims)
        self._of_queries: list[dict[str, Any]] = []
        self._cut: dict[int, dict[str, float]] = {}

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics of ``model``, by our names (``dev_ndcg_at_10``, ``dev-256_ndcg_at_10``)."""
        super().__call__(model, *args, **kwargs)
        scores = {self.name: _means(self._of_queries), **{f"{self.name}-{dim}": self._cut[dim] for dim in self._dims}}
        return {
            f"{prefix}_{NAMES[metric].format(self.at_k)}": value
            for prefix, values in scores.items()
            for metric, value in values.items()
        }

    def compute_metrics(self, model: SentenceTransformer) -> dict[str, float]:
        """Return the means of all queries' metrics."""
        queries = self.embed_inputs(model, [sample["query"] for sample in self.samples], encode_fn_name="query")
        ids = list(dict.fromkeys(document for judged in self._judged.values() for document in judged))
        texts = [self._texts[document] for document in ids]
        documents = self.embed_inputs(model, texts, encode_fn_name="document")
        row = {document: number for number, document in enumerate(ids)}

        def of_queries(dim: int | None) -> list[dict[str, Any]]:
            scored = []
            for query, name in zip(queries, self._ids, strict=True):
                judged = self._judged[name]
                candidates = documents[[row[document] for document in judged], :dim]
                similarities = cos_sim(query[:dim], candidates)[0].float().cpu().numpy()
                scored.append(_query_scores(list(judged), np.array(list(judged.values())), similarities, self.at_k))
            return scored

        self._of_queries = of_queries(None)
        self._cut = {dim: _means(of_queries(dim)) for dim in self._dims}
        return _means(self._of_queries)

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return bool(self._of_queries)

    def item_scores(self) -> ItemScores:
        """Return every query with its metrics, the rank of its first relevant document and the ids of its best ones."""
        columns: dict[str, Any] = {
            "query_id": list(self._ids),
            "query": [sample["query"] for sample in self.samples],
            "relevant": [
                [document for document, grade in self._judged[name].items() if grade > 0] for name in self._ids
            ],
        }
        for metric, name in NAMES.items():
            columns[name.format(self.at_k)] = np.array([each[metric] for each in self._of_queries])
        for name in (f"{FIRST_RELEVANT}cosine", f"{TOP}cosine"):
            columns[name] = [each[name] for each in self._of_queries]
        return ItemScores(columns)


def _query_scores(ids: Sequence[str], relevance: NDArray[Any], similarities: NDArray[Any], k: int) -> dict[str, Any]:
    """Return the library's metrics of one query, by its names, and which documents are first.

    Args:
        ids: of its candidates.
        relevance: of its candidates, ``(candidates,)``; 0 is not relevant.
        similarities: to its candidates, ``(candidates,)``.
        k: documents that count for MRR and nDCG.
    """
    order = np.argsort(-similarities, kind="stable")
    first = int(np.flatnonzero(relevance[order] > 0)[0]) + 1
    return {
        "map": float(average_precision_score(relevance > 0, similarities)),
        "mrr": 1 / first if first <= k else 0.0,
        "ndcg": float(ndcg_score([relevance], [similarities], k=k)),
        f"{FIRST_RELEVANT}cosine": first,
        f"{TOP}cosine": [ids[number] for number in order[:SHOWN]],
    }


def _means(of_queries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: float(np.mean([each[metric] for each in of_queries])) for metric in NAMES}
