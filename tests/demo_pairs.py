"""The demo data's scored pairs as rows, for tests that write files or compute expected scores."""

from __future__ import annotations

from embedsweep.config.trial import Split
from embedsweep.data.demo import demo_examples


def demo_pairs(split: Split) -> list[tuple[str, str, float]]:
    """Return the pairs of a split with their scores from 0 to 5."""
    examples = demo_examples("demo", split)
    assert examples.labels is not None
    return [
        (first, second, round(5 * score, 1))
        for first, second, score in zip(*examples.texts, examples.labels, strict=True)
    ]
