"""Records that wait together are written together, in order and each once, and no run waits for another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from embedsweep.config.study import TrackingConfig
from embedsweep.tracking import replay as replay_module
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.records import DataSet, End, Files, Metrics, Record, Tags, TrialRun
from embedsweep.tracking.replay import BUSY, Replay, replay
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.spool import Origin, Spool
from embedsweep.tracking.store import locate, open_store
from tests.tracking.stores import CONFIG

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

NEW = TrialRun(
    "trial-0", {"embedsweep.trial": "0", "embedsweep.kind": "trial"}, {"a": "1"}, None, False, 1, is_new=True
)
CURVE: list[Record] = [Metrics([(step, {"train/loss": 1.0 / (1 + step)})], 2) for step in range(30)]
SETS: list[Record] = [DataSet(name, "0" * 8, "demo", name) for name in ("train", "dev", "test")]


class CountingClient:
    """MLflow's client, with the names of the calls that were made."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._client, name)


Spooled = tuple[Spool, MlflowWriter, CountingClient, str]


@pytest.fixture
def spooled(mlflow_store: TrackingConfig) -> Spooled:
    """An empty spool, a writer of an empty store, its client, and the store's name."""
    store = locate(mlflow_store.uri)
    client = CountingClient(open_store(store))
    client.create_experiment("study-a")
    client.calls.clear()
    return Spool(Path("sweeps/study-a/spool")), MlflowWriter(store, client), client, str(store)


def _append(spooled: Spooled, run_id: str, records: list[Record]) -> None:
    spool, _, _, store = spooled
    for record in records:
        spool.append(run_id, record, Origin(store, "study-a"))


@pytest.mark.parametrize(
    ("records", "calls"),
    [
        ([], []),
        (CURVE, ["log_batch"]),
        ([*CURVE, Tags({"a": "1"}), Tags({"b": "2"})], ["log_batch"]),
        (SETS, ["log_inputs"]),
        ([Tags({"a": "1"}), *SETS, *CURVE], ["log_inputs", "log_batch"]),
        ([*CURVE, End("FINISHED", "COMPLETE", 9)], ["log_batch", "set_terminated"]),
        ([*CURVE, Files("notes.txt", None), *CURVE[:1]], ["log_batch"]),
        ([Files("notes.txt", None), Files("notes.txt", "more")], []),
    ],
)
def test_records_that_follow_each_other_are_written_in_one_call(
    spooled: Spooled, records: list[Record], calls: list[str]
) -> None:
    spool, writer, client, store = spooled
    Path("notes.txt").write_text("a")
    _append(spooled, "a", [NEW, *records])
    written: list[Record] = []
    result = replay(writer, spool, store, on_written=lambda _, record, __: written.append(record))
    assert client.calls == ["get_experiment_by_name", "create_run", "log_batch", *calls]  # nothing is searched for
    assert len(written) == result.records == 1 + len(records)
    assert spool.waiting() == []


def test_an_experiment_is_looked_up_once_and_again_if_it_was_deleted(spooled: Spooled) -> None:
    spool, writer, client, store = spooled

    def create(run_id: str) -> Replay:
        client.calls.clear()
        _append(spooled, run_id, [replace(NEW, name=run_id), *CURVE])
        return replay(writer, spool, store)

    assert create("a").refused == {}
    assert create("b").refused == {}
    assert client.calls == ["create_run", "log_batch", "log_batch"]
    experiment = client.get_experiment_by_name("study-a").experiment_id
    client.delete_experiment(experiment)
    assert "experiment 'study-a' was deleted. Restore it" in create("c").refused["c"]
    client.restore_experiment(experiment)
    assert replay(writer, spool, store).done.keys() == {"c"}


def test_what_is_written_together_is_what_was_recorded(spooled: Spooled) -> None:
    spool, writer, client, store = spooled
    end = End("FINISHED", "PRUNED", 9)
    again = Metrics([(29, {"train/loss": 5.0}), (30, {"train/loss": 0.5})], 3)  # the point at 29 stays
    _append(spooled, "a", [NEW, Tags({"a": "1"}), *SETS, *CURVE, again, Tags({"a": "2"}), end])
    run_id = replay(writer, spool, store).done["a"].store_id
    run = client.get_run(run_id)
    points = {point.step: point.value for point in client.get_metric_history(run_id, "train/loss")}
    assert points == {**{step: 1.0 / (1 + step) for step in range(30)}, 30: 0.5}
    assert run.data.tags["a"] == "2"
    assert run.data.tags["embedsweep.state"] == "PRUNED"
    assert run.info.status == "FINISHED"
    assert run.info.end_time == 9
    assert sorted(each.dataset.name for each in run.inputs.dataset_inputs) == ["dev", "test", "train"]


