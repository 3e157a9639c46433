"""Sentences of the demo data: the frame of a meaning, and its rendering in English and Spanish."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

from tools.demo.words import (
    COUNTS,
    MANNERS,
    NOUNS,
    PLACES,
    QUALITIES,
    TIMES,
    VERBS,
    Noun,
    Phrase,
    Quality,
    Verb,
)

Language = Literal["en", "es"]

SPANISH_PLURALS = {"chef": "chefs"}

ENGLISH_VERBS = {  # third person, past, participle
    "buy": ("buys", "bought", "bought"),
    "sell": ("sells", "sold", "sold"),
    "find": ("finds", "found", "found"),
    "lose": ("loses", "lost", "lost"),
    "steal": ("steals", "stole", "stolen"),
    "hide": ("hides", "hid", "hidden"),
    "break": ("breaks", "broke", "broken"),
    "read": ("reads", "read", "read"),
    "write": ("writes", "wrote", "written"),
    "eat": ("eats", "ate", "eaten"),
    "make": ("makes", "made", "made"),
    "seek": ("seeks", "sought", "sought"),
}

SPANISH_VERBS = {  # present and past (singular, plural), stem of the future, participle
    "adquirir": ("adquiere", "adquieren", "adquirió", "adquirieron", "adquirir", "adquirido"),
    "encontrar": ("encuentra", "encuentran", "encontró", "encontraron", "encontrar", "encontrado"),
    "extraviar": ("extravía", "extravían", "extravió", "extraviaron", "extraviar", "extraviado"),
    "perder": ("pierde", "pierden", "perdió", "perdieron", "perder", "perdido"),
    "romper": ("rompe", "rompen", "rompió", "rompieron", "romper", "roto"),
    "leer": ("lee", "leen", "leyó", "leyeron", "leer", "leído"),
    "escribir": ("escribe", "escriben", "escribió", "escribieron", "escribir", "escrito"),
    "hacer": ("hace", "hacen", "hizo", "hicieron", "har", "hecho"),
    "seguir": ("sigue", "siguen", "siguió", "siguieron", "seguir", "seguido"),
    "perseguir": ("persigue", "persiguen", "persiguió", "persiguieron", "perseguir", "perseguido"),
    "fotografiar": ("fotografía", "fotografían", "fotografió", "fotografiaron", "fotografiar", "fotografiado"),
}

ENGLISH_BE = {"past": ("was", "were"), "present": ("is", "are"), "future": ("will be", "will be")}
SPANISH_BE = {"past": ("fue", "fueron"), "present": ("es", "son"), "future": ("será", "serán")}
ENGLISH_NOT = {"past": ("did", "did"), "present": ("does", "do"), "future": ("will", "will")}


@dataclass(frozen=True)
class Frame:
    """The meaning of a sentence; each part names a concept of ``words``, None leaves it out.

    Attributes:
        agent: who acts.
        action: what is done.
        object: who or what it is done to.
        count: how many agents; None is one.
        trait: a quality of the agent.
        quality: a quality of the object.
        place: where.
        time: when; None is rendered in the past tense.
        manner: how.
        negated: whether it did not happen.
    """

    agent: str
    action: str
    object: str
    count: str | None = None
    trait: str | None = None
    quality: str | None = None
    place: str | None = None
    time: str | None = None
    manner: str | None = None
    negated: bool = False

    @property
    def tense(self) -> str:
        """Return ``past``, ``present`` or ``future``: the group of its time."""
        return TIMES[self.time].group if self.time else "past"


def render(frame: Frame, language: Language, rng: Random) -> str:
    """Return a sentence with the meaning ``frame``; word order, voice and synonyms are drawn from ``rng``."""
    clause = _english(frame, rng) if language == "en" else _spanish(frame, rng)
    ends = []
    if frame.place:
        ends.append(_word(PLACES[frame.place], language, rng))
    if frame.time:
        ends.append(_word(TIMES[frame.time], language, rng))
    rng.shuffle(ends)
    front = f"{ends.pop()}, " if ends and rng.random() < 0.4 else ""
    sentence = front + " ".join([clause, *ends])
    return sentence[0].upper() + sentence[1:] + "."


def _word(entry: Noun | Verb | Quality | Phrase, language: Language, rng: Random) -> str:
    words = entry.english if language == "en" else entry.spanish
    return words[int(rng.random() * len(words))]


def _english(frame: Frame, rng: Random) -> str:
    tense, many = frame.tense, frame.count is not None
    agent = _word(NOUNS[frame.agent], "en", rng)
    if frame.trait:
        agent = f"{_word(QUALITIES[frame.trait], 'en', rng)} {agent}"
    agent = f"{_word(COUNTS[frame.count], 'en', rng)} {_english_plural(agent)}" if frame.count else f"the {agent}"
    thing = _word(NOUNS[frame.object], "en", rng)
    if frame.quality:
        thing = f"{_word(QUALITIES[frame.quality], 'en', rng)} {thing}"
    thing = f"the {thing}"
    base, third, past, participle = _english_forms(_word(VERBS[frame.action], "en", rng))
    how = f" {_word(MANNERS[frame.manner], 'en', rng)}" if frame.manner else ""

    if rng.random() < 0.35:
        be = ENGLISH_BE[tense][0]
        if frame.negated:
            be = "will not be" if tense == "future" else f"{be} not"
        return f"{thing} {be} {participle} by {agent}{how}"
    if frame.negated:
        verb = f"{ENGLISH_NOT[tense][many]} not {base}"
    else:
        verb = {"past": past, "present": base if many else third, "future": f"will {base}"}[tense]
    if not many and rng.random() < 0.25:
        who = "who" if NOUNS[frame.agent].kind == "person" else "that"
        agent = f"it {'was' if tense == 'past' else 'is'} {agent} {who}"
    return f"{agent} {verb} {thing}{how}"


def _spanish(frame: Frame, rng: Random) -> str:
    tense, many = frame.tense, frame.count is not None
    article, agent = _word(NOUNS[frame.agent], "es", rng).split(" ")
    feminine = article == "la"
    if frame.trait:
        agent += " " + _spanish_feminine(_word(QUALITIES[frame.trait], "es", rng), feminine)
    if frame.count:
        count = _word(COUNTS[frame.count], "es", rng)
        if feminine and count.endswith("os") and count != "dos":
            count = f"{count[:-2]}as"
        agent = f"{count} {' '.join(_spanish_plural(word) for word in agent.split())}"
    else:
        agent = f"{article} {agent}"
    thing = _word(NOUNS[frame.object], "es", rng)
    feminine = thing.startswith("la ")
    if frame.quality:
        thing += " " + _spanish_feminine(_word(QUALITIES[frame.quality], "es", rng), feminine)
    patient = thing
    if NOUNS[frame.object].kind in ("person", "animal"):
        patient = f"a {thing}" if feminine else f"al {thing.removeprefix('el ')}"
    forms = _spanish_forms(_word(VERBS[frame.action], "es", rng))
    verb = forms[2 * ("present", "past", "future").index(tense) + many]
    no = "no " if frame.negated else ""
    how = f" {_word(MANNERS[frame.manner], 'es', rng)}" if frame.manner else ""

    order = rng.random()
    if order < 0.25:
        participle = _spanish_feminine(forms[6], feminine)
        return f"{thing} {no}{SPANISH_BE[tense][0]} {participle} por {agent}{how}"
    if order < 0.45:
        return f"{patient} {no}{'la' if feminine else 'lo'} {verb} {agent}{how}"
    if order < 0.6 and not many:
        who = "quien" if NOUNS[frame.agent].kind == "person" else f"{article} que"
        return f"{'fue' if tense == 'past' else 'es'} {agent} {who} {no}{verb} {patient}{how}"
    if order < 0.8:
        return f"{agent} {no}{verb}{how} {patient}"
    return f"{agent} {no}{verb} {patient}{how}"


def _english_plural(noun: str) -> str:
    if noun.endswith("secretary"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"


@cache
def _english_forms(verb: str) -> tuple[str, str, str, str]:
    """Return base, third person, past and participle of ``verb``, each with its particle (looks for)."""
    base, _, particle = verb.partition(" ")
    if base in ENGLISH_VERBS:
        third, past, participle = ENGLISH_VERBS[base]
    else:
        third = f"{base}es" if base.endswith(("sh", "ch", "x", "ss")) else f"{base}s"
        past = participle = f"{base}d" if base.endswith("e") else f"{base}ed"
    tail = f" {particle}" if particle else ""
    return base + tail, third + tail, past + tail, participle + tail


@cache
def _spanish_forms(verb: str) -> tuple[str, ...]:
    """Return present, past and future of ``verb`` (each third person singular and plural), then its participle."""
    if verb in SPANISH_VERBS:
        present, presents, past, pasts, future, participle = SPANISH_VERBS[verb]
    else:
        stem, future = verb[:-2], verb
        if verb.endswith("ar"):
            present, presents, past, pasts, participle = (stem + end for end in ("a", "an", "ó", "aron", "ado"))
        else:
            present, presents, past, pasts, participle = (stem + end for end in ("e", "en", "ió", "ieron", "ido"))
    return present, presents, past, pasts, f"{future}á", f"{future}án", participle


@cache
def _spanish_plural(word: str) -> str:
    if word in SPANISH_PLURALS:
        return SPANISH_PLURALS[word]
    return f"{word}s" if word[-1] in "aeiouáé" else f"{word}es"


def _spanish_feminine(adjective: str, feminine: bool) -> str:
    return f"{adjective[:-1]}a" if feminine and adjective.endswith("o") else adjective
