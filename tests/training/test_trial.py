from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.study import EmissionsConfig, TrackingConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import as_examples
from embedsweep.data.load import load_splits
from embedsweep.emissions.allocation import allocation_path, read_allocation
from embedsweep.emissions.machine_emissions import MachineEmissions
from embedsweep.errors import TrialError
from embedsweep.evaluation.scores import read_scores
from embedsweep.report.lines import PlainLines
from embedsweep.report.running import RunningTrials
from embedsweep.study.opening import open_study
from embedsweep.study.record import EMISSIONS_KG
from embedsweep.tracking.runs import Tracker
from embedsweep.training.folder import read_result
from embedsweep.training.group import TrainingGroup
from embedsweep.training.trial import TrialSetup, _figures, run_trial
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.worker import Worker
from tests.configs import DEV_METRICS
from tests.demo_pairs import demo_pairs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EMISSIONS = EmissionsConfig("codecarbon", "FRA")
SMALL = ("trainer.device=cpu", "data.limit=160", "trainer.eval_every=2")
# A rate so high that it is worse in the end than before.
PAST_ITS_BEST = ("optimizer.lr=4e-3", "optimizer.schedule=constant", "optimizer.warmup=0", "trainer.max_steps=9")


@dataclass
class Attempt:
    """A trial and all that it reported."""

    config: TrialConfig
    folder: Path
    client: MlflowClient
    run_id: str
    reports: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    signs_of_life: int = 0
    result: TrialResult | None = None

    @property
    def run(self) -> Run:
        return self.client.get_run(self.run_id)

    def history(self, metric: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(self.run_id, metric)]

    def artifacts(self, path: str | None = None) -> Iterator[str]:
        for entry in self.client.list_artifacts(self.run_id, path):
            if entry.is_dir:
                yield from self.artifacts(entry.path)
            else:
                yield entry.path


def attempt(store: TrackingConfig, folder: Path, *words: str, single: bool = True) -> Attempt:
    from mlflow import MlflowClient

    config = pass_single([*SMALL, *words]).config
    tried = Attempt(config, folder, MlflowClient(store.uri, store.uri), "")

    def report(step: int, metrics: Mapping[str, float]) -> Decision:
        tried.reports.append((step, metrics))
        return Decision.CONTINUE

    def progress(step: int, total: int) -> None:
        tried.steps.append((step, total))

    def alive() -> None:
        tried.signs_of_life += 1

    with chdir(folder.parent), Tracker(store) as tracker:
        run = tracker.trial_run("single", 0, config, "abc123")
        tried.run_id = run.run_id
        setup = TrialSetup(
            config, folder, run, report, progress, EMISSIONS, single=single, on_before=tried.before.update, alive=alive
        )
        tried.result = run_trial(setup)
    return tried


