"""Commands and data files with random mistakes end with exit code 0 or 2 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kind", "first", "count"),
    [
        pytest.param("commands", 0, 50, marks=pytest.mark.slow),
        pytest.param("commands", 50, 450, marks=pytest.mark.fuzz),
        pytest.param("data", 0, 30, marks=pytest.mark.slow),
        pytest.param("data", 30, 270, marks=pytest.mark.fuzz),
    ],
)
def test_random_mistakes_end_with_exit_code_0_or_2_and_no_traceback(
    kind: str, first: int, count: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.fuzz.run", kind, str(first), str(count)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
