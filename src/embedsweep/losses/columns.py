"""All columns of a batch in one forward pass.

The library gives the first column a pass of its own, as it cannot know whether that holds short queries beside long
documents. Owns how a loss is told that it need not. Knows no loss in particular. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

import torch
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import nn


class FromEmbeddings(Protocol):
    """A loss that is computed from the embeddings ``(batch, dim)`` of each column; ``model`` makes them."""

    model: nn.Module

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[torch.Tensor], labels: torch.Tensor | None
    ) -> torch.Tensor:
        """The loss of a batch, a scalar."""
        ...


def merged(loss: nn.Module) -> nn.Module:
    """The same loss, changed in place so that it embeds all its columns in one forward pass.

    It stays of its class, which the card tells. Columns that a pass cannot hold together (prompts of different lengths)
    are embedded one after another, and the library logs why.

    Args:
        loss: is a :class:`FromEmbeddings`.
    """
    whole = cast("FromEmbeddings", loss)

    def forward(sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        # The trainer may have put a wrapped form of the model in its place since.
        embeddings = embed_columns(whole.model, sentence_features, separate_first=False)
        return whole.compute_loss_from_embeddings(embeddings, labels)

    loss.forward = forward
    return loss
