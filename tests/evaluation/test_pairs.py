from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from embedsweep.config.trial import BenchmarkConfig, StsConfig
from embedsweep.data.examples import as_examples, as_pairs
from embedsweep.data.scored import Pairs
from embedsweep.errors import TrialError
from embedsweep.evaluation.encoding import check_embeddings
from embedsweep.evaluation.evaluator import metric_names, score_further, scores_of
from embedsweep.evaluation.pairs import PairEvaluator
from embedsweep.evaluation.scores import read_scores, write_scores
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single
from tests.configs import DEV_METRICS
from tests.demo_pairs import demo_pairs

ROWS = demo_pairs("dev")[:60]
PAIRS = Pairs(
    tuple(first for first, _, _ in ROWS),
    tuple(second for _, second, _ in ROWS),
    tuple(float(score) / 5 for _, _, score in ROWS),
    "demo dev",
)
CONFIG = StsConfig("sts", batch_size=16, dev=None, test=None, benchmarks=(), watch=(), path=None, dims=(), before=False)


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture(scope="module")
def similarities(model: SentenceTransformer) -> dict[str, np.ndarray]:
    """Every pair's similarities by textbook formulas; each ``(pairs,)``."""
    first = model.encode(list(PAIRS.sentences1), batch_size=16).astype(np.float64)
    second = model.encode(list(PAIRS.sentences2), batch_size=16).astype(np.float64)
    dot = (first * second).sum(axis=1)
    return {
        "cosine": dot / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1)),
        "euclidean": -np.sqrt(((first - second) ** 2).sum(axis=1)),
        "manhattan": -np.abs(first - second).sum(axis=1),
        "dot": dot,
    }


def test_scores_are_the_correlations_of_four_similarities_and_the_largest(
    model: SentenceTransformer, similarities: dict[str, np.ndarray]
) -> None:
    expected: dict[str, float] = {}
    for correlation, function in (("pearson", pearsonr), ("spearman", spearmanr)):
        values = {name: float(function(PAIRS.scores, scores)[0]) for name, scores in similarities.items()}
        expected |= {f"dev/{correlation}_{name}": value for name, value in values.items()}
        expected[f"dev/{correlation}_max"] = max(values.values())
    scores = scores_of(PairEvaluator(PAIRS, "dev", CONFIG.batch_size, ()), model)
    assert set(scores) == set(DEV_METRICS)
    assert len(set(expected.values())) == 8  # two of the ten are the largest of the others
    assert scores == pytest.approx(expected, abs=1e-4)


def test_the_file_of_scores_holds_every_pair_and_its_predictions(
    model: SentenceTransformer, similarities: dict[str, np.ndarray], tmp_path: Path
) -> None:
    evaluator = PairEvaluator(PAIRS, "dev", CONFIG.batch_size, ())
    had_scored = evaluator.has_scored
    scores_of(evaluator, model)
    assert (had_scored, evaluator.has_scored) == (False, True)
    written = evaluator.item_scores()
    write_scores(tmp_path, written)
    table = pq.read_table(tmp_path / "scores" / "dev.parquet").to_pydict()
    assert table["sentence1"] == list(PAIRS.sentences1)
    assert table["sentence2"] == list(PAIRS.sentences2)
    assert table["gold"] == list(PAIRS.scores)
    for name, expected in similarities.items():
        np.testing.assert_allclose(table[f"predicted_{name}"], expected, rtol=1e-4, atol=1e-5)
    read = read_scores(tmp_path)
    assert read is not None
    assert read.is_of_same_items(written)
    assert read.interval("dev/spearman_max") == written.interval("dev/spearman_max")


def test_predictions_are_of_the_model_scored_last(
    model: SentenceTransformer, similarities: dict[str, np.ndarray]
) -> None:
    evaluator = PairEvaluator(PAIRS, "dev", CONFIG.batch_size, ())
    scores_of(evaluator, _Embedder(lambda texts: np.array([[len(text), 1.0] for text in texts])))
    assert not np.allclose(evaluator.predicted()["cosine"], similarities["cosine"])
    scores_of(evaluator, model)
    np.testing.assert_allclose(evaluator.predicted()["cosine"], similarities["cosine"], atol=1e-5)


