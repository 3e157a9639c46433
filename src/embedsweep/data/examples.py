"""The shapes of training examples and their columns; examples of one shape, scored pairs, and splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from embedsweep.config.trial import Shape

COLUMNS: Mapping[Shape, tuple[str, ...]] = {
    "scored_pairs": ("sentence1", "sentence2", "score"),
    "positive_pairs": ("anchor", "positive"),
    "triplets": ("anchor", "positive", "negative"),
    "binary_pairs": ("sentence1", "sentence2", "label"),
    "class_pairs": ("sentence1", "sentence2", "label"),
    "class_texts": ("text", "label"),
    "texts": ("text",),
}
"""The columns of each shape; losses take them by order, a score or label last."""

WORDS: Mapping[Shape, str] = {
    "scored_pairs": "two texts and a similarity score",
    "positive_pairs": "two texts that mean the same",
    "triplets": "a text, one that means the same and one that does not",
    "binary_pairs": "two texts and whether they mean the same (0 or 1)",
    "class_pairs": "two texts and the class of what holds between them",
    "class_texts": "a text and its class",
    "texts": "single texts",
}

LABELLED: tuple[Shape, ...] = ("scored_pairs", "binary_pairs", "class_pairs", "class_texts")
"""Shapes whose last column is not a text."""


def text_columns(shape: Shape) -> tuple[str, ...]:
    """Return the columns of a shape that are texts."""
    return COLUMNS[shape][:-1] if shape in LABELLED else COLUMNS[shape]


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

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any text, label or order, and with nothing else."""
        return _digest([*self.texts, self.labels])

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
class Pairs:
    """Pairs of sentences with their gold scores.

    Attributes:
        sentences1: the first sentence of every pair.
        sentences2: the second sentence of every pair.
        scores: the score of every pair, in [0, 1].
        origin: their source, for messages: a file, ``demo train``, ``id@revision[language] split``.
        places: the place of every pair in its source, for messages; or None.
    """

    sentences1: tuple[str, ...]
    sentences2: tuple[str, ...]
    scores: tuple[float, ...]
    origin: str
    places: tuple[str, ...] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any sentence, score or order, and with nothing else."""
        return _digest([self.sentences1, self.sentences2, self.scores])


@dataclass(frozen=True)
class Splits:
    """The examples to train on, the pairs that select a model and the pairs for its reported score."""

    train: Examples
    dev: Pairs
    test: Pairs

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any text, label or order in any split, and with nothing else."""
        scored = [[split.sentences1, split.sentences2, split.scores] for split in (self.dev, self.test)]
        return _digest([[*self.train.texts, self.train.labels], *scored])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def as_examples(pairs: Pairs) -> Examples:
    """Return scored pairs as examples to train on."""
    texts = (pairs.sentences1, pairs.sentences2)
    return Examples("scored_pairs", texts, pairs.scores, None, pairs.origin, None, pairs.places)


def as_pairs(examples: Examples) -> Pairs:
    """Return scored examples as pairs to evaluate on.

    Raises:
        ValueError: the examples have another shape.
    """
    if examples.shape != "scored_pairs" or examples.labels is None:
        raise ValueError(f"only scored pairs can be evaluated on, but got {examples.shape}")
    return Pairs(examples.texts[0], examples.texts[1], examples.labels, examples.origin, examples.places)
