"""Stores are located, created once and opened without hanging."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, INVALID_PARAMETER_VALUE

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.store import mlflow_errors, waiting_for_lock
from tests.tracking.stores import begin, free_port, reader

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


def test_artifacts_lie_beside_the_database(mlflow_store: TrackingConfig, tmp_path: Path) -> None:
    trial = begin(Tracker(mlflow_store), "é ü#1 %20")
    (tmp_path / "file.txt").write_text("here")
    trial.log_artifact(tmp_path / "file.txt")
    reader(mlflow_store)
    found = tmp_path / "mlruns" / "artifacts" / "é ü#1 %20" / trial.run_id / "artifacts" / "file.txt"
    assert found.read_text() == "here"


@pytest.mark.parametrize("leftover", [None, "mlflow.db", "mlflow.db.new"])
def test_a_missing_store_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leftover: str | None) -> None:
    folder = tmp_path / "new" / "mlruns"
    if leftover:  # an empty database, or what a process killed while creating one left behind
        folder.mkdir(parents=True)
        (folder / leftover).write_bytes(b"" if leftover == "mlflow.db" else b"SQLite format 3\0 torn")
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(TrackingConfig("local", "sqlite:///new/mlruns/mlflow.db", spool=False))
    monkeypatch.chdir("/")
    begin(tracker).finish("COMPLETE")
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


FOUR_AT_ONCE = """
import sys
from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.runs import Tracker
from tests.tracking.stores import CONFIG
tracker = Tracker(TrackingConfig("local", sys.argv[1], spool=False))
parent = tracker.parent_run("together", {})
trial = tracker.trial_run("together", int(sys.argv[2]), CONFIG, "abc", parent=parent)
trial.log_metrics(0, {"dev/spearman_cosine": 0.5})
trial.finish("COMPLETE")
tracker.close()
"""


@pytest.mark.slow
def test_four_processes_create_one_store(tmp_path: Path) -> None:
    config = TrackingConfig("local", f"sqlite:///{tmp_path}/mlruns/mlflow.db", spool=False)
    own = (str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(own)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FOUR_AT_ONCE, config.uri, str(number)],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(4)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    # Neither MLflow nor Alembic prints anything.
    lines = [line for output in outputs for line in output.splitlines()]
    assert [line for line in lines if not line.endswith("of another command written")] == []
    client = reader(config)
    runs = client.search_runs([client.get_experiment_by_name("together").experiment_id])
    parents = [run for run in runs if run.data.tags["embedsweep.kind"] == "study"]
    trials = [run for run in runs if run.data.tags["embedsweep.kind"] == "trial"]
    assert len(parents) == 1
    assert sorted(run.data.tags["embedsweep.trial"] for run in trials) == ["0", "1", "2", "3"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parents[0].info.run_id}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite://", "keeps nothing"),
        ("sqlite:///:memory:", "keeps nothing"),
        ("sqlite:////proc/no/mlflow.db", "cannot be opened.*folder can be written"),
        ("file:///tmp/mlruns", "cannot be opened.*tracking.uri is right"),
        ("nonsense://me:pa55word@host", r"nonsense://me:\*\*\*@host"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named(uri: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message) as caught:
        Tracker(TrackingConfig("bad", uri, spool=False))
    assert "pa55word" not in str(caught.value)


def test_an_invalid_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be opened: .*not a sqlite database"):
        Tracker(TrackingConfig("local", f"sqlite:///{tmp_path}/mlflow.db", spool=False))


def test_the_users_http_settings_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1.*cannot be opened.*Connection refused.*Check that it runs"):
        Tracker(TrackingConfig("server", f"http://127.0.0.1:{free_port()}", spool=False))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "body",
    [
        "You are not authenticated.",
        '{"error_code": "PERMISSION_DENIED", "message": "no"}',
        '{"detail": "Unauthorized"}',
    ],
)
def test_a_server_that_refuses_the_user_is_named_with_the_variables(status: int, body: str) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(TrackingError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW"):
                Tracker(TrackingConfig("server", f"http://127.0.0.1:{server.server_port}", spool=False))
        finally:
            server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "never answers"])
def test_a_server_that_cannot_be_reached_is_reported_within_15_s(silent: bool) -> None:
    start = time.monotonic()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(TrackingError, match=f"http://127.0.0.1:{port} (cannot be opened|did not answer)"):
            Tracker(TrackingConfig("server", f"http://127.0.0.1:{port}", spool=False))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("code", "message", "is_temporary"),
    [
        (BAD_REQUEST, "(sqlite3.IntegrityError) UNIQUE constraint failed: experiment_tags.key", True),
        (BAD_REQUEST, 'psycopg.errors.UniqueViolation: duplicate key value violates unique constraint "p"', True),
        (BAD_REQUEST, "(1062, \"Duplicate entry 'a' for key 'params.PRIMARY'\")", True),
        (INTERNAL_ERROR, "any", True),
        (BAD_REQUEST, "any", False),
        (INVALID_PARAMETER_VALUE, "Changing param values is not allowed", False),
    ],
)
def test_a_row_that_another_request_wrote_at_the_same_moment_is_no_refusal(
    code: int, message: str, is_temporary: bool
) -> None:
    """As that of a client that gave up while the server hung: carried out together, both write the row."""
    with pytest.raises(TrackingError) as raised, mlflow_errors("the record cannot be written"):
        raise MlflowException(message, code)
    assert isinstance(raised.value, UnreachableError) is is_temporary


def test_waiting_for_a_lock_is_limited() -> None:
    calls: list[float] = []

    def locked() -> None:
        calls.append(time.monotonic())
        raise UnreachableError("(sqlite3.OperationalError) database is locked")

    lines: list[str] = []
    with pytest.raises(UnreachableError, match="database is locked"):
        waiting_for_lock(locked, lines.append, seconds=2)
    assert len(lines) == 1
    pauses = [after - before for before, after in pairwise(calls)]
    assert 2 <= len(pauses) <= 3
    assert pauses == sorted(pauses)
