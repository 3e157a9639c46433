"""Cells of a search space: a value for each axis that is searched there.

Owns which axes belong to a cell and which values an axis has. A condition names swept groups only, whose axes have none
themselves. Knows neither Optuna nor what a value means.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from embedsweep.schema import Axis, Choice, DiscreteAxis, RangeAxis
from embedsweep.search_space.axes import rounded


def is_discrete(axis: Axis) -> bool:
    """Whether the axis has finitely many values by itself (``a,b`` and ``range()``; not ``interval()``)."""
    return isinstance(axis, DiscreteAxis) or axis.step is not None


def values_of(axis: Axis) -> list[Choice]:
    """All values of a discrete axis, in order."""
    if isinstance(axis, DiscreteAxis):
        return list(axis.choices)
    if axis.step is None:
        raise ValueError(f"{axis.key} is continuous")
    count = round((axis.high - axis.low) / axis.step) + 1
    values = [rounded(axis.low + index * axis.step) for index in range(count)]
    return [int(value) for value in values] if axis.integer else list(values)


def probes_of(axis: Axis) -> list[Choice]:
    """The values that show whether an axis is right: all of a discrete one, both ends of an interval."""
    if is_discrete(axis):
        return values_of(axis)
    assert isinstance(axis, RangeAxis)
    return [int(axis.low), int(axis.high)] if axis.integer else [axis.low, axis.high]


def value_on(axis: Axis, value: object) -> Choice:
    """A value as the axis has it: ``2`` is 2.0 on an axis of reals.

    Raises:
        ValueError: it does not lie on the axis.
    """
    plain = tuple(value) if isinstance(value, list | tuple) else value
    if isinstance(axis, DiscreteAxis):
        for choice in axis.choices:
            if choice == plain and isinstance(choice, bool) == isinstance(plain, bool):
                return choice
        raise ValueError(f"{value} is none of the choices")
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not axis.low <= plain <= axis.high:
        raise ValueError(f"{value} is not between {axis.low:g} and {axis.high:g}")
    if axis.step is not None:
        near = rounded(axis.low + round((plain - axis.low) / axis.step) * axis.step)
        if not math.isclose(near, plain, rel_tol=1e-9, abs_tol=1e-9 * axis.step):
            raise ValueError(f"{value} is no step")
        return int(near) if axis.integer else near
    if axis.integer and plain != int(plain):
        raise ValueError(f"{value} is no whole number")
    return int(plain) if axis.integer else float(plain)


def active_axes(axes: Sequence[Axis], cell: Mapping[str, Choice]) -> list[Axis]:
    """The axes that are searched with these options, the unconditional ones first.

    Args:
        axes: the search space.
        cell: key -> value, the options of swept groups among them; those of conditional axes may be missing.
    """
    always = [axis for axis in axes if not axis.when]
    return always + [axis for axis in axes if axis.when and axis.when.items() <= cell.items()]


def completed(axes: Sequence[Axis], cell: Mapping[str, Choice]) -> dict[str, Choice]:
    """The cell with the first value of every axis that it lacks, the conditional ones among them."""
    values = dict(cell)
    for part in ([axis for axis in axes if not axis.when], [axis for axis in axes if axis.when]):
        for axis in part:
            if axis.when.items() <= values.items():
                values.setdefault(axis.key, probes_of(axis)[0])
    return {axis.key: values[axis.key] for axis in active_axes(axes, values)}


def grid(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    """Every cell of discrete axes once, the last axis changing fastest and conditional ones inside of the others."""
    always = [axis for axis in axes if not axis.when]
    for outer in itertools.product(*(values_of(axis) for axis in always)):
        cell = dict(zip((axis.key for axis in always), outer, strict=True))
        inside = active_axes(axes, cell)[len(always) :]
        for inner in itertools.product(*(values_of(axis) for axis in inside)):
            yield {**cell, **dict(zip((axis.key for axis in inside), inner, strict=True))}


def grid_size(axes: Sequence[Axis]) -> int:
    """How many cells the grid of discrete axes has."""
    return sum(
        math.prod(len(values_of(axis)) for axis in active_axes(axes, options) if axis.key not in options)
        for options in _options(axes)
    )


def _options(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    """Every combination of the options that conditions look at."""
    groups = {group for axis in axes for group in axis.when}
    chosen = [axis for axis in axes if axis.key in groups]
    for values in itertools.product(*(values_of(axis) for axis in chosen)):
        yield dict(zip((axis.key for axis in chosen), values, strict=True))


def random_cell(axes: Sequence[Axis], given: Mapping[str, Choice], source: random.Random) -> dict[str, Choice]:
    """A cell drawn evenly, but for the values that are given."""
    cell = dict(given)
    for axis in (axis for axis in axes if not axis.when):
        cell.setdefault(axis.key, _random_value(axis, source))
    for axis in active_axes(axes, cell):
        cell.setdefault(axis.key, _random_value(axis, source))
    return {axis.key: cell[axis.key] for axis in active_axes(axes, cell)}


def _random_value(axis: Axis, source: random.Random) -> Choice:
    if is_discrete(axis):
        return source.choice(values_of(axis))
    assert isinstance(axis, RangeAxis)
    if axis.integer and not axis.log:
        return source.randint(int(axis.low), int(axis.high))
    if not axis.log:
        return source.uniform(axis.low, axis.high)
    # Whole numbers count from half below the lowest to half above the highest, as Optuna draws them.
    half = 0.5 if axis.integer else 0.0
    drawn = math.exp(source.uniform(math.log(axis.low - half), math.log(axis.high + half)))
    value = min(max(drawn, axis.low), axis.high)
    return round(value) if axis.integer else value
