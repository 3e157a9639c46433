"""The benchmark of many workers, with few: what it checks holds, whatever the times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("postgres_server")  # skips where there is none
def test_eight_workers_on_one_database_and_one_server_lose_and_double_nothing(tmp_path: Path) -> None:
    sizes = ("--workers", "8", "--trials", "60", "--history", "100", "--minute", "2", "--short", "0.1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *sizes],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "study: 60 trials, 0 to 59, each complete with what its training returned" in done.stdout
    assert "MLflow: 60 runs, one a trial" in done.stdout
    assert "nothing waits in a spool" in done.stdout
    figures = json.loads(done.stdout.splitlines()[-1])
    assert [figure["what"] for figure in figures] == [
        "8 workers, trials of 2 s: time on books",
        "asking at 100 finished trials (tpe)",
        "asking at 100 finished trials (random)",
    ]
