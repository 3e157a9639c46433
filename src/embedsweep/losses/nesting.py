"""A loss with those inside of it: what the table of losses says of such a nest, and how it is built.

Needs no torch: builders import when they build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedsweep.config.trial import LossConfig, Shape
from embedsweep.data.examples import COLUMNS, Examples
from embedsweep.losses.rows import Across, InBatch, Ingredients
from embedsweep.losses.table import LOSSES

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn


def nest(config: LossConfig) -> tuple[LossConfig, ...]:
    """A loss and those inside of it, from the outermost to the innermost."""
    return (config,) if config.inner is None else (config, *nest(config.inner))


def wants(config: LossConfig) -> tuple[Shape, ...]:
    """The shapes of an example that a loss takes, the best first; those of the loss inside, of a wrapper."""
    return LOSSES[nest(config)[-1].name].wants


def in_batch(config: LossConfig) -> InBatch:
    """What a smaller micro-batch does to a loss, and to a loss inside of wrappers."""
    kinds = {LOSSES[part.name].in_batch for part in nest(config)}
    for kind in (InBatch.CACHED, InBatch.COMPARED):
        if kind in kinds:
            return kind
    return InBatch.INDEPENDENT


def across(config: LossConfig, *, cached: bool) -> Across:
    """How a loss, and one inside of wrappers, sees the whole batch where processes share it.

    Args:
        config: the loss.
        cached: whether its cached form is built, which gathers by itself.
    """
    kinds = {LOSSES[part.name].across for part in nest(config)}
    if Across.NOT in kinds:
        return Across.NOT
    return Across.ITSELF if cached or Across.ITSELF in kinds else Across.EMBEDDINGS


def merges_columns(config: LossConfig, *, cached: bool) -> bool:
    """Whether one forward pass can embed all columns for a loss, and for one inside of wrappers.

    Args:
        config: the loss.
        cached: whether its cached form is built, which embeds in parts.
    """
    has_columns = wants(config) != ("class_texts",)
    return has_columns and across(config, cached=cached) is Across.EMBEDDINGS


def not_captured(config: LossConfig) -> str | None:
    """Why steps of a loss, or of one inside of it, cannot be captured in CUDA graphs; None if they can."""
    for part in nest(config):
        row = LOSSES[part.name]
        if row.not_captured is not None:
            return f"loss={part.name} {row.not_captured}"
        for parameter, (value, why) in row.not_captured_with.items():
            if part.parameters.get(parameter) != value:
                return f"loss={part.name} with {parameter}={part.parameters.get(parameter)} {why}"
    return None


def dims(config: LossConfig) -> tuple[int, ...]:
    """The Matryoshka dimensions anywhere in a loss, descending; none where there is no Matryoshka loss."""
    found: set[int] = set()
    for part in nest(config):
        given = part.parameters.get("matryoshka_dims")
        found |= {int(dim) for dim in given} if isinstance(given, tuple) else set()
    return tuple(sorted(found, reverse=True))


def build_loss(
    config: LossConfig,
    model: SentenceTransformer,
    cached_micro_batch_size: int | None,
    n_classes: int | None = None,
    processes: int = 1,
    *,
    merge_columns: bool = False,
) -> nn.Module:
    """The loss over ``model``.

    Args:
        config: its name, its parameters and the loss inside.
        model: what it trains.
        cached_micro_batch_size: examples in memory at once where the cached form is wanted; None builds the plain form.
        n_classes: how many classes the labels of the examples have; None where they are no classes.
        processes: how many share a batch; this is to be one of them where they are several.
        merge_columns: whether all columns are embedded in one forward pass, where the loss is computed from embeddings.
    """
    row, cached = LOSSES[config.name], cached_micro_batch_size
    merge_columns = merge_columns and merges_columns(config, cached=cached is not None)
    inner = (
        None
        if config.inner is None
        else build_loss(config.inner, model, cached, n_classes, processes, merge_columns=merge_columns)
    )
    loss = row.build(Ingredients(model, config.parameters, cached, n_classes, inner, processes))
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
    """What a loss is trained on.

    Args:
        config: the loss.
        examples: of a shape that it wants.
        model: what is trained; a teacher computes where it lies.
        seed: of what is drawn at random: deleted words, negatives.
    """
    innermost = nest(config)[-1]
    make = LOSSES[innermost.name].dataset
    if make is not None:
        return make(examples, innermost.parameters, model, seed)
    return _plain(examples)


def _plain(examples: Examples) -> Dataset:
    from datasets import Dataset

    columns: list[list[str] | list[float] | list[int]] = [list(texts) for texts in examples.texts]
    if examples.labels is not None:
        scored = examples.shape == "scored_pairs"
        # Classes are whole numbers: a classifier's loss and a sampler by label go by them.
        columns.append(list(examples.labels) if scored else [int(label) for label in examples.labels])
    return Dataset.from_dict(dict(zip(COLUMNS[examples.shape], columns, strict=True)))
