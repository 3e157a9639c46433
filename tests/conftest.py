"""What several test files start from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep import data
from embedsweep import data as data_module
from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.runs import Tracker

# Torch's threads wait by spinning: with more of them than cores, tests take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def forget_data() -> Callable[[], None]:
    """Makes the next who asks read data again, as a new process does; it is read once a process."""

    def forget() -> None:
        for module in (data, data_module):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()

    return forget


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data, laid beside the repository where it is developed; not part of a clone."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; MLflow takes a second or two to create one."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracker(TrackingConfig("local", f"sqlite:///{database}", spool=False))
    return database


@pytest.fixture
def mlflow_store(mlflow_template: Path, tmp_path: Path) -> TrackingConfig:
    """A test's own empty MLflow store, ``mlruns/mlflow.db`` in its ``tmp_path``."""
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    shutil.copy(mlflow_template, database)
    return TrackingConfig("local", f"sqlite:///{database}", spool=False)
