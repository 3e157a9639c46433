"""Stores that the tests of tracking share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedsweep.config.study import TrackingConfig
from tests.tracking.stores import child, free_port, wait_for


@pytest.fixture(autouse=True)
def _no_active_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    import mlflow

    assert mlflow.active_run() is None


@pytest.fixture(scope="session")
def server(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a real tracking server, which takes about 5 s to start."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_template, folder / "server.db")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    port = free_port()
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with child(command, environment, folder / "server.log"):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=["sqlite", "server"])
def config(request: pytest.FixtureRequest) -> TrackingConfig:
    """Each kind of store; the server is shared, so every test names its own experiments."""
    if request.param == "sqlite":
        store = request.getfixturevalue("mlflow_store")
        assert isinstance(store, TrackingConfig)
        return store
    return TrackingConfig("server", request.getfixturevalue("server"), spool=False)
