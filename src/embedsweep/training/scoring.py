"""Score a trial's model on dev, test and further benchmarks, with all dimensions and with fewer. Imports torch."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import TrialConfig
from embedsweep.data.load import load_benchmark, load_splits
from embedsweep.errors import TrialError
from embedsweep.evaluation.pairs import PairEvaluator, score_benchmarks, scores_of
from embedsweep.losses.nesting import dims


def dev_evaluator(config: TrialConfig, model: SentenceTransformer) -> PairEvaluator:
    """Return the evaluator of dev, with all dimensions of ``model`` and those that are configured."""
    splits = load_splits(config.data, config.evaluation)
    return PairEvaluator(splits.dev, "dev", config.evaluation, _cut_dims(config, model))


def score_dev(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """Return all dev metrics of ``model``, by name (``dev/spearman_cosine``, ``dev-256/spearman_cosine``)."""
    return scores_of(dev_evaluator(config, model), model)


def score_test(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """Return all test metrics of ``model``, by name."""
    splits = load_splits(config.data, config.evaluation)
    return scores_of(PairEvaluator(splits.test, "test", config.evaluation, _cut_dims(config, model)), model)


def score_further(config: TrialConfig, model: SentenceTransformer) -> dict[str, float]:
    """Return all metrics of ``model`` on the further benchmarks, by name (``sts2017-es/spearman_cosine``).

    Embeddings are cut as on dev and test (``sts2017-es-256/spearman_cosine``).
    """
    evaluation = config.evaluation
    pairs = {benchmark.name: load_benchmark(benchmark, evaluation.path) for benchmark in evaluation.benchmarks}
    return score_benchmarks(pairs, model, evaluation, _cut_dims(config, model))


def _cut_dims(config: TrialConfig, model: SentenceTransformer) -> tuple[int, ...]:
    """Return the numbers of dimensions to score beside all of them, descending."""
    width = model.get_embedding_dimension()
    requested = {*dims(config.loss), *config.evaluation.dims}
    if too_many := [dim for dim in config.evaluation.dims if dim > width]:
        raise TrialError(f"evaluation.dims: must be at most {width}, the model's dimensions, but got {too_many[0]}")
    return tuple(sorted((dim for dim in requested if dim < width), reverse=True))
