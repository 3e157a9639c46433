"""The ``data`` section of a configuration: which values each key takes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from embedsweep.config.compose import open_composer
from embedsweep.config.trial import BenchmarkConfig, DataConfig
from embedsweep.config.values import resolve
from embedsweep.errors import Problem
from embedsweep.validation.sections import read_section


@cache
def _composed(option: str) -> dict[str, Any]:
    with open_composer() as composer:
        return composer.compose({"data": option})


def _read(option: str, **values: Any) -> tuple[DataConfig, list[str]]:
    overrides = {"data.path": "folder"} | {f"data.{key}": value for key, value in values.items()}
    problems: list[Problem] = []
    tree = resolve(_composed(option), overrides, ("data",))
    config = read_section(DataConfig, "data", tree["data"], problems)
    return config, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("option", "key", "value", "read"),
    [
        ("csv", "delimiter", "\t", "\t"),
        ("csv", "delimiter", "tab", "\t"),
        ("csv", "delimiter", "\\t", "\t"),
        ("csv", "delimiter", ";", ";"),
        ("csv", "encoding", "Latin-1", "Latin-1"),
        ("csv", "columns", [2, 0, 1], (2, 0, 1)),
        ("csv", "score_range", [-1, 1], (-1.0, 1.0)),
        (
            "csv",
            "where",
            {"lang": "es", "year": 2012, "checked": True},
            {"lang": "es", "year": "2012", "checked": "true"},
        ),
        ("nli", "labels", [0, 1, 2], ("0", "1", "2")),
        ("nli", "labels", ["entailment ", "other"], ("entailment", "other")),
        ("nli", "labels", None, None),
        ("beir", "titles", True, True),
        ("news", "max_tokens", [512, 64], (512, 64)),
        ("news", "max_tokens", None, None),
        ("csv", "splits", {"train": ["train", "dev"], "dev": "dev", "test": []}, None),
    ],
)
def test_values_are_read(option: str, key: str, value: Any, read: Any) -> None:
    config, problems = _read(option, **{key: value})
    assert problems == []
    expected = {"train": ("train", "dev"), "dev": ("dev",), "test": ()} if key == "splits" else read
    assert getattr(config, key) == expected


@pytest.mark.parametrize(
    ("option", "key", "value", "message"),
    [
        ("csv", "delimiter", "::", "must be one character, such as "),
        ("csv", "delimiter", '"', "must be one character, such as "),
        ("csv", "encoding", "utf-9", "is unknown: utf-9; usual are utf-8, latin-1, cp1252, utf-16"),
        ("csv", "encoding", "base64", "is unknown: base64; usual are utf-8, latin-1, cp1252, utf-16"),
        ("csv", "score_range", [5, 0], "must be the lowest and the highest possible score, as [0,5], but got [5,0]"),
        ("csv", "score_range", [0, float("inf")], "must be the lowest and the highest possible score, as [0,5], but"),
        ("csv", "score_range", [False, True], "must be the lowest and the highest possible score, as [0,5], but"),
        ("csv", "columns", ["a", "b"], "must be 3 names of a header (sentence1, sentence2, score of data.shape="),
        ("csv", "columns", ["a", "b", 2], "must be 3 names of a header (sentence1, sentence2, score of data.shape="),
        ("csv", "columns", ["a", "a", "b"], "must be 3 names of a header (sentence1, sentence2, score of data.shape="),
        ("csv", "columns", [0, 1, -1], "must be 3 names of a header (sentence1, sentence2, score of data.shape="),
        (
            "csv",
            "format",
            "excel",
            "must be one of delimited, json_lines, parquet, semeval, beir, generated, null, but got 'excel'",
        ),
        (
            "csv",
            "titles",
            True,
            "are of documents in the layout of BEIR, and data.format=delimited has none: leave it at ",
        ),
        ("csv", "labels", ["a", "b"], "are names of classes, and data.shape=scored_pairs has none: leave them out "),
        ("nli", "labels", ["a"], "must be the names of at least two classes in the order of their numbers, as "),
        ("nli", "labels", ["a", "a "], "must be the names of at least two classes in the order of their numbers, as "),
        ("nli", "labels", [True, False], "must be the names of at least two classes in the order of their numbers, as"),
        (
            "news",
            "max_tokens",
            [256],
            "must be a number for each of anchor, positive (data.shape=positive_pairs), but ",
        ),
        (
            "news",
            "max_tokens",
            [256, 1],
            "must be a list of whole numbers of at least 2, as [64,32], or null, but",
        ),
    ],
)
def test_an_invalid_value_is_reported_by_its_key(option: str, key: str, value: Any, message: str) -> None:
    _, problems = _read(option, **{key: value})
    assert len(problems) == 1
    assert problems[0].startswith(f"data.{key}: {message}")


def test_a_benchmark_is_scored_whole() -> None:
    with open_composer() as composer:
        tree = composer.benchmark("demo-dev")
    problems: list[Problem] = []
    wrong = {**tree, "data": {**tree["data"], "limit": 50}}
    read_section(BenchmarkConfig, "evaluation.dev", wrong, problems)
    assert [str(problem) for problem in problems] == [
        "evaluation.dev.data.limit: cuts what is trained on, and a benchmark is scored whole: leave it out, but got 50"
    ]
