"""Score a model by the evaluator of a family: dev, test, benchmarks; names of metrics.

Metrics are named ``dev/spearman_cosine``, or ``dev-256/spearman_cosine`` for shortened embeddings. Imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sentence_transformers import SentenceTransformer

from embedsweep.config.metrics import (
    BinaryScoring,
    RerankingScoring,
    RetrievalScoring,
    Scoring,
    StsScoring,
    TripletScoring,
)
from embedsweep.config.trial import TrialConfig
from embedsweep.data.load import load_benchmark, load_splits
from embedsweep.data.scored import BinaryPairs, Pairs, Retrieval, Scored, TripletSet
from embedsweep.errors import TrialError
from embedsweep.evaluation.binary import BinaryPairEvaluator
from embedsweep.evaluation.pairs import PairEvaluator
from embedsweep.evaluation.reranking import CandidateEvaluator
from embedsweep.evaluation.retrieval import RetrievalEvaluator
from embedsweep.evaluation.scores import ItemScores, write_scores
from embedsweep.evaluation.triplets import TripletSetEvaluator
from embedsweep.losses.nesting import dims as dims_of_loss


class Evaluator(Protocol):
    """What scores a model on the items of one split or benchmark: a subclass of one of the library's evaluators."""

    name: str
    """``dev``, ``test`` or a benchmark's name: prefix of the metrics' names."""

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics of ``model``, shortened embeddings among them; the trainer passes its step as ``steps``.

        They are named by `config.metrics`, behind the prefix and a low line: ``dev_ndcg_at_10_cosine``,
        ``dev-256_ndcg_at_10_cosine``.

        Raises:
            TrialError: the embeddings cannot be scored, as the model has diverged; or memory is too small for one.
        """

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""

    def item_scores(self) -> ItemScores:
        """Return the scores of every item, of the model scored last."""


def evaluator_of(scored: Scored, name: str, scoring: Scoring, batch_size: int, dims: Sequence[int]) -> Evaluator:
    """Return what scores models on some items.

    Args:
        scored: the items.
        name: ``dev``, ``test`` or a benchmark's name: prefix of the metrics' names.
        scoring: the family's keys.
        batch_size: texts encoded at once.
        dims: numbers of first dimensions for which shortened embeddings are scored too, each below their width.
    """
    match scored, scoring:
        case Pairs(), StsScoring():
            return PairEvaluator(scored, name, batch_size, dims)
        case Retrieval(), RetrievalScoring():
            return RetrievalEvaluator(scored, name, batch_size, dims, scoring)
        case TripletSet(), TripletScoring():
            return TripletSetEvaluator(scored, name, batch_size, dims, scoring)
        case BinaryPairs(), BinaryScoring():
            return BinaryPairEvaluator(scored, name, batch_size, dims, scoring)
        case Retrieval(), RerankingScoring():
            return CandidateEvaluator(scored, name, batch_size, dims, scoring)
    raise TypeError(f"{type(scored).__name__} cannot be scored by {type(scoring).__name__}")


def score_test(config: TrialConfig, model: SentenceTransformer, folder: Path | None = None) -> dict[str, float]:
    """Return all test metrics of ``model``, by name; write the scores of the items into the trial's ``folder``."""
    test, evaluation = load_splits(config.data, config.evaluation).test, config.evaluation
    evaluator = evaluator_of(test, "test", evaluation, evaluation.batch_size, cut_dims(config, model))
    scores = scores_of(evaluator, model)
    if folder is not None:
        write_scores(folder, evaluator.item_scores(), "test")
    return scores


def score_further(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """Return all metrics of ``model`` on the further benchmarks, by name (``sts2017-es/spearman_cosine``).

    Embeddings are cut as on dev and test (``sts2017-es-256/spearman_cosine``).
    """
    evaluation, requested = config.evaluation, cut_dims(config, model)
    scores: dict[str, float] = {}
    for benchmark in evaluation.benchmarks:
        scored, scoring = load_benchmark(benchmark, evaluation.path), benchmark.scoring or evaluation
        scores |= scores_of(evaluator_of(scored, benchmark.name, scoring, evaluation.batch_size, requested), model)
    return scores


def cut_dims(config: TrialConfig, model: SentenceTransformer) -> tuple[int, ...]:
    """Return the numbers of dimensions to score beside all of them, descending."""
    width = model.get_embedding_dimension()
    requested = {*dims_of_loss(config.loss), *config.evaluation.dims}
    if too_many := [dim for dim in config.evaluation.dims if dim > width]:
        raise TrialError(f"evaluation.dims: must be at most {width}, the model's dimensions, but got {too_many[0]}")
    return tuple(sorted((dim for dim in requested if dim < width), reverse=True))


def scores_of(evaluator: Evaluator, model: SentenceTransformer) -> dict[str, float]:
    """Return all metrics of ``model``, by name (``dev/spearman_cosine``).

    Raises:
        TrialError: all pairs have the same similarity, or embeddings are not finite.
    """
    return metric_names(evaluator(model), evaluator.name)


def metric_names(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """Return the evaluator's metrics of ``split`` (``dev_spearman_cosine``, ``eval_dev-256_...``) by our names.

    Those of benchmarks that are watched beside dev have such a name already (``eval_dev/stsb-en-dev/...``).

    Raises:
        TrialError: one of them is not finite.
    """
    pattern = re.compile(rf"(?:eval_)?({re.escape(split)}(?:-\d+)?)_(\w+)")
    watched = re.compile(rf"(?:eval_)?({re.escape(split)}/.+)/(\w+)")
    named = {
        f"{match[1]}/{match[2]}": float(value)
        for key, value in metrics.items()
        if (match := pattern.fullmatch(key) or watched.fullmatch(key))
    }
    broken = [name for name, value in named.items() if not math.isfinite(value)]
    if broken:
        raise TrialError(
            f"{broken[0]} is not a number: all pairs have the same similarity, or the embeddings are not numbers"
        )
    return named
