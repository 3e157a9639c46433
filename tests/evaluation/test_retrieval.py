"""Retrieval beside the library's evaluator, trec_eval and formulas over an argsort."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim, dot_score

from embedsweep.data.scored import Retrieval
from embedsweep.errors import TrialError
from embedsweep.evaluation import retrieval as module
from embedsweep.evaluation.evaluator import scores_of
from embedsweep.evaluation.retrieval import RetrievalEvaluator
from embedsweep.evaluation.scores import read_scores, write_scores
from embedsweep.models.tiny import tiny_model_path
from tests.demo_pairs import demo_pairs
from tests.evaluation.embedders import RETRIEVAL, Embedder

ROWS = demo_pairs("dev")[:150]
DOCUMENTS = {f"d{number}": row[1] for number, row in enumerate(ROWS)}  # d10 is before d9
QUERIES = {f"q{number}": row[0] for number, row in enumerate(ROWS[:40])}
_draws = np.random.default_rng(7)


def judgements(grades: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """Three judged documents of every query, the first of them relevant, the others drawn from ``grades``."""
    return {
        query: {
            f"d{number}": grades[-1],
            **{f"d{other}": float(_draws.choice(grades)) for other in _draws.choice(np.arange(40, 150), 2, False)},
        }
        for number, query in enumerate(QUERIES)
    }


BINARY, GRADED = judgements((0.0, 1.0)), judgements((0.0, 1.0, 2.0, 3.0))


def retrieval(relevant: Mapping[str, Mapping[str, float]]) -> Retrieval:
    return Retrieval(
        tuple(QUERIES), tuple(QUERIES.values()), tuple(DOCUMENTS), tuple(DOCUMENTS.values()), relevant, "demo"
    )


def relevant_sets(relevant: Mapping[str, Mapping[str, float]]) -> dict[str, set[str]]:
    return {query: {each for each, grade in judged.items() if grade > 0} for query, judged in relevant.items()}


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


def library_scores(
    model: SentenceTransformer, relevant: Mapping[str, Mapping[str, float]], dim: int | None
) -> dict[str, float]:
    evaluator = InformationRetrievalEvaluator(
        QUERIES,
        DOCUMENTS,
        relevant_sets(relevant),
        score_functions={"cosine": cos_sim, "dot": dot_score},
        truncate_dim=dim,
        batch_size=16,
        write_csv=False,
    )
    prefix = "dev" if dim is None else f"dev-{dim}"
    scores = {}
    for name, value in evaluator(model).items():
        similarity, _, metric = name.partition("_")
        scores[f"{prefix}/{metric.replace('@', '_at_')}_{similarity}"] = value
    return scores


@pytest.mark.parametrize("dim", [None, 32, 8])
def test_binary_relevance_is_scored_as_by_the_library(model: SentenceTransformer, dim: int | None) -> None:
    expected = library_scores(model, BINARY, dim)
    scores = scores_of(RetrievalEvaluator(retrieval(BINARY), "dev", 16, (32, 8), RETRIEVAL), model)
    assert len(expected) == 30
    assert {f"dev/{name}" for name in RETRIEVAL.metrics} == {name for name in scores if name.startswith("dev/")}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert len({round(value, 9) for value in expected.values()}) > 15  # names that were exchanged would be seen


def test_shortened_embeddings_are_scored_without_encoding_again(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = model.encode

    def counting(inputs: list[str], **how: object) -> object:
        encoded.append(len(inputs))
        return encode(inputs, **how)

    monkeypatch.setattr(model, "encode", counting)
    evaluator = RetrievalEvaluator(retrieval(BINARY), "dev", 16, (32, 8), RETRIEVAL)
    evaluator(model)
    assert encoded == [40, 150]
    assert evaluator.primary_metric == "dev_cosine_ndcg@10"
    assert set(model.model_card_data.eval_results_dict[evaluator]) == {
        f"dev_{similarity}_{metric.replace('_at_', '@')}"
        for name in RETRIEVAL.metrics
        for metric, _, similarity in [name.rpartition("_")]
    }


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_graded_relevance_is_scored_as_by_trec_eval_and_other_metrics_count_what_is_above_zero(
    model: SentenceTransformer, similarity: str
) -> None:
    queries, documents = (model.encode(list(texts.values()), batch_size=16) for texts in (QUERIES, DOCUMENTS))
    found = {"cosine": cos_sim, "dot": dot_score}[similarity](queries, documents).numpy()
    best = np.sort(found, axis=1)[:, -11:]
    assert all(len(set(row)) == 11 for row in best)  # no ties: trec_eval has another order for them
    runs = {
        query: {name: float(score) for name, score in zip(DOCUMENTS, row, strict=True)}
        for query, row in zip(QUERIES, found, strict=True)
    }
    grades = {query: {name: int(grade) for name, grade in judged.items()} for query, judged in GRADED.items()}
    of_queries = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut.10"}).evaluate(runs)
    expected = np.mean([of_queries[query]["ndcg_cut_10"] for query in QUERIES])
    evaluator = RetrievalEvaluator(retrieval(GRADED), "dev", 16, (), RETRIEVAL)
    scores = scores_of(evaluator, model)
    assert scores.pop(f"dev/ndcg_at_10_{similarity}") == pytest.approx(expected, abs=1e-6)
    theirs = library_scores(model, GRADED, None)
    assert abs(theirs.pop(f"dev/ndcg_at_10_{similarity}") - expected) > 0.01
    others = {name: value for name, value in theirs.items() if "ndcg" not in name}
    assert {name: scores[name] for name in others} == pytest.approx(others, abs=1e-9)


def test_documents_with_equal_scores_are_ordered_by_ascending_id(model: SentenceTransformer) -> None:
    ids = ["b", "a10", "a9", "c"]
    tied = Retrieval(("q",), ("query",), tuple(ids), ("x", "y", "z", "other"), {"q": {"b": 1.0, "a9": 2.0}}, "tied")
    vectors = {"query": [1.0, 0.0], "x": [1.0, 0.0], "y": [1.0, 0.0], "z": [1.0, 0.0], "other": [0.0, 1.0]}
    evaluator = RetrievalEvaluator(tied, "dev", 16, (), RETRIEVAL)
    scores = scores_of(evaluator, Embedder(lambda texts: np.array([vectors[text] for text in texts])))
    items = evaluator.item_scores().columns
    assert items["top_cosine"] == [["a10", "a9", "b", "c"]]
    assert items["first_relevant_cosine"] == [2]
    assert scores["dev/mrr_at_10_cosine"] == 0.5
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert scores["dev/ndcg_at_10_cosine"] == pytest.approx((2 / math.log2(3) + 1 / math.log2(4)) / ideal)


@pytest.mark.parametrize(("chunk", "most"), [(7, 20_000_000), (50_000, 40 * 11)])
def test_chunks_do_not_change_scores(
    model: SentenceTransformer, chunk: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores_of(RetrievalEvaluator(retrieval(GRADED), "dev", 16, (), RETRIEVAL), model)
    monkeypatch.setattr(module, "MOST_SCORES", most)
    evaluator = RetrievalEvaluator(retrieval(GRADED), "dev", 16, (), replace(RETRIEVAL, corpus_chunk_size=chunk))
    assert evaluator.corpus_chunk_size == math.ceil(150 / math.ceil(150 / min(chunk, 11)))
    encoded: list[int] = []
    evaluator.on_encoded = encoded.append
    assert scores_of(evaluator, model) == pytest.approx(whole, abs=1e-9)
    assert (encoded[0], max(encoded[1:]), sum(encoded)) == (40, evaluator.corpus_chunk_size, 190)


def test_each_metric_is_the_mean_of_its_column_over_the_queries(model: SentenceTransformer, tmp_path: Path) -> None:
    evaluator = RetrievalEvaluator(retrieval(GRADED), "dev", 16, (), RETRIEVAL)
    had_scored = evaluator.has_scored
    scores = scores_of(evaluator, model)
    assert (had_scored, evaluator.has_scored) == (False, True)
    written = evaluator.item_scores()
    write_scores(tmp_path, written, "test")
    items = read_scores(tmp_path, "test")
    assert items is not None
    assert items.is_of_same_items(written)
    assert len(items) == 40
    for metric, score in scores.items():
        assert items.statistic(metric)(np.ones((1, 40)))[0] == pytest.approx(score, abs=1e-12)
    interval = items.interval("dev/ndcg_at_10_cosine")
    assert interval is not None
    low, high = interval
    assert low < scores["dev/ndcg_at_10_cosine"] < high
    spread = np.std(np.asarray(items.columns["ndcg_at_10_cosine"])) / math.sqrt(40)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert items.columns["query_id"] == list(QUERIES)
    first = next(iter(GRADED))
    assert items.columns["relevant"][0] == sorted(relevant_sets(GRADED)[first])


def test_the_items_say_which_documents_were_found(model: SentenceTransformer) -> None:
    evaluator = RetrievalEvaluator(retrieval(GRADED), "dev", 16, (), replace(RETRIEVAL, map_at_k=(15,)))
    evaluator(model)
    queries, documents = (model.encode(list(texts.values()), batch_size=16) for texts in (QUERIES, DOCUMENTS))
    ranked = [[list(DOCUMENTS)[each] for each in row] for row in np.argsort(-(queries @ documents.T), axis=1)]
    items, sets = evaluator.item_scores().columns, relevant_sets(GRADED)
    assert items["top_dot"] == [row[:10] for row in ranked]
    first = [
        next(rank for rank, name in enumerate(row, 1) if name in sets[query])
        for query, row in zip(QUERIES, ranked, strict=True)
    ]
    assert max(first) > 15  # is not among the documents that a metric looks at
    assert items["first_relevant_dot"] == [rank if rank <= 15 else None for rank in first]


def test_other_judgements_are_other_items(model: SentenceTransformer) -> None:
    scored = []
    for relevant in (BINARY, {**BINARY, "q3": {"d3": 1.0, "d4": 1.0}}):
        evaluator = RetrievalEvaluator(retrieval(relevant), "dev", 16, (), RETRIEVAL)
        evaluator(model)
        scored.append(evaluator.item_scores())
    assert not scored[0].is_of_same_items(scored[1])
    assert scored[0].is_of_same_items(scored[0])


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({"query": "Q: ", "document": "D: "}, None, "Q: ", "D: "),
        ({"query": "Q: "}, None, "Q: ", ""),
        ({"query": "Q: ", "all": "A: "}, "all", "Q: ", ""),
        ({"all": "A: "}, "all", "A: ", "A: "),
        ({"query": "", "document": ""}, None, "", ""),
    ],
)
def test_queries_and_documents_get_the_prompts_they_have_in_training(
    prompts: dict[str, str], default: str | None, query: str, document: str
) -> None:
    model = Embedder(lambda texts: np.array([[len(text), text.count("e") + 1.0] for text in texts]))
    model.prompts, model.default_prompt_name = prompts, default
    RetrievalEvaluator(retrieval(BINARY), "dev", 16, (), RETRIEVAL)(model)
    expected = [*(query + text for text in QUERIES.values()), *(document + text for text in DOCUMENTS.values())]
    assert model.texts == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, r"the embeddings of \d+ different dev sentences are constant after step 8"),
        (math.nan, r"the embeddings of 40 of 40 dev sentences are not numbers after step 8"),
    ],
)
def test_a_model_that_has_diverged_is_an_error_and_no_score(value: float, reason: str) -> None:
    constant = Embedder(lambda texts: np.full((len(texts), 8), value))
    with pytest.raises(TrialError, match=reason):
        RetrievalEvaluator(retrieval(BINARY), "dev", 16, (), RETRIEVAL)(constant, steps=8)


def test_documents_that_are_not_numbers_are_an_error() -> None:
    def embed(texts: object) -> np.ndarray:
        values = np.random.default_rng(0).standard_normal((len(list(texts)), 4))  # type: ignore[call-overload]
        return np.where(len(values) > 40, np.nan, values)

    with pytest.raises(TrialError, match="the embeddings of 150 of 150 dev sentences are not numbers"):
        RetrievalEvaluator(retrieval(BINARY), "dev", 16, (), RETRIEVAL)(Embedder(embed))


def test_queries_without_a_relevant_document_are_left_out_and_said(
    model: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        evaluator = RetrievalEvaluator(retrieval({**BINARY, "q3": {"d3": 0.0}}), "dev", 16, (), RETRIEVAL)
    evaluator(model)
    assert "1 dev queries have no relevant document and are not scored" in caplog.text
    assert evaluator.item_scores().columns["query_id"] == [query for query in QUERIES if query != "q3"]
