"""The shapes data has here: scored pairs, their three splits, positive pairs.

Owns the types and the conversion of scored pairs into positive ones. Knows no source: not where a pair came from,
nor how it was read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from embedsweep.errors import ConfigError
from embedsweep.schema import ConvertConfig

# A threshold is written in decimals, a normalised score is a quotient: (4.6 - 1) / 4 is a little below 0.9.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences with the score people gave them.

    Attributes:
        sentences1: the first sentence of every pair.
        sentences2: the second; as many.
        scores: in [0, 1]; as many.
        origin: where they came from, for people: a file, ``demo train``, ``id@revision[language] split``.
    """

    sentences1: tuple[str, ...]
    sentences2: tuple[str, ...]
    scores: tuple[float, ...]
    origin: str

    def __len__(self) -> int:
        return len(self.scores)

    def first(self, limit: int | None) -> Pairs:
        """The first ``limit`` pairs; all of them for None."""
        return Pairs(self.sentences1[:limit], self.sentences2[:limit], self.scores[:limit], self.origin)


@dataclass(frozen=True)
class Splits:
    """What is trained on, what selects and what reports."""

    train: Pairs
    dev: Pairs
    test: Pairs

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any text, score or order in any split, and with nothing else."""
        content = [[split.sentences1, split.sentences2, split.scores] for split in (self.train, self.dev, self.test)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PositivePairs:
    """Pairs that mean the same, without a score.

    Attributes:
        anchors: one sentence of every pair.
        positives: the other; as many.
        origin: where the scored pairs came from.
        conversion: what was done to them, in words.
    """

    anchors: tuple[str, ...]
    positives: tuple[str, ...]
    origin: str
    conversion: str

    def __len__(self) -> int:
        return len(self.anchors)


def to_positive_pairs(pairs: Pairs, config: ConvertConfig, score_range: tuple[float, float]) -> PositivePairs:
    """Keeps the pairs whose score reaches the threshold.

    Args:
        pairs: scored pairs.
        config: the threshold, and whether each pair is also given the other way round.
        score_range: the lowest and highest score in the source, to say the threshold in its terms.

    Returns:
        The pairs kept, in their order; then, with ``both_directions``, the same pairs turned round.

    Raises:
        ConfigError: fewer than two pairs reach the threshold, so none has another one's text as its negative.
    """
    threshold = config.positive_threshold
    low, high = score_range
    in_source = f"{low + threshold * (high - low):g} of {low:g}-{high:g}"
    kept = [index for index, score in enumerate(pairs.scores) if score >= threshold - _ROUNDING]
    if len(kept) < 2:
        highest = ", ".join(f"{score:g}" for score in sorted(pairs.scores, reverse=True)[:3]) or "none"
        raise ConfigError.single(
            "data.convert.positive_threshold",
            f"{threshold:g} ({in_source}) leaves {len(kept)} of {len(pairs)} pairs of {pairs.origin}, and a loss on "
            f"positive pairs needs at least 2; the highest scores there, on 0-1, are {highest}: "
            "lower data.convert.positive_threshold",
        )
    anchors = tuple(pairs.sentences1[index] for index in kept)
    positives = tuple(pairs.sentences2[index] for index in kept)
    if config.both_directions:
        anchors, positives = anchors + positives, positives + anchors
    conversion = (
        f"positive pairs: score >= {threshold:g} ({in_source}), {len(kept)} of {len(pairs)} kept, "
        f"both directions: {'yes' if config.both_directions else 'no'}"
    )
    return PositivePairs(anchors, positives, pairs.origin, conversion)
