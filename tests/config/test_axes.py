"""Hydra's words for a sweep as axes, as cells of a grid and as Optuna's distributions."""

from __future__ import annotations

import random
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from embedsweep.config.axes import (
    axis_of,
    axis_of_entry,
    config_params,
    distributions,
    grid,
    grid_size,
    is_discrete,
    optuna_params,
    probes_of,
    random_cell,
    value_on,
    values_of,
)
from embedsweep.config.compose import parse_words
from embedsweep.config.study import Axis, Choice, DiscreteAxis, RangeAxis
from embedsweep.errors import ConfigError


def _axis(value: str) -> Axis:
    (word,) = parse_words([f"x={value}"])
    return axis_of(word)


def _range(low: float, high: float, step: float | None, *, integer: bool = False, log: bool = False) -> RangeAxis:
    return RangeAxis("x", low, high, log=log, step=step, integer=integer, when={})


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ("a,b", ("a", "b")),
        ("choice(a,b)", ("a", "b")),
        ("choice(16,32,64)", (16, 32, 64)),
        ("1e-4,1e-3", (0.0001, 0.001)),
        ("choice(a)", ("a",)),
        ("null,16", (None, 16)),
        ("true,false", (True, False)),
        ("2,true", (2, True)),
        ("[128,64],[128],null", ((128, 64), (128,), None)),
        ("'a b',\"c,d\"", ("a b", "c,d")),
        ("sort(3,1,2)", (1, 2, 3)),
    ],
)
def test_a_list_is_a_discrete_axis_in_its_order(value: str, choices: tuple[Any, ...]) -> None:
    axis = _axis(value)
    assert axis == DiscreteAxis("x", choices, {})
    assert list(map(type, values_of(axis))) == list(map(type, choices))


