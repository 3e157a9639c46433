"""Seconds from a mistyped command to its error message."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.figures import Figure, print_figures

COMMAND = (
    "embedsweep train -m loss=mnrl,cosent,cosine optimizer.lr=1e-5,2e-5,5e-5 dataloader.batch_size=8,16,32 loss.scal=3"
)


def measure() -> float:
    started = time.monotonic()
    words = COMMAND.split()[1:]
    done = subprocess.run([sys.executable, "-m", "embedsweep", *words], capture_output=True, check=False)
    if done.returncode != 2:
        raise SystemExit(f"expected exit code 2, but got {done.returncode}")
    return time.monotonic() - started


if __name__ == "__main__":
    print_figures(Figure("configuration error in a grid of 27 cells", min(measure() for _ in range(3)), 2.0, "s"))
