"""Score dev, which selects, and the benchmarks that are watched beside it (``evaluation.watch``). Imports torch."""

from __future__ import annotations

import time
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


MakeEvaluator = Callable[[TrialConfig, SentenceTransformer, Callable[[], None]], DevEvaluator]
"""Returns what scores the models of a training on dev, as `dev_evaluator` does."""


class ScoredOnce(DevEvaluator):
    """Scores one model on dev, and then repeats its metrics: to time what trainings take beside scoring.

    Where scoring is quick, each model is scored nevertheless.

    Args:
        from_s: seconds that scoring has to take for its metrics to be repeated.

    Attributes:
        seconds: what scoring took.
        saved_s: seconds that were saved so far.
    """

    def __init__(self, from_s: float) -> None:
        SentenceEvaluator.__init__(self)
        self.name = "dev"
        self.seconds = self.saved_s = 0.0
        self._from_s = from_s
        self._evaluator: DevEvaluator | None = None
        self._metrics: dict[str, float] | None = None

    def of(self, config: TrialConfig, model: SentenceTransformer, alive: Callable[[], None]) -> DevEvaluator:
        """Return this, for a training: a `MakeEvaluator`. All trainings have the same dev, dimensions and model."""
        if self._evaluator is None:
            self._evaluator = dev_evaluator(config, model, alive)
        return self

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics of ``model``, or those of the model that was scored."""
        assert self._evaluator is not None
        if self._metrics is None or self.seconds < self._from_s:
            begun = time.monotonic()
            self._metrics = self._evaluator(model, *args, **kwargs)
            self.seconds = time.monotonic() - begun
        else:
            self.saved_s += self.seconds
        return dict(self._metrics)

    @property
    def has_scored(self) -> bool:
        """Whether a model was scored in this process."""
        return self._metrics is not None

    def item_scores(self) -> ItemScores:
        """Return the scores of every item of dev, of the model that was scored."""
        assert self._evaluator is not None
        return self._evaluator.item_scores()


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
