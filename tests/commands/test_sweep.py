"""A sweep beside its workers: which GPUs are measured, the costs in the study's own run, records that are refused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

from embedsweep.cli import main
from embedsweep.commands import study_run
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import TrackingConfig
from embedsweep.study.opening import open_study
from embedsweep.training.folder import write_config, write_result
from embedsweep.training.trial import TrialSetup
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers import local_pool, pools


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

    monkeypatch.setattr(pools, "cuda_devices_of", lambda device: visible if device == "cpu" else [])
    monkeypatch.setattr(pools, "open_environments", lambda *_: nullcontext([{}] * children))
    monkeypatch.setattr(local_pool, "MachineEmissions", Shared)
    with (
        pools.open_pools(request, study, "cpu", 2, pytest.fail) as make_pool,
        make_pool(study, children).measured(study.services.emissions),
    ):
        pass
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
    assert study_run._costs(study) == expected


def test_a_refused_record_is_the_commands_last_word_and_its_exit_code_and_is_repaired(
    mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run of trial 1 is deleted in MLflow while the trial runs."""
    client = MlflowClient(mlflow_store.uri)

    def run_trial(setup: TrialSetup) -> TrialResult:
        if setup.config.optimizer.lr == 2e-4:
            client.delete_run(setup.run.run_id)
        result = TrialResult(
            0.5, {"dev/spearman_cosine": 0.5}, {}, {}, {}, 1, 1, Emissions(0, 0, 1, "FRA", ()), False, None, 1.0
        )
        setup.run.log_metrics(1, {"best/spearman_cosine": 0.5})
        setup.folder.mkdir(parents=True, exist_ok=True)
        write_config(setup.folder / "config.yaml", setup.config)
        write_result(setup.folder, result)
        for name in ("train.log", "emissions.csv", "scores", "model"):
            (setup.folder / name).mkdir()  # what a repair looks for
        return result

    monkeypatch.setattr("embedsweep.workers.worker.run_trial", run_trial)
    monkeypatch.setattr("embedsweep.workers.worker.data_warnings", lambda _: [])
    monkeypatch.setattr(study_run, "conclude", lambda *_: True)
    assert main(["train", "-m", "optimizer.lr=1e-4,2e-4", "study.name=s", "trainer.device=cpu"]) == 1
    *_, refused, remedy = capsys.readouterr().out.splitlines()
    assert " MLflow's store refuses a record of trial 1: metrics cannot be logged to run " in refused
    assert refused.endswith("It waits in sweeps/s/spool, with those after it")
    assert remedy.split(" ", 2)[2] == "embedsweep repair s compares what is left, and with --write rebuilds it"
    assert [trial.state.name for trial in open_study(pass_sweep(["study.name=s"])).trials] == ["COMPLETE"] * 2

    assert main(["repair", "s"]) == 1
    printed = capsys.readouterr().out
    assert "the run of trial 1 was deleted in MLflow -> restored" in printed
    assert "records of trial 1 wait in sweeps/s/spool: metrics cannot be logged to run" in printed
    assert main(["repair", "s", "--write"]) == 0
    assert "records of trial 1 wait in sweeps/s/spool -> written" in capsys.readouterr().out
    assert main(["repair", "s"]) == 0
    runs = client.search_runs([client.get_experiment_by_name("s").experiment_id], "tags.`embedsweep.kind` = 'trial'")
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"best/spearman_cosine": 0.5})] * 2
    assert main(["train", "-m", "study.name=s"]) == 0
