"""What a row of the table of losses says.

Owns the types of the table. Knows no loss in particular; needs no torch.
"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Real:
    """A finite number within bounds; a bound that is infinite does not bind."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf


@dataclass(frozen=True)
class Whole:
    """A whole number from ``at_least`` up; or null, if ``optional``."""

    at_least: int
    optional: bool = False


@dataclass(frozen=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True)
class Word:
    """One of some words."""

    allowed: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A text that is not empty."""


@dataclass(frozen=True)
class Wholes:
    """A list of whole numbers from ``at_least`` up, with at least one in it."""

    at_least: int


@dataclass(frozen=True)
class Reals:
    """A list of numbers above ``above``; or null."""

    above: float


Parameter = Real | Whole | Boolean | Word | Text | Wholes | Reals


class InBatch(Enum):
    """What a micro-batch smaller than the batch does to a loss."""

    INDEPENDENT = "each example counts by itself: gradients are accumulated, the result stays"
    CACHED = "examples are compared across the batch: the loss has a cached form that keeps the whole batch"
    COMPARED = "examples are compared within the micro-batch: the loss sees only that"


class Across(Enum):
    """How a loss sees the whole batch where several processes hold a share of it each."""

    EMBEDDINGS = "it is computed from embeddings, which are gathered: shares may differ in size"
    ITSELF = "it gathers by itself: shares must be equal"
    NOT = "it has no way to, or weights of its own, which nothing would keep equal"


Average = Literal["examples", "words", "nothing"]
"""What the value of a batch is a mean over; over ``nothing``, it is a sum. Parts of a batch count accordingly."""


@dataclass(frozen=True)
class Ingredients:
    """What a loss is built from.

    Attributes:
        model: what it trains.
        parameters: the loss's own, by sentence-transformers' names.
        micro_batch_size: examples in memory at once where the cached form is wanted; None builds the plain form.
        n_classes: how many classes the labels have; None where they are no classes.
        inner: the loss that a wrapper is put around; None for a loss that is no wrapper.
        processes: how many share the batch.
    """

    model: SentenceTransformer
    parameters: Mapping[str, Any]
    micro_batch_size: int | None
    n_classes: int | None
    inner: nn.Module | None
    processes: int


Build = Callable[[Ingredients], "nn.Module"]
MakeDataset = Callable[[Examples, Mapping[str, Any], "SentenceTransformer", int], "Dataset"]


@dataclass(frozen=True)
class Loss:
    """One row of the table.

    Attributes:
        wants: shapes of an example that it takes, the best first; a wrapper has none of its own.
        in_batch: what a smaller micro-batch does.
        parameters: name -> what values it may have.
        build: makes the loss.
        dataset: makes the training dataset from the examples, the loss's parameters, the model and a seed, where a loss
            wants other columns than its shape has.
        wraps: whether it is put around another loss.
        bears_cached: whether a wrapper can be put around a cached form.
        not_inside: wrapper -> why this loss cannot be inside of it.
        other_model: the parameter that names a further model, which guides or teaches; None for none.
        groups_by_label: whether it finds something to compare only in batches that hold several examples of a class.
        average: what its value for a batch is a mean over.
        needs_transformer: why a static embedding cannot be trained by it; None if it can.
        needs_whole_model: why low-rank adapters cannot be trained by it; None if they can.
        needs_token_width: whether embeddings must be as wide as the transformer's tokens.
        across: how it sees the whole batch where processes share it.
        not_captured: why its steps cannot be captured in CUDA graphs; None if they can, unless a parameter of
            ``not_captured_with`` says otherwise.
        not_captured_with: parameter -> the value with which they can be captured, and why not with another.
    """

    wants: tuple[Shape, ...]
    in_batch: InBatch
    parameters: Mapping[str, Parameter]
    build: Build
    dataset: MakeDataset | None = None
    wraps: bool = False
    bears_cached: bool = False
    not_inside: Mapping[str, str] = field(default_factory=dict)
    other_model: str | None = None
    groups_by_label: bool = False
    average: Average = "examples"
    needs_transformer: str | None = None
    needs_whole_model: str | None = None
    needs_token_width: bool = False
    across: Across = Across.NOT
    not_captured: str | None = None
    not_captured_with: Mapping[str, tuple[object, str]] = field(default_factory=dict)
