"""The search space: what is swept, in Hydra's words, as axes, as cells, as Optuna's distributions, and back as values.

Owns axes, where each is searched, and the constraints between keys. Knows nothing of studies or trials.
"""

from embedsweep.search_space.axes import axis_of, axis_of_entry
from embedsweep.search_space.cells import (
    active_axes,
    completed,
    grid,
    grid_size,
    is_discrete,
    probes_of,
    random_cell,
    value_on,
    values_of,
)
from embedsweep.search_space.constraints import Constraint, parse_constraint
from embedsweep.search_space.parameters import config_params, distributions, optuna_params

__all__ = [
    "Constraint",
    "active_axes",
    "axis_of",
    "axis_of_entry",
    "completed",
    "config_params",
    "distributions",
    "grid",
    "grid_size",
    "is_discrete",
    "optuna_params",
    "parse_constraint",
    "probes_of",
    "random_cell",
    "value_on",
    "values_of",
]
