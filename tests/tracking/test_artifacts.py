"""A tracking server names where artifacts lie: in no folder of this machine that the user has not allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError
from embedsweep.tracking.artifacts import check_location
from embedsweep.tracking.browse import runs_with_model
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.records import Files
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.store import Store
from tests.tracking.stores import begin

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

SERVER = Store("http://host:5000", None)
FILE = Store("sqlite:////work/mlflow.db", Path("/work/mlflow.db"))


@pytest.mark.parametrize(
    ("store", "location", "root", "allowed"),
    [
        (SERVER, "file:///etc", None, False),
        (SERVER, "FILE:///etc", None, False),
        (SERVER, "/etc/ssl", None, False),
        (SERVER, "relative/folder", None, False),
        (SERVER, "mlflow-artifacts:/1/abc/artifacts", None, True),
        (SERVER, "s3://bucket/1/abc/artifacts", None, True),
        (SERVER, "file:///shared/runs/1", "/shared", True),
        (SERVER, "/shared/runs/1", "file:///shared/runs", True),
        (SERVER, "file:///shared/../etc", "/shared", False),
        (SERVER, "file:///shared/%2e%2e/etc", "/shared", False),
        (SERVER, "file:///sharedrive", "/shared", False),
        (FILE, "file:///work/artifacts/1", None, True),
    ],
)
def test_only_an_allowed_folder_of_this_machine_is_used(
    store: Store, location: str, root: str | None, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    if root is not None:
        monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", root)
    if allowed:
        check_location(store, location)
    else:
        with pytest.raises(TrackingError, match=r"a folder of this machine.*MLFLOW_DEFAULT_ARTIFACT_ROOT"):
            check_location(store, location)


@pytest.mark.parametrize("location", ["runs:/abc/model", "models:/name/1"])
def test_a_server_cannot_refer_to_other_artifacts(location: str) -> None:
    with pytest.raises(TrackingError, match=f"names {location} for artifacts, which only refers to others"):
        check_location(SERVER, location)
    check_location(FILE, location)


def test_a_server_cannot_make_a_command_write_or_read_a_local_folder(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    config = TrackingConfig("server", server, spool=False)
    client = MlflowClient(server)
    private = tmp_path / "private"
    experiment = client.create_experiment("hostile", artifact_location=private.as_uri())
    run_id = client.create_run(experiment).info.run_id
    (private / run_id / "artifacts" / "model").mkdir(parents=True)
    before = sorted(private.rglob("*"))
    (tmp_path / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    with pytest.raises(TrackingError, match="a folder of this machine"):
        begin(Tracker(config), "hostile")
    writer = MlflowWriter(Store(server, None), client)
    with pytest.raises(TrackingError, match="a folder of this machine"):
        writer.write("hostile", run_id, Files(str(tmp_path / "config.yaml"), None))
    with pytest.raises(TrackingError, match="a folder of this machine"):
        runs_with_model(config, run_id)
    with pytest.raises(TrackingError, match="a folder of this machine"):
        writer.lookup.artifacts(run_id)
    (tmp_path / "trial").mkdir()
    with pytest.raises(TrackingError, match="a folder of this machine"):
        writer.lookup.download(run_id, "model", tmp_path / "trial")
    assert not any((tmp_path / "trial").iterdir())
    assert sorted(private.rglob("*")) == before
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", str(private))
    assert runs_with_model(config, run_id) == [run_id]
    writer.write("hostile", run_id, Files(str(tmp_path / "config.yaml"), None))
    assert (private / run_id / "artifacts" / "config.yaml").is_file()
