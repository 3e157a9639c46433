"""The gate: the one place where a command becomes a frozen configuration, or a list of all that is wrong with it.

Owns the passage: nothing below it reads a default, a composed configuration or YAML. Checks the whole grid against the
schema, the data, the losses and this machine, without torch, so that a mistake shows within two seconds.

``words`` sorts the command, ``sections`` reads types, ``rules`` checks how they go together, ``services`` what all
trials share; ``single`` and ``sweep`` are the two ways through. Of a sweep, ``spaces`` says what is searched,
``points`` what is tried first, ``probes`` whether its cells are right.
"""

from embedsweep.gate.cells import broken_constraint, cell_config, count_cells, grid_cells
from embedsweep.gate.probes import check_cells
from embedsweep.gate.services import check_reach
from embedsweep.gate.single import SingleRun, pass_single, pass_sync, pass_ui
from embedsweep.gate.sweep import Sweep, pass_sweep
from embedsweep.gate.workers import check_shares

__all__ = [
    "SingleRun",
    "Sweep",
    "broken_constraint",
    "cell_config",
    "check_cells",
    "check_reach",
    "check_shares",
    "count_cells",
    "grid_cells",
    "pass_single",
    "pass_sweep",
    "pass_sync",
    "pass_ui",
]
