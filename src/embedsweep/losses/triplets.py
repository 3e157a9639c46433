"""Losses on triplets: given ones, and those that are found in a batch of texts with classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedsweep.losses.rows import Ingredients

if TYPE_CHECKING:
    from torch import nn

TRIPLET_DISTANCES = ("cosine", "euclidean", "manhattan")
"""The members of sentence-transformers' ``TripletDistanceMetric``, in small letters."""
BATCH_DISTANCES = ("cosine_distance", "euclidean_distance")
"""The functions of sentence-transformers' ``BatchHardTripletLossDistanceFunction``."""


def triplet(given: Ingredients) -> nn.Module:
    """TripletLoss."""
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

    distance = getattr(TripletDistanceMetric, given.parameters["distance_metric"].upper())
    return TripletLoss(given.model, **{**given.parameters, "distance_metric": distance})


def batch_all_triplet(given: Ingredients) -> nn.Module:
    """BatchAllTripletLoss (https://arxiv.org/abs/1703.07737): every triplet of the batch that is still wrong."""
    from sentence_transformers.sentence_transformer.losses import BatchAllTripletLoss

    return BatchAllTripletLoss(given.model, **_with_distance(given))


def batch_hard_triplet(given: Ingredients) -> nn.Module:
    """BatchHardTripletLoss: for each text its hardest positive and negative."""
    from sentence_transformers.sentence_transformer.losses import BatchHardTripletLoss

    return BatchHardTripletLoss(given.model, **_with_distance(given))


def batch_semi_hard_triplet(given: Ingredients) -> nn.Module:
    """BatchSemiHardTripletLoss: for each pair of a class the nearest negative that is farther than the positive."""
    from sentence_transformers.sentence_transformer.losses import BatchSemiHardTripletLoss

    return BatchSemiHardTripletLoss(given.model, **_with_distance(given))


def batch_hard_soft_margin_triplet(given: Ingredients) -> nn.Module:
    """BatchHardSoftMarginTripletLoss: BatchHardTripletLoss with softplus in place of a margin."""
    from sentence_transformers.sentence_transformer.losses import BatchHardSoftMarginTripletLoss

    return BatchHardSoftMarginTripletLoss(given.model, **_with_distance(given))


def _with_distance(given: Ingredients) -> dict[str, Any]:
    from sentence_transformers.sentence_transformer.losses import BatchHardTripletLossDistanceFunction

    word: str = given.parameters["distance_metric"]
    return {**given.parameters, "distance_metric": getattr(BatchHardTripletLossDistanceFunction, word)}
