"""Inference pairs of the demo data: a premise with what it entails, what contradicts it and what does neither.

Owns the logic. That a premise holds implies what says less of the same; that it does not hold implies that what says
more of it does not either.
"""

from __future__ import annotations

from collections.abc import Container
from random import Random

from embedsweep.data.convert import Relation
from embedsweep.data.demo_frames import LANGUAGES, changed, less, more, negated, pick, random_frame, swapped
from embedsweep.data.demo_sentences import Frame, render

SEED = 20240522
PREMISES = 1600


def inference_pairs(held_out: Container[str]) -> list[tuple[str, str, Relation]]:
    """Premise, hypothesis and what holds between them: three rows a premise, one of each relation; always the same.

    Args:
        held_out: sentences that must not occur.
    """
    rng = Random(SEED)
    pairs: list[tuple[str, str, Relation]] = []
    seen: set[str] = set()
    while len(pairs) < 3 * PREMISES:
        premise = random_frame(rng)
        if rng.random() < 0.3:  # else a "not" would as good as tell the class
            premise = negated(premise, rng)
        ours, theirs = pick(rng, LANGUAGES)
        said = render(premise, ours, rng)
        hypotheses = {
            relation: render(frame, theirs, rng) for relation, frame in hypothesis_frames(premise, rng).items()
        }
        sentences = {said, *hypotheses.values()}
        # A sentence that came before would bring its own relations along.
        if len(sentences) == 4 and not seen & sentences and not any(sentence in held_out for sentence in sentences):
            seen |= sentences
            pairs += [(said, hypothesis, relation) for relation, hypothesis in hypotheses.items()]
    return pairs


def hypothesis_frames(premise: Frame, rng: Random) -> dict[Relation, Frame]:
    """A meaning for each relation to ``premise``."""
    implied, open_question = (more, less) if premise.negated else (less, more)
    neutral = open_question(premise, rng)
    if neutral == premise or rng.random() < 0.5:
        neutral = _about_something_else(premise, rng)
    return {
        "contradiction": negated(implied(premise, rng), rng),
        "neutral": neutral,
        "entailment": implied(premise, rng) if rng.random() < 0.7 else premise,
    }


def _about_something_else(premise: Frame, rng: Random) -> Frame:
    """Another does it, or does something else, or to something else; half of the time the two trade places."""
    core = (premise.agent, premise.action, premise.object)
    frame = swapped(premise, rng) if rng.random() < 0.5 else premise
    while (frame.agent, frame.action, frame.object) == core:
        frame = changed(frame, rng)
    return frame
