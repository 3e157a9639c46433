"""Nested losses: what the table of losses says of a wrapper and the losses inside it, and how they are built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedsweep.config.trial import LossConfig, Shape
from embedsweep.data.examples import Examples
from embedsweep.losses.rows import Across, InBatch, LossArguments
from embedsweep.losses.table import LOSSES

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn


def nest(config: LossConfig) -> tuple[LossConfig, ...]:
    """Return a loss and the losses inside it, from the outermost to the innermost."""
    return (config,) if config.inner is None else (config, *nest(config.inner))


def shapes_of(config: LossConfig) -> tuple[Shape, ...]:
    """Return the shapes of examples that a loss takes, the best first; a wrapper takes those of the innermost loss."""
    return LOSSES[nest(config)[-1].name].shapes


def in_batch(config: LossConfig) -> InBatch:
    """Return what a smaller micro-batch does to a loss with all losses inside it."""
    kinds = {LOSSES[part.name].in_batch for part in nest(config)}
    for kind in (InBatch.CACHED, InBatch.COMPARED):
        if kind in kinds:
            return kind
    return InBatch.INDEPENDENT


def across(config: LossConfig, *, cached: bool) -> Across:
    """Return how a loss, with all inside it, sees the whole batch where that is split among processes.

    Args:
        config: the loss.
        cached: whether the cached form is built, which gathers by itself.
    """
    kinds = {LOSSES[part.name].across for part in nest(config)}
    if Across.NOT in kinds:
        return Across.NOT
    return Across.ITSELF if cached or Across.ITSELF in kinds else Across.EMBEDDINGS


def merges_columns(config: LossConfig, *, cached: bool) -> bool:
    """Return whether one forward pass can embed all columns for a loss with all losses inside it.

    Args:
        config: the loss.
        cached: whether the cached form is built, which embeds in parts.
    """
    has_columns = shapes_of(config) != ("class_texts",)
    return has_columns and across(config, cached=cached) is Across.EMBEDDINGS


def not_captured(config: LossConfig) -> str | None:
    """Return why steps of a loss, or of one inside it, cannot be captured in CUDA graphs; None if they can."""
    for part in nest(config):
        row = LOSSES[part.name]
        if row.not_captured is not None:
            return f"loss={part.name} {row.not_captured}"
        for parameter, (value, why) in row.not_captured_with.items():
            if part.parameters.get(parameter) != value:
                return f"loss={part.name} with {parameter}={part.parameters.get(parameter)} {why}"
    return None


def dims(config: LossConfig) -> tuple[int, ...]:
    """Return the Matryoshka dimensions anywhere in a loss, descending; empty without a Matryoshka loss."""
    values = [part.parameters.get("matryoshka_dims") for part in nest(config)]
    return tuple(sorted({int(dim) for dims in values if isinstance(dims, tuple) for dim in dims}, reverse=True))


def build_loss(
    config: LossConfig,
    model: SentenceTransformer,
    cached_micro_batch_size: int | None,
    n_classes: int | None = None,
    processes: int = 1,
    *,
    merge_columns: bool = False,
) -> nn.Module:
    """Build a loss that trains a model.

    Args:
        config: the loss's name, its parameters and the loss inside it.
        model: the model to train.
        cached_micro_batch_size: examples in memory at once in the cached form; None builds the plain form.
        n_classes: number of classes of the labels; None if the labels are not classes.
        processes: how many processes share a batch; if several, this process must be one of them.
        merge_columns: whether to embed all columns in one forward pass, if the loss is computed from embeddings.
    """
    row, cached = LOSSES[config.name], cached_micro_batch_size
    merge_columns = merge_columns and merges_columns(config, cached=cached is not None)
    inner = (
        None
        if config.inner is None
        else build_loss(config.inner, model, cached, n_classes, processes, merge_columns=merge_columns)
    )
    parameters = {key: value for key, value in config.parameters.items() if key not in row.dataset_parameters}
    loss = row.build(LossArguments(model, parameters, cached, n_classes, inner, processes))
    if row.wraps:
        return loss
    if processes > 1 and across(config, cached=cached is not None) is Across.EMBEDDINGS:
        from embedsweep.losses.modules import AcrossProcesses

        return AcrossProcesses(model, loss, merge_columns=merge_columns)
    if merge_columns:
        from embedsweep.losses.modules import merged

        return merged(loss)
    return loss


def training_dataset(config: LossConfig, examples: Examples, model: SentenceTransformer, seed: int) -> Dataset:
    """Make the dataset that a loss is trained on.

    Args:
        config: the loss.
        examples: of one of the shapes that it takes.
        model: the model to train; a teacher is placed on its device.
        seed: seed of random choices: deleted words, negatives.
    """
    innermost = nest(config)[-1]
    make = LOSSES[innermost.name].dataset
    return _plain(examples) if make is None else make(examples, innermost.parameters, model, seed)


def _plain(examples: Examples) -> Dataset:
    from datasets import Dataset

    columns: list[list[str] | list[float] | list[int]] = [list(texts) for texts in examples.texts]
    if examples.labels is not None:
        scored = examples.shape == "scored_pairs"
        # Classes must be integers: a classifier's loss indexes by them, a sampler groups by them.
        columns.append(list(examples.labels) if scored else [int(label) for label in examples.labels])
    return Dataset.from_dict(dict(zip(examples.columns, columns, strict=True)))
