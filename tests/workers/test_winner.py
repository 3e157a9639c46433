"""One small sweep through the command line, and what it leaves behind."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from embedsweep.cli import main
from embedsweep.commands.models import resolve_model
from embedsweep.config.compose import open_composer
from embedsweep.config.identity import config_hash
from embedsweep.config.trial import SPLITS
from embedsweep.emissions.rows import read_rows, sum_rows
from embedsweep.evaluation.scores import read_scores
from embedsweep.study.duplicates import CONFIG_HASH
from embedsweep.study.opening import open_study
from embedsweep.study.record import RUN_ID
from embedsweep.study.study import Study
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers import winner as winner_module
from embedsweep.workers.winner import SCORING
from tests.configs import DEV_METRICS
from tests.demo_pairs import demo_pairs

pytestmark = pytest.mark.slow  # each trains

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

QUICK = ["trainer.device=cpu", "data.limit=160", "trainer.max_steps=4", "trainer.eval_every=2"]
TEST_METRICS = {name.replace("dev/", "test/") for name in DEV_METRICS}


@dataclass
class Swept:
    """A study that is over."""

    name: str
    code: int
    client: MlflowClient

    @property
    def study(self) -> Study:
        return open_study(pass_sweep([f"study.name={self.name}"]))

    def run_of(self, number: int) -> Run:
        return self.client.get_run(self.study.trials[number].user_attrs[RUN_ID])

    @property
    def parent(self) -> Run:
        experiment = self.client.get_experiment_by_name(self.name)
        (run,) = self.client.search_runs([experiment.experiment_id], "tags.`embedsweep.kind` = 'study'")
        return run

    def models_on_disk(self) -> list[int]:
        """Numbers of the trials with a model in their folder."""
        study = self.study
        return [trial.number for trial in study.trials if (study.trial_folder(trial.number) / "model").is_dir()]

    def models_recorded(self) -> list[int]:
        """Numbers of the trials whose model is an artifact of their run."""
        runs = {trial.number: self.run_of(trial.number).info.run_id for trial in self.study.trials}
        listed = {number: self.client.list_artifacts(run_id) for number, run_id in runs.items()}
        return [number for number, entries in listed.items() if "model" in {entry.path for entry in entries}]


Sweep = Callable[..., Swept]


@pytest.fixture(scope="module")
def sweep(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """Runs ``train -m`` with some words, in a folder that all sweeps of this file share."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns" / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["embedsweep"])

        def run(name: str, *words: str) -> Swept:
            code = main(["train", "-m", f"study.name={name}", *words])
            return Swept(name, code, MlflowClient(uri, uri))

        yield run


@pytest.fixture(scope="module")
def best(sweep: Sweep) -> Swept:
    """Three trials of which only the best model is kept."""
    return sweep("best", "optimizer.lr=1e-6,3e-3,1e-7", *QUICK)


def test_a_complete_study_exits_0_and_has_a_best_trial(best: Swept) -> None:
    assert best.code == 0
    study = best.study
    assert study.is_complete
    values = [trial.value or 0.0 for trial in study.trials]
    assert study.best is not None
    assert study.best.number == values.index(max(values)) == 1


def test_the_winner_alone_is_scored_on_test(best: Swept) -> None:
    for number in (0, 1, 2):
        found = {name for name in best.run_of(number).data.metrics if name.startswith("test/")}
        assert found == (TEST_METRICS if number == 1 else set())
    scores_of_study = best.study.test_scores
    assert scores_of_study is not None
    scores = scores_of_study.scores
    assert scores_of_study.number == 1
    assert best.run_of(1).data.metrics["test/spearman_cosine"] == scores["test/spearman_cosine"]


def test_the_test_scores_of_the_winner_alone_are_kept_for_each_item(best: Swept) -> None:
    kept = {number: read_scores(best.study.trial_folder(number), "test") for number in (0, 1, 2)}
    winner = kept.pop(1)
    assert winner is not None
    assert set(kept.values()) == {None}
    score = winner.statistic("test/spearman_cosine")(np.ones((1, len(winner))))[0]
    assert score == pytest.approx(best.run_of(1).data.metrics["test/spearman_cosine"], abs=1e-6)
    assert best.study.test_scores is not None
    low, high = best.study.test_scores.interval or (0.0, 0.0)
    assert (low, high) == winner.interval("test/spearman_cosine")
    assert low < score < high
    artifacts = best.client.list_artifacts(best.run_of(1).info.run_id, "scores")
    assert {"scores/dev.parquet", "scores/test.parquet"} <= {each.path for each in artifacts}


