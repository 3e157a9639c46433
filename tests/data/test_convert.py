"""Conversions between shapes: possible targets, converted rows and descriptions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedsweep.config.trial import SHAPES, ConvertConfig, Shape
from embedsweep.data.convert import CONVERSIONS, convert, target_shape
from embedsweep.data.examples import COLUMNS, LABELLED, Examples, text_columns
from embedsweep.errors import ConfigError

CONFIG = ConvertConfig(to=None, positive_threshold=0.8, both_directions=False, seed=42)
BOTH = replace(CONFIG, both_directions=True)
RANGE = (0.0, 5.0)
NLI = ("contradiction", "neutral", "entailment")


def _examples(shape: Shape, *rows: tuple[str | float, ...], classes: tuple[str, ...] | None = None) -> Examples:
    columns = list(zip(*rows, strict=True))
    labels = tuple(float(label) for label in columns.pop()) if shape in LABELLED else None
    return Examples(shape, tuple(columns), labels, classes, "train.csv", None)


SCORED = _examples(
    "scored_pairs", ("a cat", "the cat", 1.0), ("a dog", "the dog", 0.8), ("a cow", "a car", 0.5), ("a hen", "a cat", 0)
)
INFERENCE = _examples(
    "class_pairs", ("A", "B", 2), ("A", "C", 0), ("A", "D", 1), ("E", "F", 2), ("B", "A", 2), classes=NLI
)
TRIPLETS = _examples("triplets", ("a", "p", "n"), ("a", "p", "m"), ("b", "q", "a"))
TUPLES = _examples("tuples", ("a", "p", "n", "m"), ("a", "p", "k", "n"), ("b", "q", "a", "n"))
BINARY = _examples("binary_pairs", ("a", "b", 1), ("c", "d", 0), ("e", "a", 1))
POSITIVE = _examples("positive_pairs", ("a", "b"), ("c", "a"))
CLASSED = _examples("class_texts", ("a", 0), ("b", 1), ("a", 1), classes=("x", "y"))

TABLE = [
    pytest.param(
        SCORED, CONFIG, "positive_pairs", (("a cat", "a dog"), ("the cat", "the dog")), None,
        "positive pairs: score >= 0.8 (4 of 0-5), 2 of 4 kept, both directions: no",
        id="scored to positive",
    ),
    pytest.param(
        SCORED, BOTH, "positive_pairs",
        (("a cat", "a dog", "the cat", "the dog"), ("the cat", "the dog", "a cat", "a dog")), None,
        "positive pairs: score >= 0.8 (4 of 0-5), 2 of 4 kept, both directions: yes",
        id="scored to positive, both directions",
    ),
    pytest.param(
        SCORED, CONFIG, "binary_pairs", SCORED.texts, (1, 1, 0, 0),
        "binary pairs: 1 where score >= 0.8 (4 of 0-5), 2 of 4, 0 for the other 2",
        id="scored to binary",
    ),
    pytest.param(
        SCORED, CONFIG, "texts", (("a cat", "the cat", "a dog", "the dog", "a cow", "a car", "a hen"),), None,
        "texts: 7 different ones of 4 scored pairs",
        id="scored to texts",
    ),
    pytest.param(
        INFERENCE, CONFIG, "triplets", (("A", "B"), ("B", "A"), ("C", "C")), None,
        "triplets: 2 for each of the 1 sentences with an entailment and a contradiction, 2 from 5 pairs in both "
        "directions, seed 42",
        id="inference to triplets",
    ),
    pytest.param(
        INFERENCE, CONFIG, "positive_pairs", (("A", "E", "B"), ("B", "F", "A")), None,
        "positive pairs: class entailment, 3 of 5 kept, both directions: no",
        id="inference to positive",
    ),
    pytest.param(
        INFERENCE, BOTH, "positive_pairs", (("A", "E", "B", "B", "F", "A"), ("B", "F", "A", "A", "E", "B")), None,
        "positive pairs: class entailment, 3 of 5 kept, both directions: yes",
        id="inference to positive, both directions",
    ),
    pytest.param(
        INFERENCE, CONFIG, "binary_pairs", (("A", "A", "E", "B"), ("B", "C", "F", "A")), (1, 0, 1, 1),
        "binary pairs: entailment 1 (3), contradiction 0 (1), neutral left out (1)",
        id="inference to binary",
    ),
    pytest.param(
        INFERENCE, CONFIG, "scored_pairs", INFERENCE.texts, (1, 0, 0.5, 1, 1),
        "scored pairs: entailment 1 (3), neutral 0.5 (1), contradiction 0 (1)",
        id="inference to scored",
    ),
    pytest.param(
        INFERENCE, CONFIG, "texts", (("A", "B", "C", "D", "E", "F"),), None,
        "texts: 6 different ones of 5 class pairs",
        id="inference to texts",
    ),
    pytest.param(
        TRIPLETS, CONFIG, "positive_pairs", (("a", "b"), ("p", "q")), None,
        "positive pairs: anchor and positive of 3 triplets, 2 different ones, both directions: no",
        id="triplets to positive",
    ),
    pytest.param(
        TRIPLETS, CONFIG, "texts", (("a", "p", "n", "m", "b", "q"),), None,
        "texts: 6 different ones of 3 triplets",
        id="triplets to texts",
    ),
    pytest.param(
        TUPLES, BOTH, "positive_pairs", (("a", "b", "p", "q"), ("p", "q", "a", "b")), None,
        "positive pairs: anchor and positive of 3 tuples, 2 different ones, both directions: yes",
        id="tuples to positive",
    ),
    pytest.param(
        TUPLES, CONFIG, "triplets",
        (("a", "a", "a", "a", "b", "b"), ("p", "p", "p", "p", "q", "q"), ("n", "m", "k", "n", "a", "n")), None,
        "triplets: one for each negative of 3 tuples, 6",
        id="tuples to triplets",
    ),
    pytest.param(
        TUPLES, CONFIG, "texts", (("a", "p", "n", "m", "k", "b", "q"),), None,
        "texts: 7 different ones of 3 tuples",
        id="tuples to texts",
    ),
    pytest.param(
        BINARY, BOTH, "positive_pairs", (("a", "e", "b", "a"), ("b", "a", "a", "e")), None,
        "positive pairs: label 1, 2 of 3 kept, both directions: yes",
        id="binary to positive",
    ),
    pytest.param(
        BINARY, CONFIG, "scored_pairs", BINARY.texts, (1, 0, 1),
        "scored pairs: label 1 as score 1 (2), label 0 as score 0 (1)",
        id="binary to scored",
    ),
    pytest.param(
        BINARY, CONFIG, "texts", (("a", "b", "c", "d", "e"),), None,
        "texts: 5 different ones of 3 binary pairs",
        id="binary to texts",
    ),
    pytest.param(
        POSITIVE, CONFIG, "texts", (("a", "b", "c"),), None,
        "texts: 3 different ones of 2 positive pairs",
        id="positive to texts",
    ),
    pytest.param(
        POSITIVE, BOTH, "positive_pairs", (("a", "c", "b", "a"), ("b", "a", "a", "c")), None,
        "positive pairs: all 2, both directions: yes",
        id="positive in both directions",
    ),
    pytest.param(
        CLASSED, CONFIG, "texts", (("a", "b"),), None,
        "texts: 2 different ones of 3 class texts",
        id="class texts to texts",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("examples", "config", "to", "texts", "labels", "words"), TABLE)
def test_conversion(
    examples: Examples,
    config: ConvertConfig,
    to: Shape,
    texts: tuple[tuple[str, ...], ...],
    labels: tuple[float, ...] | None,
    words: str,
) -> None:
    became = convert(examples, to, config, RANGE)
    assert (became.shape, became.texts, became.labels, became.classes) == (to, texts, labels, None)
    assert (became.origin, became.conversion) == ("train.csv", words)
    assert len(became.texts) == len(text_columns(to, len(became.texts)))
    after_a_filter = convert(replace(examples, conversion="1 left out"), to, config, RANGE)
    assert after_a_filter.conversion == f"1 left out; {words}"


def test_the_table_above_has_every_conversion() -> None:
    tried = {(case.values[0].shape, case.values[2]) for case in TABLE}  # type: ignore[union-attr]
    assert tried == {*CONVERSIONS, ("positive_pairs", "positive_pairs")}
    assert len(CONVERSIONS) == 18


@pytest.mark.parametrize("examples", [SCORED, INFERENCE, TRIPLETS, TUPLES, BINARY, POSITIVE, CLASSED])
def test_examples_that_have_the_shape_stay_as_they_are(examples: Examples) -> None:
    assert convert(examples, examples.shape, CONFIG, RANGE) is examples


@pytest.mark.parametrize(("low", "high", "threshold"), [(1, 5, 0.9), (0, 3, 0.1), (-1, 1, 0.55), (0, 100, 0.07)])
@pytest.mark.parametrize("to", ["positive_pairs", "binary_pairs"])
def test_a_score_written_exactly_at_the_threshold_is_positive(
    low: float, high: float, threshold: float, to: Shape
) -> None:
    written = float(f"{low + threshold * (high - low):.6g}")
    scored = replace(SCORED, labels=(1.0, (written - low) / (high - low), 0.0, 0.0))
    became = convert(scored, to, replace(CONFIG, positive_threshold=threshold), (low, high))
    assert became.labels in (None, (1, 1, 0, 0))
    assert len(became) == (2 if to == "positive_pairs" else 4)


REFUSED = [
    pytest.param(
        SCORED, 0.9, "positive_pairs",
        "data.convert.positive_threshold: 0.9 (4.5 of 0-5) leaves 1 of 4 pairs of train.csv, and a loss on positive "
        "pairs needs at least 2; the highest scores there, on 0-1, are 1, 0.8, 0.5: "
        "lower data.convert.positive_threshold",
        id="one positive pair",
    ),
    pytest.param(
        replace(SCORED, labels=(0.2, 0.1, 0.3, 0.0)), 0.5, "binary_pairs",
        "data.convert.positive_threshold: 0.5 (2.5 of 0-5) makes 0 of 4 pairs of train.csv positive, and a loss on 0 "
        "and 1 needs both; the scores there, on 0-1, go from 0 to 0.3: set data.convert.positive_threshold between "
        "them",
        id="no positive",
    ),
    pytest.param(
        SCORED, 0.0, "binary_pairs",
        "data.convert.positive_threshold: 0 (0 of 0-5) makes 4 of 4 pairs of train.csv positive, and a loss on 0 "
        "and 1 needs both; the scores there, on 0-1, go from 0 to 1: set data.convert.positive_threshold between them",
        id="no negative",
    ),
    pytest.param(
        replace(INFERENCE, labels=(2, 1, 1, 2, 2)), 0.8, "triplets",
        "data.convert.to: no triplet can be built from train.csv: none of its sentences has both an entailment and a "
        "contradiction; if the loss takes positive pairs, set data.convert.to=positive_pairs to keep entailments",
        id="no triplet",
    ),
    pytest.param(
        replace(INFERENCE, classes=("0", "1", "2")), 0.8, "triplets",
        "data.labels: the classes of train.csv are 0, 1, 2; only contradiction, neutral, entailment can become "
        "triplets: name them so in the order of their numbers, or use a loss for class pairs",
        id="other classes",
    ),
    pytest.param(
        replace(INFERENCE, labels=(0, 1, 1, 2, 0)), 0.8, "positive_pairs",
        "data.convert.to: the 5 class pairs of train.csv become 1 positive pairs, and a loss needs at least 2: use "
        "more rows, for example by a higher data.limit, or another loss",
        id="one entailment",
    ),
    pytest.param(
        replace(INFERENCE, labels=(2, 1, 1, 2, 2)), 0.8, "binary_pairs",
        "data.convert.to: train.csv has 3 entailments and 0 contradictions, and a loss on 0 and 1 needs both: use "
        "rows of both, for example by a higher data.limit",
        id="no contradiction",
    ),
    pytest.param(
        replace(INFERENCE, labels=(1, 1, 1, 1, 1)), 0.8, "scored_pairs",
        "data.convert.to: all 5 pairs of train.csv are of the class neutral, and a loss on scores needs different "
        "ones: use rows of other classes, for example by a higher data.limit",
        id="one class",
    ),
    pytest.param(
        _examples("class_texts", ("a", 0), ("a", 1), classes=("x", "y")), 0.8, "texts",
        "data.convert.to: the 2 class texts of train.csv become 1 texts, and a loss needs at least 2: use more rows, "
        "for example by a higher data.limit, or another loss",
        id="one text",
    ),
]  # fmt: skip


@pytest.mark.parametrize("both_directions", [False, True])
@pytest.mark.parametrize(("examples", "threshold", "to", "message"), REFUSED)
def test_too_few_examples_left_are_refused_with_advice(
    examples: Examples, threshold: float, to: Shape, message: str, both_directions: bool
) -> None:
    config = replace(CONFIG, positive_threshold=threshold, both_directions=both_directions)
    with pytest.raises(ConfigError) as error:
        convert(examples, to, config, RANGE)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("shape", "wants", "to", "expected"),
    [
        ("scored_pairs", ("scored_pairs",), None, "scored_pairs"),
        ("scored_pairs", ("triplets", "positive_pairs"), None, "positive_pairs"),
        ("class_pairs", ("triplets", "positive_pairs"), None, "triplets"),
        ("class_pairs", ("triplets", "positive_pairs"), "positive_pairs", "positive_pairs"),
        ("triplets", ("triplets", "positive_pairs"), None, "triplets"),
        ("positive_pairs", ("triplets", "positive_pairs"), None, "positive_pairs"),
        ("triplets", ("triplets", "positive_pairs"), "positive_pairs", "positive_pairs"),
        ("positive_pairs", ("texts", "positive_pairs"), None, "positive_pairs"),
        ("class_pairs", ("class_pairs",), None, "class_pairs"),
        ("class_texts", ("texts",), None, "texts"),
    ],
)
def test_data_keeps_its_shape_if_the_loss_takes_it_else_gets_the_best_possible(
    shape: Shape, wants: tuple[Shape, ...], to: Shape | None, expected: Shape
) -> None:
    assert target_shape(shape, wants, to, "some") == expected


@pytest.mark.parametrize(
    ("shape", "wants", "to", "message"),
    [
        pytest.param(
            "texts", ("triplets", "positive_pairs"), None,
            "loss: loss=mnrl needs triplets (anchor, positive, negative: a text, one that means the same and one that "
            "does not), or positive_pairs (anchor, positive: two texts that mean the same); the data has texts (text: "
            "single texts), which can be converted to nothing else: take data of the shape triplets, positive_pairs, "
            "scored_pairs, class_pairs, tuples, binary_pairs, or another loss",
            id="nothing will do",
        ),
        pytest.param(
            "scored_pairs", ("class_texts",), None,
            "loss: loss=mnrl needs class_texts (text, label: a text and its class); the data has scored_pairs "
            "(sentence1, sentence2, score: two texts and a similarity score), which can be converted to "
            "positive_pairs, binary_pairs, texts: take data of the shape class_texts, or another loss",
            id="nothing the loss takes",
        ),
        pytest.param(
            "scored_pairs", ("triplets", "positive_pairs"), "triplets",
            "data.convert.to: data.shape=scored_pairs cannot be converted to triplets, only to "
            "positive_pairs, binary_pairs, texts; leave data.convert.to at null, which selects positive_pairs",
            id="not from this data",
        ),
        pytest.param(
            "scored_pairs", ("scored_pairs",), "texts",
            "data.convert.to: loss=mnrl does not take texts; it takes scored_pairs (sentence1, sentence2, score: two "
            "texts and a similarity score); leave data.convert.to at null, which selects scored_pairs",
            id="not for this loss",
        ),
        pytest.param(
            "texts", ("scored_pairs",), "scored_pairs",
            "data.convert.to: data.shape=texts cannot be converted to any other shape",
            id="requested and impossible",
        ),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_had_is_refused_with_columns_and_ways_out(
    shape: Shape, wants: tuple[Shape, ...], to: Shape | None, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        target_shape(shape, wants, to, "mnrl")
    assert str(error.value) == message


def test_every_shape_has_columns_and_can_stay_what_it_is() -> None:
    assert set(COLUMNS) == set(SHAPES)
    for shape in SHAPES:
        assert target_shape(shape, (shape,), None, "some") == shape
        assert len(text_columns(shape, len(COLUMNS[shape]))) == len(COLUMNS[shape]) - (shape in LABELLED)
