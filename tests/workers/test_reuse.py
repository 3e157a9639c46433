"""A study that draws its configurations more than once, through the command line."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from embedsweep.cli import main
from embedsweep.config.result import Emissions, RunContext, TrialResult
from embedsweep.study.opening import open_study
from embedsweep.study.record import RUN_ID
from embedsweep.training.folder import read_result
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.outcomes import record_reuse
from tests.configs import DEV_METRICS

POINTS = (
    "name: points\nn_trials: 4\nspace:\n  dataloader.batch_size: choice(16, 32)\noption_spaces: []\nconstraints: []\n"
)
WORDS = ["search=points", "study.sampler=random", "trainer.device=cpu", "data.limit=64", "trainer.max_steps=2"]


@pytest.mark.slow
def test_a_study_trains_each_configuration_once_and_scores_the_first_winner(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["embedsweep"])
    for folder in ("conf/search", "mlruns"):
        Path(folder).mkdir(parents=True)
    Path("conf/search/points.yaml").write_text(POINTS, encoding="utf-8")
    shutil.copy(mlflow_template, "mlruns/mlflow.db")

    assert main(["train", "-m", "study.name=twice", *WORDS]) == 0

    study = open_study(pass_sweep(["study.name=twice"]))
    batches = [trial.params["dataloader.batch_size"] for trial in study.trials]
    first = [batches.index(batch) for batch in batches]
    assert len(set(first)) == 2, "the seed draws both"
    output = capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = [client.get_run(trial.user_attrs[RUN_ID]) for trial in study.trials]
    for trial, run, original in zip(study.trials, runs, first, strict=True):
        of = runs[original]
        scores = {name: of.data.metrics[name] for name in (dev.replace("dev/", "best/") for dev in DEV_METRICS)}
        assert trial.value == study.trials[original].value == run.data.metrics["best/spearman_cosine"]
        assert run.info.status == "FINISHED"
        assert run.data.params == of.data.params
        assert {key: value for key, value in run.data.metrics.items() if key.startswith("best/")} == scores
        if original == trial.number:
            assert (study.trial_folder(trial.number) / "emissions.csv").is_file()
            continue
        assert set(run.data.metrics) == set(scores)
        assert run.data.tags["embedsweep.reused_from"] == of.info.run_id
        assert re.search(rf"trial {trial.number} COMPLETE after \ds batch_size={batches[trial.number]}", output)
        assert f"reused from trial {original}" in output
        result = json.loads((study.trial_folder(trial.number) / "result.json").read_text(encoding="utf-8"))
        source = json.loads((study.trial_folder(original) / "result.json").read_text(encoding="utf-8"))
        assert result == {**source, **{own: result[own] for own in ("emissions", "context")}}
        assert result["emissions"]["co2eq_kg"] == 0
        assert {path.name for path in study.trial_folder(trial.number).iterdir()} == {
            "config.yaml",
            "result.json",
            "trial.json",
        }
    tested = study.test_scores
    assert tested is not None
    assert tested.number == max(set(first), key=lambda number: (study.trials[number].value, -number))
    assert (study.trial_folder(tested.number) / "model").is_dir()
    total = sum(run.data.metrics.get("emissions/co2eq_kg", 0.0) for run in runs)
    parent = client.search_runs([runs[0].info.experiment_id], "tags.`embedsweep.kind` = 'study'")[0]
    assert tested.cost is not None
    assert parent.data.metrics["study/emissions/co2eq_kg"] == pytest.approx(total + tested.cost.co2eq_kg)


class Recorded:
    """A trial's run that keeps what is logged to it."""

    context = RunContext({"embedsweep.reused_from_trial": "0"}, [])

    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.points.append((step, metrics))

    def log_artifact(self, path: Path) -> None: ...


@pytest.mark.parametrize(("gpu_h", "expected"), [(None, None), (0.25, 0.0)], ids=["on a CPU", "on a GPU"])
def test_a_reused_result_costs_nothing(tmp_path: Path, gpu_h: float | None, expected: float | None) -> None:
    folder = tmp_path / "again"
    dev = {"dev/spearman_cosine": 0.5}
    cost = Emissions(0.001, 0.01, 60.0, "FRA", ("cpu power estimated",), gpu_h)
    original = TrialResult(0.5, dev, {}, {}, {}, 4, 8, cost, False, None, 12.5, 3.5)
    run: Any = Recorded()
    result = record_reuse(pass_single([]).config, folder, run, original, {}, 8)
    assert result is not None
    assert read_result(folder) == result
    assert result.emissions == Emissions(0.0, 0.0, 0.0, "FRA", (), expected)
    assert (result.dev, result.peak_memory_gib, result.context) == (dev, 3.5, Recorded.context)
    assert run.points == [(4, {"best/spearman_cosine": 0.5})]


def test_a_result_that_only_another_machine_has_is_reused_by_its_objective(tmp_path: Path) -> None:
    run: Any = Recorded()
    values = {"dev/spearman_cosine": 0.5, "emissions/co2eq_kg": 0.001}
    assert record_reuse(pass_single([]).config, tmp_path, run, None, values, 8) is None
    assert run.points == [(8, {"best/spearman_cosine": 0.5})]
    assert read_result(tmp_path) is None
