"""A study: Optuna by ask and tell, with a frozen plan, an exact budget and trials that survive their worker.

Owns what lies in Optuna's storage and in the study's folder, ``sweeps/<study>``. Knows neither Hydra nor MLflow nor
how a trial is trained.
"""

from embedsweep.study.attempts import failure_of
from embedsweep.study.duplicates import (
    CONFIG_HASH,
    Duplicate,
    is_reused,
    replicate_config,
    trained_config,
    trained_params,
)
from embedsweep.study.final_scores import Finals
from embedsweep.study.objectives import best_of, better
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.opening import find_study, open_study
from embedsweep.study.pruners import PRUNED
from embedsweep.study.record import (
    EMISSIONS_KG,
    ENERGY_KWH,
    FAILURE,
    GPU_H,
    RETRY_OF,
    RUN_ID,
    StudyRecord,
    trial_folder,
)
from embedsweep.study.study import Study

__all__ = [
    "CONFIG_HASH",
    "EMISSIONS_KG",
    "ENERGY_KWH",
    "FAILURE",
    "GPU_H",
    "PRUNED",
    "RETRY_OF",
    "RUN_ID",
    "Duplicate",
    "Finals",
    "OpenTrial",
    "Study",
    "StudyRecord",
    "best_of",
    "better",
    "failure_of",
    "find_study",
    "is_reused",
    "open_study",
    "replicate_config",
    "trained_config",
    "trained_params",
    "trial_folder",
]
