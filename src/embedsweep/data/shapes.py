"""The shapes of training examples: which columns each has, and examples of one shape.

Owns the names and the order of columns. Knows no source and no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from embedsweep.schema import Shape

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
"""Shapes whose last column is no text."""


def text_columns(shape: Shape) -> tuple[str, ...]:
    """The columns of a shape that are texts."""
    return COLUMNS[shape][:-1] if shape in LABELLED else COLUMNS[shape]


def in_words(shape: Shape) -> str:
    """A shape with its columns and what they hold: ``texts (text: single texts)``."""
    return f"{shape} ({', '.join(COLUMNS[shape])}: {WORDS[shape]})"


@dataclass(frozen=True)
class Examples:
    """Training examples of one shape.

    Attributes:
        shape: what each consists of.
        texts: one tuple a text column, each as long as there are examples.
        labels: scores in [0, 1], 0 and 1, or class numbers from 0; None for shapes without.
        classes: the classes' names by number, for shapes with classes; else None.
        origin: where they came from, for people.
        conversion: what was done to them since they were read, in words; None where nothing was.
        places: where each stood, for people (``train.csv, line 12``); None where they stood nowhere, as what is
            generated or was made of others.
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

    def kept(self, indices: Sequence[int], conversion: str | None) -> Examples:
        """The examples at ``indices``, in that order; ``conversion`` is added to what was said before."""
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
        """What was made of these; ``conversion``, in words, is added to what was said before."""
        said = "; ".join(words for words in (self.conversion, conversion) if words)
        return Examples(shape, texts, labels, classes, self.origin, said or None)
