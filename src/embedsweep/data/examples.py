"""The shapes of training examples and their columns; examples of one shape, and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from embedsweep.config.trial import Shape
from embedsweep.data.scored import BinaryPairs, Pairs, Retrieval, Scored, TripletSet, digest_of

COLUMNS: Mapping[Shape, tuple[str, ...]] = {
    "scored_pairs": ("sentence1", "sentence2", "score"),
    "positive_pairs": ("anchor", "positive"),
    "triplets": ("anchor", "positive", "negative"),
    "tuples": ("anchor", "positive", "negative_1", "negative_2"),
    "binary_pairs": ("sentence1", "sentence2", "label"),
    "class_pairs": ("sentence1", "sentence2", "label"),
    "class_texts": ("text", "label"),
    "texts": ("text",),
}
"""The columns of each shape; losses take them by order, a score or label last. Tuples may have more negatives."""

WORDS: Mapping[Shape, str] = {
    "scored_pairs": "two texts and a similarity score",
    "positive_pairs": "two texts that mean the same",
    "triplets": "a text, one that means the same and one that does not",
    "tuples": "a text, one that means the same and two or more that do not",
    "binary_pairs": "two texts and whether they mean the same (0 or 1)",
    "class_pairs": "two texts and the class of what holds between them",
    "class_texts": "a text and its class",
    "texts": "single texts",
}

LABELLED: tuple[Shape, ...] = ("scored_pairs", "binary_pairs", "class_pairs", "class_texts")
"""Shapes whose last column is not a text."""


def columns_of(shape: Shape, count: int) -> tuple[str, ...]:
    """Return the columns of a shape; of tuples as many as ``count``, the rest of them negatives."""
    if shape != "tuples":
        return COLUMNS[shape]
    return (*COLUMNS["positive_pairs"], *(f"negative_{number}" for number in range(1, count - 1)))


def text_columns(shape: Shape, count: int) -> tuple[str, ...]:
    """Return the columns of a shape that are texts; for ``count`` see :func:`columns_of`."""
    columns = columns_of(shape, count)
    return columns[:-1] if shape in LABELLED else columns


def in_words(shape: Shape) -> str:
    """Return a shape with its columns and their meaning: ``texts (text: single texts)``."""
    return f"{shape} ({', '.join(COLUMNS[shape])}: {WORDS[shape]})"


@dataclass(frozen=True)
class Examples:
    """Training examples of one shape.

    Attributes:
        shape: their shape.
        texts: a tuple for each text column, with a text for each example.
        labels: scores in [0, 1], 0 and 1, or class numbers from 0; None for shapes without labels.
        classes: the classes' names by number, for shapes with classes; else None.
        origin: their source, for messages.
        conversion: description of what was done to them since they were read; None for nothing.
        places: the place of each in its source, for messages (``train.csv, line 12``); None for demo data and for
            examples made from others.
    """

    shape: Shape
    texts: tuple[tuple[str, ...], ...]
    labels: tuple[float, ...] | None
    classes: tuple[str, ...] | None
    origin: str
    conversion: str | None
    places: tuple[str, ...] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.texts[0])

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, a score or label last."""
        return columns_of(self.shape, len(self.texts))

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any text, label or order, and with nothing else."""
        return digest_of([*self.texts, self.labels])

    def kept(self, indices: Sequence[int], conversion: str | None) -> Examples:
        """Return the examples at ``indices``, in that order; ``conversion`` is appended to their own."""
        texts = tuple(tuple(column[index] for index in indices) for column in self.texts)
        labels = None if self.labels is None else tuple(self.labels[index] for index in indices)
        places = None if self.places is None else tuple(self.places[index] for index in indices)
        return replace(self.became(self.shape, texts, labels, self.classes, conversion), places=places)

    def became(
        self,
        shape: Shape,
        texts: tuple[tuple[str, ...], ...],
        labels: tuple[float, ...] | None,
        classes: tuple[str, ...] | None,
        conversion: str | None,
    ) -> Examples:
        """Return examples made from these; ``conversion`` is appended to their own."""
        conversions = "; ".join(filter(None, (self.conversion, conversion)))
        return Examples(shape, texts, labels, classes, self.origin, conversions or None)


@dataclass(frozen=True)
class Splits:
    """The examples to train on, what selects a model and what its reported score is of."""

    train: Examples
    dev: Scored
    test: Scored

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any text, label or order in any split, and with nothing else."""
        return digest_of([[*self.train.texts, self.train.labels], self.dev.content, self.test.content])


def as_examples(scored: Scored) -> Examples:
    """Return what is scored as examples to train on; of retrieval each query with each document relevant to it."""
    match scored:
        case Pairs():
            texts = (scored.sentences1, scored.sentences2)
            return Examples("scored_pairs", texts, scored.scores, None, scored.origin, None, scored.places)
        case BinaryPairs():
            texts, labels = (scored.sentences1, scored.sentences2), tuple(map(float, scored.labels))
            return Examples("binary_pairs", texts, labels, None, scored.origin, None, scored.places)
        case TripletSet():
            columns = (scored.anchors, scored.positives, scored.negatives)
            return Examples("triplets", columns, None, None, scored.origin, None, scored.places)
        case Retrieval():
            queries, documents = zip(*scored.relevant_pairs, strict=True)
            return Examples("positive_pairs", (queries, documents), None, None, scored.origin, None)


def as_scored(examples: Examples) -> Pairs | TripletSet | BinaryPairs:
    """Return examples as what a model is scored on.

    Raises:
        ValueError: no model is scored on examples of their shape.
    """
    texts, origin, places = examples.texts, examples.origin, examples.places
    if examples.shape == "scored_pairs":
        return as_pairs(examples)
    if examples.shape == "binary_pairs" and examples.labels is not None:
        return BinaryPairs(texts[0], texts[1], tuple(map(int, examples.labels)), origin, places)
    if examples.shape == "triplets":
        return TripletSet(texts[0], texts[1], texts[2], origin, places)
    raise ValueError(f"no model is scored on {examples.shape}")


def as_pairs(examples: Examples) -> Pairs:
    """Return scored examples as pairs to evaluate on.

    Raises:
        ValueError: the examples have another shape.
    """
    if examples.shape != "scored_pairs" or examples.labels is None:
        raise ValueError(f"only scored pairs can be evaluated on, but got {examples.shape}")
    return Pairs(examples.texts[0], examples.texts[1], examples.labels, examples.origin, examples.places)