def test_the_test_score_is_that_of_the_kept_model(best: Swept) -> None:
    rows = demo_pairs("test")
    folder = best.study.trial_folder(1) / "model"
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    first, second = model.encode([row[0] for row in rows]), model.encode([row[1] for row in rows])
    cosines = model.similarity_pairwise(first, second).numpy()
    expected = spearmanr([row[2] for row in rows], cosines)[0]
    assert best.run_of(1).data.metrics["test/spearman_cosine"] == pytest.approx(expected, abs=1e-4)
    scores = best.run_of(1).data.metrics
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{scores['test/spearman_cosine']:.4f}" in card
    assert "the best of 3 trials of study best" in card


def test_runs_have_the_status_of_their_trials(best: Swept) -> None:
    assert best.parent.info.status == "FINISHED"
    for number in (0, 1, 2):
        run = best.run_of(number)
        assert (run.info.status, run.data.tags["embedsweep.state"]) == ("FINISHED", "COMPLETE")
        assert run.data.tags["mlflow.parentRunId"] == best.parent.info.run_id
        assert run.data.metrics["best/spearman_cosine"] == best.study.trials[number].value


def test_the_parent_run_carries_the_best_values_and_all_emissions(best: Swept) -> None:
    metrics = best.parent.data.metrics
    assert metrics["study/dev/spearman_cosine"] == best.study.trials[1].value
    assert metrics["study/test/spearman_cosine"] == best.run_of(1).data.metrics["test/spearman_cosine"]
    scoring = sum_rows(read_rows(best.study.folder / SCORING), "")
    assert best.study.test_scores is not None
    assert best.study.test_scores.cost is not None
    assert best.study.test_scores.cost.energy_kwh == scoring.energy_kwh > 0
    assert metrics["study/time/test_s"] == scoring.duration_s > 0
    total = sum(best.run_of(number).data.metrics["emissions/co2eq_kg"] for number in (0, 1, 2)) + scoring.co2eq_kg
    assert metrics["study/emissions/co2eq_kg"] == pytest.approx(total)
    energy = sum(best.run_of(number).data.metrics["emissions/energy_kwh"] for number in (0, 1, 2)) + scoring.energy_kwh
    assert metrics["study/emissions/energy_kwh"] == pytest.approx(energy)
    assert "study/time/gpu_h" not in metrics


def test_only_the_best_model_is_kept_and_recorded(best: Swept) -> None:
    assert best.models_on_disk() == best.models_recorded() == [1]
    folders = [best.study.trial_folder(number) for number in (0, 1, 2)]
    assert not any((folder / "checkpoints").exists() for folder in folders)
    assert all((folder / "scores" / "dev.parquet").is_file() for folder in folders)


