"""Models that lie in the store only: found by their run's id, and brought onto this disk.

Owns the folder of copies, ``sweeps/downloads/<run id>``. Creates no store and writes into none.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from embedsweep.paths import MODEL, SWEEPS
from embedsweep.schema import TrackingConfig
from embedsweep.tracking.outages import telling
from embedsweep.tracking.store import locate, open_store

DOWNLOADS = SWEEPS / "downloads"


def runs_with_model(config: TrackingConfig, prefix: str) -> list[str]:
    """The ids of all runs that begin so and have a model among their artifacts; none where there is no store.

    Args:
        config: where the store is.
        prefix: hexadecimal digits, an id or the beginning of one.

    Raises:
        TrackingError: the store cannot be opened or read.
    """
    store = locate(config.uri)
    if store.database is not None and not store.database.is_file():
        return []
    client = open_store(store)
    with telling(f"the runs of MLflow's store {store} cannot be searched"):
        experiments = [found.experiment_id for found in client.search_experiments()]
        runs = client.search_runs(experiments, f"attributes.run_id LIKE '{prefix}%'") if experiments else []
        ids = [str(run.info.run_id) for run in runs]
        return [run_id for run_id in ids if MODEL in {entry.path for entry in client.list_artifacts(run_id)}]


def download_model(config: TrackingConfig, run_id: str) -> Path:
    """The folder of a run's model on this disk; it is copied there at the first call, whole or not at all.

    Raises:
        TrackingError: the store does not give it, or it cannot be written here.
    """
    folder = DOWNLOADS / run_id / MODEL
    if folder.is_dir():
        return folder
    store = locate(config.uri)
    client = open_store(store)
    with telling(f"the model of run {run_id} cannot be had from MLflow's store {store}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            Path(client.download_artifacts(run_id, MODEL, temporary)).rename(folder)
    return folder
