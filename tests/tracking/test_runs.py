"""Runs of studies and trials in MLflow: their content, and how they are resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from embedsweep.config.study import TrackingConfig
from embedsweep.config.trial import (
    LossConfig,
)
from embedsweep.errors import TrackingError
from embedsweep.tracking.names import SPOOL_ID, flatten
from embedsweep.tracking.runs import ParentStatus, Tracker, TrialState
from tests.tracking.stores import CONFIG, begin, history, reader

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


def test_a_trial_has_the_names_others_rely_on(config: TrackingConfig, tmp_path: Path) -> None:
    tracker = Tracker(config)
    parent = tracker.parent_run("names", {"embedsweep.objective": "dev/spearman_cosine"})
    trial = tracker.trial_run("names", 7, CONFIG, "abc123", parent=parent, tags={"embedsweep.host": "here"})
    trial.log_metrics(0, {"dev/spearman_cosine": 0.25, "dev/pearson_dot": 0.125})
    trial.log_metrics(10, {"dev/spearman_cosine": 0.5})
    (tmp_path / "config.yaml").write_text("a: 1\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("# card\n")
    trial.log_artifact(tmp_path / "config.yaml")
    trial.log_artifact(tmp_path / "config.yaml", "scores")
    trial.log_artifact(tmp_path / "model", "model")
    trial.finish("COMPLETE")
    tracker.finish_parent(parent, "FINISHED")

    client = reader(config)
    run = client.get_run(trial.run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "names"
    assert run.info.run_name == "trial-0007"
    assert run.info.status == "FINISHED"
    assert run.data.params == flatten(CONFIG)
    origin = ("mlflow.runName", "mlflow.user", "mlflow.source.name")
    assert {key: value for key, value in run.data.tags.items() if key not in origin} == {
        SPOOL_ID: run.data.tags[SPOOL_ID],
        "embedsweep.kind": "trial",
        "embedsweep.trial": "7",
        "embedsweep.config_hash": "abc123",
        "embedsweep.state": "COMPLETE",
        "embedsweep.host": "here",
        "mlflow.parentRunId": parent,
    }
    assert run.data.metrics == {"dev/spearman_cosine": 0.5, "dev/pearson_dot": 0.125}
    paths = {item.path for folder in ("", "scores", "model") for item in client.list_artifacts(trial.run_id, folder)}
    assert paths == {"config.yaml", "scores", "scores/config.yaml", "model", "model/README.md"}

    study = client.get_run(parent)
    assert (study.info.run_name, study.info.status) == ("names", "FINISHED")
    assert study.data.tags["embedsweep.kind"] == "study"
    assert study.data.tags["embedsweep.study"] == "names"
    assert study.data.tags["embedsweep.objective"] == "dev/spearman_cosine"


def test_a_studys_run_and_experiment_say_what_the_study_is(config: TrackingConfig) -> None:
    """Its params are kept, also those of a run that an earlier version opened without any; tags are replaced."""
    with Tracker(config) as tracker:
        tracker.finish_parent(tracker.parent_run("described", {}), "KILLED")
    for fixed in ("64", "128"):
        with Tracker(config) as tracker:
            parent = tracker.parent_run("described", {}, {"fixed.data.limit": fixed, f"only.{fixed}": "1"})
            run = tracker.study_run(parent)
            run.set_experiment_tags({"mlflow.sharedViewState.embedsweep": "{}", "mlflow.note.content": f"*{fixed}*"})
            run.set_tags({"mlflow.note.content": "postgresql://me:secret@host/db"})
            run.log_table("ranking.json", {"trial": [3, 1], "score": [0.5, None]})
    client = reader(config)
    recorded = client.get_run(parent)
    assert recorded.data.params == {"fixed.data.limit": "64", "only.64": "1", "only.128": "1"}
    assert "secret" not in recorded.data.tags["mlflow.note.content"]
    assert json.loads(recorded.data.tags["mlflow.loggedArtifacts"]) == [{"path": "ranking.json", "type": "table"}]
    experiment = client.get_experiment(recorded.info.experiment_id)
    assert experiment.tags["mlflow.note.content"] == "*128*"
    assert experiment.tags["mlflow.sharedViewState.embedsweep"] == "{}"
    table = json.loads(Path(client.download_artifacts(parent, "ranking.json")).read_text())
    assert table == {"columns": ["trial", "score"], "data": [[3, 0.5], [1, None]]}


def test_a_study_keeps_its_parent_run(config: TrackingConfig) -> None:
    tracker = Tracker(config)
    first = tracker.parent_run("parents", {"embedsweep.workers": "1"})
    tracker.finish_parent(first, "KILLED")
    again = Tracker(config).parent_run("parents", {"embedsweep.workers": "4"})
    run = reader(config).get_run(again)
    assert again == first
    assert (run.info.status, run.data.tags["embedsweep.workers"]) == ("RUNNING", "4")


def test_reopening_logs_no_point_twice(config: TrackingConfig) -> None:
    first = begin(Tracker(config), "reopened")
    first.log_metrics(0, {"train/loss": 2.0, "dev/spearman_cosine": 0.1})
    first.log_metrics(10, {"train/loss": 1.0})
    first.finish("RUNNING")
    second = begin(Tracker(config), "reopened", run_id=first.run_id)
    second.log_metrics(0, {"train/loss": 2.0, "dev/spearman_cosine": 0.1})
    second.log_metrics(10, {"train/loss": 1.125, "dev/spearman_cosine": 0.2})
    second.log_metrics(20, {"train/loss": 0.5})
    second.log_metrics(20, {"train/loss": 0.5})
    assert second.run_id == first.run_id
    assert history(config, first.run_id, "train/loss") == [(0, 2.0), (10, 1.0), (20, 0.5)]
    assert history(config, first.run_id, "dev/spearman_cosine") == [(0, 0.1), (10, 0.2)]


def test_reopening_makes_a_run_running_and_rewrites_nothing_else(config: TrackingConfig) -> None:
    tracker = Tracker(config)
    trial = tracker.trial_run("rewritten", 7, CONFIG, "abc123", run_name="mine", tags={"embedsweep.host": "a"})
    trial.finish("RUNNING")
    before = reader(config).get_run(trial.run_id)
    assert (before.info.status, before.data.tags["embedsweep.state"]) == ("KILLED", "RUNNING")
    tracker.trial_run("rewritten", 7, CONFIG, "abc123", run_name="other", run_id=trial.run_id)
    after = reader(config).get_run(trial.run_id)
    assert after.info.status == "RUNNING"
    assert after.info.run_name == "mine"
    assert (after.data.tags, after.data.params) == (before.data.tags, before.data.params)


def test_reopening_adds_params_a_killed_process_did_not_log(mlflow_store: TrackingConfig) -> None:
    tracker = Tracker(mlflow_store)
    client = reader(mlflow_store)
    run = client.create_run(client.create_experiment("torn"))
    client.log_param(run.info.run_id, "loss.name", "matryoshka")
    begin(tracker, "torn", run_id=run.info.run_id)
    assert client.get_run(run.info.run_id).data.params == flatten(CONFIG)


def test_reopening_refuses_another_configuration(config: TrackingConfig) -> None:
    tracker = Tracker(config)
    trial = begin(tracker, "refused")
    trial.finish("RUNNING")
    inner = LossConfig("mnrl", {"scale": 10.0}, None)
    changed = replace(CONFIG, loss=replace(CONFIG.loss, inner=inner), optimizer=replace(CONFIG.optimizer, lr=3e-5))
    with pytest.raises(TrackingError) as caught:
        tracker.trial_run("refused", 7, changed, "def", run_id=trial.run_id)
    assert "loss.inner.scale is 20.0 there and 10.0 now; optimizer.lr is 2e-05 there and 3e-05 now" in str(caught.value)
    assert reader(config).get_run(trial.run_id).info.status == "KILLED"


def test_reopening_refuses_a_run_that_is_gone(mlflow_store: TrackingConfig) -> None:
    tracker = Tracker(mlflow_store)
    trial = begin(tracker)
    reader(mlflow_store).delete_run(trial.run_id)
    with pytest.raises(TrackingError, match="lacks it, or it was deleted"):
        begin(tracker, run_id=trial.run_id)
    with pytest.raises(TrackingError, match="cannot be reopened"):
        begin(tracker, run_id="0" * 32)


@pytest.mark.parametrize(
    ("state", "status"),
    [("COMPLETE", "FINISHED"), ("PRUNED", "FINISHED"), ("FAIL", "FAILED"), ("RUNNING", "KILLED")],
)
def test_state_decides_status(mlflow_store: TrackingConfig, state: TrialState, status: ParentStatus) -> None:
    trial = begin(Tracker(mlflow_store))
    assert reader(mlflow_store).get_run(trial.run_id).info.status == "RUNNING"
    trial.finish(state)
    run = reader(mlflow_store).get_run(trial.run_id)
    assert (run.info.status, run.data.tags["embedsweep.state"]) == (status, state)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_refused(mlflow_store: TrackingConfig, value: float) -> None:
    trial = begin(Tracker(mlflow_store))
    with pytest.raises(TrackingError, match=r"finite numbers but got \{'train/loss': -?(nan|inf)\} at step 3"):
        trial.log_metrics(3, {"train/loss": value, "dev/spearman_cosine": 0.5})
    assert reader(mlflow_store).get_run(trial.run_id).data.metrics == {}


def test_metrics_of_a_step_are_one_call(mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:

    trial = begin(Tracker(mlflow_store))
    calls: list[object] = []
    monkeypatch.setattr(MlflowClient, "log_batch", lambda _self, run_id, **_arguments: calls.append(run_id))
    trial.log_metrics(0, {f"metric-{number}": 0.5 for number in range(10)})
    trial.log_metrics(0, {f"metric-{number}": 0.5 for number in range(10)})
    reader(mlflow_store)
    assert calls == [trial.run_id]


def test_a_data_set_is_logged_once(config: TrackingConfig) -> None:
    trial = begin(Tracker(config), "inputs")
    trial.log_dataset("stsb", "d" * 64, "PhilipMay/stsb_multi_mt", "train")
    trial.log_dataset("stsb", "e" * 64, "PhilipMay/stsb_multi_mt", "dev")
    trial = begin(Tracker(config), "inputs", run_id=trial.run_id)
    trial.log_dataset("stsb", "d" * 64, "PhilipMay/stsb_multi_mt", "train")
    inputs = reader(config).get_run(trial.run_id).inputs.dataset_inputs
    assert sorted((item.dataset.digest, item.tags[0].key, item.tags[0].value) for item in inputs) == [
        ("d" * 36, "mlflow.data.context", "train"),
        ("e" * 36, "mlflow.data.context", "dev"),
    ]


def test_secrets_are_redacted(mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2hunter2")
    tracker = Tracker(mlflow_store)
    url = "postgresql://me:pa55word@host/db"
    secret = replace(CONFIG, model=replace(CONFIG.model, path="https://me:hunter2hunter2@host/model"))
    tags = {"embedsweep.storage": url, "hf_token": "abc", "note": "hunter2hunter2"}
    trial = tracker.trial_run("secrets", 0, secret, "abc", tags=tags)
    trial.set_tags({"embedsweep.later": url})
    trial.log_dataset("mine", "abc", url, "train")
    parent = tracker.parent_run("secrets", tags)
    tracker.trial_run("secrets", 0, secret, "abc", run_id=trial.run_id)
    client = reader(mlflow_store)
    written = json.dumps([client.get_run(run_id).to_dictionary() for run_id in (trial.run_id, parent)])
    assert "pa55word" not in written
    assert "hunter2" not in written
    assert client.get_run(trial.run_id).data.tags["hf_token"] == "***"
    assert client.get_run(trial.run_id).data.tags["embedsweep.later"] == "postgresql://me:***@host/db"


def test_an_older_store_gets_the_beginning_of_a_long_description(
    mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.utils.validation.MAX_EXPERIMENT_TAG_VAL_LENGTH", 5000)
    with Tracker(mlflow_store) as tracker:
        parent = tracker.parent_run("older", {})
        tracker.study_run(parent).set_experiment_tags({"mlflow.note.content": "0123456789" * 501})
        tracker.finish_parent(parent, "FINISHED")
    assert tracker.refusals() == {}
    client = reader(mlflow_store)
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.note.content"] == "0123456789" * 500


def test_two_trackers_use_the_same_experiment(config: TrackingConfig) -> None:
    runs = [reader(config).get_run(begin(Tracker(config), "single").run_id) for _ in range(2)]
    assert runs[0].info.experiment_id == runs[1].info.experiment_id


def test_a_deleted_experiment_stays_deleted(mlflow_store: TrackingConfig) -> None:
    tracker = Tracker(mlflow_store)
    number = reader(mlflow_store).get_run(begin(tracker, "gone").run_id).info.experiment_id
    reader(mlflow_store).delete_experiment(number)
    with pytest.raises(TrackingError, match=f"'gone' was deleted. Restore it .*--experiment-id {number}"):
        begin(tracker, "gone")


@pytest.mark.parametrize("name", ["..", "a/b", "../../elsewhere", ""])
def test_an_experiment_cannot_leave_its_folder(mlflow_store: TrackingConfig, name: str) -> None:
    with pytest.raises(TrackingError):
        begin(Tracker(mlflow_store), name)


def test_a_missing_artifact_is_a_tracking_error(mlflow_store: TrackingConfig, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"nothing\.txt cannot be stored"):
        begin(Tracker(mlflow_store)).log_artifact(tmp_path / "nothing.txt")


def test_the_ui_hint_is_a_command(
    mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert Tracker(mlflow_store).ui_hint() == f"embedsweep ui --tracking-uri {mlflow_store.uri}"
    monkeypatch.chdir(tmp_path)
    assert Tracker(mlflow_store).ui_hint() == "embedsweep ui"
    assert Tracker(mlflow_store).ui_hint("two words") == "embedsweep ui 'two words'"
