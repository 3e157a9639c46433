"""What a trial costs in energy and CO2, attempt by attempt.

Owns ``emissions.csv`` of a trial's folder and is the only package that knows CodeCarbon. Must not know Optuna, MLflow,
torch's training or which trial it measures. In a process group only rank 0 may measure: every tracker counts the
whole machine.
"""

from embedsweep.emissions.countries import WORLD_AVERAGE, WORLD_AVERAGE_G_PER_KWH, country_problem
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.emissions.rows import COLUMNS

__all__ = ["COLUMNS", "WORLD_AVERAGE", "WORLD_AVERAGE_G_PER_KWH", "EmissionsMeter", "country_problem"]
