"""Scored pairs, the examples they can be, and the digest of splits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedsweep.data.examples import Splits, as_examples, as_pairs
from embedsweep.data.scored import Pairs

PAIRS = Pairs(
    sentences1=("a cat", "a dog", "a cow", "a hen"),
    sentences2=("the cat", "the dog", "a car", "a plane"),
    scores=(1.0, 0.8, 0.5, 0.0),
    origin="train.csv",
)
FIRST_THREE = as_pairs(as_examples(PAIRS).kept(range(3), None))
SPLITS = Splits(train=as_examples(PAIRS), dev=PAIRS, test=PAIRS)


def test_the_digest_is_short_and_stays_the_same_between_processes() -> None:
    assert SPLITS.digest == "3ee3ff15b835dfb7"
    assert Splits(as_examples(PAIRS), PAIRS, PAIRS).digest == SPLITS.digest


@pytest.mark.parametrize(
    "changed",
    [
        replace(PAIRS, sentences1=("a cat!", *PAIRS.sentences1[1:])),
        replace(PAIRS, sentences2=("the cat!", *PAIRS.sentences2[1:])),
        replace(PAIRS, scores=(0.9, *PAIRS.scores[1:])),
        replace(PAIRS, sentences1=PAIRS.sentences2, sentences2=PAIRS.sentences1),
        FIRST_THREE,
    ],
    ids=["text", "other text", "score", "sides", "rows"],
)
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_digest_changes_with_any_content(changed: Pairs, split: str) -> None:
    whole = {
        "train": replace(SPLITS, train=as_examples(changed)),
        "dev": replace(SPLITS, dev=changed),
        "test": replace(SPLITS, test=changed),
    }
    assert whole[split].digest != SPLITS.digest


def test_the_digest_does_not_depend_on_where_the_content_came_from() -> None:
    assert replace(SPLITS, dev=replace(PAIRS, origin="elsewhere.csv")).digest == SPLITS.digest


def test_the_digest_of_pairs_is_of_their_content() -> None:
    assert PAIRS.digest == replace(PAIRS, origin="elsewhere.csv", places=("1", "2", "3", "4")).digest
    others = (FIRST_THREE, replace(PAIRS, scores=(0.9, *PAIRS.scores[1:])), replace(PAIRS, sentences1=("x",) * 4))
    assert len({PAIRS.digest, *(other.digest for other in others)}) == 4


def test_pairs_become_examples_and_back() -> None:
    placed = replace(PAIRS, places=("1", "2", "3", "4"))
    assert as_pairs(as_examples(placed)) == PAIRS
    assert as_pairs(as_examples(placed)).places == placed.places
    with pytest.raises(ValueError, match="only scored pairs"):
        as_pairs(replace(as_examples(PAIRS), shape="positive_pairs", labels=None))
