"""Records wait on the local disk while the store is unreachable, and the store ends up as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from rich.console import Console

from embedsweep.cli import main
from embedsweep.commands.tracking import sync
from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError, UnreachableError
from embedsweep.lease import Lease
from embedsweep.tracking import drainer, record_writer, replay
from embedsweep.tracking import spool as spool_module
from embedsweep.tracking.names import SPOOL_ID, STATE, TRIAL, flatten, origin, study_id
from embedsweep.tracking.records import Metrics, Tags, TrialRun
from embedsweep.tracking.replay import write_or_set_aside
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.spool import Origin, Spool, all_spools, spooled_ids
from embedsweep.tracking.store import locate, open_store
from tests.flaky_proxy import AFTER, BEFORE, Fault, flaky_proxy
from tests.tracking.stores import CONFIG, begin, child, free_port, wait_for, wait_written

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

STUDY = "study-a"


class Killed(BaseException):
    """The process was killed."""


class Line:
    """A connection to a store that can be cut, before a call arrives or before its answer does.

    Attributes:
        calls: the number of calls made.
        cut_at: the number of the call, from 0, at which the line is cut; None is never.
        delivers: whether that call still arrives.
        is_cut: whether the line is cut now.
        kills: whether that call kills the process instead.
        locked: how many further calls find the database locked.
        lock_after: the call, by its name, after which the database is locked for one call.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.cut_at: int | None = None
        self.delivers = False
        self.is_cut = False
        self.kills = False
        self.locked = 0
        self.lock_after: str | None = None

    def through(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number, self.calls = self.calls, self.calls + 1
        cuts = number == self.cut_at
        if cuts and self.delivers:
            with suppress(MlflowException):  # an answer, too, which is lost
                call(*args, **kwargs)
        if cuts and self.kills:
            raise Killed
        self.is_cut = self.is_cut or cuts
        if self.locked:
            self.locked -= 1
            raise MlflowException("(sqlite3.OperationalError) database is locked", TEMPORARILY_UNAVAILABLE)
        if call.__name__ == self.lock_after:
            self.locked, self.lock_after = 1, None
        if self.is_cut:
            raise MlflowException("API request failed with exception Connection refused")
        return call(*args, **kwargs)


class Client:
    """MLflow's client behind a `Line`."""

    def __init__(self, client: MlflowClient, line: Line) -> None:
        self._client = client
        self._line = line

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda *args, **kwargs: self._line.through(call, *args, **kwargs)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    """Put a line between every writer and its store; a store that failed twice is not tried again until the end."""
    cut = Line()

    def opened(store: Any, tell: Any) -> Any:
        if cut.is_cut:
            raise UnreachableError("Connection refused")
        return Client(open_store(store, tell), cut)

    for module in (drainer, replay):
        monkeypatch.setattr(module, "open_store", opened)
    monkeypatch.setattr(drainer, "PAUSES_S", (0.0, 3600.0))
    monkeypatch.setattr(drainer, "RESTART_S", 0.3)
    monkeypatch.chdir(tmp_path)
    return cut


def write_study(config: TrackingConfig, lines: list[str], study: str = STUDY) -> bool:
    """Record a study of two trials, the second of which is interrupted and resumed."""
    tracker = Tracker(config, lines.append)
    parent = tracker.parent_run(study, {"embedsweep.n_trials": "2"})
    Path("config.yaml").write_text("a: 1\n")
    Path("scores").mkdir(exist_ok=True)
    Path("scores", "dev.csv").write_text("1,2\n")
    run_ids = []
    for number in range(2):
        run = tracker.trial_run(study, number, CONFIG, f"hash{number}", parent=parent, run_name=f"trial {number}")
        run.log_dataset("demo-train", "d" * 40, "demo", "train")
        run.set_tags({"embedsweep.audit": "none"})
        run.log_metrics(0, {"dev/spearman_cosine": 0.1, "train/loss": 1.0})
        if number:
            run.finish("RUNNING")
            assert tracker.has_run(run.run_id)
            run_id = run.run_id
            run = tracker.trial_run(study, number, CONFIG, "hash1", parent=parent, run_id=run_id, run_name="trial 1")
            run.log_metrics(0, {"dev/spearman_cosine": 0.9, "train/loss": 9.0})
        run.log_history([(step, {"train/loss": 1 / step}) for step in range(1, 4)])
        run.log_artifact(Path("config.yaml"))
        run.log_artifact(Path("scores"), "scores")
        run.log_metrics(3, {"dev/spearman_cosine": 0.1 + 0.2})
        run.finish("COMPLETE")
        run_ids.append(run.run_id)
    Path("config.yaml").unlink()  # a spool has its own copy
    winner = tracker.trial_run(study, 1, CONFIG, "hash1", parent=parent, run_id=run_ids[1])
    winner.log_metrics(3, {"test/spearman_cosine": 0.25})
    winner.finish("COMPLETE")
    tracker.log_parent(parent, 2, {"emissions/co2eq_kg": 0.5})
    tracker.finish_parent(parent, "FINISHED")
    return tracker.close()


def held(config: TrackingConfig, study: str = STUDY) -> dict[str, Any]:
    """Return what the store has of a study by run name, with ids replaced and without times."""
    client = MlflowClient(config.uri)
    experiment = client.get_experiment_by_name(study)
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL) if experiment else []
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(names), f"a run twice: {sorted(names.values())}"
    found: dict[str, Any] = {}
    for run in runs:
        tags = {key: names.get(value, value) for key, value in run.data.tags.items() if key != SPOOL_ID}
        points = {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        with tempfile.TemporaryDirectory() as folder:
            root = Path(client.download_artifacts(run.info.run_id, "", folder))
            files = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
        inputs = [item.dataset.digest for item in run.inputs.dataset_inputs]
        found[names[run.info.run_id]] = (run.info.status, run.data.params, tags, points, files, inputs)
    return found


@pytest.fixture(scope="module")
def undisturbed(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """Return the content of a store without any outage, and the number of calls that wrote it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    config = TrackingConfig("local", f"sqlite:///{folder}/mlflow.db", spool=False)
    cut = Line()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drainer, "open_store", lambda store, tell: Client(open_store(store, tell), cut))
        patch.chdir(folder)
        lines: list[str] = []
        assert write_study(config, lines)
        assert lines == []
    whole = held(config)
    assert sorted(whole) == [STUDY, "trial 0", "trial 1"]
    assert whole["trial 1"][1] == flatten(CONFIG)
    assert whole["trial 1"][3]["train/loss"] == [(0, 1.0), (1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert whole["trial 1"][4] == {"config.yaml": "a: 1\n", "scores/dev.csv": "1,2\n"}
    spooled = sorted(path.name for path in (folder / "sweeps" / STUDY / "spool").iterdir())
    assert [name for name in spooled if not name.startswith(".replay-")] == [".write.lock"]
    return whole, cut.calls


def check_undisturbed(config: TrackingConfig, undisturbed: tuple[dict[str, Any], int]) -> None:
    found, expected = held(config), undisturbed[0]
    assert found.keys() == expected.keys()
    for name, parts in expected.items():
        for part, wanted in zip(found[name], parts, strict=True):
            assert part == wanted, name
    assert all_spools() == []


def run_sync(*words: str) -> tuple[int, str]:
    with Path("output.txt").open("w") as file:
        code = sync(words, Console(file=file, width=200))
    return code, Path("output.txt").read_text()


@pytest.mark.parametrize("delivers", [False, True], ids=["lost", "answer lost"])
@pytest.mark.parametrize("fifth", range(5))
def test_an_outage_at_any_point_leaves_the_same_store(
    line: Line, mlflow_store: TrackingConfig, undisturbed: tuple[dict[str, Any], int], fifth: int, delivers: bool
) -> None:
    line.cut_at, line.delivers = fifth * undisturbed[1] // 5 + 3, delivers
    lines: list[str] = []
    assert not write_study(mlflow_store, lines)
    assert "Connection refused" in lines[0]
    assert "embedsweep sync writes them" in lines[-1]
    line.is_cut = False
    code, output = run_sync(f"tracking.uri={mlflow_store.uri}")
    assert code == 0, output
    assert "records written" in output
    check_undisturbed(mlflow_store, undisturbed)
    assert run_sync(f"tracking.uri={mlflow_store.uri}") == (0, "nothing waits in sweeps/*/spool\n")
    check_undisturbed(mlflow_store, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("delivers", [False, True], ids=["lost", "answer lost"])
def test_an_outage_at_each_call_leaves_the_same_store(
    line: Line,
    mlflow_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: tuple[dict[str, Any], int],
    delivers: bool,
) -> None:
    assert undisturbed[1] > 30
    for number in range(undisturbed[1]):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
        config = TrackingConfig("local", f"sqlite:///{folder}/mlflow.db", spool=False)
        line.calls, line.cut_at, line.delivers = 0, number, delivers
        is_whole = write_study(config, [])
        # Which calls there are depends a little on when the thread that writes finds records.
        assert is_whole == (line.calls <= number)
        line.is_cut = False
        assert run_sync()[0] == 0
        check_undisturbed(config, undisturbed)


def test_a_store_unreachable_from_the_start_gets_everything_later(
    line: Line, mlflow_store: TrackingConfig, undisturbed: tuple[dict[str, Any], int]
) -> None:
    line.is_cut = True
    with pytest.raises(UnreachableError, match=r"Connection refused; or start without it: tracking\.spool=true"):
        Tracker(mlflow_store)
    assert not Path("sweeps").exists()
    assert not write_study(replace(mlflow_store, spool=True), [])
    assert held(mlflow_store) == {}
    code, output = run_sync()
    assert code == 1
    assert "Connection refused" in output
    assert "3 runs left" in output
    line.is_cut = False
    assert run_sync()[0] == 0
    check_undisturbed(mlflow_store, undisturbed)


def test_waiting_records_are_written_when_the_store_answers_again(
    line: Line,
    mlflow_store: TrackingConfig,
    undisturbed: tuple[dict[str, Any], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drainer, "PAUSES_S", (0.05,))
    line.cut_at = undisturbed[1] // 4
    lines: list[str] = []

    def repair() -> None:
        while not line.is_cut:
            time.sleep(0.02)
        time.sleep(0.3)
        line.is_cut = False

    repairing = threading.Thread(target=repair, daemon=True)
    repairing.start()
    slow = record_writer.RecordWriter.write

    def write_slowly(*args: Any) -> str:
        run_id = slow(*args)
        time.sleep(0.05)
        return run_id

    monkeypatch.setattr(record_writer.RecordWriter, "write", write_slowly)
    assert write_study(mlflow_store, lines)
    repairing.join(30)
    assert ["Connection refused" in lines[0], "MLflow's store answers" in lines[-1]] == [True, True]
    check_undisturbed(mlflow_store, undisturbed)


@pytest.mark.parametrize("delivers", [False, True], ids=["before a call", "after it"])
def test_a_replay_that_is_killed_repeatedly_writes_nothing_twice(
    line: Line, mlflow_store: TrackingConfig, undisturbed: tuple[dict[str, Any], int], delivers: bool
) -> None:
    line.cut_at = undisturbed[1] // 5
    write_study(mlflow_store, [])
    line.is_cut, line.kills, line.delivers = False, True, delivers
    kills = 0
    while True:
        line.calls, line.cut_at = 0, 9  # finding the position takes 6 calls
        try:
            assert run_sync()[0] == 0
        except Killed:
            kills += 1
            assert kills < 100
        else:
            break
    assert kills > 5
    check_undisturbed(mlflow_store, undisturbed)


def test_the_next_command_first_writes_what_the_last_one_left(
    line: Line, mlflow_store: TrackingConfig, undisturbed: tuple[dict[str, Any], int]
) -> None:
    line.cut_at = 0
    write_study(replace(mlflow_store, spool=True), [])
    line.is_cut = False
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    parent = tracker.parent_run(STUDY, {"embedsweep.n_trials": "2"})
    assert "waiting records of another process written" in lines[0]
    assert parent != study_id(STUDY)
    tracker.finish_parent(parent, "FINISHED")
    assert tracker.close()
    check_undisturbed(mlflow_store, undisturbed)


PARENT = Lease.of(os.getppid())
"""The lease of a process that lives, and is not this one."""


@pytest.mark.parametrize(
    ("process", "is_written", "said"),
    [
        (replace(PARENT, started=PARENT.started - 1), True, ["2 waiting records of another process written"]),
        (Lease.mine(), True, ["2 waiting records of another process written"]),  # an earlier command of a program
        (PARENT, False, []),
        (replace(PARENT, system="another-boot 1"), True, []),
        (None, True, []),
    ],
    ids=["killed", "this", "living", "elsewhere", "of an earlier version"],
)
def test_what_a_killed_process_left_is_written_at_once_and_said_and_what_a_living_one_records_is_its_own(
    mlflow_store: TrackingConfig, process: Lease | None, is_written: bool, said: list[str]
) -> None:
    origin = Origin(str(locate(mlflow_store.uri)), STUDY, process)
    run = Tracker(mlflow_store).trial_run(STUDY, 0, CONFIG, "abc")
    wait_written()
    spool = spool_module.spool_of(STUDY, run.run_id)
    for step in (1, 2):
        spool.append(run.run_id, Metrics([(step, {"train/loss": 1.0})], 7), origin)
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    tracker.parent_run(STUDY, {})
    assert spool.holds(run.run_id, origin.store) is not is_written
    assert lines == said
    assert tracker.close()
    assert held(mlflow_store)["trial-0000"][3] == {"train/loss": [(1, 1.0), (2, 1.0)]}
    assert lines == said


def test_nobody_waits_until_all_is_written_that_was_left(
    mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Tracker(mlflow_store).trial_run(STUDY, 0, CONFIG, "abc")
    wait_written()
    spool_module.spool_of(STUDY, run.run_id).append(
        run.run_id, Metrics([(1, {"train/loss": 1.0})], 7), Origin(str(locate(mlflow_store.uri)), STUDY)
    )
    first: list[replay.Replay] = []

    def noted(*args: Any) -> replay.Replay:
        monkeypatch.setattr(drainer, "replay", replay.replay)
        monkeypatch.setattr(drainer, "OPENING_S", 10.0)
        first.append(replay.replay(*args))
        return first[0]

    monkeypatch.setattr(drainer, "replay", noted)
    monkeypatch.setattr(drainer, "OPENING_S", -1.0)
    tracker = Tracker(mlflow_store)
    tracker.parent_run(STUDY, {})
    assert first[0].delayed == {run.run_id: replay.STOPPED}
    assert tracker.close()
    assert held(mlflow_store)["trial-0000"][3] == {"train/loss": [(1, 1.0)]}


def test_a_point_that_another_process_replayed_is_not_logged_again(
    line: Line, mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer, "PAUSES_S", (0.05,))
    monkeypatch.setattr(replay, "open_store", open_store)  # only this process is cut off
    tracker = Tracker(mlflow_store, lambda _: None)
    run = tracker.trial_run(STUDY, 0, CONFIG, "hash0")
    line.is_cut = True
    run.set_tags({"embedsweep.conversion": "none"})
    run.log_metrics(1, {"train/loss": 1.0})
    assert run_sync()[0] == 0
    line.is_cut = False
    run.log_metrics(1, {"train/loss": 2.0})  # training was resumed from a step before
    run.log_metrics(2, {"train/loss": 3.0})
    run.finish("COMPLETE")
    assert tracker.close()
    points = MlflowClient(mlflow_store.uri).get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 3.0)]


def test_a_run_started_during_an_outage_is_found_by_both_of_its_ids(line: Line, mlflow_store: TrackingConfig) -> None:
    line.is_cut = True
    tracker = Tracker(replace(mlflow_store, spool=True), lambda _: None)
    parent = tracker.parent_run(STUDY, {})
    run = tracker.trial_run(STUDY, 3, CONFIG, "abc", parent=parent)
    assert tracker.find_trial(STUDY, 3, parent) == run.run_id
    assert tracker.find_trial(STUDY, 4, parent) is None
    assert run.store_id == run.run_id
    line.is_cut = False
    assert tracker.close()
    assert run.store_id != run.run_id
    later = Tracker(mlflow_store)
    assert later.has_run(run.run_id)
    assert later.has_run(run.store_id)
    assert not later.has_run("0" * 32)
    assert spooled_ids(run.store_id[:8]) == {run.run_id: run.store_id}
    assert spooled_ids("0" * 8) == {}
    again = later.trial_run(STUDY, 3, CONFIG, "abc", parent=later.parent_run(STUDY, {}), run_id=run.run_id)
    again.finish("COMPLETE")
    assert later.close()
    assert MlflowClient(mlflow_store.uri).get_run(run.store_id).info.status == "FINISHED"
    assert len(held(mlflow_store)) == 2


@pytest.mark.parametrize("is_deleted", [False, True], ids=["is there", "was deleted"])
def test_a_trial_goes_on_in_its_run_unless_that_was_deleted_while_records_of_it_waited(
    line: Line, mlflow_store: TrackingConfig, is_deleted: bool
) -> None:
    tracker = Tracker(replace(mlflow_store, spool=True), lambda _: None)
    parent = tracker.parent_run(STUDY, {})
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc", parent=parent)
    line.is_cut = True  # as a process that was killed before it wrote
    run.log_metrics(1, {"train/loss": 1.0})
    tracker.stop()
    line.is_cut = False
    if is_deleted:
        MlflowClient(mlflow_store.uri).delete_run(run.run_id)
    later = Tracker(mlflow_store, lambda _: None)
    assert later.can_resume(STUDY, run.run_id) is not is_deleted
    assert later.close()
    assert later.refusals() == {}
    assert any(Path("sweeps", STUDY, "spool").glob("*.aside")) is is_deleted


def test_a_run_whose_id_was_lost_with_its_process_is_found_by_the_replay(
    line: Line, mlflow_store: TrackingConfig
) -> None:
    parent = Tracker(mlflow_store).parent_run(STUDY, {})
    first = Tracker(mlflow_store).trial_run(STUDY, 0, CONFIG, "abc", parent=parent)
    line.is_cut = True
    tracker = Tracker(replace(mlflow_store, spool=True), lambda _: None)
    assert tracker.find_trial(STUDY, 0, tracker.parent_run(STUDY, {})) is None
    tracker.trial_run(STUDY, 0, CONFIG, "abc", parent=study_id(STUDY), adopts=True).finish("COMPLETE")
    line.is_cut = False
    assert tracker.close()
    assert len(held(mlflow_store)) == 2
    assert MlflowClient(mlflow_store.uri).get_run(first.run_id).info.status == "FINISHED"


def test_a_spool_of_an_earlier_version_is_replayed(
    line: Line, mlflow_store: TrackingConfig, undisturbed: tuple[dict[str, Any], int]
) -> None:
    """`earlier_spool` holds what `write_study` recorded before `MlflowWriter` had one way for all records."""
    spool = Path("sweeps", STUDY, "spool")
    shutil.copytree(Path(__file__).with_name("earlier_spool"), spool)
    for path in spool.glob("*.jsonl"):
        text = path.read_text().replace('"someone"', json.dumps(origin()["mlflow.user"]))
        path.write_text(text.replace('"somewhere"', json.dumps(origin()["embedsweep.host"])))
    params = {
        f"trial {record.tags[TRIAL]}": dict(record.params)
        for run_id in Spool(spool).waiting()
        for _, record in Spool(spool).records(run_id)
        if isinstance(record, TrialRun)
    }
    code, output = run_sync(f"tracking.uri={mlflow_store.uri}")
    assert code == 0, output
    assert output.count("records written") == 3
    found = held(mlflow_store)
    assert {name: parts[1] for name, parts in found.items()} == {STUDY: {}, **params}
    assert len(params["trial 0"]) == len(params["trial 1"]) == 81
    # The fixture keeps the params that a configuration had then; all else is as a study records it now.
    without_params = {name: (parts[0], *parts[2:]) for name, parts in undisturbed[0].items()}
    assert {name: (parts[0], *parts[2:]) for name, parts in found.items()} == without_params
    assert all_spools() == []


def test_a_refusal_is_reported_and_not_an_outage(line: Line, mlflow_store: TrackingConfig) -> None:
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    runs = [tracker.trial_run(STUDY, number, CONFIG, "abc") for number in range(2)]
    runs[0].set_tags({"a\nb\0" * 100: "c"})
    runs[1].finish("COMPLETE")
    assert not tracker.close()
    assert len(lines) == 1
    assert "records in sweeps/study-a/spool cannot be written: tags cannot be set on run" in lines[0]
    assert list(tracker.refusals()) == [runs[0].run_id]
    assert tracker.refusals()[runs[0].run_id] in lines[0]
    assert MlflowClient(mlflow_store.uri).get_run(runs[1].run_id).info.status == "FINISHED"


def test_a_record_that_is_refused_is_set_aside_and_those_after_it_are_written(
    line: Line, mlflow_store: TrackingConfig
) -> None:
    tracker = Tracker(mlflow_store, lambda _: None)
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    for step, name in ((1, "train/loss"), (2, "ndcg@10"), (3, "train/loss"), (4, "mrr@10")):
        run.log_metrics(step, {name: 0.5})
    run.finish("COMPLETE")
    assert not tracker.close()
    assert "ndcg@10" in tracker.refusals()[run.run_id]
    result = write_or_set_aside(STUDY, mlflow_store.uri, lambda _: None)
    assert (list(result.done), list(result.refused), result.delayed) == ([run.run_id], [run.run_id], {})
    status, _, tags, points, *_ = held(mlflow_store)["trial-0000"]
    assert (status, tags[STATE]) == ("FINISHED", "COMPLETE")
    assert points == {"train/loss": [(1, 0.5), (3, 0.5)]}
    aside = (Path("sweeps") / STUDY / "spool" / f"{run.run_id}.aside").read_text().splitlines()
    assert [json.loads(each)["points"] for each in aside] == [[[2, {"ndcg@10": 0.5}]], [[4, {"mrr@10": 0.5}]]]
    assert tracker.refusals() == {}
    assert all_spools() == []


def test_a_single_run_has_one_folder_whatever_id_its_records_were_kept_under(
    line: Line, mlflow_store: TrackingConfig
) -> None:
    tracker = Tracker(mlflow_store, lambda _: None)
    run = tracker.trial_run("single", 0, CONFIG, "abc")
    run.finish("COMPLETE")
    assert tracker.close()
    assert {path.name for path in Path("sweeps/single").iterdir()} == {run.run_id}


def test_a_run_that_the_store_refuses_to_open_leaves_nothing(line: Line, mlflow_store: TrackingConfig) -> None:
    tracker = Tracker(mlflow_store, lambda _: None)
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    MlflowClient(mlflow_store.uri).delete_run(run.run_id)
    with pytest.raises(TrackingError, match="lacks it, or it was deleted") as caught:
        tracker.trial_run(STUDY, 0, CONFIG, "abc", run_id=run.run_id)
    assert not isinstance(caught.value, UnreachableError)
    assert tracker.close()


def test_refused_records_stay_and_do_not_block_others(line: Line, mlflow_store: TrackingConfig) -> None:
    tracker = Tracker(mlflow_store, lambda _: None)
    runs = [tracker.trial_run(STUDY, number, CONFIG, "abc") for number in range(3)]
    line.is_cut = True
    for run in runs:
        run.finish("COMPLETE")
    line.is_cut = False
    client = MlflowClient(mlflow_store.uri)
    client.delete_run(runs[1].run_id)
    code, output = run_sync()
    assert code == 1
    assert f"run {runs[1].run_id} is left" in output
    assert [client.get_run(run.run_id).info.status for run in runs] == ["FINISHED", "RUNNING", "FINISHED"]
    spool = all_spools()[0]
    assert f"does not hold run {runs[1].run_id}" in str(spool.refusal(runs[1].run_id))
    client.restore_run(runs[1].run_id)
    assert run_sync()[0] == 0
    assert spool.refusal(runs[1].run_id) is None
    assert client.get_run(runs[1].run_id).info.status == "FINISHED"


def test_another_process_that_writes_long_is_no_outage(
    mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "LOCK_S", 0.05)
    monkeypatch.setattr(drainer, "PAUSES_S", (0.0, 3600.0))
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    with Spool(Path("sweeps", STUDY, "spool")).replay_lock(run.run_id):
        run.log_metrics(0, {"train/loss": 1.0})
        time.sleep(0.5)
    assert tracker.close()
    assert lines == []
    assert held(mlflow_store)["trial-0000"][3]["train/loss"] == [(0, 1.0)]


def test_a_run_into_which_others_wrote_before_is_recorded_while_it_runs(
    mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Tracker(mlflow_store, lambda _: None)
    parent = killed.parent_run(STUDY, {})
    run_id = killed.trial_run(STUDY, 0, CONFIG, "abc", parent=parent).run_id
    killed.stop()
    spool = Spool(Path("sweeps", STUDY, "spool"))

    def leave(value: str) -> None:
        spool.append(run_id, Tags({"embedsweep.attempts": value}), Origin(str(locate(mlflow_store.uri)), STUDY))

    def replay_while_it_writes(*args: Any) -> replay.Replay:
        monkeypatch.setattr(drainer, "replay", replay.replay)
        leave("2")
        return replay.replay(*args)

    leave("1")
    monkeypatch.setattr(drainer, "replay", replay_while_it_writes)
    monkeypatch.setattr(drainer, "OPENING_S", 1.0)
    tracker = Tracker(mlflow_store, lambda _: None)
    assert tracker.parent_run(STUDY, {}) == parent
    tracker.trial_run(STUDY, 0, CONFIG, "abc", parent=parent, run_id=run_id)
    deadline = time.monotonic() + 5
    while spool.waiting() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert spool.waiting() == []
    tracker.close()


def test_a_full_disk_is_reported_as_such(
    line: Line, mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Tracker(mlflow_store, lambda _: None).trial_run(STUDY, 0, CONFIG, "abc")
    line.is_cut = True
    run.log_metrics(0, {"train/loss": 1.0})
    fsync = os.fsync

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.log_metrics(1, {"train/loss": 1.0})
    monkeypatch.setattr(os, "fsync", fsync)
    run.log_metrics(2, {"train/loss": 1.0})
    line.is_cut = False
    assert run_sync()[0] == 0
    steps = [step for step, _ in held(mlflow_store)["trial-0000"][3]["train/loss"]]
    assert steps == [0, 2]


def test_a_spool_that_cannot_be_written_is_reported_as_the_outage(line: Line, mlflow_store: TrackingConfig) -> None:
    run = Tracker(mlflow_store, lambda _: None).trial_run(STUDY, 0, CONFIG, "abc")
    wait_written()
    line.is_cut = True
    shutil.rmtree("sweeps")
    Path("sweeps").write_text("in the way")
    with pytest.raises(UnreachableError, match="cannot be kept in sweeps/study-a/spool"):
        run.log_metrics(0, {"train/loss": 1.0})


def test_no_secret_is_spooled(line: Line, mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2hunter2")
    line.is_cut = True
    tracker = Tracker(TrackingConfig("x", "http://me:pa55word@host:1", spool=True), lambda _: None)
    secret = replace(CONFIG, model=replace(CONFIG.model, path="https://me:hunter2hunter2@host/model"))
    tags = {"embedsweep.storage": "postgresql://me:pa55word@host/db", "hf_token": "abc-token"}
    run = tracker.trial_run(STUDY, 0, secret, "abc", tags=tags, parent=tracker.parent_run(STUDY, tags))
    run.set_tags(tags)
    run.log_dataset("mine", "abc", "postgresql://me:pa55word@host/db", "train")
    written = "".join(path.read_text() for path in Path("sweeps").rglob("*") if path.is_file())
    assert "http://me:***@host:1" in written
    assert not [word for word in ("pa55word", "hunter2", "abc-token") if word in written]
    code = main(["sync"])
    assert code == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pa55word@host:1")
    assert main(["sync"]) == 1


def test_an_unreachable_store_is_not_called_again(line: Line, mlflow_store: TrackingConfig) -> None:
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    line.is_cut = True
    run.log_metrics(0, {"train/loss": 1.0})
    until = time.monotonic() + 10
    while not lines and time.monotonic() < until:
        time.sleep(0.01)
    calls = line.calls
    for step in range(1, 20):
        run.log_metrics(step, {"train/loss": 1.0})
    run.finish("RUNNING")
    assert tracker.has_run("0" * 32), "unknown"
    assert line.calls == calls


def test_embedsweep_waits_for_a_locked_database(line: Line, mlflow_store: TrackingConfig) -> None:
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    line.locked = 1
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    line.locked = 1
    run.log_metrics(0, {"train/loss": 1.0})
    assert tracker.close()
    assert lines == []
    line.locked = 2
    assert not tracker.has_run("0" * 32)
    assert lines == ["another process has locked MLflow's database; waiting up to 120 s"]
    assert held(mlflow_store)["trial-0000"][3] == {"train/loss": [(0, 1.0)]}
    assert all_spools() == []


def test_a_run_that_was_created_when_the_database_was_locked_is_not_created_again(
    line: Line, mlflow_store: TrackingConfig
) -> None:
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    line.lock_after = "create_run"
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    assert lines == []
    assert held(mlflow_store)["trial-0000"][1] == flatten(CONFIG)
    assert MlflowClient(mlflow_store.uri).get_run(run.run_id).data.params == flatten(CONFIG)


@pytest.mark.slow
def test_embedsweep_waits_half_a_minute_for_a_locked_database(
    mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    tracker = Tracker(mlflow_store, lines.append)
    run = tracker.trial_run(STUDY, 0, CONFIG, "abc")
    locked = threading.Event()

    def lock() -> None:
        with closing(sqlite3.connect(mlflow_store.uri.removeprefix("sqlite:///"))) as other:
            other.execute("BEGIN EXCLUSIVE")
            locked.set()
            time.sleep(30)

    holder = threading.Thread(target=lock)
    holder.start()
    locked.wait()
    began = time.monotonic()
    run.log_metrics(0, {"train/loss": 1.0})
    assert time.monotonic() - began < 10, "training does not wait"
    assert tracker.close()
    assert 28 < time.monotonic() - began < 60
    holder.join()
    assert lines == []
    assert held(mlflow_store)["trial-0000"][3] == {"train/loss": [(0, 1.0)]}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nonsense",), "nonsense: unexpected argument; the store is --tracking-uri URI"),
        (("study.name=none",), "--study: there is no study none"),
        (("tracking.uri=file:///x",), "tracking.uri: MLflow no longer keeps records in plain folders"),
    ],
)
def test_sync_refuses_unknown_arguments(
    words: tuple[str, ...],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sync", *words]) == 2
    assert problem in capsys.readouterr().err
    assert main(["sync", "--help"]) == 0
    assert "embedsweep sync [key=value ...] [options]" in capsys.readouterr().out


def test_sync_writes_one_study_to_the_requested_store(line: Line, mlflow_store: TrackingConfig) -> None:
    line.is_cut = True
    elsewhere = TrackingConfig("x", f"http://127.0.0.1:{free_port()}", spool=True)
    for study in ("a", "b"):
        tracker = Tracker(elsewhere, lambda _: None)
        tracker.finish_parent(tracker.parent_run(study, {}), "FINISHED")
    line.is_cut = False
    assert run_sync("--study", "b", "--tracking-uri", mlflow_store.uri)[0] == 0
    assert sorted(held(mlflow_store, "b")) == ["b"]
    assert [spool.folder.parent.name for spool in all_spools()] == ["a"]
    header = json.loads(next(Path("sweeps/a/spool").glob("*.jsonl")).read_text().splitlines()[0])
    assert header.pop("writer")
    assert header == {"store": str(locate(elsewhere.uri)), "experiment": "a", "process": asdict(Lease.mine())}


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["refuses", "hangs"])
def test_a_server_that_stops_delays_no_call(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record_writer, "PATIENCE_S", 5.0)
    monkeypatch.setattr(drainer, "OPENING_S", 5.0)
    shutil.copy(mlflow_template, tmp_path / "server.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    lines: list[str] = []
    with child(command, dict(os.environ), tmp_path / "server.log") as process:
        wait_for(f"http://127.0.0.1:{port}/health")
        tracker = Tracker(TrackingConfig("server", f"http://127.0.0.1:{port}", spool=False), lines.append)
        trial = begin(tracker)
        trial.log_metrics(0, {"train/loss": 1.0})
        while all_spools():
            time.sleep(0.01)
        os.killpg(process.pid, end)
        start = time.monotonic()
        for step in range(1, 12):
            trial.log_metrics(step, {"train/loss": 1.0})
        assert time.monotonic() - start < 2
        assert not tracker.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
    assert "11 records of 1 run wait in" in lines[-1]
    assert [list(range(1, 12))] == [
        [record.points[0][0] for _, record in spool.records(trial.run_id) if isinstance(record, Metrics)]
        for spool in all_spools()
    ]


@pytest.mark.parametrize("fault", [BEFORE, AFTER, 1.0])
def test_a_server_that_fails_every_fifth_request_gets_everything_in_time(
    server: str, undisturbed: tuple[dict[str, Any], int], fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = f"flaky {fault}"
    lines: list[str] = []
    port = int(server.rpartition(":")[2])
    with flaky_proxy(port, lambda number: fault if number % 5 == 0 else None) as proxy:
        assert write_study(TrackingConfig("flaky", proxy.uri, spool=False), lines, study)
        assert proxy.requests > 40
    assert "sync" not in "".join(lines)
    found = held(TrackingConfig("server", server, spool=False), study)
    assert sorted(found) == [study, "trial 0", "trial 1"]
    found[STUDY] = found.pop(study)
    for name, (status, params, _, *rest) in undisturbed[0].items():
        assert (found[name][:2], found[name][3:]) == ((status, params), tuple(rest)), name
