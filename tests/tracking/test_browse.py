"""MLflow's web UI."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError
from embedsweep.tracking.browse import _answers, open_ui
from embedsweep.tracking.runs import Tracker
from tests.tracking.stores import begin, child, fetch, free_port

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


def test_a_servers_ui_is_the_server(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrackingConfig("server", server, spool=False)
    assert Tracker(config).ui_hint() == server
    assert open_ui(config, free_port()) == 0
    assert server in capsys.readouterr().out


def test_a_study_is_opened_on_its_view_which_an_earlier_versions_study_gets(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrackingConfig("server", server, spool=False)
    with Tracker(config) as tracker:
        parent = tracker.parent_run("viewed", {})
        hint = tracker.ui_hint("viewed")
        tracker.finish_parent(parent, "FINISHED")
    client = MlflowClient(server)
    number = client.get_experiment_by_name("viewed").experiment_id
    page = f"{server}/#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=embedsweep"
    assert hint == page
    assert open_ui(config, free_port(), "viewed") == 0  # whose plan another machine has
    assert capsys.readouterr().out == f"MLflow runs at {page.rpartition('&')[0]}\n"
    assert open_ui(config, free_port(), "viewed", "{}") == 0
    assert capsys.readouterr().out == f"MLflow runs at {page}\n"
    assert client.get_experiment(number).tags["mlflow.sharedViewState.embedsweep"] == "{}"
    with pytest.raises(TrackingError, match=r"has no study vieweb \(did you mean viewed\?\)"):
        open_ui(config, free_port(), "vieweb")


def test_a_taken_port_is_named(mlflow_store: TrackingConfig) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=f"port {port} cannot be used"):
            open_ui(mlflow_store, port)


def test_a_store_is_not_made_to_say_that_it_lacks_a_study(tmp_path: Path) -> None:
    config = TrackingConfig("local", f"sqlite:///{tmp_path}/mlruns/mlflow.db", spool=False)
    with pytest.raises(TrackingError, match=r"mlflow\.db has no study nosuch; it has: none"):
        open_ui(config, free_port(), "nosuch")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_while_it_starts_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        assert not _answers(process, free_port())


@pytest.mark.slow
def test_the_ui_shows_artifacts_of_a_folder_that_was_moved_and_ends_with_ctrl_c(
    mlflow_store: TrackingConfig, tmp_path: Path
) -> None:
    tracker = Tracker(mlflow_store)
    trial = begin(tracker, "shown é")
    (tmp_path / "config.yaml").write_text("seen: true\n")
    trial.log_artifact(tmp_path / "config.yaml")
    assert tracker.close()
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "mlruns").rename(moved / "mlruns")
    port = free_port()
    # Files of the working directory that have the names of libraries, which the server must not import.
    for name in ("random", "mlflow", "fastapi", "secrets"):
        (moved / f"{name}.py").write_text(f"open('imported-{name}', 'w')\nraise SystemExit('hijacked')\n")
    program = (
        f"import os; os.chdir({str(moved)!r}); "
        "from embedsweep.config.study import TrackingConfig; from embedsweep.tracking.browse import open_ui; "
        f"raise SystemExit(open_ui(TrackingConfig('local', 'sqlite:///mlruns/mlflow.db', spool=False), {port}))"
    )
    address = f"http://127.0.0.1:{port}"
    with child([sys.executable, "-P", "-c", program], dict(os.environ), tmp_path / "ui.log") as process:
        while address not in (tmp_path / "ui.log").read_text():
            assert process.poll() is None
            time.sleep(0.1)
        fetch(f"{address}/health")  # it is printed once it answers
        listed = json.loads(fetch(f"{address}/ajax-api/2.0/mlflow/artifacts/list?run_id={trial.run_id}"))
        assert [item["path"] for item in listed["files"]] == ["config.yaml"]
        assert fetch(f"{address}/get-artifact?run_id={trial.run_id}&path=config.yaml") == "seen: true\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    output = (tmp_path / "ui.log").read_text()
    assert address in output
    assert "Traceback" not in output
    with pytest.raises(OSError, match="refused"):
        fetch(f"{address}/health")
    assert not (moved / "mlartifacts").exists()
    assert not (tmp_path / "mlruns").exists()
    assert list(moved.glob("imported-*")) == []
