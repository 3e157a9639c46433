"""The demo data: graded sentence pairs in English and Spanish, generated here, so that everything runs offline.

Owns the score of two meanings and the choice of pairs. A score comes from the meanings, never from the words: the
same words can mean something else (who follows whom, a "not"), and other words the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import TypeVar

from embedsweep.data.demo_sentences import Frame, Language, render
from embedsweep.data.demo_words import COUNTS, MANNERS, NOUNS, PLACES, QUALITIES, TIMES, VERBS

T = TypeVar("T")
Pair = tuple[str, str, float]

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

GROUPS = {
    concept: entry.group
    for table in (NOUNS, VERBS, QUALITIES, PLACES, TIMES, MANNERS, COUNTS)
    for concept, entry in table.items()
}

AGENTS = {
    action: tuple(n for n, noun in NOUNS.items() if noun.kind == "person" or (noun.kind == "animal" and verb.animals))
    for action, verb in VERBS.items()
}
OBJECTS = {action: tuple(n for n, noun in NOUNS.items() if noun.kind in verb.kinds) for action, verb in VERBS.items()}
QUALITIES_OF = {
    kind: tuple(quality for quality, entry in QUALITIES.items() if kind in entry.kinds)
    for kind in sorted({noun.kind for noun in NOUNS.values()})
}
ACTIONS = tuple(VERBS)
CIRCUMSTANCES = {
    "place": tuple(PLACES),
    "time": tuple(TIMES),
    "manner": tuple(MANNERS),
    "count": tuple(COUNTS),
}


def generate() -> dict[str, list[Pair]]:
    """Sentence pairs of ``train``, ``dev`` and ``test``: two sentences and their similarity from 0 to 5.

    Always the same. Three of eight are English, three Spanish, two a sentence of each. No pair comes twice,
    in either order.
    """
    rng = Random(SEED)
    pairs: list[Pair] = []
    seen: set[frozenset[str]] = set()
    total = sum(SIZES.values())
    while len(pairs) < total:
        left = _random_frame(rng)
        right = _pick(rng, VARIATIONS)(left, rng)
        languages = _pick(rng, LANGUAGES)
        first, second = (render(frame, language, rng) for frame, language in zip((left, right), languages, strict=True))
        both = frozenset((first, second))
        if len(both) == 2 and both not in seen:
            seen.add(both)
            pairs.append((first, second, score(left, right)))
    splits: dict[str, list[Pair]] = {}
    for split, size in SIZES.items():
        splits[split], pairs = pairs[:size], pairs[size:]
    return splits


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


def _pick(rng: Random, choices: tuple[T, ...]) -> T:
    return choices[int(rng.random() * len(choices))]


def _random_frame(rng: Random) -> Frame:
    action = _pick(rng, ACTIONS)
    agent, thing = _pick(rng, AGENTS[action]), _pick(rng, OBJECTS[action])
    while thing == agent:
        thing = _pick(rng, OBJECTS[action])
    return Frame(
        agent=agent,
        action=action,
        object=thing,
        count=_sometimes(rng, 0.2, CIRCUMSTANCES["count"]),
        trait=_sometimes(rng, 0.25, QUALITIES_OF[NOUNS[agent].kind]),
        quality=_sometimes(rng, 0.3, QUALITIES_OF[NOUNS[thing].kind]),
        place=_sometimes(rng, 0.7, CIRCUMSTANCES["place"]),
        time=_sometimes(rng, 0.6, CIRCUMSTANCES["time"]),
        manner=_sometimes(rng, 0.3, CIRCUMSTANCES["manner"] if VERBS[action].deliberate else ()),
        negated=rng.random() < 0.15,
    )


def _sometimes(rng: Random, probability: float, concepts: tuple[str, ...]) -> str | None:
    return _pick(rng, concepts) if concepts and rng.random() < probability else None


def _same(frame: Frame, _rng: Random) -> Frame:
    return frame


def _other(_frame: Frame, rng: Random) -> Frame:
    return _random_frame(rng)


def _negated(frame: Frame, _rng: Random) -> Frame:
    return replace(frame, negated=not frame.negated)


def _swapped(frame: Frame, rng: Random) -> Frame:
    """Agent and object trade places, each with its quality; where that makes no sense, something else changes."""
    if frame.object in AGENTS[frame.action] and frame.agent in OBJECTS[frame.action]:
        return replace(frame, agent=frame.object, object=frame.agent, trait=frame.quality, quality=frame.trait)
    return _changed(frame, rng)


def _shortened(frame: Frame, rng: Random) -> Frame:
    """One part that is not needed is left out."""
    named = tuple(part for part in ("count", "trait", "quality", "place", "time", "manner") if getattr(frame, part))
    return replace(frame, **{_pick(rng, named): None}) if named else frame  # type: ignore[arg-type]


def _changed(frame: Frame, rng: Random) -> Frame:
    """One part is another concept, by half of the times a related one."""
    part = _pick(rng, tuple(part for part in WEIGHTS if getattr(frame, part)))
    old = getattr(frame, part)
    taken = (old, frame.agent, frame.object)
    concepts = tuple(concept for concept in _alternatives(frame, part) if concept not in taken)
    related = tuple(concept for concept in concepts if GROUPS[concept] == GROUPS[old])
    if related and rng.random() < 0.5:
        concepts = related
    return replace(frame, **{part: _pick(rng, concepts)}) if concepts else frame  # type: ignore[arg-type]


def _alternatives(frame: Frame, part: str) -> tuple[str, ...]:
    """Concepts that make sense as ``part`` of ``frame``."""
    if part == "action":
        return _actions(frame.agent, frame.object, frame.manner is not None)
    if part == "agent":
        return _of_kind(AGENTS[frame.action], NOUNS[frame.agent].kind)
    if part == "object":
        return _of_kind(OBJECTS[frame.action], NOUNS[frame.object].kind)
    if part in ("trait", "quality"):
        return QUALITIES_OF[NOUNS[frame.agent if part == "trait" else frame.object].kind]
    return CIRCUMSTANCES[part]


@cache
def _actions(agent: str, thing: str, deliberate: bool) -> tuple[str, ...]:
    possible = (action for action in ACTIONS if agent in AGENTS[action] and thing in OBJECTS[action])
    return tuple(action for action in possible if VERBS[action].deliberate or not deliberate)


@cache
def _of_kind(nouns: tuple[str, ...], kind: str) -> tuple[str, ...]:
    return tuple(noun for noun in nouns if NOUNS[noun].kind == kind)


def _times(change: Callable[[Frame, Random], Frame], times: int) -> Callable[[Frame, Random], Frame]:
    def repeated(frame: Frame, rng: Random) -> Frame:
        for _ in range(times):
            frame = change(frame, rng)
        return frame

    return repeated


VARIATIONS = (
    *(_same,) * 5,
    _shortened,
    *(_changed,) * 2,
    *(_times(_changed, 2),) * 2,
    *(_times(_changed, 3),) * 2,
    *(_times(_changed, 5),) * 2,
    *(_times(_changed, 9),) * 3,
    _negated,
    *(_swapped,) * 2,
    *(_other,) * 4,
)
LANGUAGES: tuple[tuple[Language, Language], ...] = (
    *((("en", "en"),) * 3),
    *((("es", "es"),) * 3),
    ("en", "es"),
    ("es", "en"),
)