class _Embedder(SentenceTransformer):  # type: ignore[misc]  # the library is untyped
    """A model whose embeddings a test chooses."""

    def __init__(self, embed: object) -> None:
        super().__init__(str(tiny_model_path()), device="cpu")
        self._embed = embed

    def encode(self, sentences: list[str], **_: object) -> np.ndarray:
        return np.asarray(self._embed(sentences), dtype=np.float32)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, r"the embeddings of \d+ different dev sentences are constant: they differ by 0.0e\+00 of their length"),
        (0.0, r"the embeddings of \d+ different dev sentences are constant"),
        (math.nan, r"the embeddings of (\d+) of \1 dev sentences are not numbers"),
    ],
)
def test_constant_or_missing_embeddings_raise(value: float, reason: str) -> None:
    constant = _Embedder(lambda texts: np.full((len(texts), 8), value))
    with pytest.raises(TrialError, match=reason):
        scores_of(PairEvaluator(PAIRS, "dev", CONFIG.batch_size, ()), constant)


def test_pairs_of_equal_similarity_raise() -> None:
    apart = _Embedder(lambda texts: np.eye(len(texts), 8))
    opposite = Pairs(("a", "b", "c"), ("d", "e", "f"), (0.0, 0.5, 1.0), "test")
    with (
        pytest.warns(ConstantInputWarning),
        pytest.raises(TrialError, match=r"dev/\w+ is not a number: all pairs have the same similarity"),
    ):
        scores_of(PairEvaluator(opposite, "dev", CONFIG.batch_size, ()), apart)


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ({"dev_spearman_cosine": 0.5}, {"dev/spearman_cosine": 0.5}),
        ({"eval_dev_spearman_cosine": 0.5, "eval_runtime": 3.0, "epoch": 1.0}, {"dev/spearman_cosine": 0.5}),
        ({"test_spearman_max": 0.5}, {}),
        ({"eval_loss": math.nan, "eval_dev_pearson_dot": -1.0}, {"dev/pearson_dot": -1.0}),
        ({"eval_dev-64_spearman_max": 0.5, "eval_dev-x_spearman_max": 0.1}, {"dev-64/spearman_max": 0.5}),
    ],
)
def test_metrics_of_the_split_get_this_projects_names(library: dict[str, float], expected: dict[str, float]) -> None:
    assert metric_names(library, "dev") == expected


