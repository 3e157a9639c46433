"""Scored pairs, their digest, and how they become positive pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedsweep.data.pairs import Pairs, Splits, to_positive_pairs
from embedsweep.errors import ConfigError
from embedsweep.schema import ConvertConfig

PAIRS = Pairs(
    sentences1=("a cat", "a dog", "a cow", "a hen"),
    sentences2=("the cat", "the dog", "a car", "a plane"),
    scores=(1.0, 0.8, 0.5, 0.0),
    origin="train.csv",
)
SPLITS = Splits(train=PAIRS, dev=PAIRS, test=PAIRS)


def test_positive_pairs_are_those_at_or_above_the_threshold() -> None:
    positives = to_positive_pairs(PAIRS, ConvertConfig(0.8, both_directions=False), (0.0, 5.0))
    assert positives.anchors == ("a cat", "a dog")
    assert positives.positives == ("the cat", "the dog")
    assert positives.origin == "train.csv"
    assert positives.conversion == "positive pairs: score >= 0.8 (4 of 0-5), 2 of 4 kept, both directions: no"


def test_both_directions_add_every_pair_turned_round() -> None:
    positives = to_positive_pairs(PAIRS, ConvertConfig(0.8, both_directions=True), (0.0, 5.0))
    assert positives.anchors == ("a cat", "a dog", "the cat", "the dog")
    assert positives.positives == ("the cat", "the dog", "a cat", "a dog")
    assert len(positives) == 4
    assert positives.conversion.endswith("2 of 4 kept, both directions: yes")


@pytest.mark.parametrize(("low", "high", "threshold"), [(1, 5, 0.9), (0, 3, 0.1), (-1, 1, 0.55), (0, 100, 0.07)])
def test_a_score_written_exactly_at_the_threshold_is_kept(low: float, high: float, threshold: float) -> None:
    written = float(f"{low + threshold * (high - low):.6g}")
    score = (written - low) / (high - low)
    pairs = replace(PAIRS, scores=(1.0, score, 0.0, 0.0))
    assert len(to_positive_pairs(pairs, ConvertConfig(threshold, both_directions=False), (low, high))) == 2


@pytest.mark.parametrize("both_directions", [False, True])
def test_a_threshold_that_leaves_one_pair_is_refused_with_the_highest_scores(both_directions: bool) -> None:
    with pytest.raises(ConfigError) as error:
        to_positive_pairs(PAIRS, ConvertConfig(0.9, both_directions), (0.0, 5.0))
    assert str(error.value) == (
        "data.convert.positive_threshold: 0.9 (4.5 of 0-5) leaves 1 of 4 pairs of train.csv, and a loss on positive "
        "pairs needs at least 2; the highest scores there, on 0-1, are 1, 0.8, 0.5: "
        "lower data.convert.positive_threshold"
    )


def test_the_digest_is_short_and_stays_the_same_between_processes() -> None:
    assert SPLITS.digest == "3ee3ff15b835dfb7"
    assert Splits(PAIRS, PAIRS, PAIRS).digest == SPLITS.digest


@pytest.mark.parametrize(
    "changed",
    [
        replace(PAIRS, sentences1=("a cat!", *PAIRS.sentences1[1:])),
        replace(PAIRS, sentences2=("the cat!", *PAIRS.sentences2[1:])),
        replace(PAIRS, scores=(0.9, *PAIRS.scores[1:])),
        replace(PAIRS, sentences1=PAIRS.sentences2, sentences2=PAIRS.sentences1),
        PAIRS.first(3),
    ],
    ids=["text", "other text", "score", "sides", "rows"],
)
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_digest_changes_with_any_content(changed: Pairs, split: str) -> None:
    assert replace(SPLITS, **{split: changed}).digest != SPLITS.digest


def test_the_digest_does_not_depend_on_where_the_content_came_from() -> None:
    assert replace(SPLITS, dev=replace(PAIRS, origin="elsewhere.csv")).digest == SPLITS.digest


@pytest.mark.parametrize(("limit", "count"), [(None, 4), (2, 2), (9, 4)])
def test_first_keeps_the_first_rows(limit: int | None, count: int) -> None:
    first = PAIRS.first(limit)
    assert (len(first), len(first.sentences1), len(first.sentences2)) == (count, count, count)