@pytest.mark.parametrize(
    ("value", "axis", "values"),
    [
        ("range(1,4)", _range(1, 3, 1, integer=True), [1, 2, 3]),
        ("range(3)", _range(0, 2, 1, integer=True), [0, 1, 2]),
        ("range(8,64,8)", _range(8, 56, 8, integer=True), [8, 16, 24, 32, 40, 48, 56]),
        ("range(8,60,8)", _range(8, 56, 8, integer=True), [8, 16, 24, 32, 40, 48, 56]),
        ("range(1,2)", _range(1, 1, 1, integer=True), [1]),
        ("range(0,1,0.25)", _range(0, 0.75, 0.25), [0.0, 0.25, 0.5, 0.75]),
        ("range(0,0.3,0.1)", _range(0, 0.2, 0.1), [0.0, 0.1, 0.2]),
        ("range(0.1,0.4,0.1)", _range(0.1, 0.3, 0.1), [0.1, 0.2, 0.3]),
        ("range(0,0.35,0.1)", _range(0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
    ],
)
def test_a_range_leaves_its_end_out(value: str, axis: RangeAxis, values: list[float]) -> None:
    assert _axis(value) == axis
    assert values_of(axis) == values
    assert list(map(type, values_of(axis))) == list(map(type, values))
    assert is_discrete(axis)
    assert grid_size([axis]) == len(values)


@pytest.mark.parametrize(
    ("value", "axis", "ends"),
    [
        ("interval(0,0.2)", _range(0.0, 0.2, None), [0.0, 0.2]),
        ("interval(1e-6,1e-4)", _range(1e-6, 1e-4, None), [1e-6, 1e-4]),
        ("tag(log,interval(1e-6,1e-4))", _range(1e-6, 1e-4, None, log=True), [1e-6, 1e-4]),
        ("int(interval(1,8))", _range(1, 8, None, integer=True), [1, 8]),
        ("tag(log,int(interval(1,8)))", _range(1, 8, None, integer=True, log=True), [1, 8]),
        ("int(interval(1.5,8.5))", _range(1, 8, None, integer=True), [1, 8]),
    ],
)
def test_an_interval_is_sampled_and_its_ends_are_probed(value: str, axis: RangeAxis, ends: list[float]) -> None:
    assert _axis(value) == axis
    assert not is_discrete(axis)
    assert probes_of(axis) == ends
    assert list(map(type, probes_of(axis))) == list(map(type, ends))
    with pytest.raises(ValueError, match="x is continuous"):
        values_of(axis)


CHOICE = "a choice must be a number, a word, true, false, null or a list of such"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a,a", "the choices a, a contain a value twice"),
        ("null,null", "the choices null, null contain a value twice"),
        ("1,true", "the choices 1, true contain a value twice"),
        ("1,1.0", "the choices 1, 1.0 contain a value twice"),
        ("[1,2],[1,2]", "the choices [1,2], [1,2] contain a value twice"),
        ("[1,2],'[1,2]'", "the choices [1,2], [1,2] contain a value twice"),
        ("[1,[2]],3", f"{CHOICE}, but got [1,[2]]"),
        ("{a:1},b", f"{CHOICE}, but got {{a:1}}"),
        ("choice(1,2),3", f"{CHOICE}, but got another sweep"),
        ("shuffle(1,2)", "x=shuffle(1,2) cannot be searched; use a,b, range() or interval()"),
        ("glob(*)", "x=glob(*) cannot be searched; use a,b, range() or interval()"),
        ("range(5,1)", "range(5,1,1) must rise, by a step above 0, unshuffled"),
        ("range(1,1)", "range(1,1,1) must rise, by a step above 0, unshuffled"),
        ("range(5,1,-1)", "range(5,1,-1) must rise, by a step above 0, unshuffled"),
        ("range(1,5,0)", "range(1,5,0) must rise, by a step above 0, unshuffled"),
        ("shuffle(range(1,5))", "range(1,5,1) must rise, by a step above 0, unshuffled"),
        ("range(1e-5,1e-3)", "range(1e-05,0.001,1) is a single value; make the step, its third number, smaller"),
        ("interval(2,1)", "interval(2.0,1.0) must have its lower bound first"),
        ("interval(1,1)", "interval(1.0,1.0) must have its lower bound first"),
        ("tag(log,interval(0,1))", "the lower bound of a log interval must be above 0, but got 0.0"),
        ("tag(lg,interval(1,2))", "no tag lg (did you mean log?); there are: log"),
        ("tag(log,choice(1,2))", "tag(log, ...) takes an interval(): values with steps have no logarithmic scale"),
        ("tag(log,range(1,9))", "tag(log, ...) takes an interval(): values with steps have no logarithmic scale"),
    ],
)
def test_a_sweep_that_means_nothing_is_refused(value: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _axis(value)
    assert str(error.value) == f"x: {message}"


AROUND: dict[str, Any] = {"of": "model.lr", "low": 0.1, "high": 10, "log": True}


@pytest.mark.parametrize(
    ("entry", "axis"),
    [
        ("choice(16, 32)", DiscreteAxis("x", (16, 32), {})),
        ("interval(0.0, 0.2)", _range(0, 0.2, None)),
        ("range(1, 3)", _range(1, 2, 1, integer=True)),
        ([None, "mean", 3], DiscreteAxis("x", (None, "mean", 3), {})),
        (AROUND, _range(2e-6, 2e-4, None, log=True)),
        ({"of": "model.lr", "low": 0.5, "high": 1.5}, _range(1e-5, 3e-5, None)),
    ],
)
def test_an_entry_of_a_search_file_is_an_axis(entry: Any, axis: Axis) -> None:
    assert axis_of_entry("x", entry, {"model.lr": 2e-5}, "search=mine") == axis


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "3 is a single value; use choice(), range() or interval()"),
        (None, "null is a single value; use choice(), range() or interval()"),
        ("word", "word is a single value; use choice(), range() or interval()"),
        ({**AROUND, "hihg": 3}, "no such key: hihg (did you mean high?); it takes of, low, high, log"),
        ({"of": "model.lr"}, "lacks high, low"),
        ({**AROUND, "of": "model.foo"}, "is relative to model.foo, which must be a number above 0, but is null"),
        ({**AROUND, "of": "model.path"}, "is relative to model.path, which must be a number above 0, but is a/b"),
        ({**AROUND, "of": "zero"}, "is relative to zero, which must be a number above 0, but is 0"),
        ({**AROUND, "low": "a"}, "low must be a number, but got a"),
        ({**AROUND, "low": 10}, "low must be below high and both above 0, but got 0.0002 and 0.0002"),
        ({**AROUND, "low": -1}, "low must be below high and both above 0, but got -2e-05 and 0.0002"),
    ],
)
def test_an_invalid_entry_of_a_search_file_is_reported_with_its_place(entry: Any, message: str) -> None:
    lookup = {"model.lr": 2e-5, "model.path": "a/b", "zero": 0}
    with pytest.raises(ConfigError) as error:
        axis_of_entry("x", entry, lookup, "search=mine")
    assert str(error.value) == f"search=mine, x: {message}"


