"""A loss and a regulariser on one forward pass, as sentence-transformers' own documentation puts them together.

Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import nn

from embedsweep.losses.columns import FromEmbeddings


class _Regularizer(Protocol):
    """The same as :class:`FromEmbeddings` without labels, with named terms."""

    def compute_loss_from_embeddings(self, embeddings: Sequence[torch.Tensor]) -> Mapping[str, torch.Tensor]: ...

    def get_config_dict(self) -> dict[str, Any]: ...


class RegularizedLoss(nn.Module):
    """The sum of a loss and of a regulariser's terms.

    Args:
        model: what it trains.
        loss: has ``compute_loss_from_embeddings(embeddings, labels)``.
        regularizer: has the same without labels, and gives named terms.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module, regularizer: nn.Module) -> None:
        super().__init__()
        # The trainer replaces what is called `model` by its wrapped form, here and inside.
        self.model = model
        self.loss = loss
        self.regularizer = regularizer

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        """The sum, a scalar; one tensor, since a wrapper around this one adds and weighs it."""
        embeddings = embed_columns(self.model, sentence_features)
        loss = cast("FromEmbeddings", self.loss).compute_loss_from_embeddings(embeddings, labels)
        terms = cast("_Regularizer", self.regularizer).compute_loss_from_embeddings(embeddings)
        return torch.stack([loss, *terms.values()]).sum()

    def get_config_dict(self) -> dict[str, Any]:
        """What the card tells of it."""
        return {
            "loss": type(self.loss).__name__,
            **cast("_Regularizer", self.regularizer).get_config_dict(),
        }
