"""Types of keys: their bounds, the words they allow, and how they are described."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from embedsweep.config.trial import DIRECTIONS, DataConfig, EvaluationConfig, ModelConfig
from embedsweep.config.types import AllowedWords, Bounds, Described, Key, allowed_words_of, describe, fields_of


@dataclass(frozen=True)
class Inner:
    steps: Annotated[int, Bounds(at_least=1)]


@dataclass(frozen=True)
class Outer:
    names: Annotated[tuple[str, ...], Key("name")]
    inner: Inner


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(at_least=0, at_most=1), (0, 0.5, 1), (-0.1, 1.1)),
        (Bounds(above=0, below=1), (0.1, 0.9), (0, 1)),
        (Bounds(), (-1e300, 0, 1e300), ()),
        (Bounds(at_least=1), (1, 10**400), (0, math.nan)),
    ],
)
def test_bounds_hold_inside_and_not_outside(
    bounds: Bounds, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert all(bounds.hold(value) for value in inside)
    assert not any(bounds.hold(value) for value in outside)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, "a text"),
        (str | None, "a text, or null"),
        (bool, "true or false"),
        (int, "a whole number"),
        (Annotated[int, Bounds(at_least=1)], "a whole number of at least 1"),
        (Annotated[int, Bounds(at_least=1)] | None, "a whole number of at least 1, or null"),
        (Annotated[int, Bounds(at_least=1)] | Literal["auto"], "a whole number of at least 1, or auto"),
        (Annotated[float, Bounds(above=0, at_most=1)], "a number above 0 and at most 1"),
        (Annotated[float, Bounds(at_least=0, below=1)], "a number of at least 0 and below 1"),
        (Literal["a", "b"], "one of a, b"),
        (Literal["a", "b"] | None, "one of a, b, null"),
        (Literal["auto", True, False], "one of auto, true, false"),
        (Annotated[str, AllowedWords(("a", "b"))], "one of a, b"),
        (Annotated[str, AllowedWords(("a", "b")), Described("a or a+b")] | None, "a or a+b, or null"),
        (tuple[str, ...], "a list of texts, as [a,b]"),
        (tuple[Annotated[int, Bounds(at_least=1)], ...], "a list of whole numbers of at least 1, as [64,32]"),
        (tuple[str | int, ...], "a list of texts or whole numbers, as [a,b]"),
        (tuple[Annotated[str, AllowedWords(("a", "b"))], ...], "a list of some of a, b"),
        (Mapping[str, str], "a mapping of names to values, as {a:1}"),
        (Inner, "a section with keys of its own"),
    ],
)
def test_a_type_is_described_in_words(hint: Any, words: str) -> None:
    assert describe(hint) == words


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, ()),
        (int | None, ()),
        (bool, ("true", "false")),
        (Literal["a", "b"] | None, ("a", "b", "null")),
        (Annotated[int, Bounds(at_least=1)] | Literal["auto"], ("auto",)),
        (tuple[Annotated[str, AllowedWords(tuple(DIRECTIONS))], ...], tuple(DIRECTIONS)),
    ],
)
def test_allowed_words_are_those_that_can_be_typed(hint: Any, words: tuple[str, ...]) -> None:
    assert allowed_words_of(hint) == words


def test_fields_are_named_by_their_keys() -> None:
    assert {name: key for name, (key, _) in fields_of(Outer).items()} == {"names": "name", "inner": "inner"}


@pytest.mark.parametrize("kind", [DataConfig, ModelConfig, EvaluationConfig])
def test_every_key_of_a_section_can_be_described(kind: type) -> None:
    descriptions = {name: describe(hint) for name, (_, hint) in fields_of(kind).items()}
    assert len(descriptions) >= 8
    assert not [name for name, words in descriptions.items() if "value" in words and name not in ("where", "splits")]