@pytest.fixture(scope="module")
def single(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    """A single run whose best checkpoint is not its last."""
    folder = tmp_path_factory.mktemp("single")
    shutil.copy(mlflow_template, folder / "mlflow.db")
    return attempt(
        TrackingConfig("local", f"sqlite:///{folder / 'mlflow.db'}", spool=False), folder / "trial", *PAST_ITS_BEST
    )


def result_of(tried: Attempt) -> TrialResult:
    assert tried.result is not None
    return tried.result


def test_a_trial_gives_signs_of_life_in_steps_and_evaluations_and_before_training(single: Attempt) -> None:
    steps, evaluations = single.steps[-1][1], 1 + len(single.reports)
    batches = 2 * len(demo_pairs("dev")) // single.config.evaluation.batch_size
    assert single.signs_of_life >= steps + evaluations * batches


def test_a_trial_leaves_its_files(single: Attempt) -> None:
    names = {path.name for path in single.folder.iterdir()}
    assert names == {
        "config.yaml",
        "train.log",
        "emissions.csv",
        "scores",
        "checkpoints",
        "model",
        "result.json",
    }
    assert read_result(single.folder) == single.result
    assert single.before == result_of(single).before
    written = yaml.safe_load((single.folder / "config.yaml").read_text(encoding="utf-8"))
    assert written["optimizer"]["lr"] == 0.004
    assert written["data"]["columns"] == ["sentence1", "sentence2", "score"]
    assert written["objective"] == "dev/spearman_cosine"


def test_the_result_is_that_of_the_best_checkpoint(single: Attempt) -> None:
    result = result_of(single)
    values = {step: metrics["dev/spearman_cosine"] for step, metrics in single.reports}
    assert list(values) == [2, 4, 6, 8, 9]
    assert result.best_step == max(values, key=lambda step: values[step])
    assert result.best_step < result.steps == 9
    assert result.objective == pytest.approx(max(values.values()), abs=1e-5)
    assert single.steps[-1] == (9, 9)


def test_the_reported_spearman_follows_from_the_file_of_scores(single: Attempt) -> None:
    table = pq.read_table(single.folder / "scores" / "dev.parquet").to_pydict()
    assert len(table["gold"]) == 800
    recomputed = spearmanr(table["gold"], table["predicted_cosine"])[0]
    assert recomputed == pytest.approx(result_of(single).dev["dev/spearman_cosine"], abs=1e-6)
    scores = read_scores(single.folder)
    assert scores is not None
    assert result_of(single).interval == scores.interval("dev/spearman_cosine")


def test_the_scores_of_the_untrained_model_are_kept_for_each_item(single: Attempt) -> None:
    scores, kept = read_scores(single.folder, "before"), read_scores(single.folder)
    assert scores is not None
    assert kept is not None
    assert scores.is_of_same_items(kept)
    before = result_of(single).before["dev/spearman_cosine"]
    assert scores.statistic("dev/spearman_cosine")(np.ones((1, len(scores))))[0] == pytest.approx(before, abs=1e-6)


def test_the_test_scores_of_a_single_run_are_kept_for_each_item(single: Attempt) -> None:
    scores = read_scores(single.folder, "test")
    assert scores is not None
    reported = result_of(single).test
    found = {name: scores.statistic(name)(np.ones((1, len(scores))))[0] for name in reported}
    assert found == pytest.approx(reported, abs=1e-6)
    assert "scores/test.parquet" in single.artifacts()


def test_the_saved_model_is_the_one_that_was_scored(single: Attempt) -> None:
    model = SentenceTransformer(str(single.folder / "model"), device="cpu", local_files_only=True)
    test = as_examples(load_splits(single.config.data, single.config.evaluation).test)
    first, second = (model.encode(list(texts)) for texts in test.texts)
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    expected = result_of(single).test["test/spearman_cosine"]
    assert spearmanr(test.labels, cosines)[0] == pytest.approx(expected, abs=1e-4)
    assert (single.folder / "model" / "model.safetensors").is_file()


def test_params_are_the_flattened_configuration_and_nothing_else(single: Attempt) -> None:
    def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in tree.items():
            yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]

    written = yaml.safe_load((single.folder / "config.yaml").read_text(encoding="utf-8"))
    # A loss has its own parameters, and an inner loss only if it is a wrapper.
    expected = {key.replace("loss.parameters.", "loss.") for key in leaves(written)} - {"loss.inner"}
    assert set(single.run.data.params) == expected
    assert single.run.data.params["loss.name"] == "cosent"
    assert single.run.data.params["optimizer.lr"] == "0.004"
    assert single.run.data.params["trainer.early_stopping.patience"] == "null"


def test_metrics_have_the_names_others_rely_on(single: Attempt) -> None:
    expected = {
        *DEV_METRICS,
        *(name.replace("dev/", "test/") for name in DEV_METRICS),
        *(name.replace("dev/", "best/") for name in DEV_METRICS),
        "train/loss",
        "train/learning_rate",
        "emissions/co2eq_kg",
        "emissions/energy_kwh",
        "emissions/duration_s",
        "time/train_s",
        "time/eval_s",
        "throughput/examples_per_s",
    }
    metrics = single.run.data.metrics
    assert set(metrics) == expected
    emissions = result_of(single).emissions
    assert metrics["emissions/co2eq_kg"] == emissions.co2eq_kg > 0
    assert metrics["emissions/energy_kwh"] == emissions.energy_kwh > 0
    assert emissions.country == "FRA"
    assert metrics["time/train_s"] + metrics["time/eval_s"] < metrics["emissions/duration_s"]
    assert metrics["throughput/examples_per_s"] == pytest.approx(9 * 32 / metrics["time/train_s"])


def test_the_dev_curve_is_what_was_measured_and_the_kept_checkpoint_has_its_scores_at_its_own_step(
    single: Attempt,
) -> None:
    result = result_of(single)
    reported = [(step, metrics["dev/spearman_cosine"]) for step, metrics in single.reports]
    assert [step for step, _ in reported] == [2, 4, 6, 8, 9]
    assert single.history("dev/spearman_cosine") == [(0, result.before["dev/spearman_cosine"]), *reported]
    assert reported[-1][1] < result.objective - 0.005, "the last checkpoint is not the best"
    for name in DEV_METRICS:
        assert single.history(name.replace("dev/", "best/")) == [(result.best_step, result.dev[name])]
    assert result.best_step < 9
    assert [step for step, _ in single.history("train/loss")] == list(range(1, 10))


