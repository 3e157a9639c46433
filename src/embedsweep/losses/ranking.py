"""Losses that rank a text's own partner above the others of the batch.

Each has a cached form (GradCache, https://arxiv.org/abs/2101.06983), which gives the plain form's gradients from
micro-batches; it is built where a micro-batch is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedsweep.losses.encoders import load_encoder
from embedsweep.losses.rows import Ingredients

if TYPE_CHECKING:
    from torch import nn

MARGIN_STRATEGIES = ("absolute", "relative")


def mnrl(given: Ingredients) -> nn.Module:
    """MultipleNegativesRankingLoss (https://arxiv.org/abs/1705.00652), or its cached form."""
    return _mnrl(given)


def mnrl_symmetric(given: Ingredients) -> nn.Module:
    """MultipleNegativesSymmetricRankingLoss: the library's own class of that name is these arguments, deprecated."""
    return _mnrl(given, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")


def _mnrl(given: Ingredients, **fixed: Any) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    if given.micro_batch_size is None:
        return MultipleNegativesRankingLoss(given.model, **given.parameters, **fixed)
    return CachedMultipleNegativesRankingLoss(
        given.model,
        mini_batch_size=given.micro_batch_size,
        gather_across_devices=given.processes > 1,
        **given.parameters,
        **fixed,
    )


def gist(given: Ingredients) -> nn.Module:
    """GISTEmbedLoss (https://arxiv.org/abs/2402.16829), or its cached form; the guide is frozen."""
    from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, GISTEmbedLoss

    guide = load_encoder(given.parameters["guide"], given.model.device)
    parameters = {**given.parameters, "guide": guide, "gather_across_devices": given.processes > 1}
    if given.micro_batch_size is None:
        return GISTEmbedLoss(given.model, **parameters)
    return CachedGISTEmbedLoss(given.model, mini_batch_size=given.micro_batch_size, **parameters)


def megabatch_margin(given: Ingredients) -> nn.Module:
    """MegaBatchMarginLoss (https://aclanthology.org/P18-1042): each anchor against its hardest negative."""
    from sentence_transformers.sentence_transformer.losses import MegaBatchMarginLoss

    if given.micro_batch_size is None:
        return MegaBatchMarginLoss(given.model, use_mini_batched_version=False, **given.parameters)
    return MegaBatchMarginLoss(given.model, mini_batch_size=given.micro_batch_size, **given.parameters)
