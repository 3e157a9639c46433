"""What negatives are chosen from, how missing ones are completed, and the examples they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedsweep.data.examples import Examples
from embedsweep.data.negatives import Candidates, candidates_of, completed, counts_in, with_negatives
from embedsweep.data.scored import Retrieval
from embedsweep.errors import ConfigError
from tests.configs import SCORED

THREE = replace(SCORED.negatives, count=3)


def _pairs(*rows: tuple[str, str]) -> Examples:
    return Examples("positive_pairs", tuple(zip(*rows, strict=True)), None, None, "train.csv", None)


def _searched(documents: tuple[str, ...], relevant: dict[str, dict[str, float]]) -> Retrieval:
    """Queries and documents whose ids are their texts."""
    return Retrieval(tuple(relevant), tuple(relevant), documents, documents, relevant, "corpus")


PAIRS = _pairs(("q1", "a"), ("q2", "b"), ("q2", "c"))
SEARCHED = _searched(
    ("a", "b", "c", "d", "q2"), {"q1": {"a": 2, "d": 1, "b": 0}, "q2": {"b": 1, "c": 1}, "q3": {"c": 1}}
)
CANDIDATES = candidates_of(PAIRS, SEARCHED.documents, SEARCHED.relevant_pairs)


def test_all_that_is_relevant_is_excluded_whether_it_is_trained_on_or_not_and_the_question_itself() -> None:
    assert CANDIDATES.relevant == {"q1": ("a", "d"), "q2": ("b", "c", "q2")}
    assert CANDIDATES.irrelevant_to("q1") == ["b", "c", "q2"]
    assert CANDIDATES.irrelevant_to("q2") == ["a", "d"]


def test_documents_are_all_there_are_each_text_once_and_the_positives() -> None:
    assert CANDIDATES.documents == ("a", "b", "c", "d", "q2")
    assert candidates_of(_pairs(("q1", "a")), ("same", "same"), ()).documents == ("same", "a")


def test_a_document_with_the_text_of_a_relevant_one_is_relevant() -> None:
    searched = candidates_of(_pairs(("q1", "same")), ("same", "same", "other"), ())
    assert searched.irrelevant_to("q1") == ["other"]


def test_a_relevant_text_that_is_no_document_is_not_searched() -> None:
    candidates = candidates_of(_pairs(("q1", "a"), ("q2", "b")), ("a", "b", "c"), [("q1", "elsewhere"), ("q2", "c")])
    assert candidates.documents == ("a", "b", "c")
    assert candidates.relevant == {"q1": ("a",), "q2": ("b", "c")}


def test_a_question_to_which_all_documents_are_relevant_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        candidates_of(_pairs(("q1", "a"), ("q1", "b")), ("a", "b"), [("q1", "a")])
    assert str(error.value) == (
        "data.negatives.count: all 2 documents of train.csv are relevant to 'q1': add others, or set it to 0"
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["b", "c", "q2"], ["b", "c", "q2"]),
        (["c", "b"], ["c", "b", "c"]),
        (["c"], ["c", "c", "c"]),
    ],
)
def test_found_negatives_are_repeated_in_their_order(found: list[str], expected: list[str]) -> None:
    assert completed(CANDIDATES, {"q1": found, "q2": ["a"]}, THREE)["q1"] == expected


def test_a_question_without_negatives_gets_random_ones_that_are_not_relevant_to_it() -> None:
    drawn = completed(CANDIDATES, {"q1": ["b"]}, THREE)["q2"]
    assert sorted(set(drawn)) == ["a", "d"]
    assert len(drawn) == 3
    alone = completed(CANDIDATES.of_questions(["q2"]), {}, THREE)
    assert alone == {"q2": drawn}, "other questions change nothing"
    many = Candidates({"q": ("a",)}, ("a", *map(str, range(100))))
    assert len({tuple(completed(many, {}, replace(THREE, seed=seed))["q"]) for seed in range(5)}) == 5


def test_every_pair_of_a_question_gets_its_negatives() -> None:
    made = with_negatives(PAIRS, CANDIDATES, {"q1": ["b", "c"], "q2": ["a", "d"]}, (), replace(THREE, count=2))
    assert made.shape == "tuples"
    assert made.columns == ("anchor", "positive", "negative_1", "negative_2")
    assert list(zip(*made.texts, strict=True)) == [
        ("q1", "a", "b", "c"),
        ("q2", "b", "a", "d"),
        ("q2", "c", "a", "d"),
    ]
    one = with_negatives(PAIRS, CANDIDATES, {"q1": ["b", "c"], "q2": ["a", "d"]}, (), replace(THREE, count=1))
    assert (one.shape, one.texts[2]) == ("triplets", ("b", "a", "a"))


COUNTED: list[tuple[dict[str, list[str]], tuple[str, ...], dict[str, Any], str]] = [
    ({"q1": ["b", "c", "q2"], "q2": ["a", "d"]}, (), {}, "5 found, 1 repeated"),
    ({"q1": ["b"]}, (), {}, "1 found, 2 repeated, drawn at random for 1 question"),
    ({}, (), {}, "0 found, 0 repeated, drawn at random for 2 questions"),
    ({"q2": ["a", "d"]}, ("q1",), {"count": 1}, "1 found, 0 repeated, 1 of 2 questions dropped"),
    ({}, ("q1",), {"count": 0}, "none, 1 of 2 questions dropped"),
]


@pytest.mark.parametrize(("found", "dropped", "changes", "counts"), COUNTED)
def test_what_was_found_repeated_drawn_and_dropped_is_counted(
    found: dict[str, list[str]], dropped: tuple[str, ...], changes: dict[str, Any], counts: str
) -> None:
    pairs = replace(PAIRS, conversion="positive pairs: score above 0 (2 left out)")
    made = with_negatives(pairs, CANDIDATES, found, dropped, replace(THREE, **changes))
    assert made.conversion is not None
    assert counts_in(made.conversion) == counts
    assert len(made) == 3 - ("q1" in dropped)
    assert "q1" not in dropped or "q1" not in made.texts[0]
    assert counts_in("positive pairs: all 2, both directions: no") is None


def test_the_settings_are_in_the_description() -> None:
    config = replace(THREE, count=1, relative_margin=0.05, range_min=2, miner="org/model", sampling="random")
    made = with_negatives(PAIRS, CANDIDATES, {"q1": ["b"], "q2": ["a"]}, (), config)
    assert made.conversion == (
        "hard negatives: 2 found, 0 repeated (1 for each of 2 questions among 5 documents, by org/model, random, "
        "range_min 2, relative_margin 0.05)"
    )


def test_dropping_nearly_all_questions_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        with_negatives(PAIRS, CANDIDATES, {}, ("q2",), THREE)
    assert str(error.value) == (
        "data.negatives: with missing=drop 1 of 3 pairs of train.csv are left, and a loss needs at least 2: mine fewer "
        "negatives, by smaller margins or to a higher range_max, or set missing=repeat"
    )
