"""Reranking beside the library's evaluator and direct formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import RerankingEvaluator

from embedsweep.config.metrics import RerankingScoring
from embedsweep.data.scored import Retrieval
from embedsweep.evaluation.evaluator import scores_of
from embedsweep.evaluation.reranking import CandidateEvaluator
from embedsweep.evaluation.scores import read_scores, write_scores
from embedsweep.models.tiny import tiny_model_path
from tests.demo_pairs import demo_pairs
from tests.evaluation.embedders import Embedder

ROWS = demo_pairs("dev")[:120]
_draws = np.random.default_rng(7)
JUDGED = {
    f"q{number}": {
        f"d{number}": float(1 + number % 3),
        **{f"d{other}": 0.0 for other in _draws.choice(np.arange(30, 80), 4 + number % 9, False)},
        f"d{80 + number}": float(number % 2),
    }
    for number in range(30)
}
RETRIEVAL = Retrieval(
    tuple(JUDGED),
    tuple(row[0] for row in ROWS[:30]),
    tuple(f"d{number}" for number in range(120)),
    tuple(row[1] for row in ROWS),
    JUDGED,
    "demo",
)
SCORING = RerankingScoring("reranking", 5)


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


def cosines(model: SentenceTransformer, query: str, dim: int | None = None) -> dict[str, float]:
    """A query's cosine with each of its candidates."""
    text = RETRIEVAL.queries[RETRIEVAL.query_ids.index(query)]
    names = list(JUDGED[query])
    texts = [RETRIEVAL.documents[RETRIEVAL.document_ids.index(name)] for name in names]
    vectors = model.encode([text, *texts]).astype(np.float64)[:, :dim]
    first, others = vectors[0], vectors[1:]
    found = others @ first / np.linalg.norm(others, axis=1) / np.linalg.norm(first)
    return dict(zip(names, map(float, found), strict=True))


@pytest.mark.parametrize("dim", [None, 8])
def test_scores_of_binary_relevance_are_the_librarys(model: SentenceTransformer, dim: int | None) -> None:
    texts = dict(zip(RETRIEVAL.document_ids, RETRIEVAL.documents, strict=True))
    samples = [
        {
            "query": query,
            "positive": [texts[name] for name, grade in JUDGED[of].items() if grade > 0],
            "negative": [texts[name] for name, grade in JUDGED[of].items() if not grade],
        }
        for of, query in zip(JUDGED, RETRIEVAL.queries, strict=True)
    ]
    library = RerankingEvaluator(samples, at_k=5, batch_size=16, truncate_dim=dim, write_csv=False)(model)
    binary = {query: {name: float(grade > 0) for name, grade in judged.items()} for query, judged in JUDGED.items()}
    of_sets = replace(RETRIEVAL, relevant=binary)
    scores = scores_of(CandidateEvaluator(of_sets, "dev", 16, (8,), SCORING), model)
    prefix = "dev" if dim is None else f"dev-{dim}"
    expected = {f"{prefix}/{name.replace('@', '_at_')}": value for name, value in library.items()}
    assert len(expected) == 3
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert {f"dev/{name}" for name in SCORING.metrics} == {name for name in scores if name.startswith("dev/")}


def test_graded_relevance_has_linear_gain_and_the_other_metrics_count_what_is_above_zero(
    model: SentenceTransformer,
) -> None:
    expected: dict[str, list[float]] = {"map": [], "mrr_at_5": [], "ndcg_at_5": []}
    for query, judged in JUDGED.items():
        found = cosines(model, query)
        ranked = sorted(found, key=lambda name: -found[name])
        gains = [judged[name] / math.log2(rank + 1) for rank, name in enumerate(ranked[:5], 1)]
        ideal = [grade / math.log2(rank + 1) for rank, grade in enumerate(sorted(judged.values())[::-1][:5], 1)]
        ranks = [rank for rank, name in enumerate(ranked, 1) if judged[name] > 0]
        expected["ndcg_at_5"].append(sum(gains) / sum(ideal))
        expected["mrr_at_5"].append(1 / ranks[0] if ranks[0] <= 5 else 0.0)
        expected["map"].append(float(np.mean([number / rank for number, rank in enumerate(ranks, 1)])))
    evaluator = CandidateEvaluator(RETRIEVAL, "dev", 16, (), SCORING)
    scores = scores_of(evaluator, model)
    assert scores == pytest.approx({f"dev/{name}": np.mean(values) for name, values in expected.items()}, abs=1e-6)
    items = evaluator.item_scores().columns
    for name, values in expected.items():
        np.testing.assert_allclose(items[name], values, atol=1e-6)


def test_the_items_are_the_queries_with_their_metrics(model: SentenceTransformer, tmp_path: Path) -> None:
    evaluator = CandidateEvaluator(RETRIEVAL, "dev", 16, (), SCORING)
    assert not evaluator.has_scored
    scores = scores_of(evaluator, model)
    write_scores(tmp_path, evaluator.item_scores())
    items = read_scores(tmp_path)
    assert items is not None
    assert items.is_of_same_items(evaluator.item_scores())
    for metric, score in scores.items():
        assert items.statistic(metric)(np.ones((1, 30)))[0] == pytest.approx(score)
    found = cosines(model, "q4")
    ranked = sorted(found, key=lambda name: -found[name])
    assert items.columns["top_cosine"][4] == ranked[:10]
    assert items.columns["first_relevant_cosine"][4] == 1 + ranked.index("d4")
    assert items.columns["relevant"][5] == ["d5", "d85"]


def test_queries_and_documents_get_their_prompts_and_each_document_is_encoded_once() -> None:
    model = Embedder(lambda texts: np.array([[len(text), text.count("e") + 1.0] for text in texts]))
    model.prompts = {"query": "Q: ", "document": "D: "}
    CandidateEvaluator(RETRIEVAL, "dev", 16, (1,), SCORING)(model)
    used = {name for judged in JUDGED.values() for name in judged}
    assert len(used) < sum(map(len, JUDGED.values()))
    assert model.texts[:30] == [f"Q: {text}" for text in RETRIEVAL.queries]
    texts = dict(zip(RETRIEVAL.document_ids, RETRIEVAL.documents, strict=True))
    assert sorted(model.texts[30:]) == sorted(f"D: {texts[name]}" for name in used)
