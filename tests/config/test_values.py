"""Plain configurations: dotted keys, interpolations, values as text, and the nearest name."""

from __future__ import annotations

from typing import Any

import pytest

from embedsweep.config.values import (
    chosen_options,
    has_key,
    leaf_keys,
    listed,
    nearest,
    nearest_key,
    resolve,
    set_value,
    shown,
    value_at,
)
from embedsweep.errors import ConfigError
from embedsweep.tracking.names import option_tags

KEYS = ["loss.name", "loss.scale", "model.lr", "optimizer.lr", "optimizer.warmup", "dataloader.batch_size"]


@pytest.mark.parametrize(
    ("word", "known", "suggestion"),
    [
        ("mnlr", ["cosent", "cosine", "mnrl"], " (did you mean mnrl?)"),
        ("bogus", ["cosent", "cosine", "mnrl"], ""),
        ("a", [], ""),
    ],
)
def test_the_nearest_word_is_offered_where_one_is_near(word: str, known: list[str], suggestion: str) -> None:
    assert nearest(word, known) == suggestion


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("loss.scal", " (did you mean loss.scale?)"),
        ("optimizer.warm_up", " (did you mean optimizer.warmup?)"),
        ("lr", " (did you mean model.lr or optimizer.lr?)"),
        ("trainer.batchsize", " (did you mean dataloader.batch_size?)"),
        ("loss.temperature", ""),
    ],
)
def test_the_nearest_key_stands_beside_it_or_has_its_name(key: str, suggestion: str) -> None:
    assert nearest_key(key, KEYS) == suggestion


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, "null"),
        (True, "true"),
        (1e-05, "1e-05"),
        ("mnrl", "mnrl"),
        ([0, "a", None], "[0,a,null]"),
        ((1,), "[1]"),
        ({"of": "model.lr", "log": False}, "{of:model.lr,log:false}"),
    ],
)
def test_values_are_shown_as_they_are_typed(value: object, typed: str) -> None:
    assert shown(value) == typed


TREE: dict[str, Any] = {"a": {"b": None, "c": {"d": "???"}, "e": {}}, "f": 1}


@pytest.mark.parametrize(
    ("key", "is_there"),
    [("a", True), ("a.b", True), ("a.c.d", True), ("f", True), ("a.b.x", False), ("a.x", False), ("f.x", False)],
)
def test_a_key_exists_whatever_its_value(key: str, is_there: bool) -> None:
    assert has_key(TREE, key) is is_there


def test_leaf_keys_are_those_that_can_be_set() -> None:
    assert list(leaf_keys(TREE)) == ["a.b", "a.c.d", "a.e", "f"]


def test_values_are_set_and_read_by_dotted_key() -> None:
    tree: dict[str, Any] = {"a": {"b": 1}, "c": 2}
    set_value(tree, "a.b", 3)
    set_value(tree, "c", 4)
    assert tree == {"a": {"b": 3}, "c": 4}
    assert (value_at(tree, "a.b"), value_at(tree, "a.x"), value_at(tree, "c.x")) == (3, None, None)


def test_interpolations_follow_the_values_that_are_set() -> None:
    plain = {"model": {"lr": 1, "path": "???"}, "optimizer": {"lr": "${model.lr}"}, "other": {"x": "${nowhere}"}}
    resolved = resolve(plain, {"model.lr": 5}, ("model", "optimizer"))
    assert resolved == {"model": {"lr": 5, "path": "???"}, "optimizer": {"lr": 5}}


def test_unresolvable_interpolations_are_reported_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOPE", raising=False)
    plain = {"a": {"x": "${model.foo}"}, "b": {"y": "${oc.env:NOPE}"}, "c": {"z": 1}}
    with pytest.raises(ConfigError) as error:
        resolve(plain, {}, ("a", "b", "c"))
    assert [str(problem) for problem in error.value.problems] == [
        "a.x: Interpolation key 'model.foo' not found",
        "b.y: \"Environment variable 'NOPE' not found\"",
    ]


def test_options_are_chosen_by_group_and_values_are_not() -> None:
    words = [
        "loss=sharp",
        "loss@loss.inner=mnrl",
        "optimizer.lr=1e-3",
        "+loss.x='a=b'",
        "data='csv'",
        "recipe=distiluse",
    ]
    expected = {"loss": "sharp", "loss@loss.inner": "mnrl", "data": "csv", "recipe": "distiluse"}
    assert chosen_options(words) == expected
    assert option_tags(expected) == {
        "embedsweep.option.loss": "sharp",
        "embedsweep.option.loss.inner": "mnrl",
        "embedsweep.option.data": "csv",
        "embedsweep.option.recipe": "distiluse",
    }


def test_a_long_list_of_names_has_braces_for_what_differs() -> None:
    names = [f"{name}_at_{k}_{by}" for name in ("ndcg", "map") for k in (1, 5, 10) for by in ("cosine", "dot")]
    assert listed(names) == ", ".join(names)
    assert listed([*names, "map"]) == "{ndcg,map}_at_{1,5,10}_{cosine,dot}, map"
    assert listed(["a-b", *names]) == "a-b, {ndcg,map}_at_{1,5,10}_{cosine,dot}"
    assert listed([]) == ""
