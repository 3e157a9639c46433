"""Score dev, which selects, and the benchmarks that are watched beside it (``evaluation.watch``). Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from embedsweep.config.trial import TrialConfig
from embedsweep.data.load import load_benchmark, load_splits
from embedsweep.evaluation.encoding import signs_of_life
from embedsweep.evaluation.evaluator import Evaluator, cut_dims, evaluator_of, metric_names
from embedsweep.evaluation.scores import ItemScores


class DevEvaluator(SentenceEvaluator):  # type: ignore[misc]  # the library is untyped
    """The evaluator of a training: that of dev, with the metrics of what is watched added.

    Those are named as in a result: ``dev/stsb-en-dev/spearman_cosine``.

    Args:
        dev: scores dev.
        watched: score the watched benchmarks; the name of each is ``dev/`` and the benchmark's.
        alive: is called after each batch that is encoded.
    """

    def __init__(self, dev: Evaluator, watched: Sequence[Evaluator], alive: Callable[[], None]) -> None:
        super().__init__()
        self.name = dev.name
        self._dev = dev
        self._watched = tuple(watched)
        self._alive = alive

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics of ``model``; the trainer passes its step as ``steps``."""
        with signs_of_life(model, self._alive):
            metrics = dict(self._dev(model, *args, **kwargs))
            for evaluator in self._watched:
                metrics |= metric_names(evaluator(model, *args, **kwargs), evaluator.name)
        return metrics

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return self._dev.has_scored

    def item_scores(self) -> ItemScores:
        """Return the scores of every item of dev, of the model scored last."""
        return self._dev.item_scores()


def dev_evaluator(
    config: TrialConfig, model: SentenceTransformer, alive: Callable[[], None] = lambda: None
) -> DevEvaluator:
    """Return the evaluator of dev and of what is watched, with all dimensions of ``model`` and those configured.

    It calls ``alive`` after each batch that is encoded.
    """
    evaluation, dims = config.evaluation, cut_dims(config, model)
    dev = evaluator_of(load_splits(config.data, evaluation).dev, "dev", evaluation, evaluation.batch_size, dims)
    watched = [
        evaluator_of(
            load_benchmark(each, evaluation.path),
            f"dev/{each.name}",
            each.scoring or evaluation,
            evaluation.batch_size,
            dims,
        )
        for each in evaluation.watch
    ]
    return DevEvaluator(dev, watched, alive)
