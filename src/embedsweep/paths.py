"""Where things lie in the working directory.

Owns the names of folders that several modules read and write. Knows nothing of what is in them.
"""

from __future__ import annotations

from pathlib import Path

SWEEPS = Path("sweeps")
"""The state of studies, a folder each."""

SINGLE = "single"
"""The folder, and MLflow's experiment, of runs without a study; no study may be named so."""

SINGLE_RUNS = SWEEPS / SINGLE
"""Runs without a study, a folder each."""

MODEL = "model"
"""A trial's model: the folder in its own, and among its run's artifacts."""
