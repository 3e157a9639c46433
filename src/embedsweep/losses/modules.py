"""Modules around losses: merged columns, a batch split among processes, a regulariser; and a loss's own weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns, merge_feature_batches
from torch import distributed, nn
from torch.nn.functional import pad

from embedsweep.errors import TrialError


class FromEmbeddings(Protocol):
    """A loss that is computed from the embeddings ``(batch, dim)`` of each column; ``model`` makes them."""

    model: nn.Module

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[torch.Tensor], labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the loss of a batch, a scalar."""
        ...


def merged(loss: nn.Module) -> nn.Module:
    """Change a loss in place so that it embeds all its columns in one forward pass; return it.

    It keeps its class, which the model card names.

    Args:
        loss: a :class:`FromEmbeddings`.
    """
    whole = cast("FromEmbeddings", loss)

    def forward(sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        # The trainer may have replaced the model by a wrapped form since.
        return whole.compute_loss_from_embeddings(embed_together(whole.model, sentence_features), labels)

    loss.forward = forward
    return loss


def embed_together(model: nn.Module, sentence_features: Iterable[dict[str, Any]]) -> list[torch.Tensor]:
    """Return the embeddings ``(batch, dim)`` of each column, from one forward pass.

    Columns that cannot be merged (prompts of different lengths, a static embedding's) are embedded as the library
    does it, the first by itself.
    """
    columns = list(sentence_features)
    together = merge_feature_batches(columns) if len(columns) > 1 else None
    if together is None:
        return embed_columns(model, columns)
    return list(model(together)["sentence_embedding"].chunk(len(columns)))


class AcrossProcesses(nn.Module):
    """Compute a loss from the whole batch in every process, with gradients for the process's own examples.

    The loss then compares the same examples as in one process. Processes may hold different numbers of examples, which
    the library's own gathering does not support.

    Args:
        model: the model to train.
        loss: a :class:`FromEmbeddings` without weights of its own.
        merge_columns: whether to embed all columns in one forward pass.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module, *, merge_columns: bool) -> None:
        super().__init__()
        # The trainer replaces attributes called `model` by the wrapped model, here and in the loss inside.
        self.model = model
        self.loss = loss
        self._merge_columns = merge_columns

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss of the whole batch, a scalar, equal in all processes."""
        embed = embed_together if self._merge_columns else embed_columns
        own = embed(self.model, sentence_features)
        sizes = _sizes(own[0])
        embeddings = [_gathered(column, sizes) for column in own]
        whole_labels = None if labels is None else _gathered(labels, sizes)
        loss = cast("FromEmbeddings", self.loss).compute_loss_from_embeddings(embeddings, whole_labels)
        # A process has the part of the gradient that flows through its own examples. The parts must be summed, but
        # DistributedDataParallel averages them.
        return loss.detach() + len(sizes) * (loss - loss.detach())


def _sizes(own: torch.Tensor) -> list[int]:
    """Return how many examples each process has."""
    sizes = [torch.zeros(1, dtype=torch.long, device=own.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, torch.tensor([len(own)], device=own.device))
    return [int(size) for size in sizes]


def _gathered(own: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Return the rows ``(batch, ...)`` of all processes in order of rank; gradients flow to this process's own."""
    rank, longest = distributed.get_rank(), max(sizes)
    # gloo does not support every type of mixed precision; float32 holds the values of all.
    plain = own.detach().float() if own.is_floating_point() else own.detach()
    padded = pad(plain, (*[0, 0] * (plain.ndim - 1), 0, longest - len(own))).contiguous()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    rows = [part[:size].to(own.dtype) for part, size in zip(parts, sizes, strict=True)]
    rows[rank] = own
    return torch.cat(rows)


class RegularizedLoss(nn.Module):
    """Add the terms of a regulariser to a loss.

    Args:
        model: the model to train.
        loss: a :class:`FromEmbeddings`.
        regularizer: has ``compute_loss_from_embeddings(embeddings)``, which returns named terms.
    """

    regularizer: Any

    def __init__(self, model: SentenceTransformer, loss: nn.Module, regularizer: nn.Module) -> None:
        super().__init__()
        # The trainer replaces attributes called `model` by the wrapped model, here and in the loss inside.
        self.model = model
        self.loss = loss
        self.regularizer = regularizer

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the sum, a scalar; a single tensor because a wrapper around this loss weighs and adds it."""
        embeddings = embed_columns(self.model, sentence_features)
        loss = cast("FromEmbeddings", self.loss).compute_loss_from_embeddings(embeddings, labels)
        terms = self.regularizer.compute_loss_from_embeddings(embeddings)
        return torch.stack([loss, *terms.values()]).sum()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the parameters that the model card shows."""
        return {"loss": type(self.loss).__name__, **self.regularizer.get_config_dict()}


def own_state(loss: nn.Module, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return name -> weights and buffers of ``loss`` that training changes and that are not the model's, on the CPU.

    Tied weights are included once; frozen weights, as of a guide, are not. Empty for most losses.
    """
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _own(loss, model).items()}


def load_own_state(loss: nn.Module, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load in place what :func:`own_state` returned.

    Raises:
        TrialError: ``state`` is of another loss: names or shapes differ.
    """
    own = _own(loss, model)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    saved = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != saved:
        different = sorted(name for name in shapes.keys() | saved.keys() if shapes.get(name) != saved.get(name))
        raise TrialError(f"the checkpoint holds the weights of another loss; these differ: {', '.join(different)}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _own(loss: nn.Module, model: nn.Module) -> dict[str, torch.Tensor]:
    seen = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    own: dict[str, torch.Tensor] = {}
    for name, tensor in loss.state_dict(keep_vars=True).items():
        frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
        if id(tensor) not in seen and not frozen:
            own[name] = tensor
        seen.add(id(tensor))
    return own
