"""A loss over the whole batch where several processes hold a share of it each.

Owns how embeddings and labels come together. Knows no loss in particular. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import distributed, nn
from torch.nn.functional import pad

from embedsweep.losses.columns import FromEmbeddings, embed_together


class AcrossProcesses(nn.Module):
    """A loss that every process of a group computes from the whole batch, each with gradients for its own share.

    So it sees what it would see in one process, whatever it compares. Shares may differ in size, which the library's
    own gathering does not bear.

    Args:
        model: what it trains.
        loss: is a :class:`~embedsweep.losses.columns.FromEmbeddings` and has no weights of its own.
        merge_columns: whether all columns are embedded in one forward pass.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module, *, merge_columns: bool) -> None:
        super().__init__()
        # The trainer replaces what is called `model` by its wrapped form, here and inside.
        self.model = model
        self.loss = loss
        self._merge_columns = merge_columns

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of the whole batch, a scalar, equal in all processes."""
        embed = embed_together if self._merge_columns else embed_columns
        own = embed(self.model, sentence_features)
        sizes = _sizes(own[0])
        embeddings = [_gathered(column, sizes) for column in own]
        whole_labels = None if labels is None else _gathered(labels, sizes)
        loss = cast("FromEmbeddings", self.loss).compute_loss_from_embeddings(embeddings, whole_labels)
        # The gradient of a process is the part that goes through its own share: they are to be added up, and
        # DistributedDataParallel takes their mean.
        return loss.detach() + len(sizes) * (loss - loss.detach())

    def get_config_dict(self) -> dict[str, Any]:
        """What the card tells of it."""
        inner = getattr(self.loss, "get_config_dict", dict)
        return {"loss": type(self.loss).__name__, **cast("Mapping[str, Any]", inner())}


def _sizes(own: torch.Tensor) -> list[int]:
    """How many examples each process has."""
    sizes = [torch.zeros(1, dtype=torch.long, device=own.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, torch.tensor([len(own)], device=own.device))
    return [int(size) for size in sizes]


def _gathered(own: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """The rows ``(batch, ...)`` of all processes, in their order; gradients flow to those of this one."""
    rank, longest = distributed.get_rank(), max(sizes)
    # gloo does not know every type of mixed precision; float32 holds all of them.
    plain = own.detach().float() if own.is_floating_point() else own.detach()
    padded = pad(plain, (*[0, 0] * (plain.ndim - 1), 0, longest - len(own))).contiguous()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    rows = [part[:size].to(own.dtype) for part, size in zip(parts, sizes, strict=True)]
    rows[rank] = own
    return torch.cat(rows)
