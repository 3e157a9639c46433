from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from embedsweep.config.study import TrackingConfig
from embedsweep.config.trial import (
    BenchmarkConfig,
    ConvertConfig,
    DataloaderConfig,
    EarlyStoppingConfig,
    LoraConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
    TrialConfig,
)
from embedsweep.errors import TrackingError
from embedsweep.tracking.browse import open_ui
from embedsweep.tracking.names import flatten
from embedsweep.tracking.records import Metrics
from embedsweep.tracking.runs import ParentStatus, Tracker, TrialState, TrialTracker
from embedsweep.tracking.spool import all_spools
from tests.data_configs import EVALUATION, SCORED

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

CONFIG = TrialConfig(
    objective="dev/spearman_cosine",
    rungs=(),
    model=ModelConfig(
        name="tiny",
        path=None,
        revision=None,
        parts="all",
        static_dim=None,
        pooling="mean",
        dense=None,
        dense_activation="tanh",
        max_seq_length=128,
        prompts={"query": "q: "},
        default_prompt=None,
        lora=LoraConfig(None, 16.0, 0.0, None),
        lr=2e-5,
        trust_remote_code=False,
    ),
    loss=LossConfig("matryoshka", {"matryoshka_dims": (64, 32)}, LossConfig("mnrl", {"scale": 20.0}, None)),
    data=replace(
        SCORED,
        path="data/é",
        columns=("sentence1", "sentence2", 2),
        where={"language": "es"},
        delimiter="\t",
        convert=ConvertConfig(None, 0.8, both_directions=True, seed=42),
    ),
    dataloader=DataloaderConfig("default", 16, None, "no_duplicates", "proportional", drop_last=False, num_workers=0),
    optimizer=OptimizerConfig("adamw", 2e-5, 0.01, 0.1, "linear", 1.0),
    trainer=TrainerConfig(
        name="default",
        epochs=1.0,
        max_steps=None,
        precision="fp32",
        device="cpu",
        seed=42,
        eval_every=0.1,
        log_every=0.02,
        load_best_model_at_end=True,
        merge_columns=False,
        cuda_graphs="auto",
        early_stopping=EarlyStoppingConfig(None, 0.0),
    ),
    evaluation=replace(EVALUATION, benchmarks=(BenchmarkConfig("sts2017-es", "sts2017_es", "test", SCORED),)),
)


@pytest.fixture(autouse=True)
def _no_active_run() -> Iterator[None]:
    yield
    import mlflow

    assert mlflow.active_run() is None


