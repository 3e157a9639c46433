"""Scored pairs, which models are evaluated on, and the three splits of a trial's data.

Owns the types. Knows no source: not where a pair came from, nor how it was read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

from embedsweep.data.shapes import Examples


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences with the score people gave them.

    Attributes:
        sentences1: the first sentence of every pair.
        sentences2: the second; as many.
        scores: in [0, 1]; as many.
        origin: where they came from, for people: a file, ``demo train``, ``id@revision[language] split``.
        places: where each stood there, for people; as many, or None.
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
        """16 hex digits that change with any sentence, score or order, and with nothing else."""
        return _digest([self.sentences1, self.sentences2, self.scores])

    def first(self, limit: int | None) -> Pairs:
        """The first ``limit`` pairs; all of them for None."""
        places = None if self.places is None else self.places[:limit]
        return Pairs(self.sentences1[:limit], self.sentences2[:limit], self.scores[:limit], self.origin, places)


@dataclass(frozen=True)
class Splits:
    """What is trained on, what selects and what reports."""

    train: Examples
    dev: Pairs
    test: Pairs

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any text, label or order in any split, and with nothing else."""
        scored = [[split.sentences1, split.sentences2, split.scores] for split in (self.dev, self.test)]
        return _digest([[*self.train.texts, self.train.labels], *scored])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def as_examples(pairs: Pairs) -> Examples:
    """Scored pairs to train on."""
    texts = (pairs.sentences1, pairs.sentences2)
    return Examples("scored_pairs", texts, pairs.scores, None, pairs.origin, None, pairs.places)


def as_pairs(examples: Examples) -> Pairs:
    """Scored pairs to evaluate on."""
    if examples.shape != "scored_pairs" or examples.labels is None:
        raise ValueError(f"only scored pairs can be evaluated on, but got {examples.shape}")
    return Pairs(examples.texts[0], examples.texts[1], examples.labels, examples.origin, examples.places)
