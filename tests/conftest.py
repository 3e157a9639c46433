"""Fixtures that several test files use, and the order of the files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embedsweep.config.study import TrackingConfig
from embedsweep.data import beir, load
from embedsweep.tracking.runs import Tracker
from tests import postgres
from tests.seeing import seen, swept

if TYPE_CHECKING:
    from tests import buckets

__all__ = ["seen", "swept"]  # fixtures

# Torch's threads wait by spinning: with more of them than cores, tests take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


LONGEST_FIRST = (
    "faults/test_workers.py",
    "faults/test_outage.py",
    "faults/test_kill.py",
    "training/test_group.py",
    "faults/test_together.py",
    "faults/test_signals.py",
    "training/test_memory.py",
    "training/test_every_option.py",
    "workers/test_winner.py",
    "faults/",
    "validation/",
    "tracking/",
    "emissions/",
)
"""Files and folders that take longest. A file stays on one core: started last, it would leave the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; within a file, and among the others, the order stays."""

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((rank for rank, name in enumerate(LONGEST_FIRST) if path.startswith(name)), len(LONGEST_FIRST))

    items.sort(key=rank)


@pytest.fixture
def forget_data() -> Callable[[], None]:
    """A function after which data are read again, as in a new process; otherwise they are read once per process."""

    def forget() -> None:
        for value in (*vars(load).values(), *vars(beir).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()

    return forget


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository on development machines; not part of a clone."""
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
    """An empty MLflow store of the test, ``mlruns/mlflow.db`` in its ``tmp_path``."""
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    shutil.copy(mlflow_template, database)
    return TrackingConfig("local", f"sqlite:///{database}", spool=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for this test session."""
    binaries = postgres.binaries()
    if binaries is None:
        pytest.skip(postgres.MISSING)
    with postgres.running_server(binaries) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> str:
    """A new, empty database."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[buckets.Server]:
    """A server like S3 for this test session."""
    from tests import buckets  # boto3 and moto take a second to import

    with buckets.running_server() as server:
        yield server


@pytest.fixture
def s3(s3_server: buckets.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> buckets.Server:
    """The server, found by the environment of this process; no keys of this machine's user are."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty caches, a hub that refuses connections, and no cached answer of the probe."""
    import datasets
    from huggingface_hub import constants

    from embedsweep.hub import hub_reachable

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    hub_reachable.cache_clear()
    yield
    hub_reachable.cache_clear()