def test_artifacts_data_sets_and_tags_are_recorded(single: Attempt) -> None:
    artifacts = set(single.artifacts())
    assert {"config.yaml", "train.log", "scores/dev.parquet", "emissions.csv", "model/README.md"} <= artifacts
    assert all(path.startswith("model/") or path.count("/") < 2 for path in artifacts)
    inputs = {entry.tags[0].value: entry.dataset for entry in single.run.inputs.dataset_inputs}
    assert {context: dataset.name for context, dataset in inputs.items()} == {
        "train": "demo train",
        "dev": "demo dev",
        "test": "demo test",
    }
    tags = single.run.data.tags
    assert tags["embedsweep.kind"] == "trial"
    assert tags["embedsweep.trial"] == "0"
    assert tags["embedsweep.config_hash"] == "abc123"
    assert tags["embedsweep.state"] == "RUNNING"  # the caller ends the run
    assert tags["embedsweep.micro_batch_size"] == "32"
    assert tags["embedsweep.conversion"] == "none"


def test_the_card_has_one_evaluation_and_marks_the_checkpoint(single: Attempt) -> None:
    text = (single.folder / "model" / "README.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == len(set(headings))
    assert {"## Evaluation", "## Training Details", "## Citation"} <= set(headings)
    assert {"### Environmental Impact", "### Configuration of embedsweep"} <= set(text.splitlines())
    assert headings.index("## Evaluation") < headings.index("## Training Details") < headings.index("## Citation")
    assert "PairEvaluator" not in text
    result = result_of(single)
    for name in ("dev/spearman_cosine", "test/spearman_cosine", "test/pearson_max"):
        assert f"{ {**result.dev, **result.test}[name]:.4f}" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| **")]  # the saved checkpoint's, in the log
    assert f"**{result.best_step}**" in row
    for words in ("CoSENTLoss", "Sentence Transformers: 6", "random weights on demo", "reimers-2019-sentence-bert"):
        assert words in text


def test_a_trial_with_a_result_is_not_trained_again(single: Attempt) -> None:
    store = TrackingConfig("local", single.client.tracking_uri, spool=False)
    with chdir(single.folder.parent):
        run = Tracker(store).trial_run("single", 0, single.config, "abc123", run_id=single.run_id)

    def unwanted(*_: object) -> Any:
        raise AssertionError("it was trained")

    setup = TrialSetup(single.config, single.folder, run, unwanted, unwanted, EMISSIONS, single=True)
    again = run_trial(setup)
    assert again == single.result


def test_libraries_write_to_the_log_and_not_to_the_terminal(
    mlflow_store: TrackingConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tried = attempt(mlflow_store, tmp_path / "trial", "trainer.max_steps=2", "loss=mnrl", single=False)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    log = (tmp_path / "trial" / "train.log").read_text(encoding="utf-8")
    assert "Num examples" in log
    # A trial of a study is not scored on test, and its model is recorded only if it is kept.
    result = result_of(tried)
    assert result.test == {}
    assert not any(name.startswith("test/") for name in tried.run.data.metrics)
    assert not any(path.startswith("model/") for path in tried.artifacts())
    assert (tmp_path / "trial" / "model" / "model.safetensors").is_file()
    conversion = "positive pairs: score >= 0.8 (4 of 0-5)"
    assert result.conversion is not None
    assert result.conversion.startswith(conversion)
    assert tried.run.data.tags["embedsweep.conversion"] == result.conversion


def test_a_failure_is_in_the_log_and_leaves_no_result(mlflow_store: TrackingConfig, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"not a number|became (nan|inf)"):
        attempt(
            mlflow_store,
            tmp_path / "trial",
            "loss.scale=1e39",
            "trainer.max_steps=4",
        )
    assert read_result(tmp_path / "trial") is None
    assert "TrialError" in (tmp_path / "trial" / "train.log").read_text(encoding="utf-8")
    assert (tmp_path / "trial" / "emissions.csv").is_file()  # its cost is known nevertheless


def test_a_torn_result_is_ignored(single: Attempt, tmp_path: Path) -> None:
    (tmp_path / "result.json.part").write_text('{"objective": 0.5', encoding="utf-8")
    assert read_result(tmp_path) is None
    tree = json.loads((single.folder / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "result.json").write_text(json.dumps({**tree, "objective": 0.25}), encoding="utf-8")
    assert read_result(tmp_path) == replace(result_of(single), objective=0.25)


def test_a_result_of_an_older_version_is_read(single: Attempt, tmp_path: Path) -> None:
    tree = json.loads((single.folder / "result.json").read_text(encoding="utf-8"))
    for name in ("examples_per_s", "peak_memory_gib", "train_s", "eval_s", "curve"):
        del tree[name]
    del tree["emissions"]["gpu_h"]
    (tmp_path / "result.json").write_text(json.dumps(tree), encoding="utf-8")
    older = replace(result_of(single), examples_per_s=None, train_s=None, eval_s=None, curve={})
    assert read_result(tmp_path) == older


def test_a_result_has_the_curve_that_was_logged(single: Attempt) -> None:
    curve = result_of(single).curve
    assert {"train/loss", "train/learning_rate", *DEV_METRICS} == curve.keys()
    assert [(step, metrics["dev/spearman_cosine"]) for step, metrics in single.reports] == curve["dev/spearman_cosine"]
    for name in ("train/loss", "train/learning_rate"):
        assert single.history(name) == curve[name]


def test_gpu_time_and_memory_are_metrics_if_there_is_a_gpu(single: Attempt) -> None:
    result = result_of(single)
    names = {"time/gpu_h", "memory/peak_gib"}
    assert not names & _figures(result).keys()
    on_gpu = replace(result, emissions=replace(result.emissions, gpu_h=0.25), peak_memory_gib=3.5)
    figures = _figures(on_gpu)
    assert {name: figures[name] for name in names} == {"time/gpu_h": 0.25, "memory/peak_gib": 3.5}


def setup_of(config: TrialConfig, group: TrainingGroup | None) -> TrialSetup:
    """Return a setup that is not run."""
    unused: Any = None
    return TrialSetup(config, Path(), unused, unused, unused, EMISSIONS, single=True, group=group)


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", ["3"], ["3"]),
        ("cuda:1", ["GPU-bb"], ["GPU-bb"]),
        ("auto", ["0", "1"], ["0"]),
        ("auto", [], []),
        ("cpu", ["0"], []),
        ("mps", [], []),
    ],
)
def test_a_trial_occupies_the_gpu_that_its_process_sees(
    single: Attempt, monkeypatch: pytest.MonkeyPatch, device: str, visible: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr("embedsweep.machine.visible_devices", lambda: visible)
    trainer = replace(single.config.trainer, device=device)
    assert setup_of(replace(single.config, trainer=trainer), None).gpus == expected


def test_a_trial_of_a_group_occupies_the_gpus_of_all_members(single: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedsweep.training.group.visible_devices", lambda: ["4", "5", "6"])
    assert setup_of(single.config, TrainingGroup(2, "auto")).gpus == ["4", "5"]
    assert setup_of(single.config, TrainingGroup(2, "cpu")).gpus == []


@pytest.mark.slow
def test_a_worker_with_a_share_measures_its_trials_by_the_share(
    mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("study.name=shared", "study.keep_models=none", "emissions.country_iso_code=FRA")
    sweep = pass_sweep([*SMALL, *words, "trainer.seed=1,2", "trainer.max_steps=3"])
    study, tracker = open_study(sweep), Tracker(mlflow_store)
    parent, display = tracker.parent_run(study.name, {}), PlainLines(Console(quiet=True), RunningTrials())
    folder = tmp_path / "workers"
    worker = Worker(study, tracker, parent, display, allocation=allocation_path(folder, 0))
    with MachineEmissions(EMISSIONS, folder) as shared:
        shared.add(0, os.getpid())
        shared.add(1, psutil.Process().ppid())  # the parent process uses almost nothing meanwhile
        worker.work()
        shared.remove(0)
    results = [read_result(study.trial_folder(number)) for number in (0, 1)]
    costs = [result.emissions for result in results if result is not None]
    assert len(costs) == 2
    share = read_allocation(allocation_path(folder, 0))
    assert share is not None
    assert 0 < sum(cost.energy_kwh for cost in costs) < share.energy.total_kwh
    for cost, trial in zip(costs, study.trials, strict=True):
        assert cost.unmeasured[0].startswith("approximate: this worker's part")
        assert not any("not measured" in word and "power" not in word for word in cost.unmeasured)
        assert trial.user_attrs[EMISSIONS_KG] == cost.co2eq_kg > 0