def test_the_same_command_trains_and_scores_nothing_again(
    best: Swept, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unwanted(*_: object) -> dict[str, float]:
        raise AssertionError("test was scored twice")

    monkeypatch.setattr(winner_module, "score_model", unwanted)
    before = {name: best.client.get_metric_history(best.run_of(1).info.run_id, name) for name in sorted(TEST_METRICS)}
    again = sweep("best", "optimizer.lr=1e-6,3e-3,1e-7", *QUICK)
    assert again.code == 0
    assert len(again.study.trials) == 3
    after = {name: best.client.get_metric_history(best.run_of(1).info.run_id, name) for name in sorted(TEST_METRICS)}
    assert [len(history) for history in after.values()] == [1] * 10 == [len(history) for history in before.values()]
    assert "3 finished before" in capsys.readouterr().out


def test_the_command_to_run_again_is_the_winners_configuration(
    best: Swept, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep("best")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run it again: ")]
    program, verb, *words = shlex.split(line.removeprefix("run it again: "))
    assert (program, verb) == ("embedsweep", "train")
    assert config_hash(pass_single(words).config) == best.study.trials[1].user_attrs[CONFIG_HASH]


@pytest.mark.parametrize(
    ("keep_models", "on_disk", "recorded"), [("all", [0, 1], [0, 1]), ("none", [], [])], ids=["all", "none"]
)
def test_the_models_kept_are_those_requested(
    sweep: Sweep, keep_models: str, on_disk: list[int], recorded: list[int]
) -> None:
    swept = sweep(keep_models, "optimizer.lr=3e-3,1e-7", f"study.keep_models={keep_models}", *QUICK)
    assert swept.code == 0
    assert swept.models_on_disk() == on_disk
    assert swept.models_recorded() == recorded
    assert set(swept.run_of(0).data.metrics) > TEST_METRICS
    assert not TEST_METRICS & set(swept.run_of(1).data.metrics)


@pytest.mark.slow
def test_a_larger_budget_scores_test_again_only_for_a_new_winner(sweep: Sweep) -> None:
    words = ["optimizer.lr=1e-7,1e-6,3e-3", *QUICK]
    first = sweep("grows", *words, "study.n_trials=1")
    assert first.study.test_scores is not None
    assert first.study.test_scores.number == 0
    grown = sweep("grows", *words)
    assert grown.study.test_scores is not None
    assert grown.study.test_scores.number == 2
    assert (
        grown.parent.data.metrics["study/test/spearman_cosine"] == grown.study.test_scores.test["test/spearman_cosine"]
    )
    assert grown.models_on_disk() == [2]


def test_a_signal_while_the_winner_is_recorded_ends_the_command_when_all_is_written(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopened = Tracker.trial_run

    def reopen(*arguments: Any, **named: Any) -> TrialTracker:
        run = reopened(*arguments, **named)
        if "run_name" not in named:  # the winner's, and no trial's that begins
            os.kill(os.getpid(), signal.SIGTERM)
        return run

    monkeypatch.setattr(Tracker, "trial_run", reopen)
    swept = sweep("recorded", "optimizer.lr=3e-3,1e-7", *QUICK)
    assert swept.code == 143
    assert swept.study.test_scores is not None
    winner = swept.run_of(0)
    assert winner.info.status == "FINISHED"
    assert set(winner.data.metrics) > TEST_METRICS
    assert swept.models_recorded() == [0]


def test_a_larger_budget_with_the_same_winner_updates_the_card_and_scores_nothing_again(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = ["evaluation.benchmarks=[demo-test]", "evaluation.before=true", "evaluation.dims=[64]"]
    words = ["optimizer.lr=3e-3,1e-7", *further, *QUICK]
    first = sweep("stays", *words, "study.n_trials=1")
    card = first.study.trial_folder(0) / "model" / "README.md"
    before = card.read_text(encoding="utf-8")
    assert "It is the best of 1 trial of study stays" in before
    heads = "| benchmark | dimensions | similarity | Pearson | Spearman | Pearson before | Spearman before |"
    (_, _, table) = before.partition(heads)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:12]]
    assert {tuple(row[:2]) for row in rows} == {("demo-test", "all"), ("demo-test", "64")}
    assert "-" not in {cell for row in rows for cell in row}
    monkeypatch.setattr(winner_module, "score_model", lambda *_: pytest.fail("test was scored twice"))

    grown = sweep("stays", *words)

    after = card.read_text(encoding="utf-8")
    assert after == before.replace("the best of 1 trial of study", "the best of 2 trials of study")
    recorded = grown.client.download_artifacts(grown.run_of(0).info.run_id, "model/README.md")
    assert Path(recorded).read_text(encoding="utf-8") == after
    assert grown.run_of(0).info.status == "FINISHED"
    assert grown.study.test_scores is not None
    assert (grown.study.test_scores.number, grown.study.test_scores.n_trials) == (0, 2)


def test_a_trial_that_raises_fails_with_its_reason_and_the_others_continue(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = sweep("fails", "loss.scale=1e39,20", *QUICK)
    assert swept.code == 3
    assert [trial.state.name for trial in swept.study.trials] == ["FAIL", "COMPLETE"]
    run = swept.run_of(0)
    assert (run.info.status, run.data.tags["embedsweep.state"]) == ("FAILED", "FAIL")
    assert "TrialError" in run.data.tags["embedsweep.failure"]
    assert swept.parent.info.status == "FINISHED"
    assert "trial 0 failed: TrialError" in capsys.readouterr().out


def test_a_pruned_trial_records_why_and_when_and_leaves_its_scores_and_no_model(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["optimizer.lr=3e-3,1e-7,1e-8", "study.pruner=successive_halving", "study.keep_models=all"]
    length = ["trainer.max_steps=8", "trainer.eval_every=3", "study.pruning.rungs=[0.5]", "evaluation.before=false"]
    swept = sweep("pruned", *words, *QUICK[:2], *length)
    assert swept.code == 0
    assert [trial.state.name for trial in swept.study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    dev = "dev/spearman_cosine"
    survivor, pruned = swept.run_of(0), swept.run_of(1)
    steps = {
        run.info.run_id: [point.step for point in swept.client.get_metric_history(run.info.run_id, dev)]
        for run in (survivor, pruned)
    }
    assert steps == {survivor.info.run_id: [3, 4, 6, 8], pruned.info.run_id: [3, 4]}

    trial = swept.study.trials[1]
    assert (pruned.info.status, pruned.data.tags["embedsweep.state"]) == ("FINISHED", "PRUNED")
    assert pruned.data.metrics[dev] == trial.value
    best = "is not among the best 1 (1/2) of 2 trials there (successive_halving)"
    reason = f"at step 4 of 8 (rung 0.5): {dev} {trial.value:.4f} {best}"
    assert pruned.data.tags["embedsweep.pruned"] == trial.user_attrs["embedsweep.pruned"] == reason
    assert "embedsweep.pruned" not in survivor.data.tags
    assert pruned.data.metrics["emissions/co2eq_kg"] == trial.user_attrs["emissions_kg"] > 0
    artifacts = {entry.path for entry in swept.client.list_artifacts(pruned.info.run_id)}
    assert artifacts == {"config.yaml", "train.log", "emissions.csv", "scores"}
    assert swept.models_on_disk() == swept.models_recorded() == [0]

    output = capsys.readouterr().out
    assert f"g CO2eq, pruned {reason}" in output
    assert "pruned: 2 at rung 0.5" in output
    (command,) = [line for line in output.splitlines() if line.startswith("run it again: ")]
    config = pass_single(shlex.split(command.removeprefix("run it again: "))[2:]).config
    assert config_hash(config) == swept.study.trials[0].user_attrs[CONFIG_HASH]


def test_a_study_of_several_objectives_selects_one_winner_on_dev(sweep: Sweep) -> None:
    objectives = ["emissions/co2eq_kg", "dev/spearman_cosine", "throughput/examples_per_s"]
    swept = sweep("several", "optimizer.lr=1e-7,3e-3", f"study.objective=[{','.join(objectives)}]", *QUICK)
    assert swept.code == 0
    trials = swept.study.trials
    for number, trial in enumerate(trials):
        assert trial.values == [swept.run_of(number).data.metrics[name.replace("dev/", "best/")] for name in objectives]
    assert swept.study.test_scores is not None
    assert swept.study.test_scores.number == 1 == max(trials, key=lambda trial: trial.values[1]).number
    assert not TEST_METRICS & set(swept.run_of(0).data.metrics)
    metrics = swept.parent.data.metrics
    assert metrics["study/dev/spearman_cosine"] == trials[1].values[1]
    assert metrics["study/throughput/examples_per_s"] == max(trial.values[2] for trial in trials)
    assert metrics["study/best/emissions/co2eq_kg"] == min(trial.values[0] for trial in trials)
    cost = swept.study.test_scores.cost
    assert cost is not None
    assert metrics["study/emissions/co2eq_kg"] == pytest.approx(
        sum(trial.values[0] for trial in trials) + cost.co2eq_kg
    )
    with open_composer() as composer:
        assert resolve_model("several", composer).source == str(swept.study.trial_folder(1) / "model")


def test_the_first_commands_keys_hold_when_only_the_name_is_given(
    sweep: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = ("study.keep_models=all", "emissions.country_iso_code=FRA")
    sweep("kept", "optimizer.lr=1e-3,2e-3", *overrides, *QUICK)
    assert sweep("kept").models_on_disk() == [0, 1]
    assert sweep("kept", "study.keep_models=none").code == 2
    assert "study.keep_models: is all in this study" in capfd.readouterr().err
    assert sweep("kept").models_on_disk() == [0, 1]


def test_a_study_can_be_resumed_in_another_store(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep("moved", "optimizer.lr=1e-3,2e-3", "study.n_trials=1", *QUICK).code == 0
    uri = f"tracking.uri=sqlite:///{tmp_path}/other.db"
    assert sweep("moved", "study.n_trials=2", uri).code == 0
    study = open_study(pass_sweep(["study.name=moved"]))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]


def test_a_name_alone_is_validated(
    sweep: Sweep, tmp_path: Path, capfd: pytest.CaptureFixture[str], forget_data: Callable[[], None]
) -> None:
    data = tmp_path / "pairs"
    data.mkdir()
    for split in SPLITS:
        lines = [f'"{first}","{second}",{score}' for first, second, score in demo_pairs(split)[:160]]
        (data / f"{split}.csv").write_text("sentence1,sentence2,score\n" + "\n".join(lines) + "\n", encoding="utf-8")
    words = ("data=csv", f"data.path={data}", "optimizer.lr=1e-3,2e-3", "study.n_trials=1", *QUICK)
    assert sweep("gone", *words).code == 0
    shutil.rmtree(data)
    forget_data()

    assert sweep("gone", "study.n_trials=2").code == 2

    assert "there is no folder" in capfd.readouterr().err
    assert len(open_study(pass_sweep(["study.name=gone"])).trials) == 1


def test_the_best_trial_on_dev_is_not_the_best_where_it_forgets_a_watched_benchmark(sweep: Sweep) -> None:
    """The watched scores of a benchmark whose gold scores are reversed fall as those of dev rise."""
    Path("conf/benchmark").mkdir(parents=True)
    Path("conf/benchmark/reversed-dev.yaml").write_text(
        "defaults: [/data@data: csv, _self_]\nname: reversed-dev\nfolder: reversed\nsplit: dev\n", encoding="utf-8"
    )
    rows = [f'"{first}","{second}",{5 - score}' for first, second, score in demo_pairs("dev")[:300]]
    Path("data/reversed").mkdir(parents=True)
    Path("data/reversed/dev.csv").write_text("\n".join(["sentence1,sentence2,score", *rows]), encoding="utf-8")
    words = ["optimizer.lr=1e-6,3e-3", *QUICK, "evaluation.watch=[reversed-dev]", "evaluation.path=data"]
    free = sweep("forgetting", *words)
    keep = "study.keep=[{benchmark:reversed-dev,metric:spearman_cosine,drop_at_most:0.005}]"
    kept = sweep("keeping", *words, keep)

    assert (free.code, kept.code) == (0, 0)
    scores = [[trial.values[0] for trial in swept.study.trials] for swept in (free, kept)]
    assert scores[0] == scores[1]
    assert scores[0][1] > scores[0][0]
    for swept, winner in ((free, 1), (kept, 0)):
        assert swept.study.best is not None
        assert swept.study.best.number == winner
        assert swept.study.test_scores is not None
        assert swept.study.test_scores.number == winner
        assert swept.models_on_disk() == swept.models_recorded() == [winner]
    forgetful = kept.run_of(1)
    after, watched = forgetful.data.metrics["best/reversed-dev/spearman_cosine"], "dev/reversed-dev/spearman_cosine"
    curve = [(each.step, each.value) for each in kept.client.get_metric_history(forgetful.info.run_id, watched)]
    assert [step for step, _ in curve] == [0, 2, 4]
    change = after - curve[0][1]
    assert change < -0.005
    assert forgetful.data.tags["embedsweep.forgets"] == f"forgets: reversed-dev {change:.4f}"
    assert "embedsweep.forgets" not in kept.run_of(0).data.tags
    result = kept.study.result_of(kept.study.trials[1])
    assert result is not None
    assert (result.dev[watched], dict(result.curve)[watched]) == (after, curve[1:])
    card = (kept.study.trial_folder(0) / "model" / "README.md").read_text(encoding="utf-8")
    assert "a trial that forgot reversed-dev spearman_cosine by more than 0.005 could not be" in card
    assert sweep("keeping").code == 0  # resumed by its name alone, with nothing left to do
