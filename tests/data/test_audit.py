"""Audits: counts, warnings and dropped leaks."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.trial import Shape
from embedsweep.data.audit import Lengths, Searched, Shared, audit, warnings
from embedsweep.data.examples import Examples, Splits
from embedsweep.data.leaks import drop_leaked
from embedsweep.data.scored import Pairs, Retrieval
from embedsweep.errors import ConfigError

TRAIN = Examples(
    "scored_pairs",
    (
        ("a cat", "a dog", "a cat", "the cat", "a cow", "same"),
        ("the cat", "the dog", "the cat", "a cat", "one more time", "same"),
    ),
    (1.0, 0.6, 1.0, 0.2, 0.0, 0.95),
    None,
    "train.csv",
    None,
)
DEV = Pairs(("The Dog ", "x y"), ("A DOG", "z"), (0.6, 0.0), "dev.csv")
TEST = Pairs(("a cow", "u", "x y"), ("v", "w", "z"), (0.6, 0.0, 0.1), "test.csv")
SPLITS = Splits(TRAIN, DEV, TEST)
CLEAN = Splits(
    Examples("scored_pairs", (("a", "b"), ("c", "d")), (0.0, 1.0), None, "train.csv", None),
    Pairs(("e", "f"), ("g", "h"), (0.0, 1.0), "dev.csv"),
    Pairs(("i", "j"), ("k", "l"), (0.0, 1.0), "test.csv"),
)


def test_shared_pairs_and_sentences_count_whatever_their_case_order_and_outer_space() -> None:
    assert dict(audit(SPLITS).shared) == {
        "train/dev": Shared(pairs=1, of=2, sentences=2),
        "train/test": Shared(pairs=0, of=3, sentences=1),
        "dev/test": Shared(pairs=1, of=3, sentences=2),
    }


def _retrieval(pairs: dict[str, str], others: tuple[str, ...]) -> Retrieval:
    """Return queries with one relevant document each, and other documents."""
    documents = (*pairs.values(), *others)
    ids = tuple(f"d{number}" for number in range(len(documents)))
    relevant = {f"q{number}": {ids[number]: 1.0, ids[-1]: 0.0} for number in range(len(pairs))}
    return Retrieval(tuple(relevant), tuple(pairs), ids, documents, relevant, "qrels.tsv")


PASSAGES = ("p", "q", "r", "s", "t", "u")
SEARCH = Splits(
    Examples("positive_pairs", (("a?", "b?", "c?"), ("p", "q", "r")), None, None, "train.tsv", None),
    _retrieval({"A?": "P ", "d?": "q"}, PASSAGES[2:]),
    _retrieval({"e?": "s", "f?": "t"}, ("p", "q", "p", "u")),
)


def test_queries_and_relevant_passages_that_splits_share_are_counted_and_the_whole_corpus_is_not() -> None:
    result = audit(SEARCH)
    assert dict(result.shared) == {
        "train/dev": Shared(pairs=1, of=2, sentences=3, queries=1, passages=2),
        "train/test": Shared(pairs=0, of=2, sentences=0, queries=0, passages=0),
        "dev/test": Shared(pairs=0, of=2, sentences=0, queries=0, passages=0),
    }
    leaves_out = "data.drop_leaked=true leaves them out of train"
    assert warnings(result) == [
        f"1 of 2 dev pairs and 1 queries and 2 relevant passages of dev also occur in train; {leaves_out}",
        "1 of the 6 documents for test have the text of an earlier one, as d4: where the qrels name one of the two, "
        "finding the other counts as wrong",
    ]


def test_what_is_searched_is_counted() -> None:
    result = audit(SEARCH)
    assert result.splits["dev"].searched == Searched(queries=2, documents=6, repeated=0, ids=())
    assert result.splits["test"].searched == Searched(queries=2, documents=6, repeated=1, ids=("d4",))
    assert result.splits["train"].searched is None


def test_lengths_are_of_each_query_and_each_relevant_document_once() -> None:
    relevant = {"q0": {"d0": 1.0, "d1": 2.0, "d2": 0.0}, "q1": {"d1": 1.0}}
    dev = Retrieval(("q0", "q1"), ("a b?", "c?"), ("d0", "d1", "d2"), ("p", "q r s", "t u"), relevant, "qrels.tsv")
    assert audit(replace(SEARCH, dev=dev)).splits["dev"].lengths == {
        "query": (Lengths("words", 1, 1.5, 2, None, 0, 2),),
        "relevant document": (Lengths("words", 1, 2, 3, None, 0, 2),),
    }


def test_training_pairs_that_share_a_query_or_a_relevant_passage_with_dev_or_test_are_dropped() -> None:
    texts = (("a?", "b?", "c?", "g?", "h?"), ("x", "q", "r", "u", "v"))
    train = Examples("positive_pairs", texts, None, None, "train.tsv", None)
    assert drop_leaked(replace(SEARCH, train=train)).texts == (("c?", "g?", "h?"), ("r", "u", "v"))


def test_kinds_of_duplicates_within_a_split_are_distinguished() -> None:
    train = audit(SPLITS).splits["train"]
    assert (train.examples, train.duplicates, train.turned, train.identical) == (6, 1, 1, 1)
    # "a cat" with "the cat" has 1.0 twice and 0.2 once.
    assert train.disagreeing == 1
    # Within a split case matters: these are two texts to a model that minds it.
    dev = audit(replace(SPLITS, dev=Pairs(("A", "a"), ("b", "b"), (0.0, 1.0), "dev.csv"))).splits["dev"]
    assert (dev.duplicates, dev.turned, dev.disagreeing) == (0, 0, 0)


def test_scores_fall_into_ten_bins() -> None:
    thirds = replace(TRAIN, labels=(1.0, 0.95, 3 / 5, 0.3, 0.29999, 0.0))
    labels = audit(replace(SPLITS, train=thirds)).splits["train"].labels
    assert {name: number for name, number in labels.items() if number} == {
        "0-0.1": 1,
        "0.2-0.3": 1,
        "0.3-0.4": 1,
        "0.6-0.7": 1,
        "0.9-1": 2,
    }
    assert len(labels) == 10


@pytest.mark.parametrize(
    ("examples", "labels"),
    [
        (Examples("class_texts", (("a", "b", "c"),), (2, 0, 2), ("x", "y", "z"), "f", None), {"x": 1, "y": 0, "z": 2}),
        (Examples("binary_pairs", (("a", "b", "c"), ("d", "e", "f")), (1, 0, 1), None, "f", None), {"0": 1, "1": 2}),
        (Examples("triplets", (("a",), ("b",), ("c",)), None, None, "f", None), {}),
    ],
)
def test_classes_are_counted_by_name(examples: Examples, labels: dict[str, int]) -> None:
    assert audit(replace(SPLITS, train=examples)).splits["train"].labels == labels


def test_lengths_are_in_words_and_in_tokens_where_they_are_counted() -> None:
    counted = audit(SPLITS, count=lambda texts: [len(text) for text in texts], maximum=5)
    assert counted.splits["train"].lengths == {
        "sentence1": (Lengths("words", 1, 2, 2, None, 0, 6), Lengths("tokens", 4, 5, 7, 5, 1, 6)),
        "sentence2": (Lengths("words", 1, 2, 3, None, 0, 6), Lengths("tokens", 4, 7, 13, 5, 4, 6)),
    }
    assert [len(each) for each in audit(SPLITS).splits["train"].lengths.values()] == [1, 1]


def test_a_triplet_leaks_by_its_anchor_with_either_other() -> None:
    triplets = Examples("triplets", (("a", "b"), ("p", "q"), ("n", "m")), None, None, "train.csv", None)
    dev = Pairs(("n", "p", "m"), ("a", "n", "b"), (0.0, 0.5, 1.0), "dev.csv")
    assert audit(replace(CLEAN, train=triplets, dev=dev)).shared["train/dev"] == Shared(pairs=2, of=3, sentences=5)


def test_single_texts_share_sentences_but_no_pairs() -> None:
    texts = Examples("texts", (("e", "f", "a"),), None, None, "train.csv", None)
    assert audit(replace(CLEAN, train=texts)).shared["train/dev"] == Shared(pairs=0, of=2, sentences=2)


def test_warnings_name_what_matters() -> None:
    assert warnings(audit(SPLITS, count=lambda texts: [len(text) for text in texts], maximum=6)) == [
        "1 of 2 dev pairs and 2 sentences of dev also occur in train; data.drop_leaked=true leaves them out of train",
        "1 sentences of test also occur in train; data.drop_leaked=true leaves them out of train",
        "1 of 3 test pairs and 2 sentences of test also occur in dev",
        "2 of 6 train examples are duplicates, 1 of them reversed; 1 of the repeated have different labels",
        "1 of 6 train examples have the same text twice",
        "1 of 6 texts in sentence1 of train are cut: the model reads 6 tokens, and they have up to 7",
        "4 of 6 texts in sentence2 of train are cut: the model reads 6 tokens, and they have up to 13",
        "1 of 2 texts in sentence1 of dev are cut: the model reads 6 tokens, and they have up to 8",
    ]


def test_duplicates_are_reported_with_the_places_of_the_first() -> None:
    lines = tuple(f"a/train.csv, line {number}" for number in (2, 3, 5, 6, 7, 8))
    train = replace(TRAIN, places=lines)
    assert warnings(audit(replace(CLEAN, train=train))) == [
        "2 of 6 train examples are duplicates, 1 of them reversed (a/train.csv, lines 5 and 6); 1 of the repeated have "
        "different labels (a/train.csv, lines 2, 5 and 6)",
        "1 of 6 train examples have the same text twice (a/train.csv, line 8)",
    ]
    pairs = Pairs(
        ("a",) * 5, ("b",) * 5, (0, 0, 0, 0, 0), "x + y", ("x, row 1", "x, row 2", "y, row 1", "y, row 2", "z")
    )
    (reported,) = warnings(audit(replace(CLEAN, dev=pairs)))[1:]
    assert reported == "4 of 5 dev examples are duplicates (x, row 2; y, rows 1 and 2)"


@pytest.mark.parametrize(
    ("first", "second", "quoted"),
    [
        (('"a"', '"b"', '"c"'), ("d", "e", "f"), 3),
        (("a", '"say ""b"", he said"', "c"), ("d", "e", "f"), 1),
        (('"Hello!"', "b", "c"), ("d", "e", "f"), 0),
        (('"a" and "b"', 'he said ""', "c"), ("d", "e", "f"), 0),
    ],
)
def test_texts_that_a_writer_has_quoted_are_warned_of(
    first: tuple[str, ...], second: tuple[str, ...], quoted: int
) -> None:
    train = Examples("scored_pairs", (first, second), (0.0, 1.0, 0.5), None, "train.tsv", None)
    result = audit(replace(CLEAN, train=train))
    assert result.splits["train"].quoted == quoted
    assert any("set data.quoting=double_quotes" in line for line in warnings(result)) == (quoted > 0)


def test_a_split_that_is_trained_on_is_reported_as_such() -> None:
    train = Examples("scored_pairs", (("a", "e", "f"), ("b", "G", "h")), (0.0, 1.0, 0.5), None, "t", None)
    assert warnings(audit(replace(CLEAN, train=train))) == ["dev is trained on: 2 of 2 pairs occur in train"]


@pytest.mark.parametrize(
    ("labels", "shape", "warned"),
    [
        ((0.0, 0.2), "scored_pairs", True),
        ((0.0, 0.25), "scored_pairs", True),
        ((0.0, 0.3), "scored_pairs", False),
        ((0.0, 0.0), "class_pairs", False),
    ],
)
def test_scores_of_another_scale_are_warned_of(labels: tuple[float, ...], shape: Shape, warned: bool) -> None:
    classes = ("x",) if shape == "class_pairs" else None
    train = replace(CLEAN.train, shape=shape, labels=labels, classes=classes)
    reported = (
        f"the highest score of train is {labels[1]:g} of data.score_range, taken as 0-1: if 1 is the highest possible "
        "score in the source, set 'data.score_range=[0,1]'"
    )
    assert warnings(audit(replace(CLEAN, train=train))) == ([reported] if warned else [])


def test_a_class_that_hardly_occurs_is_warned_of() -> None:
    texts = tuple(str(number) for number in range(300))
    classed = Examples("class_texts", (texts,), (1, *[0] * 299), ("often", "once"), "f", None)
    assert warnings(audit(replace(CLEAN, train=classed))) == ["only 1 of 300 train examples are of the class once"]


def test_clean_data_is_not_warned_of() -> None:
    assert warnings(audit(CLEAN)) == []


def test_dropping_leaks_leaves_nothing_shared_with_train() -> None:
    kept = drop_leaked(SPLITS)
    assert kept.texts == (("a cat", "a cat", "the cat", "same"), ("the cat", "the cat", "a cat", "same"))
    assert kept.labels == (1.0, 1.0, 0.2, 0.95)
    assert kept.conversion == "leaked: 2 of 6 examples share a sentence with dev or test, left out, 4 kept"
    shared = audit(replace(SPLITS, train=kept)).shared
    assert [shared[name].sentences for name in ("train/dev", "train/test")] == [0, 0]


def test_dropping_nearly_all_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        drop_leaked(replace(CLEAN, dev=Pairs(("a", "x"), ("y", "z"), (0.0, 1.0), "dev.csv")))
    assert str(error.value) == (
        "data.drop_leaked: leaves 1 of 2 examples of train.csv, and training needs at least 2: the others share a "
        "sentence with dev or test; use other data, or set data.drop_leaked=false"
    )


def _sts(folder: Path, language: str) -> Splits:
    pairs = {}
    for split in ("train", "dev", "test"):
        with (folder / "stsb_multi_mt" / f"stsb-{language}-{split}.csv").open(encoding="utf-8", newline="") as file:
            first, second, scores = zip(*csv.reader(file), strict=True)
        pairs[split] = Pairs(first, second, tuple(float(score) / 5 for score in scores), split)
    train = pairs["train"]
    examples = Examples("scored_pairs", (train.sentences1, train.sentences2), train.scores, None, "train", None)
    return Splits(examples, pairs["dev"], pairs["test"])


@pytest.mark.parametrize(
    ("language", "dev", "test", "sentences"), [("es", 11, 14, (256, 270)), ("en", 7, 12, (250, 256))]
)
def test_the_known_leaks_of_the_sts_benchmark(
    shared_data: Path, language: str, dev: int, test: int, sentences: tuple[int, int]
) -> None:
    splits = _sts(shared_data, language)
    shared = audit(splits).shared
    assert (shared["train/dev"].pairs, shared["train/test"].pairs) == (dev, test)
    assert (shared["train/dev"].sentences, shared["train/test"].sentences) == sentences


def test_the_known_repeats_of_the_spanish_sts_benchmark(shared_data: Path) -> None:
    found = audit(_sts(shared_data, "es")).splits
    assert found["train"].duplicates == 46
    assert found["test"].identical == 10


def test_an_audit_of_5749_rows_is_fast(shared_data: Path) -> None:
    splits = _sts(shared_data, "es")
    start = time.process_time()
    warnings(audit(splits))
    drop_leaked(splits)
    assert time.process_time() - start < 1
