"""All columns of a batch in one forward pass.

The library gives the first column a pass of its own, as it cannot know whether that holds short queries beside long
documents. Owns how columns are embedded where it need not. Knows no loss in particular. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

import torch
from sentence_transformers.base.losses.merged_forward import embed_columns, merge_feature_batches
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

    It stays of its class, which the card tells.

    Args:
        loss: is a :class:`FromEmbeddings`.
    """
    whole = cast("FromEmbeddings", loss)

    def forward(sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        # The trainer may have put a wrapped form of the model in its place since.
        return whole.compute_loss_from_embeddings(embed_together(whole.model, sentence_features), labels)

    loss.forward = forward
    return loss


def embed_together(model: nn.Module, sentence_features: Iterable[dict[str, Any]]) -> list[torch.Tensor]:
    """The embeddings ``(batch, dim)`` of each column, from one forward pass.

    Columns that one pass cannot hold (prompts of different lengths, a static embedding's) are embedded as the library
    does it, the first by itself.
    """
    columns = list(sentence_features)
    together = merge_feature_batches(columns) if len(columns) > 1 else None
    if together is None:
        return embed_columns(model, columns)
    return list(model(together)["sentence_embedding"].chunk(len(columns)))
