"""The cells of a study's plan: their configurations, the constraints on them, and the grid."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from embedsweep.config.axes import grid, grid_size
from embedsweep.config.constraints import parse_constraint
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.config.values import resolve, value_at
from embedsweep.errors import Problem, raise_problems
from embedsweep.validation.cells import cell_name, read_cell, section_of, typed_cell


def cell_config(plan: StudyPlan, params: Mapping[str, Choice], refused: Collection[str] = ()) -> TrialConfig:
    """Return the configuration of one cell of a study: its frozen options with the drawn values in place.

    For ``refused`` see :func:`~embedsweep.validation.cells.read_cell`.

    Raises:
        ConfigError: everything wrong with it.
    """
    return read_cell(*_options_and_values(plan, params), plan, refused)


def frozen_config(plan: StudyPlan, params: Mapping[str, Choice]) -> TrialConfig:
    """Return the configuration of a cell that was trained before; its model and data need not be here any more.

    Raises:
        ConfigError: a value has another type, or is out of its bounds.
    """
    problems: list[Problem] = []
    config = typed_cell(*_options_and_values(plan, params), plan, problems)
    raise_problems(problems)
    return config


def _options_and_values(
    plan: StudyPlan, params: Mapping[str, Choice]
) -> tuple[Mapping[str, object], dict[str, object]]:
    """Return the composed options of one cell of a study, and the values to set in them."""
    options = plan.cells[cell_name({group: params[group] for group in plan.groups})]
    values = {key: value for key, value in params.items() if key not in plan.groups}
    return options, {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def broken_constraint(plan: StudyPlan, params: Mapping[str, Choice]) -> str | None:
    """Return the first constraint that a cell breaks; None if it breaks none.

    Args:
        plan: what holds the constraints.
        params: a value for each axis, or for some of them: a constraint on any other axis counts as kept.

    Raises:
        ValueError: a constraint is on a value that is not a number.
    """

    def value_of(key: str) -> object:
        if key in params:
            return params[key]
        is_open = any(axis.key == key and _may_hold(axis.when, params) for axis in plan.axes)
        if is_open or any(group not in params for group in plan.groups):
            return None
        cell, values = _options_and_values(plan, params)
        value = value_at(cell, key)
        if not (isinstance(value, str) and "${" in value):
            return value
        return value_at(resolve(cell, values, (section_of(key),)), key)

    return next((text for text in plan.constraints if not parse_constraint(text).holds(value_of)), None)


def _may_hold(when: Mapping[str, str], params: Mapping[str, Choice]) -> bool:
    return all(params.get(group, option) == option for group, option in when.items())


def grid_cells(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    """Return every cell of a plan with discrete axes, without those that break a constraint.

    Raises:
        ValueError: a constraint is on a value that is not a number.
    """
    return (cell for cell in grid(plan.axes) if broken_constraint(plan, cell) is None)


def count_cells(plan: StudyPlan) -> int:
    """Return the number of cells of :func:`grid_cells`; with constraints, each is checked."""
    return sum(1 for _ in grid_cells(plan)) if plan.constraints else grid_size(plan.axes)
