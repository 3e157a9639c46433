"""The sweep of twenty trials that the tests of the terminal, of MLflow's pages and of the notebook share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
STUDY, N_TRIALS = "seen", 20
WORDS = (
    "loss=mnrl,cosent,cosine",
    "search=full",
    f"study.name={STUDY}",
    f"study.n_trials={N_TRIALS}",
    "study.pruner=successive_halving",
    "data.limit=512",
    "trainer.max_steps=32",
    "workers=local",
    "workers.count=2",
)
"""What follows ``train.py -m``: about two minutes on one core."""


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the finished sweep, with nothing but ``sweeps`` and ``mlruns``: to be read only.

    The first of pytest's processes that needs it runs the sweep, and the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "seeing"
    folder, output = root / "work", root / "output.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock"):
        if not output.is_file():
            printed = sweep(folder)
            output.write_text(printed, encoding="utf-8")
    return folder


def sweep(folder: Path) -> str:
    """Run the sweep in a folder; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, str(ROOT / "train.py"), "-m", *WORDS]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
