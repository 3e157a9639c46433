"""Positive pairs and triplets as queries and documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.trial import Shape
from embedsweep.data.examples import Examples
from embedsweep.data.load import load_retrieval
from embedsweep.data.passages import as_retrieval
from embedsweep.errors import ConfigError
from tests.configs import SCORED

PAIRED = replace(SCORED, name="csv", shape="positive_pairs", columns=("question", "answer"))


def _examples(*rows: tuple[str, ...]) -> Examples:
    shape: Shape = "positive_pairs" if len(rows[0]) == 2 else "triplets"
    places = tuple(f"line {number}" for number in range(1, len(rows) + 1))
    return Examples(shape, tuple(zip(*rows, strict=True)), None, None, "here", None, places)


def test_equal_texts_are_one_query_or_one_document() -> None:
    retrieval = as_retrieval(_examples(("a?", "x"), ("b?", "y"), ("a?", "y"), ("a?", "x")), [_examples(("c?", "z"))])
    assert retrieval.queries == ("a?", "b?")
    assert retrieval.documents == ("x", "y", "z")
    assert retrieval.relevant == {"0": {"0": 1.0, "1": 1.0}, "1": {"1": 1.0}}
    assert retrieval.places == ("line 1", "line 2")


def test_the_negative_of_a_triplet_is_judged_not_relevant_unless_it_is_a_positive() -> None:
    rows = (("a?", "x", "y"), ("a?", "y", "z"), ("a?", "w", "x"), ("b?", "z", "x"))
    retrieval = as_retrieval(_examples(*rows))
    assert retrieval.documents == ("x", "y", "z", "w")
    assert retrieval.relevant == {"0": {"0": 1.0, "1": 1.0, "2": 0.0, "3": 1.0}, "1": {"2": 1.0, "0": 0.0}}


def test_the_passages_of_all_splits_there_are_are_searched(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"question,answer\n{split} 1?,{split} 1\n{split} 2?,{split} 2\n")
    retrieval = load_retrieval(replace(PAIRED, path=str(tmp_path), limit=2), "test")
    assert retrieval.queries == ("test 1?", "test 2?")
    assert retrieval.documents == ("test 1", "test 2", "train 1", "train 2")
    (tmp_path / "train.csv").write_text("question,answer\ntrain 1?,\n")
    with pytest.raises(ConfigError, match=r"train.csv, line 2: answer is empty"):
        load_retrieval(replace(PAIRED, path=f"{tmp_path}/"), "test")


def test_one_file_is_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text("question,answer\na?,x\nb?,y\n")
    retrieval = load_retrieval(replace(PAIRED, path=str(tmp_path / "faq.csv")), "train")
    assert retrieval.documents == ("x", "y")


def test_other_shapes_have_no_documents() -> None:
    with pytest.raises(ConfigError) as error:
        load_retrieval(SCORED, "dev")
    assert str(error.value) == (
        "data.shape: data=csv has two texts and a similarity score (scored_pairs), so there are no documents to "
        "search: take data of positive_pairs or triplets, or data=beir"
    )
