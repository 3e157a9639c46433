"""Find the best fine-tuning recipe for a sentence-embedding model.

    >>> import embedsweep
    >>> study = embedsweep.sweep(["loss=mnrl,cosent"])
    >>> study.trials()
    >>> study.model().encode(["a sentence"])

Each name is imported when it is first used, so that ``import embedsweep`` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedsweep.commands.api import TrainedRun, compose, load_study, sweep, train
    from embedsweep.config.result import TrialResult
    from embedsweep.config.study import StudyPlan
    from embedsweep.config.trial import TrialConfig
    from embedsweep.errors import ConfigError, EmbedsweepError, Problem, StudyError, TrialError
    from embedsweep.report.loaded_study import LoadedStudy
    from embedsweep.report.results import StudyResults, TrialRow

__all__ = [
    "ConfigError",
    "EmbedsweepError",
    "LoadedStudy",
    "Problem",
    "StudyError",
    "StudyPlan",
    "StudyResults",
    "TrainedRun",
    "TrialConfig",
    "TrialError",
    "TrialResult",
    "TrialRow",
    "compose",
    "load_study",
    "sweep",
    "train",
]

_MODULES = {
    "commands.api": ("TrainedRun", "compose", "load_study", "sweep", "train"),
    "config.result": ("TrialResult",),
    "config.study": ("StudyPlan",),
    "config.trial": ("TrialConfig",),
    "errors": ("ConfigError", "EmbedsweepError", "Problem", "StudyError", "TrialError"),
    "report.loaded_study": ("LoadedStudy",),
    "report.results": ("StudyResults", "TrialRow"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
