"""A tracking server that becomes unreachable, or never was reachable, costs no trial and no record."""

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

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from tests.faults import studies
from tests.flaky_proxy import AFTER, BEFORE, Fault, flaky_proxy

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real tracking server over a store in ``folder``; the block ends it if it still runs."""
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


def _runs(port: int) -> tuple[MlflowClient, list[Run]]:
    """Return a client and all runs of the server."""
    client = MlflowClient(f"http://127.0.0.1:{port}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client, list(client.search_runs(experiments, run_view_type=ViewType.ALL))


def _check_equal(port: int, undisturbed: studies.Study) -> None:
    """Check that the server has each trial once, with the points of the undisturbed study."""
    client, runs = _runs(port)
    assert sorted(run.data.tags["embedsweep.kind"] for run in runs) == ["study", "trial", "trial"]
    (parent,) = (run for run in runs if run.data.tags["embedsweep.kind"] == "study")
    assert parent.info.status == "FINISHED"
    assert {"study/dev/spearman_cosine", "study/test/spearman_cosine"} <= parent.data.metrics.keys()
    for number in range(studies.N_TRIALS):
        (run,) = (run for run in runs if run.data.tags.get("embedsweep.trial") == str(number))
        expected = undisturbed.run_of(number)
        assert run.info.status == "FINISHED"
        assert run.data.params == expected.data.params
        assert run.data.tags["embedsweep.state"] == "COMPLETE"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        history = {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
            for name in run.data.metrics
        }
        wanted = undisturbed.history(expected)
        assert history.keys() == wanted.keys()
        for name, points in wanted.items():
            if name.startswith(("dev/", "best/", "test/", "train/")):
                assert history[name] == points, name
            assert len(history[name]) == len(points), name
        paths = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"config.yaml", "train.log", "emissions.csv", "scores"} <= paths
        scores = {item.path for item in client.list_artifacts(run.info.run_id, "scores")}
        assert scores == {item.path for item in undisturbed.client.list_artifacts(expected.info.run_id, "scores")}
        assert {"scores/dev.json", "scores/dev.parquet"} <= scores


def _sync(folder: Path, *words: str) -> studies.Command:
    return studies.start_program(folder, ["-m", "embedsweep", "sync", *words])


def test_records_of_an_outage_are_written_by_sync(tmp_path: Path, undisturbed: studies.Study) -> None:
    port, folder = free_port(), tmp_path / "work"
    words = (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}")
    with server(tmp_path, port) as process:
        command = studies.start(folder, words)
        studies.wait_for(command, "trial 0 11%")
        _end(process)
        ended = studies.finish(command)
    assert ended.code == 0, ended.output
    assert "Records wait on the local disk" in ended.output
    assert "embedsweep sync writes them when it answers" in ended.output
    assert "Traceback" not in ended.output

    refused = studies.finish(_sync(folder))
    assert refused.code == 1, refused.output
    assert "3 runs left" in refused.output
    with server(tmp_path, port):
        synced = studies.finish(_sync(folder))
        assert synced.code == 0, synced.output
        assert synced.output.count("records written") == 3
        _check_equal(port, undisturbed)
        assert studies.finish(_sync(folder)) == studies.Ended(0, "nothing waits in sweeps/*/spool\n")
        _check_equal(port, undisturbed)


def test_records_of_an_outage_are_written_when_the_server_is_back(tmp_path: Path, undisturbed: studies.Study) -> None:
    port, folder = free_port(), tmp_path / "work"
    words = (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}")
    with server(tmp_path, port) as process:
        command = studies.start(folder, words, ("wait", "tell"))  # long enough for a server to start
        studies.wait_for(command, "trial 0 11%")
        _end(process)
    with server(tmp_path, port):
        ended = studies.finish(command)
        assert ended.code == 0, ended.output
        # A server that is back within the repeated calls is not reported; tracking/test_record_writer.py has the lines.
        assert "embedsweep sync" not in ended.output
        _check_equal(port, undisturbed)
    assert list(folder.glob("sweeps/*/spool/*.jsonl")) == []


def test_a_server_that_fails_now_and_then_gets_every_record_during_the_sweep(
    tmp_path: Path, undisturbed: studies.Study
) -> None:
    port, folder = free_port(), tmp_path / "work"

    def fault(number: int) -> Fault:
        if number in (30, 60):
            return 8.0  # longer than a call may take that training waits for
        return None if number % 5 else (BEFORE, AFTER)[number % 2]

    with server(tmp_path, port), flaky_proxy(port, fault) as proxy:
        ended = studies.run(folder, (*studies.WORDS, f"tracking.uri={proxy.uri}"))
        assert ended.code == 0, ended.output
        assert proxy.requests > 100
        assert "embedsweep sync" not in ended.output
        assert "Traceback" not in ended.output
        _check_equal(port, undisturbed)
    assert list(folder.glob("sweeps/*/spool/*.jsonl")) == []


def test_an_unreachable_server_is_reported_within_15_s(tmp_path: Path) -> None:
    port = free_port()
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import embedsweep.commands.sweep, mlflow"], check=True)
    # Seconds on an idle machine; on a busy one they are not the server's fault.
    loading_s = time.monotonic() - began
    began = time.monotonic()
    ended = studies.run(tmp_path, (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}"), fresh=True)
    assert ended.code == 1, ended.output
    assert time.monotonic() - began < 15 + loading_s
    assert f"http://127.0.0.1:{port} cannot be opened" in ended.output
    assert "tracking.spool=true" in ended.output
    assert "Traceback" not in ended.output


def test_sync_writes_everything_even_if_it_is_killed_once(tmp_path: Path, undisturbed: studies.Study) -> None:
    port, folder = free_port(), tmp_path / "work"
    ended = studies.run(folder, (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}", "tracking.spool=true"))
    assert ended.code == 0, ended.output
    assert "embedsweep sync writes them when it answers" in ended.output
    with server(tmp_path, port):
        killed = _sync(folder)
        while not list(folder.glob("sweeps/*/spool/*.done")):
            assert killed.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        killed.kill()
        assert studies.finish(killed).code == -signal.SIGKILL
        assert list(folder.glob("sweeps/*/spool/*.jsonl")) != []
        assert studies.finish(_sync(folder)).code == 0
        _check_equal(port, undisturbed)


def test_a_server_that_hangs_for_a_while_delays_no_trial(tmp_path: Path, undisturbed: studies.Study) -> None:
    port, folder = free_port(), tmp_path / "work"
    words = (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}")
    with server(tmp_path, port) as process:
        command = studies.start(folder, words)
        studies.wait_for(command, "trial 0 11%")
        os.killpg(process.pid, signal.SIGSTOP)
        # Requests that timed out, and that the server carries out once it continues, must not be recorded twice.
        studies.wait_for(command, "trial 1 11%")
        os.killpg(process.pid, signal.SIGCONT)
        ended = studies.finish(command)
        assert ended.code == 0, ended.output
        if "embedsweep sync" in ended.output:  # the command had ended before the server was looked for again
            assert studies.finish(_sync(folder)).code == 0
        _check_equal(port, undisturbed)


def test_a_command_killed_during_an_outage_resumes_during_it(tmp_path: Path, undisturbed: studies.Study) -> None:
    port, folder = free_port(), tmp_path / "work"
    words = (*studies.WORDS, f"tracking.uri=http://127.0.0.1:{port}", "tracking.spool=true")
    killed = studies.run(folder, words, ("kill", "step:8"))
    assert killed.code == -signal.SIGKILL, killed.output
    again = studies.run(folder, words)
    assert again.code == 0, again.output
    with server(tmp_path, port):
        assert studies.finish(_sync(folder)).code == 0
        _check_equal(port, undisturbed)
