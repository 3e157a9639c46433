"""Losses around another: of fewer dimensions, of fewer layers, of both, and with a regulariser beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedsweep.losses.rows import Ingredients

if TYPE_CHECKING:
    from torch import nn

LAYER_WEIGHTINGS = ("uniform", "log", "linear")
AGGREGATIONS = ("mean", "sum")


def matryoshka(given: Ingredients) -> nn.Module:
    """MatryoshkaLoss (https://arxiv.org/abs/2205.13147)."""
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    return MatryoshkaLoss(given.model, given.inner, **given.parameters)


def adaptive_layer(given: Ingredients) -> nn.Module:
    """AdaptiveLayerLoss (https://arxiv.org/abs/2402.14776)."""
    from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss

    return AdaptiveLayerLoss(given.model, given.inner, **given.parameters)


def matryoshka2d(given: Ingredients) -> nn.Module:
    """Matryoshka2dLoss (https://arxiv.org/abs/2402.14776): AdaptiveLayerLoss around MatryoshkaLoss."""
    from sentence_transformers.sentence_transformer.losses import Matryoshka2dLoss

    return Matryoshka2dLoss(given.model, given.inner, **given.parameters)


def global_orthogonal_regularization(given: Ingredients) -> nn.Module:
    """A loss and GlobalOrthogonalRegularizationLoss (https://arxiv.org/abs/1708.06320) on the same embeddings."""
    from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss

    from embedsweep.losses.regularized import RegularizedLoss

    assert given.inner is not None, "the gate lets no wrapper pass without a loss inside"
    regularizer = GlobalOrthogonalRegularizationLoss(given.model, **given.parameters)
    return RegularizedLoss(given.model, given.inner, regularizer)
