"""Axes and values as Optuna has them, and back.

Owns the form in Optuna's storage: parameters by the axes' names, and a list as its text, since a choice there is a
number, a text, a boolean or None. Everything else of this project knows keys and values only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedsweep.config import shown
from embedsweep.schema import Axis, Choice, DiscreteAxis, Scalar
from embedsweep.search_space.cells import active_axes

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def distributions(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    """The axes as Optuna's distributions, by name."""
    return {axis.name: _distribution(axis) for axis in axes}


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, DiscreteAxis):
        return CategoricalDistribution([_stored(choice) for choice in axis.choices])
    if axis.integer:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def _stored(value: Choice) -> Scalar:
    return shown(value) if isinstance(value, tuple) else value


def optuna_params(axes: Sequence[Axis], cell: Mapping[str, Choice]) -> dict[str, Scalar]:
    """A cell's values as Optuna has them, by the names of the axes; keys that are no axis there are left out."""
    return {axis.name: _stored(cell[axis.key]) for axis in active_axes(axes, cell) if axis.key in cell}


def config_params(axes: Sequence[Axis], params: Mapping[str, Any]) -> dict[str, Choice]:
    """What Optuna has of a trial as values by their keys, in the order of the axes; it may lack some.

    Values of axes whose condition does not hold are left out.
    """
    given = {axis.name: axis for axis in axes if axis.name in params}
    cell = {axis.key: _value(axis, params[axis.name]) for axis in given.values() if not axis.when}
    searched = [axis for axis in axes if axis.name in given and axis.when.items() <= cell.items()]
    return {axis.key: _value(axis, params[axis.name]) for axis in searched}


def _value(axis: Axis, stored: Any) -> Choice:
    if isinstance(axis, DiscreteAxis) and isinstance(stored, str):
        return next((choice for choice in axis.choices if _stored(choice) == stored), stored)
    value: Choice = stored
    return value
