"""A tracking server that goes away in the middle ends the command, and not the trials: they go on when it is back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from faults import studies

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real tracking server over a store in ``folder``; ended by the block, if not before."""
    where = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *where, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_server_that_goes_away_costs_no_trial(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "work"
    words = (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}")
    with server(tmp_path, port) as process:
        command = studies.start(folder, words)
        assert command.stdout is not None
        while "trial 0 11%" not in (line := command.stdout.readline()):
            assert line, "the command ended before its first evaluation"
        _end(process)
        ended = studies.finish(command)
    assert ended.code == 1, ended.output
    assert "goes on when the store answers again" in ended.output
    assert "Traceback" not in ended.output

    with server(tmp_path, port):
        again = studies.run(folder, words)
        assert again.code == 0, again.output
        client = MlflowClient(f"http://127.0.0.1:{port}")
        (name,) = (path.name for path in (folder / "sweeps").iterdir())
        experiment = client.get_experiment_by_name(name)
        runs = client.search_runs([experiment.experiment_id], "tags.`embedsweep.kind` = 'trial'")

    assert sorted(run.data.tags["embedsweep.trial"] for run in runs) == ["0", "1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    journal = JournalStorage(JournalFileBackend(str(folder / "sweeps" / name / "journal.log")))
    assert [trial.state.name for trial in optuna.load_study(study_name=name, storage=journal).trials] == [
        "COMPLETE"
    ] * 2
