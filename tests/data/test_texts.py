"""Texts as a reader sees them."""

from __future__ import annotations

import unicodedata

import pytest

from embedsweep.data.audit import audit
from embedsweep.data.examples import Examples, Splits
from embedsweep.data.leaks import drop_leaked
from embedsweep.data.scored import Pairs
from embedsweep.data.texts import is_blank, normal

CAFE = "El café de Ñuñoa"
SAME = {
    "NFD": (CAFE, unicodedata.normalize("NFD", CAFE)),
    "case": ("STRASSE", "straße"),
    "outer space": (" a cat\n", "a cat"),
    "inner double space": ("a  cat", "a cat"),
    "tab": ("a\tcat", "a cat"),
    "non-breaking space": ("a\u00a0cat", "a cat"),
    "narrow non-breaking space": ("10\u202f000", "10 000"),
    "ideographic space": ("猫\u3000犬", "猫 犬"),
    "zero-width space": ("a\u200bcat", "acat"),
    "byte-order mark": ("\ufeffa cat", "a cat"),
    "soft hyphen": ("wonder\u00adful", "wonderful"),
    "variation selector": ("\u2764\ufe0f", "\u2764"),
    "joiner": ("می\u200cخواهم", "میخواهم"),
    "full width": ("\uff21\uff11", "A1"),
    "ligature": ("\ufb01ne", "fine"),
    "folding after composing": ("\u0390", "\u1fd3"),
}


@pytest.mark.parametrize("kind", SAME)
def test_texts_that_a_reader_takes_for_the_same_are_equal(kind: str) -> None:
    one, other = SAME[kind]
    assert one != other
    assert normal(one) == normal(other)
    assert normal(normal(one)) == normal(one)


@pytest.mark.parametrize(("one", "other"), [("año", "ano"), ("a cat", "acat"), ("now here", "nowhere"), ("a.", "a")])
def test_texts_that_a_reader_tells_apart_are_not_equal(one: str, other: str) -> None:
    assert normal(one) != normal(other)


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\u200b", "\ufeff", "\u00ad", "\u00a0 \u200d", "\x00\x1f", "\u2800", "\u3164"]
)
def test_a_text_that_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", ".", "\u200ba", "é", "\u0301", "😀", "\u064b", "0"])
def test_a_text_that_shows_anything_is_not_blank(text: str) -> None:
    assert not is_blank(text)


@pytest.mark.parametrize("kind", SAME)
def test_leaks_are_found_and_dropped_in_whatever_form(kind: str) -> None:
    one, other = SAME[kind]
    train = Examples("scored_pairs", (("p", "q", one), ("r", "s", "t")), (0.0, 1.0, 0.5), None, "train", None)
    splits = Splits(train, Pairs((other,), ("t",), (1.0,), "dev"), Pairs(("u",), ("v",), (1.0,), "test"))
    shared = audit(splits).shared["train/dev"]
    assert (shared.pairs, shared.sentences) == (1, 2)
    assert drop_leaked(splits).texts == (("p", "q"), ("r", "s"))
