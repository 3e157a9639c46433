"""A store beside its artifacts, moved or copied to another folder."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from embedsweep.cli import main
from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.records import End, Files, Metrics
from embedsweep.tracking.relocation import relocate
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.tracking.spool import Origin, spool_of
from embedsweep.tracking.store import locate
from embedsweep.validation.single import pass_single

NAME = "a study, (1)"


def open_at(folder: Path, lines: list[str] | None = None) -> Tracker:
    config = TrackingConfig("local", f"sqlite:///{folder}/mlruns/mlflow.db", spool=False)
    return Tracker(config, (lines if lines is not None else []).append)


def begin(tracker: Tracker, run_id: str | None = None) -> TrialTracker:
    return tracker.trial_run(NAME, 0, pass_single([]).config, "abc", run_id=run_id)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A folder with a store, and the id of a run in it that has an artifact."""
    folder = tmp_path / "of old" / "äöü"
    (folder / "mlruns").mkdir(parents=True)
    monkeypatch.chdir(folder)
    tracker = open_at(folder)
    (folder / "first.txt").write_text("first", encoding="utf-8")
    run = begin(tracker)
    run.log_artifact(folder / "first.txt")
    run.finish("RUNNING")
    tracker.close()
    return folder, run.store_id


def relocated(former: Path, how: str, tmp_path: Path) -> Path:
    """Move or copy a folder, and return where it is now."""
    place = tmp_path / "new place"
    if how == "moved":
        former.rename(place)
    else:
        shutil.copytree(former, place)
    return place


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_artifacts_are_read_and_written_where_the_folder_is_now(
    recorded: tuple[Path, str], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, run_id = recorded
    place = relocated(former, how, tmp_path)
    before = files_of(former)
    monkeypatch.chdir(place)

    lines: list[str] = []
    tracker = open_at(place, lines)
    run = begin(tracker, run_id)
    (place / "second.txt").write_text("second", encoding="utf-8")
    run.log_artifact(place / "second.txt")
    run.finish("COMPLETE")
    tracker.close()

    assert len(lines) == 1
    assert former.as_uri() in lines[0]
    assert "was moved or copied" in lines[0]
    assert files_of(former) == before
    assert former.exists() is (how == "copied")
    client = client_of(place)
    assert {entry.path for entry in client.list_artifacts(run_id)} == {"first.txt", "second.txt"}
    for name in ("first", "second"):
        path = Path(client.download_artifacts(run_id, f"{name}.txt"))
        assert path.read_text(encoding="utf-8") == name
    assert client.get_run(run_id).info.artifact_uri.startswith(place.as_uri())
    for experiment in client.search_experiments():
        assert experiment.artifact_location.startswith(place.as_uri())
    with sqlite3.connect(place / "mlruns" / "mlflow.db.before-move") as backup:
        (address,) = backup.execute("SELECT artifact_uri FROM runs").fetchone()
    backup.close()
    assert address.startswith(former.as_uri())
    again: list[str] = []
    open_at(place, again).close()
    assert again == []


def test_a_store_that_stays_is_not_changed(recorded: tuple[Path, str]) -> None:
    folder, _ = recorded
    database = folder / "mlruns" / "mlflow.db"
    before = database.read_bytes()
    assert relocate(database) == []
    assert database.read_bytes() == before
    assert not database.with_name("mlflow.db.before-move").exists()


def test_artifacts_that_were_left_behind_keep_their_address(recorded: tuple[Path, str], tmp_path: Path) -> None:
    folder, run_id = recorded
    database = tmp_path / "alone" / "mlflow.db"
    database.parent.mkdir()
    shutil.move(folder / "mlruns" / "mlflow.db", database)
    assert relocate(database) == []
    client = MlflowClient(f"sqlite:///{database}")
    assert [entry.path for entry in client.list_artifacts(run_id)] == ["first.txt"]


def test_artifacts_elsewhere_keep_their_address(recorded: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = recorded
    bucket = "s3://bucket/artifacts/other"
    elsewhere = (tmp_path / "shared" / "other").as_uri()
    for name, address in (("other", bucket), ("third", elsewhere)):
        client_of(folder).create_experiment(name, artifact_location=address)
    place = tmp_path / "new place"
    folder.rename(place)
    assert relocate(place / "mlruns" / "mlflow.db") == [(folder / "mlruns" / "artifacts").as_uri()]
    client = client_of(place)
    locations = {name: client.get_experiment_by_name(name).artifact_location for name in ("other", "third")}
    assert locations == {"other": bucket, "third": elsewhere}


@pytest.mark.parametrize("name", ["2", "theirs"])  # the number of the experiment; a name
def test_artifacts_of_another_program_stay_where_they_are(
    name: str, recorded: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = recorded
    theirs = tmp_path / "data" / "artifacts"
    client = client_of(folder)
    experiment = client.create_experiment("theirs", artifact_location=(theirs / name).as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "text", "notes.txt")
    open_at(folder).close()
    assert [entry.path for entry in client_of(folder).list_artifacts(run_id)] == ["notes.txt"]
    assert client_of(folder).get_run(run_id).info.artifact_uri.startswith(theirs.as_uri())


def test_a_copy_without_artifacts_writes_none_into_the_old_place(recorded: tuple[Path, str], tmp_path: Path) -> None:
    folder, run_id = recorded
    shutil.rmtree(folder / "mlruns" / "artifacts")
    (folder / "mlruns" / "artifacts").mkdir()
    place = tmp_path / "new place"
    shutil.copytree(folder, place)
    open_at(place).close()
    assert client_of(place).get_run(run_id).info.artifact_uri.startswith(place.as_uri())


@pytest.mark.parametrize("by", ["the next command", "sync"])
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_records_that_wait_arrive_in_the_store_at_the_new_place(
    recorded: tuple[Path, str], how: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, run_id = recorded
    (former / "last.txt").write_text("last", encoding="utf-8")
    store = str(locate("sqlite:///mlruns/mlflow.db"))
    for record in (Metrics([(1, {"train/loss": 0.5})], 7), Files("last.txt", None), End("FINISHED", "COMPLETE", 9)):
        spool_of(NAME, run_id).append(run_id, record, Origin(store, NAME))
    place = relocated(former, how, tmp_path)
    before = files_of(former)
    monkeypatch.chdir(place)

    if by == "sync":
        assert main(["sync"]) == 0
    else:
        tracker = open_at(place)
        tracker.parent_run(NAME, {})
        assert tracker.close()

    client = client_of(place)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"train/loss": 0.5})
    assert {entry.path for entry in client.list_artifacts(run_id)} == {"first.txt", "last.txt"}
    assert (place / "mlruns" / "artifacts" / NAME / run_id / "artifacts" / "last.txt").is_file()
    assert not spool_of(NAME, run_id).waiting()
    assert files_of(former) == before
    assert former.exists() is (how == "copied")


def test_records_for_a_store_that_is_gone_create_none_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    gone = tmp_path / "elsewhere" / "mlflow.db"
    spool_of(NAME, "a").append("a", End("FINISHED", None, 9), Origin(f"sqlite:///{gone}", NAME))
    assert main(["sync"]) == 2
    assert f"--tracking-uri: records wait for {gone}, which does not exist" in capsys.readouterr().err
    assert not gone.parent.exists()