@pytest.mark.parametrize("dim", [32, 8])
def test_shortened_embeddings_score_as_in_the_library_without_encoding_again(
    model: SentenceTransformer, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = EmbeddingSimilarityEvaluator(
        list(PAIRS.sentences1),
        list(PAIRS.sentences2),
        list(PAIRS.scores),
        similarity_fn_names=["cosine", "euclidean", "manhattan", "dot"],
        batch_size=16,
        truncate_dim=dim,
        write_csv=False,
    )
    expected = {f"dev-{dim}/{name}": value for name, value in library(model).items()}
    assert len(expected) == 10
    encoded: list[int] = []
    encode = model.encode

    def counting(sentences: list[str], **how: object) -> np.ndarray:
        encoded.append(len(sentences))
        return np.asarray(encode(sentences, **how))

    monkeypatch.setattr(model, "encode", counting)
    plain = scores_of(PairEvaluator(PAIRS, "dev", CONFIG.batch_size, ()), model)
    encoded.clear()
    scores = scores_of(PairEvaluator(PAIRS, "dev", CONFIG.batch_size, (dim,)), model)
    assert encoded == [60, 60]
    assert {name: value for name, value in scores.items() if name.startswith("dev-")} == pytest.approx(expected)
    assert {name: value for name, value in scores.items() if name.startswith("dev/")} == plain


def test_the_primary_metric_is_the_largest_spearman_and_the_card_gets_whole_embeddings_only(
    model: SentenceTransformer,
) -> None:
    evaluator = PairEvaluator(PAIRS, "dev", CONFIG.batch_size, (32,))
    evaluator(model)
    assert evaluator.primary_metric == "dev_spearman_max"
    card_results = model.model_card_data.eval_results_dict[evaluator]
    assert set(card_results) == {name.replace("/", "_") for name in DEV_METRICS}


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
def test_the_trainer_and_the_librarys_card_accept_scores_of_shortened_embeddings(tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    rows = {"a": list(PAIRS.sentences1), "b": list(PAIRS.sentences2), "score": list(PAIRS.scores)}
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
        train_dataset=Dataset.from_dict(rows),
        loss=CoSENTLoss(model),
        evaluator=PairEvaluator(PAIRS, "dev", CONFIG.batch_size, (32,)),
    )
    metrics = trainer.evaluate()
    assert {"eval_dev_spearman_cosine", "eval_dev-32_spearman_cosine"} <= set(metrics)
    assert len(metric_names(metrics, "dev")) == 20


def test_each_benchmark_is_scored_under_its_name(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = {"sts2017-es": as_pairs(as_examples(PAIRS).kept(range(30), None)), "stsb-en-test": PAIRS}
    monkeypatch.setattr("embedsweep.evaluation.evaluator.load_benchmark", lambda benchmark, _: halves[benchmark.name])
    config = pass_single(["loss=cosent"]).config
    benchmarks = tuple(BenchmarkConfig(name, name, "test", config.data, "sts", None) for name in halves)
    scores = score_further(replace(config, evaluation=replace(CONFIG, benchmarks=benchmarks, dims=(32,))), model)
    assert len(scores) == 40
    for name, pairs in halves.items():
        expected = scores_of(PairEvaluator(pairs, "dev", CONFIG.batch_size, (32,)), model)
        assert scores[f"{name}/spearman_cosine"] == expected["dev/spearman_cosine"]
        assert scores[f"{name}-32/spearman_cosine"] == expected["dev-32/spearman_cosine"]


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_constant_shortened_embeddings_raise() -> None:
    ends = _Embedder(lambda texts: np.array([[1.0, 1.0, len(text)] for text in texts]))
    with pytest.raises(TrialError, match=r"dev-2/\w+ is not a number"):
        scores_of(PairEvaluator(PAIRS, "dev", CONFIG.batch_size, (2,)), ends)


def spread_of(relative: float) -> np.ndarray:
    """Return 1,000 embeddings of 8 dimensions around one of length 1, at the distance ``relative``."""
    draw = np.random.default_rng(0).standard_normal((1000, 8))
    draw *= relative / np.sqrt(np.square(draw).sum(axis=1).mean())
    return np.asarray(draw + np.eye(8)[0], dtype=np.float32)


@pytest.mark.parametrize(("relative", "passes"), [(0.2, True), (1e-3, True), (1e-4, False), (0.0, False)])
def test_embeddings_that_differ_by_rounding_only_count_as_constant(relative: float, passes: bool) -> None:
    sentences = [str(number) for number in range(1000)]
    if passes:
        check_embeddings(spread_of(relative), sentences, "dev", 5)
        return
    with pytest.raises(
        TrialError, match=r"^the embeddings of 1000 different dev sentences are constant after step 5: "
    ):
        check_embeddings(spread_of(relative), sentences, "dev", 5)


def test_one_repeated_sentence_may_have_one_embedding() -> None:
    check_embeddings(np.ones((3, 4), dtype=np.float32), ["the same"] * 3, "dev", -1)


def test_a_single_embedding_that_is_not_finite_fails() -> None:
    embeddings = np.random.default_rng(0).standard_normal((5, 3))
    embeddings[2, 1] = math.inf
    with pytest.raises(TrialError, match=r"^the embeddings of 1 of 5 test sentences are not numbers$"):
        check_embeddings(embeddings, list("abcde"), "test", -1)


class Encoder:
    """A model that encodes at most ``room`` sentences at once."""

    similarity_fn_name = "cosine"
    model_card_data = None

    def __init__(self, room: int) -> None:
        self.room = room
        self.batch_sizes: list[int] = []

    def encode(self, sentences: list[str], *, batch_size: int, **_: object) -> Any:
        self.batch_sizes.append(batch_size)
        if batch_size > self.room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")
        return torch.eye(len(sentences), 5).cumsum(0).numpy()


@pytest.fixture
def evaluator() -> PairEvaluator:
    return PairEvaluator(Pairs(("a", "b", "c"), ("d", "e", "f"), (0.0, 0.5, 1.0), "test"), "dev", CONFIG.batch_size, ())


def test_after_out_of_memory_evaluation_encodes_fewer_sentences_at_once(evaluator: PairEvaluator) -> None:
    encoder = Encoder(room=5)
    embeddings = evaluator.embed_inputs(encoder, ["a", "b", "c"])
    assert embeddings.shape == (3, 5)
    evaluator.embed_inputs(encoder, ["d", "e", "f"])
    assert encoder.batch_sizes == [16, 8, 4, 4]


def test_out_of_memory_for_a_single_sentence_fails(evaluator: PairEvaluator) -> None:
    with pytest.raises(TrialError, match=r"^out of memory encoding one dev sentence: .*can't allocate memory"):
        evaluator.embed_inputs(Encoder(room=0), ["a", "b", "c"])
