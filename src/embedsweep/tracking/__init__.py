"""The only writer to MLflow: a store is opened, a study's and its trials' runs are written, people look at them.

Owns the names of experiments, tags and params that others read, and how MLflow is kept from blocking, chattering and
losing data: where the store goes away, what is recorded waits on this disk. Must not know Optuna, Hydra or how a trial
is trained, and never uses MLflow's active run: every call names its run, so a trial that died cannot catch the next
one's numbers.
"""

from __future__ import annotations

from embedsweep.tracking.downloads import download_model, runs_with_model
from embedsweep.tracking.params import flatten
from embedsweep.tracking.replay import replay_spool, store_name
from embedsweep.tracking.runs import ParentStatus, Tracker
from embedsweep.tracking.spool import Spool, all_spools, begun_as
from embedsweep.tracking.store import import_mlflow, store_kind
from embedsweep.tracking.trial_run import TrialState, TrialTracker
from embedsweep.tracking.ui import open_ui

__all__ = [
    "ParentStatus",
    "Spool",
    "Tracker",
    "TrialState",
    "TrialTracker",
    "all_spools",
    "begun_as",
    "download_model",
    "flatten",
    "import_mlflow",
    "open_ui",
    "replay_spool",
    "runs_with_model",
    "store_kind",
    "store_name",
]
