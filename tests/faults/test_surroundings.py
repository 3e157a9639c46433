"""A wrong clock, no network, and files and folders that cannot be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedsweep.cli import main
from tests import unprivileged
from tests.faults import studies
from tests.faults.studies import WORDS, Study

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
PATCHES = """
import os, select, threading, time

def alone(call):
    return lambda *words: call(*words) if threading.active_count() == 1 else None

time.sleep = lambda seconds: select.select((), (), (), seconds)
os.putenv, os.unsetenv = alone(os.putenv), alone(os.unsetenv)
"""
"""What libfaketime 0.9.10 needs.

It fails for sleeps until a moment of the monotonic clock, as Python's are. All threads read its settings from the
environment again and again, which crashes where another one has just added a variable: once there are threads,
``os.environ`` changes for Python alone.
"""


class Clock:
    """The time of day of the commands that are started from now on; their monotonic clock is the machine's.

    Args:
        folder: for its files.
        monkeypatch: sets their environment.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if LIBRARY is None:
            pytest.skip("no libfaketime on this machine: apt-get install faketime")
        self._file = folder / "clock"
        self.set(0)
        patches = folder / "patches"
        patches.mkdir()
        (patches / "sitecustomize.py").write_text(PATCHES, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", f"{patches}:{studies.ROOT / 'src'}")
        monkeypatch.setenv("LD_PRELOAD", str(LIBRARY))
        monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
        monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
        monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def set(self, ahead_s: int) -> None:
        """Set it so many seconds ahead of the machine's, below 0 behind; commands notice within two seconds."""
        self._file.write_text(f"{ahead_s:+}\n")


@studies.in_short
def test_a_clock_that_jumps_an_hour_ahead_and_back_during_a_study_and_before_it_is_resumed_changes_nothing(
    url: str | None, tmp_path: Path, undisturbed: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*WORDS, *studies.storage_words(url))
    clock = Clock(tmp_path, monkeypatch)
    first = studies.start(tmp_path, words, fresh=True)
    studies.wait_for(first, "trial 0 11%")
    clock.set(3600)
    studies.wait_for(first, "trial 0 COMPLETE")
    clock.set(-3600)
    studies.wait_for(first, "trial 1 22%")
    first.kill()
    assert studies.finish(first).code == -9
    clock.set(-7200)
    again = studies.run(tmp_path, words, fresh=True)
    assert again.code == 0, again.output
    assert "trial 1 RUNNING loss=mnrl resumed" in again.output
    study = Study(tmp_path, url)
    runs = [study.run_of(number).info for number in range(2)]
    points = [point for run in runs for point in study.client.get_metric_history(run.run_id, "dev/spearman_cosine")]
    hours = {round((point.timestamp - runs[0].start_time) / 3600e3) for point in points}
    assert hours >= {1, -2}  # so that the clock was set; the kill may come before a point of the hour between is kept
    assert all(0 < study.result(number)["emissions"]["duration_s"] < 600 for number in range(2))
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
        ("conf/", ("train",), "conf/train.yaml: "),
        ("conf/loss/mine.yaml", ("train", "loss=mnrl"), "conf/loss/mine.yaml: "),
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
def test_a_run_needs_no_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    words = ("data.limit=64", "trainer.max_steps=2", "trainer.eval_every=1")
    done = unprivileged_command(tmp_path, "train", *words, home="/proc/none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"sweeps", "mlruns"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [("workers=inline",), ("workers=local", "workers.count=2")])
def test_a_study_whose_folder_is_moved_away_while_it_runs_ends_with_one_sentence_and_resumes_once_it_is_back(
    workers: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*studies.SHORT, *studies.PAIRS, "trainer.max_steps=60", "trainer.eval_every=0.1", *workers)
    moved = studies.start(tmp_path, words)
    studies.wait_for(moved, "%")
    (folder,) = (tmp_path / "sweeps").iterdir()
    folder.rename(tmp_path / "away")
    ended = studies.finish(moved)
    assert ended.code == 1, ended.output
    assert ended.output.splitlines()[-1].startswith(
        f"embedsweep: sweeps/{folder.name} was moved or deleted while study"
    )
    assert "Traceback" not in ended.output
    assert "is restarted" not in ended.output
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "away").rename(folder)
    resumed = studies.run(tmp_path, words)
    assert resumed.code == 0, resumed.output
    studies.check_whole(Study(tmp_path))
