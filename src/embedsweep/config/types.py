"""What a key may hold, in types and in words for people.

A field of a configuration's dataclass is annotated with ``str``, ``int``, ``float``, ``bool``, a ``Literal``, another
dataclass, a tuple or a mapping of these, or one of them ``| None``; numbers carry :class:`Bounds` in ``Annotated``.
:mod:`embedsweep.config.reader` reads a configuration by these types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from embedsweep.config.values import shown


@dataclass(frozen=True)
class Bounds:
    """The bounds of a number, or of each number of a list; an infinite bound does not bind."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def hold(self, value: float) -> bool:
        """Return whether a number lies within the bounds."""
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    @property
    def words(self) -> str:
        """The bounds in words (``above 0 and at most 1``); empty without any."""
        named = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        return " and ".join(f"{name} {bound:.12g}" for name, bound in named if math.isfinite(bound))


@dataclass(frozen=True)
class Key:
    """The key under which a field stands in the YAML, where it is not the field's own name."""

    name: str


@dataclass(frozen=True)
class Described:
    """The value in words, where the type alone would say too little; for messages and the reference of keys."""

    words: str


@dataclass(frozen=True)
class MayBeEmpty:
    """A text that may be empty or blank."""


@dataclass(frozen=True)
class NotEmpty:
    """A list with at least one item."""


@dataclass(frozen=True)
class AllowedWords:
    """The words that a text, or each text of a list, may be made of, where a ``Literal`` cannot say it."""

    words: tuple[str, ...]


class HasVariants:
    """A configuration whose section is of a subclass, which the section's name decides."""

    @classmethod
    def variant(cls, name: object) -> type:
        """Return the subclass of a section with that name."""
        raise NotImplementedError


Count = Annotated[int, Bounds(at_least=1)]
"""A whole number of at least 1."""
TokenLimit = Annotated[int, Bounds(at_least=2)]
"""How many tokens a text stays below; every text has one."""
WholeNumber = Annotated[int, Bounds(at_least=0)]
Seed = Annotated[int, Bounds(at_least=0, below=2**32)]
"""What NumPy's generators take."""
Ratio = Annotated[float, Bounds(at_least=0, at_most=1)]
NotNegative = Annotated[float, Bounds(at_least=0)]
Positive = Annotated[float, Bounds(above=0)]
LearningRate = Annotated[float, Bounds(above=0, at_most=1)]
"""No optimizer here learns with a rate above 1, though a rate of 1e6 raises no error."""


@cache
def fields_of(kind: type) -> dict[str, tuple[str, Any]]:
    """Return the fields of a configuration's dataclass: field name -> its key and its type, ``Annotated`` kept."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: (next((note.name for note in annotations_of(hint) if isinstance(note, Key)), name), hint)
        for name, hint in hints.items()
        if get_origin(hint) is not ClassVar
    }


def annotations_of(hint: Any) -> tuple[Any, ...]:
    """Return what ``Annotated`` adds to a type; empty without it."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def plain_type(hint: Any) -> Any:
    """Return a type without what ``Annotated`` adds to it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union; of any other type itself alone."""
    kind = plain_type(hint)
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (hint,)


def is_optional(hint: Any) -> bool:
    """Return whether a key may be null."""
    return NoneType in alternatives(hint)


def bounds_of(hint: Any) -> Bounds:
    """Return the bounds of a number; without any, infinite ones."""
    return next((note for note in annotations_of(hint) if isinstance(note, Bounds)), Bounds())


def allowed_words_of(hint: Any) -> tuple[str, ...]:
    """Return the words a key may hold, ``null`` among them, as they are typed; empty where any value may stand."""
    words: list[str] = []
    for kind in alternatives(hint):
        words += (word for note in annotations_of(kind) if isinstance(note, AllowedWords) for word in note.words)
        plain = plain_type(kind)
        if get_origin(plain) is Literal:
            words += map(shown, get_args(plain))
        elif plain is bool:
            words += ("true", "false")
        elif get_origin(plain) is tuple:
            words += (word for word in allowed_words_of(get_args(plain)[0]) if word != "null")
    return (*words, "null") if words and is_optional(hint) else tuple(words)


def describe(hint: Any) -> str:
    """Return a type in words: ``a whole number of at least 1, or null``."""
    words = [word for kind in alternatives(hint) if _is_words(kind) for word in allowed_words_of(kind)]
    others = [_one(kind) for kind in alternatives(hint) if not _is_words(kind) and kind is not NoneType]
    words += ["null"] if is_optional(hint) else []
    return ", or ".join((*others, *words)) if others else f"one of {', '.join(words)}"


def _is_words(hint: Any) -> bool:
    """Return whether a type is nothing but words to choose from."""
    plain = plain_type(hint)
    is_described = any(isinstance(note, Described) for note in annotations_of(hint))
    return get_origin(plain) is Literal or (plain is str and not is_described and bool(allowed_words_of(hint)))


def _one(hint: Any, *, many: bool = False) -> str:
    """One type in words; of ``many`` such values in the plural."""
    if described := [note.words for note in annotations_of(hint) if isinstance(note, Described)]:
        return described[0]
    kind, bounds = plain_type(hint), bounds_of(hint).words
    article, plural = ("", "s") if many else ("a ", "")
    if kind in (int, float):
        noun = f"{article}{'whole ' if kind is int else ''}number{plural}"
        return f"{noun} of {bounds}" if bounds.startswith("at ") else f"{noun} {bounds}".rstrip()
    if get_origin(kind) is tuple:
        return _list(alternatives(get_args(kind)[0]))
    if get_origin(kind) is Mapping:
        return f"{article}mapping{plural} of names to values, as {{a:1}}"
    if is_dataclass(kind):
        return f"{article}section{plural} with keys of {'their' if many else 'its'} own"
    nouns = {str: f"{article}text{plural}", bool: "true or false"}
    return nouns.get(kind, f"{article}value{plural}")


def _list(items: tuple[Any, ...]) -> str:
    """Return a list of such items in words, with an example."""
    if allowed := allowed_words_of(items[0]):
        return f"a list of some of {', '.join(allowed)}"
    example = {int: "[64,32]", float: "[0.25,0.5]"}.get(plain_type(items[0]), "[a,b]")
    return f"a list of {' or '.join(_one(item, many=True) for item in items)}, as {example}"
