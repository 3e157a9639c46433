"""The demo data: graded sentence pairs in English and Spanish, generated here, so that everything runs offline.

Owns the score of two meanings, the choice of pairs and what each demo option trains on. A score comes from the
meanings, never from the words: the same words can mean something else (who follows whom, a "not"), and other words
the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Literal

from embedsweep.config.trial import Shape
from embedsweep.data.demo_frames import (
    GROUPS,
    LANGUAGES,
    Change,
    changed,
    negated,
    other,
    pick,
    random_frame,
    same,
    shortened,
    swapped,
    times,
)
from embedsweep.data.demo_nli import inference_pairs
from embedsweep.data.demo_sentences import Frame, render
from embedsweep.data.demo_topics import sentences_on_topics
from embedsweep.data.examples import Examples

Pair = tuple[str, str, float]

DemoName = Literal["demo", "demo_nli", "demo_topics"]
DEMOS: Mapping[DemoName, Shape] = {"demo": "scored_pairs", "demo_nli": "class_pairs", "demo_topics": "class_texts"}
"""Option -> the shape of what it trains on."""

SEED = 20240521
SIZES = {"train": 8000, "dev": 800, "test": 800}

WEIGHTS = {
    "action": 3.0,
    "agent": 2.0,
    "object": 2.0,
    "place": 1.5,
    "time": 1.0,
    "manner": 1.0,
    "trait": 1.0,
    "quality": 1.0,
    "count": 0.5,
}
NEGATION = 0.5
"""What is left of a score when only one of the two sentences says that it did not happen."""

VARIATIONS: tuple[Change, ...] = (
    *(same,) * 5,
    shortened,
    *(changed,) * 2,
    *(times(changed, 2),) * 2,
    *(times(changed, 3),) * 2,
    *(times(changed, 5),) * 2,
    *(times(changed, 9),) * 3,
    negated,
    *(swapped,) * 2,
    *(other,) * 4,
)


@cache
def generate() -> Mapping[str, Sequence[Pair]]:
    """Sentence pairs of ``train``, ``dev`` and ``test``: two sentences and their similarity from 0 to 5.

    Always the same, and generated once a process. Three of eight are English, three Spanish, two a sentence of each.
    No pair comes twice, in either order.
    """
    rng = Random(SEED)
    pairs: list[Pair] = []
    seen: set[frozenset[str]] = set()
    total = sum(SIZES.values())
    while len(pairs) < total:
        left = random_frame(rng)
        right = pick(rng, VARIATIONS)(left, rng)
        languages = pick(rng, LANGUAGES)
        first, second = (render(frame, language, rng) for frame, language in zip((left, right), languages, strict=True))
        both = frozenset((first, second))
        if len(both) == 2 and both not in seen:
            seen.add(both)
            pairs.append((first, second, score(left, right)))
    splits: dict[str, list[Pair]] = {}
    for split, size in SIZES.items():
        splits[split], pairs = pairs[:size], pairs[size:]
    return splits


@cache
def train_examples(name: DemoName) -> Examples:
    """What a demo option trains on: pairs with scores, inference pairs, or sentences with topics; always the same.

    All are of one grammar. No sentence of dev or test, the scored pairs that all are evaluated on, occurs in the
    inference pairs or among the topics.
    """
    origin = f"{name} train"
    if name == "demo":
        first, second, scores = zip(*generate()["train"], strict=True)
        return Examples(DEMOS[name], (first, second), tuple(score / 5 for score in scores), None, origin, None)
    rows = inference_pairs(_held_out()) if name == "demo_nli" else sentences_on_topics(_held_out())
    *texts, words = zip(*rows, strict=True)
    classes = tuple(sorted(set(words)))
    labels = tuple(float(classes.index(word)) for word in words)
    return Examples(DEMOS[name], tuple(texts), labels, classes, origin, None)


def _held_out() -> frozenset[str]:
    """The sentences of dev and test."""
    splits = generate()
    return frozenset(sentence for split in ("dev", "test") for pair in splits[split] for sentence in pair[:2])


def score(left: Frame, right: Frame) -> float:
    """How similar two meanings are, from 0 to 5 in steps of 0.1; symmetric.

    The weighted share of parts that agree. Related concepts agree by half. A part that only one sentence names
    weighs half: leaving something out says less, but nothing else.
    """
    agreed = total = 0.0
    for part, weight in WEIGHTS.items():
        a, b = getattr(left, part), getattr(right, part)
        if a is None and b is None:
            continue
        if a is None or b is None:
            total += weight / 2
            continue
        total += weight
        if a == b:
            agreed += weight
        elif GROUPS[a] == GROUPS[b]:
            agreed += weight / 2
    share = agreed / total * (NEGATION if left.negated != right.negated else 1.0)
    return round(5 * share, 1)
