"""Meanings of the demo data: random ones that make sense, and changes to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import TypeVar

from tools.demo.sentences import Frame, Language
from tools.demo.words import COUNTS, MANNERS, NOUNS, PLACES, QUALITIES, TIMES, VERBS

T = TypeVar("T")
Change = Callable[[Frame, Random], Frame]

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
PARTS = ("action", "agent", "object", "place", "time", "manner", "trait", "quality", "count")
"""The parts of a meaning, without its negation."""

DETAILS = ("trait", "quality", "place", "manner")
"""Parts that only add information. Time and count are not among them: they also decide the tense and the article."""

LANGUAGES: tuple[tuple[Language, Language], ...] = (
    *((("en", "en"),) * 3),
    *((("es", "es"),) * 3),
    ("en", "es"),
    ("es", "en"),
)
"""Languages of the two sentences of a pair, repeated by their frequency."""


def pick(rng: Random, choices: tuple[T, ...]) -> T:
    """Return one of ``choices``; draws one number from ``rng``, in every version of Python."""
    return choices[int(rng.random() * len(choices))]


def random_frame(rng: Random) -> Frame:
    """Return a random meaning that makes sense."""
    action = pick(rng, ACTIONS)
    agent, thing = pick(rng, AGENTS[action]), pick(rng, OBJECTS[action])
    while thing == agent:
        thing = pick(rng, OBJECTS[action])
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
    return pick(rng, concepts) if concepts and rng.random() < probability else None


def same(frame: Frame, _rng: Random) -> Frame:
    """Return the meaning itself, to be rendered as another sentence."""
    return frame


def other(_frame: Frame, rng: Random) -> Frame:
    """Return an unrelated meaning."""
    return random_frame(rng)


def negated(frame: Frame, _rng: Random) -> Frame:
    """Negate the meaning, or remove its negation."""
    return replace(frame, negated=not frame.negated)


def swapped(frame: Frame, rng: Random) -> Frame:
    """Swap agent and object, each with its quality; where that makes no sense, change one part."""
    if frame.object in AGENTS[frame.action] and frame.agent in OBJECTS[frame.action]:
        return replace(frame, agent=frame.object, object=frame.agent, trait=frame.quality, quality=frame.trait)
    return changed(frame, rng)


def shortened(frame: Frame, rng: Random) -> Frame:
    """Leave out one optional part."""
    named = tuple(part for part in ("count", "trait", "quality", "place", "time", "manner") if getattr(frame, part))
    return replace(frame, **{pick(rng, named): None}) if named else frame  # type: ignore[arg-type]


def less(frame: Frame, rng: Random) -> Frame:
    """Leave out one detail, so that the sentence says less; a meaning without details is unchanged."""
    named = tuple(part for part in DETAILS if getattr(frame, part))
    return replace(frame, **{pick(rng, named): None}) if named else frame  # type: ignore[arg-type]


def more(frame: Frame, rng: Random) -> Frame:
    """Add one detail, so that the sentence says more; a meaning that no detail fits is unchanged."""
    open_parts = {part: _alternatives(frame, part) for part in DETAILS if not getattr(frame, part)}
    open_parts = {part: concepts for part, concepts in open_parts.items() if concepts}
    if not open_parts:
        return frame
    part = pick(rng, tuple(open_parts))
    return replace(frame, **{part: pick(rng, open_parts[part])})  # type: ignore[arg-type]


def changed(frame: Frame, rng: Random) -> Frame:
    """Replace the concept of one part, with probability 0.5 by a related one."""
    part = pick(rng, tuple(part for part in PARTS if getattr(frame, part)))
    old = getattr(frame, part)
    taken = (old, frame.agent, frame.object)
    concepts = tuple(concept for concept in _alternatives(frame, part) if concept not in taken)
    related = tuple(concept for concept in concepts if GROUPS[concept] == GROUPS[old])
    if related and rng.random() < 0.5:
        concepts = related
    return replace(frame, **{part: pick(rng, concepts)}) if concepts else frame  # type: ignore[arg-type]


def _alternatives(frame: Frame, part: str) -> tuple[str, ...]:
    """Return the concepts that make sense as ``part`` of ``frame``."""
    if part == "action":
        return _actions(frame.agent, frame.object, frame.manner is not None)
    if part == "agent":
        return _of_kind(AGENTS[frame.action], NOUNS[frame.agent].kind)
    if part == "object":
        return _of_kind(OBJECTS[frame.action], NOUNS[frame.object].kind)
    if part in ("trait", "quality"):
        return QUALITIES_OF[NOUNS[frame.agent if part == "trait" else frame.object].kind]
    if part == "manner" and not VERBS[frame.action].deliberate:
        return ()
    return CIRCUMSTANCES[part]


@cache
def _actions(agent: str, thing: str, deliberate: bool) -> tuple[str, ...]:
    possible = (action for action in ACTIONS if agent in AGENTS[action] and thing in OBJECTS[action])
    return tuple(action for action in possible if VERBS[action].deliberate or not deliberate)


@cache
def _of_kind(nouns: tuple[str, ...], kind: str) -> tuple[str, ...]:
    return tuple(noun for noun in nouns if NOUNS[noun].kind == kind)


def times(change: Change, count: int) -> Change:
    """Return a change that applies ``change`` ``count`` times."""

    def repeated(frame: Frame, rng: Random) -> Frame:
        for _ in range(count):
            frame = change(frame, rng)
        return frame

    return repeated
