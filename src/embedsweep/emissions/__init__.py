"""What a trial costs in energy and CO2, attempt by attempt.

Owns ``emissions.csv`` of a trial's folder and is the only package that knows CodeCarbon. Must not know Optuna, MLflow,
torch's training or which trial it measures. Every tracker counts the whole machine: in a process group only rank 0
may measure, and workers that run at the same time share the one of the process that started them.
"""

from embedsweep.emissions.countries import WORLD_AVERAGE, WORLD_AVERAGE_G_PER_KWH, country_problem
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.emissions.rows import COLUMNS
from embedsweep.emissions.share import share_path
from embedsweep.emissions.shared import SharedEmissions
from embedsweep.emissions.tracker import is_cpu_estimated

__all__ = [
    "COLUMNS",
    "WORLD_AVERAGE",
    "WORLD_AVERAGE_G_PER_KWH",
    "EmissionsMeter",
    "SharedEmissions",
    "country_problem",
    "is_cpu_estimated",
    "share_path",
]
