"""A cell becomes a frozen configuration: its options as plain containers, with the drawn values in place.

Owns the one way from containers to a ``TrialConfig``, for the command that asks and the worker that draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedsweep.config import resolve
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.rules import check_trial
from embedsweep.gate.sections import TRIAL_SECTIONS, read_trial
from embedsweep.gate.words import Cell, cell_name
from embedsweep.schema import Choice, StudyPlan, TrialConfig


def trial_sections(cell: Cell) -> dict[str, Any]:
    """The sections of a composed configuration that decide a trial, unresolved."""
    return {name: cell.composed.get(name) for name in TRIAL_SECTIONS}


def read_cell(
    cell: Mapping[str, Any], values: Mapping[str, Any], objective: str, rungs: tuple[float, ...] = ()
) -> TrialConfig:
    """A cell as its frozen type.

    Raises:
        ConfigError: all that is wrong with it.
    """
    tree = resolve(cell, values, TRIAL_SECTIONS)
    problems: list[Problem] = []
    config = read_trial(tree, objective, rungs, problems)
    problems += check_trial(config, broken={problem.where for problem in problems})
    if problems:
        raise ConfigError(problems)
    return config


def cell_config(plan: StudyPlan, params: Mapping[str, Choice]) -> TrialConfig:
    """The configuration of one cell of a study: its frozen options with the drawn values in place.

    Raises:
        ConfigError: all that is wrong with it.
    """
    cell = plan.cells[cell_name({group: params[group] for group in plan.groups})]
    values = {key: value for key, value in params.items() if key not in plan.groups}
    rungs = plan.pruning.rungs if plan.pruner != "none" else ()
    return read_cell(cell, values, plan.objective, rungs)