@pytest.fixture(scope="module")
def server(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real tracking server's URI; it takes about 5 s to start."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_template, folder / "server.db")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    port = free_port()
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with child(command, environment, folder / "server.log"):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=["sqlite", "server"])
def config(request: pytest.FixtureRequest) -> TrackingConfig:
    """One kind of store after the other; the server is shared, so tests name their own experiments."""
    if request.param == "sqlite":
        store = request.getfixturevalue("mlflow_store")
        assert isinstance(store, TrackingConfig)
        return store
    return TrackingConfig("server", request.getfixturevalue("server"), spool=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def child(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child process in a group of its own, ended with all of its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def wait_for(url: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fetch(url)
        except OSError:
            assert time.monotonic() < deadline, f"{url} did not answer within {seconds:.0f} s"
            time.sleep(0.1)
        else:
            return


def fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def reader(config: TrackingConfig) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(config.uri)


def begin(tracker: Tracker, experiment: str = "study-a", run_id: str | None = None) -> TrialTracker:
    return tracker.trial_run(experiment, 7, CONFIG, "abc123", run_id=run_id)


def history(config: TrackingConfig, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in reader(config).get_metric_history(run_id, metric)]


def test_flatten_names_every_value_once() -> None:
    flat = flatten(CONFIG)
    expected = {
        "objective": "dev/spearman_cosine",
        "model.revision": "null",
        "model.trust_remote_code": "false",
        "loss.name": "matryoshka",
        "loss.matryoshka_dims": "[64, 32]",
        "loss.inner.name": "mnrl",
        "loss.inner.scale": "20.0",
        "model.prompts.query": "q: ",
        "model.lora.rank": "null",
        "data.where.language": "es",
        "data.language": "null",
        "data.splits.dev": '["dev"]',
        "evaluation.dev": "null",
        "evaluation.benchmarks": '["sts2017-es"]',
        "data.path": "data/é",
        "data.columns": '["sentence1", "sentence2", 2]',
        "data.delimiter": "\t",
        "data.score_range": "[0.0, 5.0]",
        "data.convert.positive_threshold": "0.8",
        "data.convert.both_directions": "true",
        "dataloader.batch_size": "16",
        "optimizer.lr": "2e-05",
        "trainer.early_stopping.patience": "null",
    }
    assert {key: flat[key] for key in expected} == expected
    assert len(flat) == 81


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
    trial.log_artifacts(tmp_path / "model", "model")
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
    client = reader(config)
    before = client.get_run(trial.run_id)
    assert (before.info.status, before.data.tags["embedsweep.state"]) == ("KILLED", "RUNNING")
    tracker.trial_run("rewritten", 7, CONFIG, "abc123", run_name="other", run_id=trial.run_id)
    after = client.get_run(trial.run_id)
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
    with pytest.raises(TrackingError, match="was deleted; restore it"):
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
def test_a_metric_that_is_no_number_is_refused(mlflow_store: TrackingConfig, value: float) -> None:
    trial = begin(Tracker(mlflow_store))
    with pytest.raises(TrackingError, match=r"finite numbers but got \{'train/loss': -?(nan|inf)\} at step 3"):
        trial.log_metrics(3, {"train/loss": value, "dev/spearman_cosine": 0.5})
    assert reader(mlflow_store).get_run(trial.run_id).data.metrics == {}


def test_metrics_of_a_step_are_one_call(mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    trial = begin(Tracker(mlflow_store))
    calls: list[object] = []
    monkeypatch.setattr(MlflowClient, "log_batch", lambda _self, run_id, **_arguments: calls.append(run_id))
    trial.log_metrics(0, {f"metric-{number}": 0.5 for number in range(10)})
    trial.log_metrics(0, {f"metric-{number}": 0.5 for number in range(10)})
    assert calls == [trial.run_id]


def test_a_data_set_is_an_input_once(config: TrackingConfig) -> None:
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


def test_artifacts_lie_beside_the_database(mlflow_store: TrackingConfig, tmp_path: Path) -> None:
    trial = begin(Tracker(mlflow_store), "é ü#1 %20")
    (tmp_path / "file.txt").write_text("here")
    trial.log_artifact(tmp_path / "file.txt")
    found = tmp_path / "mlruns" / "artifacts" / "é ü#1 %20" / trial.run_id / "artifacts" / "file.txt"
    assert found.read_text() == "here"


def test_a_missing_artifact_is_a_tracking_error(mlflow_store: TrackingConfig, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"nothing\.txt cannot be stored"):
        begin(Tracker(mlflow_store)).log_artifact(tmp_path / "nothing.txt")


@pytest.mark.parametrize("leftover", [None, "mlflow.db", "mlflow.db.new"])
def test_a_store_is_created_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leftover: str | None
) -> None:
    folder = tmp_path / "new" / "mlruns"
    if leftover:  # an empty database, or what a process killed while creating one left behind
        folder.mkdir(parents=True)
        (folder / leftover).write_bytes(b"" if leftover == "mlflow.db" else b"SQLite format 3\0 torn")
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(TrackingConfig("local", "sqlite:///new/mlruns/mlflow.db", spool=False))
    monkeypatch.chdir("/")
    begin(tracker).finish("COMPLETE")
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


FOUR_AT_ONCE = """
import sys
from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.runs import Tracker
from tests.tracking.test_tracking import CONFIG
tracker = Tracker(TrackingConfig("local", sys.argv[1], spool=False))
parent = tracker.parent_run("together", {})
trial = tracker.trial_run("together", int(sys.argv[2]), CONFIG, "abc", parent=parent)
trial.log_metrics(0, {"dev/spearman_cosine": 0.5})
trial.finish("COMPLETE")
"""


@pytest.mark.slow
def test_four_processes_meet_no_store_at_all(tmp_path: Path) -> None:
    config = TrackingConfig("local", f"sqlite:///{tmp_path}/mlruns/mlflow.db", spool=False)
    own = (str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(own)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FOUR_AT_ONCE, config.uri, str(number)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(4)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert said == [""] * 4  # neither MLflow nor Alembic chatters
    client = reader(config)
    runs = client.search_runs([client.get_experiment_by_name("together").experiment_id])
    parents = [run for run in runs if run.data.tags["embedsweep.kind"] == "study"]
    trials = [run for run in runs if run.data.tags["embedsweep.kind"] == "trial"]
    assert len(parents) == 1
    assert sorted(run.data.tags["embedsweep.trial"] for run in trials) == ["0", "1", "2", "3"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parents[0].info.run_id}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite://", "keeps nothing"),
        ("sqlite:///:memory:", "keeps nothing"),
        ("sqlite:////proc/no/mlflow.db", "cannot be opened.*folder can be written"),
        ("file:///tmp/mlruns", "cannot be opened.*tracking.uri is right"),
        ("nonsense://me:pa55word@host", r"nonsense://me:\*\*\*@host"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named(uri: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message) as caught:
        Tracker(TrackingConfig("bad", uri, spool=False))
    assert "pa55word" not in str(caught.value)


def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be opened: .*not a database"):
        Tracker(TrackingConfig("local", f"sqlite:///{tmp_path}/mlflow.db", spool=False))


def test_the_users_http_settings_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1.*cannot be opened.*Connection refused.*Check that it runs"):
        Tracker(TrackingConfig("server", f"http://127.0.0.1:{free_port()}", spool=False))
    assert time.monotonic() - start < 3


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "never answers"])
def test_a_server_that_cannot_be_reached_is_given_up_within_15_s(silent: bool) -> None:
    start = time.monotonic()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(TrackingError, match=f"http://127.0.0.1:{port} (cannot be opened|did not answer)"):
            Tracker(TrackingConfig("server", f"http://127.0.0.1:{port}", spool=False))
    assert time.monotonic() - start < 15


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["refuses", "hangs"])
def test_a_server_that_goes_away_holds_one_call_up_for_seconds_and_no_other(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(mlflow_template, tmp_path / "server.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    said: list[str] = []
    with child(command, dict(os.environ), tmp_path / "server.log") as process:
        wait_for(f"http://127.0.0.1:{port}/health")
        trial = begin(Tracker(TrackingConfig("server", f"http://127.0.0.1:{port}", spool=False), said.append))
        trial.log_metrics(0, {"train/loss": 1.0})
        os.killpg(process.pid, end)
        start = time.monotonic()
        trial.log_metrics(1, {"train/loss": 1.0})
        assert time.monotonic() - start < 8
        start = time.monotonic()
        for step in range(2, 12):
            trial.log_metrics(step, {"train/loss": 1.0})
        assert time.monotonic() - start < 2
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
    assert len(said) == 1
    assert [list(range(1, 12))] == [
        [record.points[0][0] for _, record in spool.records(trial.run_id) if isinstance(record, Metrics)]
        for spool in all_spools()
    ]


def test_a_hint_says_how_to_look(mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tracker(mlflow_store).ui_hint() == f"embedsweep ui tracking.uri={mlflow_store.uri}"
    monkeypatch.chdir(tmp_path)
    assert Tracker(mlflow_store).ui_hint() == "embedsweep ui"


def test_a_servers_ui_is_the_server(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrackingConfig("server", server, spool=False)
    assert Tracker(config).ui_hint() == server
    assert open_ui(config, free_port()) == 0
    assert server in capsys.readouterr().out


def test_a_taken_port_is_named(mlflow_store: TrackingConfig) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=f"port {port} cannot be used"):
            open_ui(mlflow_store, port)


@pytest.mark.slow
def test_the_ui_shows_artifacts_and_ends_with_ctrl_c(mlflow_store: TrackingConfig, tmp_path: Path) -> None:
    trial = begin(Tracker(mlflow_store), "shown é")
    (tmp_path / "config.yaml").write_text("seen: true\n")
    trial.log_artifact(tmp_path / "config.yaml")
    port = free_port()
    program = (
        "from embedsweep.config.study import TrackingConfig; from embedsweep.tracking.browse import open_ui; "
        f"raise SystemExit(open_ui(TrackingConfig('local', {mlflow_store.uri!r}, spool=False), {port}))"
    )
    address = f"http://127.0.0.1:{port}"
    with child([sys.executable, "-c", program], dict(os.environ), tmp_path / "ui.log") as process:
        wait_for(f"{address}/health")
        listed = json.loads(fetch(f"{address}/ajax-api/2.0/mlflow/artifacts/list?run_id={trial.run_id}"))
        assert [item["path"] for item in listed["files"]] == ["config.yaml"]
        assert fetch(f"{address}/get-artifact?run_id={trial.run_id}&path=config.yaml") == "seen: true\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    said = (tmp_path / "ui.log").read_text()
    assert address in said
    assert "Traceback" not in said
    with pytest.raises(OSError, match="refused"):
        fetch(f"{address}/health")
    assert not (tmp_path / "mlartifacts").exists()
