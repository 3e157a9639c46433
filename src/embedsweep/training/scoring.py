"""What a trial is scored on, and with how many dimensions.

Owns which pairs select and which report. Knows nothing of training; test and benchmarks are scored when it is asked to,
and who asks says why. Imports torch.
"""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import TrialConfig
from embedsweep.data import load_benchmark, load_splits
from embedsweep.errors import TrialError
from embedsweep.evaluation.pairs import PairEvaluator, score_benchmarks, scores_of
from embedsweep.losses.nesting import dims


def dev_evaluator(config: TrialConfig, model: SentenceTransformer) -> PairEvaluator:
    """Scores the pairs that select, with all dimensions of ``model`` and those that are asked for."""
    splits = load_splits(config.data, config.evaluation)
    return PairEvaluator(splits.dev, "dev", config.evaluation, _cut_dims(config, model))


def score_dev(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """All dev metrics of ``model``, by name (``dev/spearman_cosine``, ``dev-256/spearman_cosine``)."""
    return scores_of(dev_evaluator(config, model), model)


def score_test(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """All test metrics of ``model``, by name."""
    splits = load_splits(config.data, config.evaluation)
    return scores_of(PairEvaluator(splits.test, "test", config.evaluation, _cut_dims(config, model)), model)


def score_further(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """All metrics of ``model`` on the further benchmarks, by name (``sts2017-es/spearman_cosine``).

    Embeddings are cut as on dev and test (``sts2017-es-256/spearman_cosine``).
    """
    evaluation = config.evaluation
    pairs = {benchmark.name: load_benchmark(benchmark, evaluation.path) for benchmark in evaluation.benchmarks}
    return score_benchmarks(pairs, model, evaluation, _cut_dims(config, model))


def _cut_dims(config: TrialConfig, model: SentenceTransformer) -> tuple[int, ...]:
    """The numbers of dimensions to score beside all of them, descending."""
    width = model.get_embedding_dimension()
    asked = {*dims(config.loss), *config.evaluation.dims}
    if too_many := [dim for dim in config.evaluation.dims if dim > width]:
        raise TrialError(f"evaluation.dims asks for {too_many[0]} dimensions, and the model has {width}")
    return tuple(sorted((dim for dim in asked if dim < width), reverse=True))
