"""A trial that repeats a finished one is recorded with that one's scores, and costs nothing.

Owns what its folder and its run hold. Knows nothing of how duplicates are found, or of Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from embedsweep.schema import TrialConfig
from embedsweep.tracking import TrialTracker
from embedsweep.trial_files import read_result, write_config, write_result


def record_reuse(
    config: TrialConfig, folder: Path, run: TrialTracker, source: Path, told: Mapping[str, float], last_step: int
) -> bool:
    """Records the final scores of another trial as this one's; its emissions and its model stay the other's.

    Args:
        config: of both.
        folder: this trial's own; gets ``config.yaml`` and ``result.json``.
        run: this trial's own.
        source: the other one's folder.
        told: what the study knows of the other: its objectives, by name.
        last_step: the last optimizer step that it was evaluated at.

    Returns:
        Whether all scores were found; where ``source`` lies on another machine, only ``told`` are recorded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.yaml", config)
    run.log_artifact(folder / "config.yaml")
    result = read_result(source)
    if result is None:
        run.log_metrics(last_step, {name: value for name, value in told.items() if name.startswith("dev")})
        return False
    gpu_h = None if result.emissions.gpu_h is None else 0.0
    nothing = replace(result.emissions, co2eq_kg=0.0, energy_kwh=0.0, duration_s=0.0, unmeasured=(), gpu_h=gpu_h)
    write_result(folder, replace(result, emissions=nothing))
    run.log_metrics(result.steps, result.dev)
    return True