def test_a_grid_has_every_cell_once_the_last_axis_fastest() -> None:
    axes: list[Axis] = [DiscreteAxis("loss", ("mnrl", "cosent"), {}), _range(1, 3, 1, integer=True)]
    assert list(grid(axes)) == [
        {"loss": "mnrl", "x": 1},
        {"loss": "mnrl", "x": 2},
        {"loss": "mnrl", "x": 3},
        {"loss": "cosent", "x": 1},
        {"loss": "cosent", "x": 2},
        {"loss": "cosent", "x": 3},
    ]
    assert grid_size(axes) == 6


@pytest.mark.parametrize(
    ("value", "distribution"),
    [
        ("a,null", CategoricalDistribution(("a", None))),
        ("range(8,64,8)", IntDistribution(8, 56, step=8)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("range(0,0.3,0.1)", FloatDistribution(0, 0.2, step=0.1)),
        ("interval(0,0.2)", FloatDistribution(0, 0.2)),
        ("tag(log,interval(1e-6,1e-4))", FloatDistribution(1e-6, 1e-4, log=True)),
    ],
)
def test_each_axis_is_its_optuna_distribution(value: str, distribution: Any) -> None:
    assert distributions([_axis(value)]) == {"x": distribution}


# --- conditions


SCALE = RangeAxis("loss.scale", 1, 3, log=False, step=1, integer=True, when={"loss": "mnrl"})
DIMS = DiscreteAxis("loss.dims", ((8, 4), (8,)), {"loss": "cosent"})
AXES: list[Axis] = [SCALE, DiscreteAxis("loss", ("mnrl", "cosent", "cosine"), {}), DIMS, DiscreteAxis("b", (1, 2), {})]


def test_a_conditional_axis_is_named_by_where_it_is_searched() -> None:
    both = DiscreteAxis("x", (1, 2), {"loss": "mnrl", "model": "tiny"})
    assert [axis.name for axis in (*AXES, both)] == [
        *("loss.scale [loss=mnrl]", "loss", "loss.dims [loss=cosent]", "b", "x [loss=mnrl,model=tiny]"),
    ]


def test_a_grid_has_an_options_axes_in_its_own_cells_only() -> None:
    cells = list(grid(AXES))
    expected: list[dict[str, Choice]] = [
        {"loss": "mnrl", "b": batch, "loss.scale": scale} for batch in (1, 2) for scale in (1, 2, 3)
    ]
    expected += [{"loss": "cosent", "b": batch, "loss.dims": dims} for batch in (1, 2) for dims in ((8, 4), (8,))]
    expected += [{"loss": "cosine", "b": batch} for batch in (1, 2)]
    assert cells == expected
    assert grid_size(AXES) == len(expected) == 12


def test_what_optuna_has_of_a_cell_becomes_the_cell_again() -> None:
    for cell in grid(AXES):
        stored = optuna_params(AXES, cell)
        assert all(isinstance(value, str | int) for value in stored.values())
        assert all(name in distributions(AXES) for name in stored)
        assert config_params(AXES, stored) == cell
    assert optuna_params(AXES, {"loss": "cosent", "loss.dims": (8,)}) == {
        "loss": "cosent",
        "loss.dims [loss=cosent]": "[8]",
    }
    # Of another option's axis nothing is left; of a trial that has not all its values yet, what there is.
    assert config_params(AXES, {"loss": "mnrl", "loss.dims [loss=cosent]": "[8]"}) == {"loss": "mnrl"}


@pytest.mark.parametrize("axis", ["interval(0,0.2)", "tag(log,int(interval(1,8)))", "a,null", "range(0,1,0.25)"])
def test_random_values_lie_on_their_axis(axis: str) -> None:
    source = random.Random(3)
    drawn = {random_cell([_axis(axis)], {}, source)["x"] for _ in range(200)}
    for value in drawn:
        assert value_on(_axis(axis), value) == value
    assert len(drawn) >= 2


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("a,b", "b", "b"),
        ("2,true", True, True),
        ("[1,2],[3]", [1, 2], (1, 2)),
        ("interval(0,2)", 1, 1.0),
        ("int(interval(1,8))", 8.0, 8),
        ("range(8,64,8)", 16, 16),
        ("range(0,1,0.1)", 0.3, 0.3),
        ("a,b", "c", None),
        ("0,2", True, None),
        ("interval(0,2)", 2.1, None),
        ("interval(0,2)", True, None),
        ("interval(0,2)", "1", None),
        ("interval(0,2)", float("nan"), None),
        ("int(interval(1,8))", 2.5, None),
        ("range(8,64,8)", 17, None),
    ],
)
def test_a_value_is_on_an_axis_or_not(axis: str, value: object, expected: object) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"is no|is not|is none"):
            value_on(_axis(axis), value)
        return
    read = value_on(_axis(axis), value)
    assert (read, type(read)) == (expected, type(expected))
