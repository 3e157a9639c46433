"""Run every benchmark in its own process and folder and print a table: name, measured, promised.

``python -m benchmarks overhead memory`` runs some of them. ``peers``, the comparison with other tools, takes most of
the twenty minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure

BENCHMARKS = (
    "config_error",
    "first_step",
    "overhead",
    "kept_model",
    "memory",
    "retrieval_memory",
    "open_study",
    "asking",
    "report_page",
    "peers",
)
TELLS_MORE = "scale"
"""Prints what it checked before its figures. It runs by its name alone: it takes ten minutes and 12 GB of memory."""


def main(names: list[str]) -> int:
    """Print one line per figure; return 1 if one misses its limit."""
    missed = 0
    print(f"{'':58} {'measured':>9} {'promised':>9}")
    for name in names or BENCHMARKS:
        for figure in _figures(name):
            held = figure.measured <= figure.promised
            missed += not held
            measured, promised = (f"{value:.2f} {figure.unit}" for value in (figure.measured, figure.promised))
            print(f"{figure.what:58} {measured:>9} {promised:>9} {'' if held else 'MISSED'}".rstrip(), flush=True)
    return min(missed, 1)


def _figures(name: str) -> list[Figure]:
    repository = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix=f"embedsweep-{name}-") as folder:
        environment = {**os.environ, "PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"benchmark {name} failed:\n{done.stdout}{done.stderr}")
    *lines, figures = done.stdout.splitlines()
    for line in lines if name == TELLS_MORE else ():
        print(line)
    return [Figure(**figure) for figure in json.loads(figures)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
