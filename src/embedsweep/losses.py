"""Losses: what each wants of its data, which parameters it takes, and how it is built.

Owns the table of losses; the table needs no torch. Adding a loss is one row here and one YAML file in ``conf/loss``.
Knows nothing of where data comes from or how training runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from embedsweep.schema import LossConfig, Shape

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


class InBatch(Enum):
    """What a micro-batch smaller than the batch does to a loss."""

    INDEPENDENT = "each example counts by itself: gradients are accumulated, the result stays"
    CACHED = "examples are compared across the batch: the loss has a cached form that keeps the whole batch"
    COMPARED = "examples are compared within the micro-batch: the loss sees only that"


@dataclass(frozen=True)
class Loss:
    """One row of the table.

    Attributes:
        wants: shapes of an example that it takes, the best first.
        in_batch: what a smaller micro-batch does.
        parameters: name -> the value it must be above.
        build: makes the loss from the model, its parameters and, for cached forms, the micro-batch.
    """

    wants: tuple[Shape, ...]
    in_batch: InBatch
    parameters: Mapping[str, float]
    build: Callable[[SentenceTransformer, Mapping[str, Any], int | None], nn.Module]


def _mnrl(model: SentenceTransformer, parameters: Mapping[str, Any], micro_batch_size: int | None) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    if micro_batch_size is not None:
        return CachedMultipleNegativesRankingLoss(model, mini_batch_size=micro_batch_size, **parameters)
    return MultipleNegativesRankingLoss(model, **parameters)


def _cosent(model: SentenceTransformer, parameters: Mapping[str, Any], _: int | None) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    return CoSENTLoss(model, **parameters)


def _cosine(model: SentenceTransformer, parameters: Mapping[str, Any], _: int | None) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    return CosineSimilarityLoss(model, **parameters)


LOSSES: Mapping[str, Loss] = {
    "mnrl": Loss(("positive_pairs",), InBatch.CACHED, {"scale": 0.0}, _mnrl),
    "cosent": Loss(("scored_pairs",), InBatch.COMPARED, {"scale": 0.0}, _cosent),
    "cosine": Loss(("scored_pairs",), InBatch.INDEPENDENT, {}, _cosine),
}


def build_loss(config: LossConfig, model: SentenceTransformer, cached_micro_batch_size: int | None) -> nn.Module:
    """The loss over ``model``.

    Args:
        config: its name and parameters.
        model: what it trains.
        cached_micro_batch_size: examples in memory at once where the cached form is wanted; None builds the plain form.
    """
    return LOSSES[config.name].build(model, config.parameters, cached_micro_batch_size)
