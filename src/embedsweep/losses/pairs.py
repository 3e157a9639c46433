"""Losses on two texts with a score, a 0 or 1, or a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedsweep.losses.rows import Ingredients

if TYPE_CHECKING:
    from torch import nn

SIAMESE_DISTANCES = ("cosine_distance", "euclidean", "manhattan")
"""The members of sentence-transformers' ``SiameseDistanceMetric``, in small letters."""


def cosent(given: Ingredients) -> nn.Module:
    """CoSENTLoss."""
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    return CoSENTLoss(given.model, **given.parameters)


def angle(given: Ingredients) -> nn.Module:
    """AnglELoss, https://aclanthology.org/2024.acl-long.101."""
    from sentence_transformers.sentence_transformer.losses import AnglELoss

    return AnglELoss(given.model, **given.parameters)


def cosine(given: Ingredients) -> nn.Module:
    """CosineSimilarityLoss."""
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    return CosineSimilarityLoss(given.model, **given.parameters)


def contrastive(given: Ingredients) -> nn.Module:
    """ContrastiveLoss (Hadsell et al., 2006)."""
    from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

    return ContrastiveLoss(given.model, **_with_distance(given))


def online_contrastive(given: Ingredients) -> nn.Module:
    """OnlineContrastiveLoss: ContrastiveLoss over the batch's hard pairs."""
    from sentence_transformers.sentence_transformer.losses import OnlineContrastiveLoss

    return OnlineContrastiveLoss(given.model, **_with_distance(given))


def _with_distance(given: Ingredients) -> dict[str, Any]:
    from sentence_transformers.sentence_transformer.losses import SiameseDistanceMetric

    word: str = given.parameters["distance_metric"]
    return {**given.parameters, "distance_metric": getattr(SiameseDistanceMetric, word.upper())}


def softmax(given: Ingredients) -> nn.Module:
    """SoftmaxLoss (https://arxiv.org/abs/1908.10084): a classifier of its own over both embeddings."""
    from sentence_transformers.sentence_transformer.losses import SoftmaxLoss

    width = given.model.get_embedding_dimension()
    return SoftmaxLoss(given.model, embedding_dimension=width, num_labels=given.n_classes, **given.parameters)