def test_points_that_an_attempt_repeats_at_its_end_are_written_once_by_a_process_that_did_not_open_the_run(
    spooled: Spooled,
) -> None:
    spool, writer, client, store = spooled
    _append(spooled, "a" * 32, [NEW])
    run_id = replay(writer, spool, store).done["a" * 32].store_id
    points = [point for record in CURVE if isinstance(record, Metrics) for point in record.points]
    _append(spooled, run_id, [*CURVE, Metrics(points, 9)])
    other: Any = client
    replay(MlflowWriter(locate(store), other), spool, store)
    assert [point.step for point in client.get_metric_history(run_id, "train/loss")] == list(range(30))


def test_more_than_a_call_takes_is_written_in_several(spooled: Spooled) -> None:
    spool, writer, client, store = spooled
    curve: list[Record] = [Metrics([(step, {f"m{i}": 1.0 for i in range(30)})], 2) for step in range(70)]
    _append(spooled, "a", [NEW, *curve, Tags({f"tag{i}": "1" for i in range(150)})])
    run = client.get_run(replay(writer, spool, store).done["a"].store_id)
    assert len(run.data.metrics) == 30
    assert len(client.get_metric_history(run.info.run_id, "m0")) == 70
    assert sum(name.startswith("tag") for name in run.data.tags) == 150


def test_a_record_that_is_refused_among_others_is_named_and_those_before_it_are_written(spooled: Spooled) -> None:
    spool, writer, client, store = spooled
    bad = Metrics([(3, {"not@allowed": 1.0})], 2)
    _append(spooled, "a", [NEW, *CURVE[:3], bad, Tags({"a": "1"})])
    written: list[Record] = []
    result = replay(writer, spool, store, on_written=lambda _, record, __: written.append(record))
    assert "not@allowed" in result.refused["a"]
    assert spool.refusal("a") == result.refused["a"]
    assert [record for _, record in spool.records("a")] == [bad, Tags({"a": "1"})]
    assert written == [NEW, *CURVE[:3]]
    spool.set_aside("a")
    run_id = replay(writer, spool, store).done["a"].store_id
    assert [point.step for point in client.get_metric_history(run_id, "train/loss")] == [0, 1, 2]
    assert client.get_run(run_id).data.tags["a"] == "1"


def test_a_new_run_is_searched_for_once_somebody_may_have_created_it(
    spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, writer, client, store = spooled
    _append(spooled, "a", [NEW, *CURVE[:1]])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt  # after the run was created, before that was noted

    with monkeypatch.context() as patch:
        patch.setattr(MlflowWriter, "_log_params", killed)
        with pytest.raises(KeyboardInterrupt):
            replay(writer, spool, store)
    client.calls.clear()
    another = MlflowWriter(locate(store), client)
    assert replay(another, spool, store).done["a"].records == 2
    assert "search_runs" in client.calls
    assert "create_run" not in client.calls
    experiment = client.get_experiment_by_name("study-a")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"a": "1"}


def test_runs_that_other_processes_write_delay_no_other_and_only_one_of_them_is_waited_for(
    spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, writer, _, store = spooled
    monkeypatch.setattr(replay_module, "LOCK_S", 0.05)
    waits: list[float] = []
    replay_lock = Spool.replay_lock

    def noted(spool: Spool, run_id: str, wait_s: float) -> FileLock:
        waits.append(wait_s)
        return replay_lock(spool, run_id, wait_s)

    runs = ["a", "b", "c", "d"]
    for run_id in runs:
        _append(spooled, run_id, [replace(NEW, name=run_id), *CURVE])
    with spool.replay_lock("b"), spool.replay_lock("c"), monkeypatch.context() as patch:
        patch.setattr(Spool, "replay_lock", noted)
        result = replay(writer, spool, store, runs)
    assert result.delayed == {"b": BUSY, "c": BUSY}
    assert result.done.keys() == {"a", "d"}
    assert waits == [0.05, 0.05, 0.0, 0.0]
    assert replay(writer, spool, store).done.keys() == {"b", "c"}


def test_whoever_opens_a_run_does_not_wait_for_the_records_of_another(
    mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(mlflow_store)
    first = tracker.trial_run("study-a", 0, CONFIG, "abc")
    began, opening = threading.Event(), threading.Event()
    order: list[str] = []
    write: Callable[..., None] = replay_module._write

    def noted(run: Any, experiment: str, batch: list[tuple[int, Record]]) -> None:
        if isinstance(batch[0][1], Files) and not began.is_set():
            began.set()
            assert opening.wait(10)
        write(run, experiment, batch)
        order.append(f"{'first' if run.run_id == first.run_id else 'second'} {batch[0][1].kind}")

    monkeypatch.setattr(replay_module, "_write", noted)
    append = Spool.append

    def appended(spool: Spool, run_id: str, record: Record, origin: Origin) -> None:
        append(spool, run_id, record, origin)
        if isinstance(record, TrialRun):
            opening.set()

    monkeypatch.setattr(Spool, "append", appended)
    Path("notes.txt").write_text("a")
    for _ in range(3):
        first.log_artifact(Path("notes.txt"))
    assert began.wait(10)
    tracker.trial_run("study-a", 1, CONFIG, "abc")
    assert tracker.close()
    assert order == ["first files", "second trial", "first files", "first files"]
