"""A wrong clock, no network, and files and folders that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedsweep.cli import main
from tests import unprivileged
from tests.faults import studies
from tests.faults.studies import WORDS, Study


@pytest.mark.parametrize(
    ("url", "ahead"),
    [
        pytest.param("journal", "-3600", marks=pytest.mark.slow),
        pytest.param("journal", "3600", marks=pytest.mark.faults),
        pytest.param("postgresql", "-3600", marks=pytest.mark.faults),
        pytest.param("postgresql", "3600", marks=pytest.mark.faults),
    ],
    indirect=["url"],
)
def test_a_clock_set_by_an_hour_after_a_kill_changes_nothing(
    url: str | None, ahead: str, tmp_path: Path, undisturbed: Study
) -> None:
    words = (*WORDS, *studies.storage_words(url))
    killed = studies.run(tmp_path, words, ("kill", "step:5"))
    assert killed.code == -9, killed.output
    again = studies.run(tmp_path, words, (f"clock:{ahead}", "start"))
    assert again.code == 0, again.output
    assert "trial 0 RUNNING loss=cosent resumed" in again.output
    study = Study(tmp_path, url)
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)


@pytest.mark.slow
def test_the_built_in_model_and_data_need_no_network(
    tmp_path: Path, undisturbed: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    ended = studies.run(tmp_path, WORDS, ("offline", "start"), fresh=True)
    assert ended.code == 0, ended.output
    studies.check_whole(Study(tmp_path))
    studies.check_equal(Study(tmp_path), undisturbed)


def unprivileged_command(folder: Path, *words: str, home: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command for which the permissions of files hold."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"HOME": home} if home is not None else {})}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [*unprivileged.prefix(), sys.executable, "-P", "-m", "embedsweep", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize(
    ("hidden", "words", "named"),
    [
        ("sweeps/", ("train",), "sweeps: "),
        ("mlruns/", ("train", "-m", "loss=mnrl,cosent"), "mlruns: "),
        ("mlruns/mlflow.db", ("train",), "tracking.uri: "),
        ("mlruns/mlflow.db", ("ui",), "tracking.uri: "),
        ("mlruns/artifacts/1/", ("sync",), "mlruns/artifacts/1: "),
        ("sweeps/night/", ("train", "-m", "study.name=night"), "sweeps/night: "),
        ("sweeps/night/study.yaml", ("train", "-m", "study.name=night"), "sweeps/night/study.yaml: "),
        ("sweeps/night/journal.log", ("train", "-m", "study.name=night"), "sweeps/night/journal.log: "),
        ("sweeps/night/trials/0000/", ("train", "-m", "study.name=night"), "sweeps/night/trials/0000: "),
        ("sweeps/night/study.yaml", ("evaluate", "night", "--benchmark", "demo-dev"), "sweeps/night/study.yaml: "),
        ("pairs/", ("train", "data=csv", "data.path=pairs"), "pairs/train.csv: "),
        ("pairs/train.csv", ("audit", "data=csv", "data.path=pairs"), "pairs/train.csv: "),
        ("model/", ("train", "model=pretrained", "model.path=model"), "model/config.json: "),
    ],
)
def test_what_belongs_to_another_user_is_named_before_training(
    hidden: str, words: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    path = tmp_path / hidden
    path.parent.mkdir(parents=True, exist_ok=True)
    if hidden.endswith("/"):
        path.mkdir()
    else:
        path.touch()
    unprivileged.give_away(path)
    done = unprivileged_command(tmp_path, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert named in done.stderr


@pytest.mark.parametrize("words", [("train",), ("train", "-m", "loss=mnrl,cosent"), ("ui",), ("sync",)])
@pytest.mark.parametrize(
    ("content", "message"), [(None, "mlflow.db is a folder"), ("no database", "mlflow.db is not a sqlite database")]
)
def test_what_cannot_be_a_tracking_database_is_named_at_once(
    words: tuple[str, ...],
    content: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = Path("mlruns/mlflow.db")
    if content is None:
        database.mkdir(parents=True)
    else:
        database.parent.mkdir()
        database.write_text(content)
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/proc/none", ""])
def test_a_run_needs_no_home_folder(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    words = ("data.limit=64", "trainer.max_steps=2", "trainer.eval_every=1")
    done = unprivileged_command(tmp_path, "train", *words, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"sweeps", "mlruns"}
