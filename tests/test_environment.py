"""Variables of launchers and empty variables, which must not change what a command does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedsweep.environment import drop_empty, drop_launcher, launcher_problem

ROOT = Path(__file__).parents[1]
LEFT_OVER = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "9",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "OMPI_COMM_WORLD_SIZE": "2",
}


def test_variables_of_launchers_are_removed_and_others_stay() -> None:
    others = {"PATH": "/bin", "SLURM_PROCID": "1", "CUDA_VISIBLE_DEVICES": "0", "MY_RANK": "3"}
    environ = {**LEFT_OVER, **others}
    assert drop_launcher(environ) == sorted(LEFT_OVER)
    assert environ == others


def test_empty_variables_of_libraries_are_removed_and_others_stay() -> None:
    empty = {"MLFLOW_TRACKING_URI": "", "MLFLOW_HTTP_REQUEST_TIMEOUT": "", "HF_HOME": "", "OMP_NUM_THREADS": ""}
    others = {"CUDA_VISIBLE_DEVICES": "", "HF_TOKEN": "x", "EMPTY": ""}
    environ = {**empty, **others}
    drop_empty(environ)
    assert environ == others


@pytest.mark.parametrize(
    ("environ", "refused"),
    [
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "1", "RANK": "0"}, False),
        ({"WORLD_SIZE": "2", "RANK": "0"}, False),
        ({}, False),
    ],
)
def test_only_several_processes_of_torchrun_are_refused(environ: dict[str, str], refused: bool) -> None:
    assert (launcher_problem(environ) is not None) is refused


def test_a_command_under_torchrun_says_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from embedsweep.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train"]) == 2
    assert "torchrun: starts this command 2 times" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_tracking_uri_in_the_environment_means_the_default_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from embedsweep.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert main(["train", "--cfg", "job", "-p", "tracking.uri"]) == 0
    assert capsys.readouterr().out == "sqlite:///mlruns/mlflow.db\n"
    assert main(["train", "tracking.uri="]) == 2
    assert "tracking.uri: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_trains_whatever_a_launcher_left_in_the_environment(tmp_path: Path) -> None:
    # A worker trains, and this process scores the winner.
    words = ("-m", "workers=local", "workers.count=1", "loss=mnrl,cosent")
    short = ("data.limit=64", "trainer.max_steps=2", "trainer.eval_every=1")
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words, *short],
        cwd=tmp_path,
        env={**os.environ, **LEFT_OVER, "MLFLOW_TRACKING_URI": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ignored variables of a launcher: ACCELERATE_MIXED_PRECISION, LOCAL_RANK" in done.stderr
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
