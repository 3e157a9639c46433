"""Sentences of the demo data with a topic each: what kind of thing is done in them.

Owns the choice. Knows nothing of pairs or scores.
"""

from __future__ import annotations

from collections.abc import Container
from random import Random

from embedsweep.data.demo_frames import GROUPS, LANGUAGES, pick, random_frame
from embedsweep.data.demo_sentences import render

SEED = 20240523
SENTENCES = 4000


def sentences_on_topics(held_out: Container[str]) -> list[tuple[str, str]]:
    """Different sentences, English and Spanish, each with its topic, the group of its action; always the same.

    Args:
        held_out: sentences that must not occur.
    """
    rng = Random(SEED)
    found: dict[str, str] = {}
    while len(found) < SENTENCES:
        frame = random_frame(rng)
        sentence = render(frame, pick(rng, LANGUAGES)[0], rng)
        if sentence not in held_out:
            found[sentence] = GROUPS[frame.action]
    return list(found.items())
