"""Checks of examples of each shape, and the conversion of labels to numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from embedsweep.config.trial import DataConfig
from embedsweep.data.checks import checked_examples
from embedsweep.data.examples import Examples
from embedsweep.data.tables import Findings, Row, Table
from embedsweep.errors import ConfigError
from tests.configs import SCORED

POSITIVE = replace(SCORED, shape="positive_pairs", columns=("question", "answer"))
TRIPLETS = replace(SCORED, shape="triplets", columns=(0, 1, 2))
BINARY = replace(SCORED, shape="binary_pairs", columns=("sentence1", "sentence2", "label"))
CLASS_PAIRS = replace(BINARY, shape="class_pairs")
CLASS_TEXTS = replace(SCORED, shape="class_texts", columns=("text", "label"))
TEXTS = replace(SCORED, shape="texts", columns=("text",))
NLI = ("contradiction", "neutral", "entailment")

Cells = tuple[Any, ...]


def _examples(config: DataConfig, *rows: Cells) -> Examples:
    table = [Row(f"row {number}", cells) for number, cells in enumerate(rows, start=1)]
    return checked_examples(Table(table, Findings("train")), config)


def _refusal(config: DataConfig, *rows: Cells) -> list[str]:
    with pytest.raises(ConfigError) as error:
        _examples(config, *rows)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("config", "rows", "labels", "classes"),
    [
        (SCORED, [("a", "b", "1"), ("c", "d", 2.5), ("e", "f", 5)], (0.2, 0.5, 1.0), None),
        (SCORED, [("a", "b", "0,5"), ("c", "d", " 2,500"), ("e", "f", "5")], (0.1, 0.5, 1.0), None),
        (POSITIVE, [("a", "b"), ("c", "d")], None, None),
        (TRIPLETS, [("a", "b", "c"), ("d", "e", "f")], None, None),
        (TEXTS, [("a",), ("b",)], None, None),
        (BINARY, [("a", "b", "0"), ("c", "d", 1), ("e", "f", "1.0"), ("g", "h", False)], (0.0, 1.0, 1.0, 0.0), None),
        (CLASS_PAIRS, [("a", "b", "yes"), ("c", "d", "no"), ("e", "f", "yes")], (1.0, 0.0, 1.0), ("no", "yes")),
        (
            replace(CLASS_PAIRS, labels=NLI),
            [("a", "b", "entailment"), ("c", "d", "contradiction")],
            (2.0, 0.0),
            NLI,
        ),
        (CLASS_TEXTS, [("a", 10), ("b", "9"), ("c", 10.0)], (1.0, 0.0, 1.0), ("9", "10")),
        (CLASS_TEXTS, [("a", "NA"), ("b", " null "), ("c", "NA")], (0.0, 1.0, 0.0), ("NA", "null")),
        (CLASS_TEXTS, [("a", True), ("b", False), ("c", True)], (1.0, 0.0, 1.0), ("false", "true")),
    ],
)
def test_rows_become_examples_of_their_shape(
    config: DataConfig, rows: list[Cells], labels: tuple[float, ...] | None, classes: tuple[str, ...] | None
) -> None:
    examples = _examples(config, *rows)
    assert (examples.shape, examples.labels, examples.classes) == (config.shape, labels, classes)
    count = len(rows[0]) - (labels is not None)
    assert examples.texts == tuple(tuple(row[column] for row in rows) for column in range(count))
    assert examples.origin == "train"
    assert examples.conversion is None


@pytest.mark.parametrize(
    ("config", "row", "message"),
    [
        (POSITIVE, ("x", ""), "answer is empty: fill it in or leave the row out"),
        (TRIPLETS, ("x", "y", " \t"), "negative is only white space: fill it in or leave the row out"),
        (
            TEXTS,
            ("\u200b\ufeff",),
            "text is only characters that show nothing ('\\u200b\\ufeff'): fill it in or leave the row out",
        ),
        (TEXTS, (None,), "text is None, not a text: choose another column, or leave the row out"),
        (POSITIVE, (math.nan, "y"), "question is nan, not a text: choose another column, or leave the row out"),
        (SCORED, ("x", "y", math.nan), "score 'nan' is not a finite number: fill it in or leave the row out"),
        (SCORED, ("x", "y", True), "score True is not a number: write a plain number such as 3.5"),
        (
            BINARY,
            ("x", "y", 0.3),
            "label 0.3 is neither 0 nor 1: fix it, or, if these are scores, set data.shape=scored_pairs",
        ),
        (
            BINARY,
            ("x", "y", "5"),
            "label 5 is neither 0 nor 1: fix it, or, if these are scores, set data.shape=scored_pairs",
        ),
        (BINARY, ("x", "y", "yes"), "label 'yes' is not a number: write 0 or 1"),
        (BINARY, ("x", "y", ""), "label '' is not a number: fill it in or leave the row out"),
        (BINARY, ("x", "y", math.inf), "label 'inf' is not a finite number: fill it in or leave the row out"),
        (CLASS_PAIRS, ("x", "y", " "), "label ' ' names no class: fill it in or leave the row out"),
        (CLASS_PAIRS, ("x", "y", None), "label None names no class: fill it in or leave the row out"),
        (CLASS_PAIRS, ("x", "y", math.nan), "label 'nan' is not a finite number: fill it in or leave the row out"),
        (
            CLASS_PAIRS,
            ("x", "y", "0.3"),
            "label 0.3 is a fraction, not a class: if these are scores, set data.shape=scored_pairs",
        ),
        (
            replace(CLASS_PAIRS, labels=("0", "1")),
            ("x", "y", "2x"),
            "label '2x' is not in data.labels=[0,1]: add it there, or leave the row out",
        ),
    ],
)
def test_a_wrong_row_is_refused_by_its_place(config: DataConfig, row: Cells, message: str) -> None:
    texts = [(f"a{number}", f"b{number}", f"c{number}")[: len(config.columns)] for number in range(4)]
    labelled = config.shape in ("scored_pairs", "binary_pairs", "class_pairs")
    rows = [(*text[:2], number % 2) if labelled else text for number, text in enumerate(texts)]
    assert _refusal(config, *rows, row) == [f"row 5: {message}"]


@pytest.mark.parametrize(
    ("config", "rows", "message"),
    [
        (POSITIVE, [], "has no rows"),
        (POSITIVE, [("a", "b")], "has only one row; at least two are needed"),
        (SCORED, [("a", "b", 1)], "has only one row; at least two with different scores are needed"),
        (BINARY, [("a", "b", 1)], "has only one row; at least two with different labels are needed"),
        (
            BINARY,
            [("a", "b", 1), ("c", "d", "1")],
            "all 2 labels are 1, so there is nothing to learn from: is the third of data.columns the label?",
        ),
        (
            CLASS_TEXTS,
            [("a", "x"), ("b", "x")],
            "all 2 labels are 'x', so there is nothing to learn from: is the second of data.columns the label?",
        ),
        (
            CLASS_TEXTS,
            [("a", "x"), ("b", "y"), ("c", "z")],
            "each of the 3 rows has a class of its own: is the second of data.columns the label?",
        ),
        (
            POSITIVE,
            [("1", "b"), ("2", "d")],
            "all 2 texts of question are numbers: data.columns takes anchor, positive, in that order",
        ),
        (
            replace(SCORED, columns=(0, 2, 1)),
            [("a", "4.5", "2"), ("b", "3", "1")],
            "all 2 texts of sentence2 are numbers: data.columns takes sentence1, sentence2, score, in that order",
        ),
    ],
)
def test_rows_that_teach_nothing_together_are_refused(config: DataConfig, rows: list[Cells], message: str) -> None:
    assert _refusal(config, *rows) == [f"train: {message}"]


@pytest.mark.parametrize("numbers", [(2, 0, 1, 2), ("2", "0", "1", "2"), (2.0, 0.0, 1.0, 2.0)])
def test_numbers_of_classes_refer_to_the_labels(numbers: Cells) -> None:
    rows = [(f"a{index}", f"b{index}", number) for index, number in enumerate(numbers)]
    examples = _examples(replace(CLASS_PAIRS, labels=NLI), *rows)
    assert (examples.labels, examples.classes) == ((2.0, 0.0, 1.0, 2.0), NLI)
    assert examples.conversion == "labels by their numbers: 0 contradiction, 1 neutral, 2 entailment"


@pytest.mark.parametrize(
    ("labels", "reported"),
    [
        ((0, 1, -1), {3: "'-1'"}),
        ((0, 1, "-"), {3: "'-'"}),
        (("neutral", "entailment", "-"), {3: "'-'"}),
    ],
)
def test_a_pair_without_agreement_of_annotators_is_refused_as_such(labels: Cells, reported: dict[int, str]) -> None:
    rows = [(f"a{index}", f"b{index}", label) for index, label in enumerate(labels)]
    assert _refusal(replace(CLASS_PAIRS, labels=NLI), *rows) == [
        f"row {row}: label {label} is not in data.labels=[contradiction,neutral,entailment]: it means that annotators "
        "did not agree: leave the row out"
        for row, label in reported.items()
    ]


def test_a_number_beyond_the_labels_is_refused_and_no_other() -> None:
    rows = [("a", "b", 0), ("c", "d", 3), ("e", "f", 1)]
    assert _refusal(replace(CLASS_PAIRS, labels=NLI), *rows) == [
        "row 2: label '3' is not in data.labels=[contradiction,neutral,entailment]: numbers go from 0 to 2: name more "
        "classes, or leave the row out"
    ]


def test_names_and_numbers_are_not_mixed() -> None:
    rows = [("a", "b", "neutral"), ("c", "d", "entailment"), ("e", "f", 1)]
    assert _refusal(replace(CLASS_PAIRS, labels=NLI), *rows) == [
        "row 3: label '1' is not in data.labels=[contradiction,neutral,entailment]: add it there, or leave the row out"
    ]


def test_examples_know_where_they_stood() -> None:
    examples = _examples(POSITIVE, ("a", "b"), ("c", "d"), ("e", "f"))
    assert examples.places == ("row 1", "row 2", "row 3")
    assert examples.kept([2, 0], None).places == ("row 3", "row 1")
    assert examples.became("texts", (("a",),), None, None, "texts").places is None


@pytest.mark.parametrize(
    ("score_range", "scores", "expected"),
    [
        ((0, 1), [0, 1, 2, 3, 4, 5, 5], None),  # four rows are outside
        ((0, 1), [0, 1, 2, 3, 4, 5] * 2, "many scores are outside [0,1]: set 'data.score_range=[0,5]'"),
        ((0, 5), [1, 40, 99] * 4, "many scores are outside [0,5]: set 'data.score_range=[0,100]'"),
        ((0, 1), [-0.5, 1] * 6, "many scores are outside [0,1]: set 'data.score_range=[-1,1]'"),
        ((0, 1), [-3, 700.5] * 6, "many scores are outside [0,1]: set 'data.score_range=[-3,700.5]'"),
        ((0, 5), [1, 2, 3] * 50 + [6] * 7, None),  # fewer than a twentieth
    ],
)
def test_many_scores_outside_the_range_are_one_mistake(
    score_range: tuple[float, float], scores: list[float], expected: str | None
) -> None:
    rows = [(f"text {number}", f"other {number}", score) for number, score in enumerate(scores)]
    problems = _refusal(replace(SCORED, score_range=score_range), *rows)
    if expected is not None:
        assert problems == [f"data.score_range: {expected}"]
    else:
        assert problems[0].startswith("row ")
        assert len(problems) > 1
