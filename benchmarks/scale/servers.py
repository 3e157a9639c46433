"""The servers of the benchmark, on this machine's loopback: PostgreSQL as it comes, and MLflow on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import postgres
from tests.tracking.stores import child, free_port, wait_for

CONNECTIONS = 400
"""Each worker holds up to four connections; PostgreSQL allows 100 unless it is told otherwise."""

SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
"""PostgreSQL's defaults: the tests' server is told to lose data rather than time."""


@dataclass(frozen=True)
class Servers:
    """Where they are.

    Attributes:
        storage: URL of the studies' database.
        tracking: URL of the MLflow server.
    """

    storage: str
    tracking: str


@contextmanager
def running_database() -> Iterator[postgres.Server]:
    """Run PostgreSQL while the block runs.

    Raises:
        SystemExit: it is not installed.
    """
    binaries = postgres.binaries()
    if binaries is None:
        sys.exit(postgres.MISSING)
    postgres.SETTINGS.update({**SAFE, "max_connections": str(CONNECTIONS)})
    with postgres.running_server(binaries) as server:
        yield server


@contextmanager
def running_servers(folder: Path) -> Iterator[Servers]:
    """Run both while the block runs; MLflow keeps artifacts and its log in ``folder``."""
    with running_database() as database:
        port = free_port()
        store = ["--backend-store-uri", database.new_database(), "--artifacts-destination", str(folder / "artifacts")]
        command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with child([*command, "--workers", "2"], environment, folder / "server.log"):
            wait_for(f"http://127.0.0.1:{port}/health", 120.0)
            yield Servers(database.new_database(), f"http://127.0.0.1:{port}")
