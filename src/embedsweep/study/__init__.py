"""A study: Optuna by ask and tell, with a frozen plan, an exact budget and trials that survive their worker.

Owns what lies in Optuna's storage and in the study's folder, ``sweeps/<study>``. Knows neither Hydra nor MLflow nor
how a trial is trained.
"""

from embedsweep.study.objectives import best_of, better
from embedsweep.study.opening import open_study
from embedsweep.study.pruners import PRUNED
from embedsweep.study.study import (
    CONFIG_HASH,
    EMISSIONS_KG,
    FAILURE,
    RUN_ID,
    SWEEPS,
    Finals,
    OpenTrial,
    Study,
    trial_folder,
)

__all__ = [
    "CONFIG_HASH",
    "EMISSIONS_KG",
    "FAILURE",
    "PRUNED",
    "RUN_ID",
    "SWEEPS",
    "Finals",
    "OpenTrial",
    "Study",
    "best_of",
    "better",
    "open_study",
    "trial_folder",
]
