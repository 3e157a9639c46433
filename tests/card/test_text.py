"""Markdown of the card: escaping, paths, ids of the Hub."""

from __future__ import annotations

import html
import re

import pytest

from embedsweep.card.text import LONGEST_CELL, code, is_hub_id, joined, verbatim, without_folders


@pytest.mark.parametrize(
    "text", ["a | b", "<script>", "*bold* _it_ `code`", "[a](b)", "R&amp;D & Co", "# no heading", "\\|", "<!-- x -->"]
)
def test_a_text_is_shown_as_it_is_and_marks_nothing_up(text: str) -> None:
    cell = verbatim(text)
    inner = cell.removeprefix("<code>").removesuffix("</code>")
    assert html.unescape(inner) == text
    assert not re.search(r"[|<>*_`\[\]\\]", inner)


def test_a_long_or_broken_text_stays_one_line() -> None:
    assert verbatim("a\nb") == "<code>a<br>b</code>"
    assert verbatim("x" * (LONGEST_CELL + 1)) == f"<code>{'x' * LONGEST_CELL}...</code>"


def test_short_values_are_plain_code() -> None:
    assert code("[0.0, 5.0]") == "`[0.0, 5.0]`"
    assert code("a|b") == "<code>a&#124;b</code>"
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/data/train.csv", "train.csv"),
        ("/home/my own/data/train set.csv", "train set.csv"),
        ("~/data", "data"),
        ("../data/x", "x"),
        ("./x", "x"),
        ("C:\\Users\\me\\x.csv", "x.csv"),
        ("read from /home/me/x.csv, line 3", "read from x.csv, line 3"),
        ("org/name@abc[es] train", "org/name@abc[es] train"),
        ("https://huggingface.co/org/name", "https://huggingface.co/org/name"),
        ("1/2 of 0-5", "1/2 of 0-5"),
        ("/", "a folder"),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert without_folders(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", True),
        ("bert-base-uncased", True),
        ("/org/name", False),
        ("~/name", False),
        ("../name", False),
        ("a/b/c", False),
        ("org/name.", False),
        ("org/na--me", False),
        (None, False),
    ],
)
def test_ids_of_the_hub_are_distinguished_from_paths(name: str | None, expected: bool) -> None:
    assert is_hub_id(name) == expected
