"""A sweep beside its workers: which GPUs are measured, and the costs in the study's own run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from embedsweep.commands import sweep
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("visible", "children", "processes", "expected"),
    [
        (["0", "1", "2", "3"], 2, 1, ["0", "1"]),
        (["0", "1", "2", "3"], 1, 2, ["0", "1"]),
        (["0"], 4, 1, ["0"]),
        ([], 2, 1, []),
    ],
    ids=["fewer workers than GPUs", "two processes a trial", "workers share a GPU", "no GPU"],
)
def test_only_the_gpus_that_workers_train_on_are_measured(
    monkeypatch: pytest.MonkeyPatch, visible: list[str], children: int, processes: int, expected: list[str]
) -> None:
    request = pass_sweep(
        ["optimizer.lr=1e-4,2e-4", "trainer.device=cpu", "workers=local", f"workers.processes_per_trial={processes}"]
    )
    study = open_study(request)
    measured: list[list[str]] = []

    class Shared:
        def __init__(self, _: Any, __: Path, gpus: list[str]) -> None:
            measured.append(gpus)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(sweep, "cuda_devices_of", lambda device: visible if device == "cpu" else [])
    monkeypatch.setattr(sweep, "MachineEmissions", Shared)
    monkeypatch.setattr(sweep, "Supervisor", lambda *_: SimpleNamespace(run=lambda: None))
    pool: Any = SimpleNamespace(processes=[None] * children)
    nothing: Any = None
    sweep._Run(request, study, nothing, nothing, 0.0, "")._supervise(pool, "parent", nothing)
    assert measured == [expected]


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([], {"emissions/co2eq_kg": 0.0}),
        ([{"emissions_kg": 1.0}, {"emissions_kg": 2.0}], {"emissions/co2eq_kg": 3.0}),
        (
            [{"emissions_kg": 1.0, "energy_kwh": 4.0, "gpu_h": 0.5}, {"emissions_kg": 2.0, "energy_kwh": 0.0}, {}],
            {"emissions/co2eq_kg": 3.0, "emissions/energy_kwh": 4.0, "time/gpu_h": 0.5},
        ),
    ],
    ids=["nothing yet", "an older version's", "all of it"],
)
def test_the_costs_of_a_study_are_the_sums_over_its_trials(
    trials: list[dict[str, float]], expected: dict[str, float]
) -> None:
    study = open_study(pass_sweep(["optimizer.lr=1e-4,2e-4", "study.name=costs"]))
    for costs in trials:
        study._study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs=costs))
    assert sweep._costs(study) == expected
