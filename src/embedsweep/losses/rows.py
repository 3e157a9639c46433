"""Types of the table of losses: what a row says about a loss, and what a loss is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from embedsweep.config.trial import Shape
from embedsweep.data.examples import Examples

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn


class InBatch(Enum):
    """How a loss depends on the other examples of a batch, and so what a smaller micro-batch does to it."""

    INDEPENDENT = "each example counts by itself: accumulating gradients gives the same result"
    CACHED = "examples are compared across the batch: the loss has a cached form that keeps the whole batch"
    COMPARED = "examples are compared within the micro-batch: the loss sees only that"


class Across(Enum):
    """How a loss sees the whole batch where it is split among several processes."""

    EMBEDDINGS = "it is computed from embeddings, which are gathered: processes may hold different numbers of examples"
    ITSELF = "it gathers by itself: every process must hold the same number of examples"
    NOT = "it cannot gather the batch, or has weights of its own, which would differ between processes"


Average = Literal["examples", "words", "nothing"]
"""What the loss of a batch is a mean over; ``nothing`` means a sum. Weights the parts of a batch that is split."""


@dataclass(frozen=True)
class LossArguments:
    """What a loss is built from.

    Attributes:
        model: the model to train.
        parameters: the loss's own, under sentence-transformers' names.
        micro_batch_size: examples in memory at once in the cached form; None builds the plain form.
        n_classes: number of classes of the labels; None if the labels are not classes.
        inner: the loss inside a wrapper; None for a loss that is not a wrapper.
        processes: how many processes share the batch.
    """

    model: SentenceTransformer
    parameters: Mapping[str, Any]
    micro_batch_size: int | None
    n_classes: int | None
    inner: nn.Module | None
    processes: int


Build = Callable[[LossArguments], "nn.Module"]
MakeDataset = Callable[[Examples, Mapping[str, Any], "SentenceTransformer", int], "Dataset"]


@dataclass(frozen=True)
class Loss:
    """One row of the table.

    Attributes:
        shapes: shapes of the examples that it takes, the best first; empty for a wrapper.
        in_batch: how it depends on the other examples of a batch.
        parameters: name -> type, with bounds as the fields of the configuration's dataclasses have them.
        build: builds the loss; :func:`~embedsweep.losses.builders.library` where that is a call of the library's class.
        dataset: makes the training dataset from the examples, the loss's parameters, the model and a seed, for a loss
            that needs other columns than its shape has.
        dataset_parameters: names of the parameters that only ``dataset`` uses; the library's class has none such.
        wraps: whether it is a wrapper around another loss.
        wraps_cached: whether a wrapper works around the cached form of a loss.
        not_inside: wrapper -> why this loss cannot be inside it.
        other_model: name of the parameter that names another model, a guide or a teacher; None without one.
        groups_by_label: whether it needs batches that hold several examples of a class.
        average: what its value for a batch is a mean over.
        needs_transformer: why it cannot train a static embedding; None if it can.
        needs_whole_model: why it cannot train low-rank adapters; None if it can.
        needs_token_width: whether embeddings must have as many dimensions as the transformer's token embeddings.
        only_cached: those of ``shapes`` that only its cached form takes.
        across: how it sees the whole batch where that is split among processes.
        not_captured: why its steps cannot be captured in CUDA graphs; None if they can, unless a parameter of
            ``not_captured_with`` has another value.
        not_captured_with: parameter -> the value with which steps can be captured, and why not with another.
    """

    shapes: tuple[Shape, ...]
    in_batch: InBatch
    parameters: Mapping[str, Any]
    build: Build
    dataset: MakeDataset | None = None
    dataset_parameters: tuple[str, ...] = ()
    wraps: bool = False
    wraps_cached: bool = False
    not_inside: Mapping[str, str] = field(default_factory=dict)
    other_model: str | None = None
    groups_by_label: bool = False
    average: Average = "examples"
    needs_transformer: str | None = None
    needs_whole_model: str | None = None
    needs_token_width: bool = False
    only_cached: tuple[Shape, ...] = ()
    across: Across = Across.NOT
    not_captured: str | None = None
    not_captured_with: Mapping[str, tuple[object, str]] = field(default_factory=dict)
