"""Search every byte that a sweep and its errors wrote for a canary secret from environment and URLs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import studies

CANARY = "kanarienvogel4711"
SHORT = ("loss=mnrl,cosent", "data.limit=100", "trainer.max_steps=2", "trainer.eval_every=1", "study.name=quiet")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` with a token in its environment."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_TOKEN": f"hf_{CANARY}"}
    return subprocess.run(
        [sys.executable, str(studies.ROOT / "train.py"), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def holding(folder: Path, word: str) -> list[Path]:
    """Return the files that contain the word, databases and binary files included."""
    return [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_file_of_a_sweep_holds_a_password_or_token(tmp_path: Path, postgres_url: str) -> None:
    scheme, _, rest = postgres_url.partition("://")
    user, _, host = rest.partition("@")
    url = f"{scheme}://{user.partition(':')[0]}:{CANARY}@{host}"

    done = command(tmp_path, "-m", *SHORT, f"study.storage={url}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
    assert holding(tmp_path, CANARY) == []
    assert holding(tmp_path, "study.storage") == [], "the search finds what does not exist"
    assert holding(tmp_path, "quiet") != []

    by_name = command(tmp_path, "-m", "study.name=quiet")
    assert by_name.returncode == 2
    assert "give study.storage again" in by_name.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-m", "loss=mnrl,cosent", f"tracking.uri=http://me:{CANARY}@127.0.0.1:9", "loss.scal=1"), 2),
        (("--cfg", "job", f"tracking.uri=http://me:{CANARY}@127.0.0.1:9"), 0),
        (("-m", "loss=mnrl,cosent", f"study.storage=postgresql://me:{CANARY}@127.0.0.1:9/none"), 1),
    ],
    ids=["configuration error", "composed configuration", "storage that does not answer"],
)
def test_output_contains_no_password(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    done = command(tmp_path, *words)

    assert done.returncode == code, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "***" in done.stdout + done.stderr or code == 2
    assert holding(tmp_path, CANARY) == []
