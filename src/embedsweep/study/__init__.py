"""A study: Optuna by ask and tell, with a frozen plan, an exact budget and trials that survive their worker.

Owns what lies in Optuna's storage and in the study's folder, ``sweeps/<study>``. Knows neither Hydra nor MLflow nor
how a trial is trained.
"""

from embedsweep.study.opening import open_study
from embedsweep.study.study import (
    CONFIG_HASH,
    EMISSIONS_KG,
    FAILURE,
    RUN_ID,
    SWEEPS,
    Finals,
    OpenTrial,
    Study,
    best_of,
    trial_folder,
)

__all__ = [
    "CONFIG_HASH",
    "EMISSIONS_KG",
    "FAILURE",
    "RUN_ID",
    "SWEEPS",
    "Finals",
    "OpenTrial",
    "Study",
    "best_of",
    "open_study",
    "trial_folder",
]
