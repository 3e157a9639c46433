"""Make the frozen configuration of a cell, and check the constraints of a plan.

A command and the workers of its study make a ``TrialConfig`` in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from embedsweep.config.axes import grid, grid_size
from embedsweep.config.constraints import parse_constraint
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.config.values import resolve, value_at
from embedsweep.errors import ConfigError, Problem
from embedsweep.validation.overrides import Cell, cell_name, section_of
from embedsweep.validation.rules import check_trial
from embedsweep.validation.sections import TRIAL_SECTIONS, read_trial


def trial_sections(cell: Cell) -> dict[str, Any]:
    """Return the sections of a composed configuration that decide a trial, unresolved."""
    return {name: cell.composed.get(name) for name in TRIAL_SECTIONS}


def read_cell(
    cell: Mapping[str, Any], values: Mapping[str, Any], objective: str, rungs: tuple[float, ...] = ()
) -> TrialConfig:
    """Return a cell as its frozen type.

    Raises:
        ConfigError: everything wrong with it.
    """
    tree = resolve(cell, values, TRIAL_SECTIONS)
    problems: list[Problem] = []
    config = read_trial(tree, objective, rungs, problems)
    problems += check_trial(config, broken={problem.where for problem in problems})
    if problems:
        raise ConfigError(problems)
    return config


def cell_config(plan: StudyPlan, params: Mapping[str, Choice]) -> TrialConfig:
    """Return the configuration of one cell of a study: its frozen options with the drawn values in place.

    Raises:
        ConfigError: everything wrong with it.
    """
    rungs = plan.pruning.rungs if plan.pruner != "none" else ()
    return read_cell(_options(plan, params), _values(plan, params), plan.objective, rungs)


def _options(plan: StudyPlan, params: Mapping[str, Choice]) -> Mapping[str, object]:
    return plan.cells[cell_name({group: params[group] for group in plan.groups})]


def _values(plan: StudyPlan, params: Mapping[str, Choice]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in params.items()
        if key not in plan.groups
    }


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
        cell = _options(plan, params)
        value = value_at(cell, key)
        if not (isinstance(value, str) and "${" in value):
            return value
        return value_at(resolve(cell, _values(plan, params), (section_of(key),)), key)

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
