"""Types of keys, their description in words, and the reader of a section: all that is wrong is noted in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from embedsweep.config.reader import KeyReaders, Reader, parse
from embedsweep.config.trial import DataConfig, EvaluationConfig, ModelConfig
from embedsweep.config.types import AllowedWords, Bounds, Described, Key, allowed_words_of, describe, fields_of
from embedsweep.errors import Problem


@dataclass(frozen=True)
class Inner:
    steps: Annotated[int, Bounds(at_least=1)]


@dataclass(frozen=True)
class Outer:
    names: Annotated[tuple[str, ...], Key("name")]
    inner: Inner


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(at_least=0, at_most=1), (0, 0.5, 1), (-0.1, 1.1)),
        (Bounds(above=0, below=1), (0.1, 0.9), (0, 1)),
        (Bounds(), (-1e300, 0, 1e300), ()),
        (Bounds(at_least=1), (1, 10**400), (0, math.nan)),
    ],
)
def test_bounds_hold_inside_and_not_outside(
    bounds: Bounds, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert all(bounds.hold(value) for value in inside)
    assert not any(bounds.hold(value) for value in outside)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, "a text"),
        (str | None, "a text, or null"),
        (bool, "true or false"),
        (int, "a whole number"),
        (Annotated[int, Bounds(at_least=1)], "a whole number of at least 1"),
        (Annotated[int, Bounds(at_least=1)] | None, "a whole number of at least 1, or null"),
        (Annotated[int, Bounds(at_least=1)] | Literal["auto"], "a whole number of at least 1, or auto"),
        (Annotated[float, Bounds(above=0, at_most=1)], "a number above 0 and at most 1"),
        (Annotated[float, Bounds(at_least=0, below=1)], "a number of at least 0 and below 1"),
        (Literal["a", "b"], "one of a, b"),
        (Literal["a", "b"] | None, "one of a, b, null"),
        (Literal["auto", True, False], "one of auto, true, false"),
        (Annotated[str, AllowedWords(("a", "b"))], "one of a, b"),
        (Annotated[str, AllowedWords(("a", "b")), Described("a or a+b")] | None, "a or a+b, or null"),
        (tuple[str, ...], "a list of texts, as [a,b]"),
        (tuple[Annotated[int, Bounds(at_least=1)], ...], "a list of whole numbers of at least 1, as [64,32]"),
        (tuple[str | int, ...], "a list of texts or whole numbers, as [a,b]"),
        (tuple[Annotated[str, AllowedWords(("a", "b"))], ...], "a list of some of a, b"),
        (Mapping[str, str], "a mapping of names to values, as {a:1}"),
        (Inner, "a section with keys of its own"),
    ],
)
def test_a_type_is_described_in_words(hint: Any, words: str) -> None:
    assert describe(hint) == words


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, ()),
        (int | None, ()),
        (bool, ("true", "false")),
        (Literal["a", "b"] | None, ("a", "b", "null")),
        (Annotated[int, Bounds(at_least=1)] | Literal["auto"], ("auto",)),
        (tuple[Annotated[str, AllowedWords(("cls", "mean"))], ...], ("cls", "mean")),
    ],
)
def test_allowed_words_are_those_that_can_be_typed(hint: Any, words: tuple[str, ...]) -> None:
    assert allowed_words_of(hint) == words


def test_fields_are_named_by_their_keys() -> None:
    assert {name: key for name, (key, _) in fields_of(Outer).items()} == {"names": "name", "inner": "inner"}


@pytest.mark.parametrize("kind", [DataConfig, ModelConfig, EvaluationConfig])
def test_every_key_of_a_section_can_be_described(kind: type) -> None:
    descriptions = {name: describe(hint) for name, (_, hint) in fields_of(kind).items()}
    assert len(descriptions) >= 8
    assert not [name for name, words in descriptions.items() if "value" in words and name not in ("where", "splits")]


Count = Annotated[int, Bounds(at_least=1)]


@dataclass(frozen=True)
class Layer:
    size: Count
    activation: Literal["tanh", "relu"]


@dataclass(frozen=True)
class Net:
    name: str
    rate: Annotated[float, Bounds(above=0, at_most=1)]
    depth: Count | None
    layer: Layer
    head: Layer | None
    tags: tuple[str, ...]
    splits: Mapping[Literal["train", "dev"], tuple[str, ...]]
    prompts: Mapping[str, str]


RIGHT: dict[str, Any] = {
    "name": "net",
    "rate": 1,
    "depth": None,
    "layer": {"size": 2, "activation": "relu"},
    "head": None,
    "tags": "one",
    "splits": {"train": ["a"], "dev": None},
    "prompts": {"query": "q: "},
}


def _read(section: object) -> tuple[Net, list[str]]:
    problems: list[Problem] = []
    net = Reader(section, "net", problems).read(Net)
    return net, [str(problem) for problem in problems]


def test_a_section_becomes_its_dataclass() -> None:
    net, problems = _read(RIGHT)
    assert problems == []
    assert net == Net(
        "net", 1.0, None, Layer(2, "relu"), None, ("one",), {"train": ("a",), "dev": ()}, {"query": "q: "}
    )
    assert type(net.rate) is float


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"rate": 2}, ["net.rate: must be a number above 0 and at most 1, but got 2"]),
        ({"rate": "2"}, ["net.rate: must be a number above 0 and at most 1, but got '2'"]),
        ({"rate": "???"}, ["net.rate: must be given: net.rate=VALUE"]),
        ({"depth": 0}, ["net.depth: must be a whole number of at least 1, or null, but got 0"]),
        ({"layer": 3}, ["net.layer: must be a section with keys of its own, but got 3"]),
        ({"head": {"size": 1}}, ["net.head.activation: is missing from this option's YAML file"]),
        (
            {"layer": {"size": True, "activation": "rely"}},
            [
                "net.layer.size: must be a whole number of at least 1, but got true",
                "net.layer.activation: must be one of tanh, relu, but got 'rely' (did you mean relu?)",
            ],
        ),
        ({"tags": False}, ["net.tags: must be a list of texts, as [a,b], but got false"]),
        ({"splits": {"train": [], "dv": []}}, None),
        ({"prompts": {"query": 3}}, ["net.prompts.query: must be a text, but got 3"]),
        ({"prompts": {1: "x"}}, ["net.prompts: must be a mapping of names to values, as {a:1}, but got {1:x}"]),
        ({"nam": 1, 2: 3}, None),
    ],
)
def test_everything_wrong_is_noted_under_its_key(changes: dict[Any, Any], problems: list[str] | None) -> None:
    reported = _read({**RIGHT, **changes})[1]
    if problems is not None:
        assert reported == problems
    elif "splits" in changes:
        assert reported == [
            "net.splits.dev: is missing from this option's YAML file",
            "net.splits.dv: no such key (did you mean dev?); there are: dev, train",
        ]
    else:
        assert [problem.partition(";")[0] for problem in reported] == [
            "net.2: no such key",
            "net.nam: no such key (did you mean name?)",
        ]


def test_a_section_that_is_none_is_one_problem() -> None:
    assert _read(None)[1] == ["net: must be a section with keys of its own, but got null"]


def test_a_key_with_a_reader_of_its_own_is_read_by_it() -> None:
    problems: list[Problem] = []
    readers: KeyReaders = {(Layer, "size"): lambda reader: reader.raw("size") * 2}
    assert Reader(RIGHT["layer"], "layer", problems, readers).read(Layer) == Layer(4, "relu")
    assert Reader(RIGHT, "net", problems, readers).read(Net).layer == Layer(4, "relu")
    assert problems == []


@pytest.mark.parametrize(
    ("value", "hint", "parsed"),
    [
        (3, float, 3.0),
        ("auto", Count | Literal["auto"], "auto"),
        (4, Count | Literal["auto"], 4),
        ("b", Annotated[str, AllowedWords(("a", "b"))], "b"),
        (10**400, int, 10**400),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        (None, tuple[int, ...], ()),
        (None, tuple[int, ...] | None, None),
        ([], tuple[int, ...] | None, None),
        (False, Literal["auto", True, False], False),
    ],
)
def test_a_value_is_parsed_as_its_type_says(value: object, hint: Any, parsed: object) -> None:
    result = parse(value, hint)
    assert result == parsed
    assert type(result) is type(parsed)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (True, float),
        (1, bool),
        (0, Literal["auto", True, False]),
        (math.nan, float),
        (math.inf, float),
        (10**400, float),
        (" ", str),
        (None, str),
        (["a", 1], tuple[str, ...]),
        ([True], tuple[int, ...]),
        ({}, tuple[int, ...]),
        ([0.5], tuple[int, ...]),
    ],
)
def test_a_value_of_another_type_is_refused(value: object, hint: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse(value, hint)


def test_a_real_that_is_whole_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"but got 8\.0; write 8, and int\(interval\(\.\.\.\)\) where it is swept"):
        parse(8.0, Count)
