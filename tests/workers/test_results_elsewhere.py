"""Workers with fake trainings and a bucket: what finished trials leave there, and who fetches it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console

from embedsweep.config.answer import Soup
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import TrackingConfig
from embedsweep.errors import Interrupted
from embedsweep.evaluation.scores import ItemScores, write_scores
from embedsweep.lease import Lease
from embedsweep.report.lines import PlainLines
from embedsweep.report.running import RunningTrials
from embedsweep.study.duplicates import CONFIG_HASH
from embedsweep.study.finals import open_finals
from embedsweep.study.leases import LEASE
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.tracking.runs import Tracker
from embedsweep.training import bucket as bucket_module
from embedsweep.training.folder import read_result, write_config, write_result
from embedsweep.training.shared_results import SharedResults
from embedsweep.training.soup import Member
from embedsweep.training.trial import TrialSetup
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.conclusion import conclude
from embedsweep.workers.results_elsewhere import ResultsElsewhere
from embedsweep.workers.worker import Worker
from tests.buckets import Server
from tests.configs import DEV_METRICS
from tests.tracking.stores import wait_written

RATES = (1e-3, 3e-3, 2e-3)
"""The score of a trial grows with its rate: the second of three is the best."""
BEST = 1


@dataclass
class Trained:
    """Stands in for ``run_trial``.

    Attributes:
        acts: what happens at the end of each training, in order; nothing once they are used up.
        rates: what was trained.
    """

    acts: list[Callable[[], None]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def __call__(self, setup: TrialSetup) -> TrialResult:
        folder, rate = setup.folder, setup.config.optimizer.lr
        if (done := read_result(folder)) is not None:
            return done
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder / "config.yaml", setup.config)
        for name in ("train.log", "emissions.csv"):
            (folder / name).write_text(f"{name} of {rate}", encoding="utf-8")
        gold = np.linspace(0, 1, 40)
        noise = np.random.default_rng(int(rate * 1e4)).normal(0, 0.01 / rate, 40)
        texts = [str(index) for index in range(40)]
        columns: dict[str, Any] = {
            "sentence1": texts,
            "sentence2": texts,
            "gold": gold,
            "predicted_cosine": gold + noise,
        }
        write_scores(folder, ItemScores(columns))
        dev = dict.fromkeys(DEV_METRICS, 100 * rate)
        setup.report(2, dev)
        cost = Emissions(0.001, 0.01, 1.0, "FRA", ())
        curve = {"train/loss": [(1, 0.5), (2, 0.25)]}
        result = TrialResult(100 * rate, dev, {}, {}, {}, 2, 2, cost, False, None, 1.0, curve=curve)
        if setup.keeps_model(result):
            (folder / "model").mkdir(exist_ok=True)
            (folder / "model" / "model.safetensors").write_text(f"weights of {rate}", encoding="utf-8")
        write_result(folder, result)
        self.rates.append(rate)
        if self.acts:
            self.acts.pop(0)()
        return result


@dataclass
class Machine:
    """A command on the study, and what it printed."""

    study: Study
    tracker: Tracker
    parent: str
    output: io.StringIO = field(default_factory=io.StringIO)

    @property
    def said(self) -> str:
        return self.output.getvalue()

    @property
    def display(self) -> PlainLines:
        return PlainLines(Console(file=self.output, width=300), RunningTrials())

    def work(self) -> None:
        Worker(self.study, self.tracker, self.parent, self.display).work()

    @property
    def elsewhere(self) -> ResultsElsewhere:
        return ResultsElsewhere(self.study, self.study.services, self.display.say)

    def conclude(self) -> bool:
        return conclude(self.study, self.tracker, self.parent, self.display.say)

    def lose_folders(self) -> None:
        """Be another machine, which has no folders of the trials."""
        shutil.rmtree(self.study.folder / "trials")


Open = Callable[..., Machine]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    trained = Trained()
    monkeypatch.setattr("embedsweep.workers.worker.run_trial", trained)
    monkeypatch.setattr("embedsweep.workers.worker.data_warnings", lambda _: [])

    def scored(_: Path, __: Any, result: TrialResult, *___: Any) -> TrialResult:
        return replace(result, test={"test/spearman_cosine": result.objective / 2})

    monkeypatch.setattr("embedsweep.workers.winner.score_model", scored)
    monkeypatch.setattr("embedsweep.workers.winner.complete_card", lambda *_: None)
    return trained


@pytest.fixture
def place(s3: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a bucket of the test's own."""
    monkeypatch.setattr(bucket_module, "TRIES", 1)
    return s3.new_bucket(f"work-{abs(hash(request.node.nodeid))}")


@pytest.fixture
def machine(
    place: str, mlflow_store: TrackingConfig, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> Open:
    monkeypatch.chdir(tmp_path)

    def opened(*words: str) -> Machine:
        rates = f"optimizer.lr={','.join(map(str, RATES))}"
        shared = ("study.name=made_up", "trainer.device=cpu", f"study.checkpoints={place}")
        study = open_study(pass_sweep([rates, *shared, *words]))
        tracker = Tracker(mlflow_store)
        return Machine(study, tracker, tracker.parent_run(study.name, {}))

    return opened


def kept(s3: Server, place: str) -> list[str]:
    """Return what a bucket has of the study's trials: ``models/0001``."""
    keys = [key.split("/") for key in s3.keys(place.removeprefix("s3://"))]
    assert {key[0].partition("-")[0] for key in keys} <= {"made_up"}
    return [f"{what}/{name.removesuffix('.tar.gz')}" for _, what, _, name in keys]


def results(*numbers: int) -> list[str]:
    return [f"results/{number:04d}" for number in numbers]


@pytest.mark.parametrize(
    ("keep", "before", "after"), [("best", [1], [1]), ("all", [0, 1, 2], [0, 1, 2]), ("none", [1], [])]
)
def test_the_bucket_has_the_files_of_all_trials_and_the_models_that_are_kept(
    keep: str, before: list[int], after: list[int], machine: Open, s3: Server, place: str
) -> None:
    made = machine(f"study.keep_models={keep}")
    made.work()
    assert kept(s3, place) == [*(f"models/{number:04d}" for number in before), *results(0, 1, 2)]
    assert made.conclude()
    assert kept(s3, place) == [*(f"models/{number:04d}" for number in after), *results(0, 1, 2)]
    assert made.elsewhere.fetch_model(0) == ("" if keep == "all" else "is neither on this machine nor in S3")


def test_a_model_of_which_a_killed_worker_did_not_delete_the_copy_is_deleted_by_the_next(
    machine: Open, s3: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine()
    with monkeypatch.context() as patch:
        patch.setattr(ResultsElsewhere, "delete_unneeded", lambda _: None)
        made.work()
    assert kept(s3, place) == ["models/0000", "models/0001", *results(0, 1, 2)]
    made.elsewhere.delete_unneeded()
    assert kept(s3, place) == ["models/0001", *results(0, 1, 2)]


def test_a_trial_that_was_interrupted_before_it_told_is_fetched_and_recorded_and_not_trained_again(
    machine: Open, trained: Trained, mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine("study.keep_models=all")

    def interrupt(*_: object) -> None:
        raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "complete", interrupt)
        with pytest.raises(Interrupted):
            made.work()
    wait_written()
    MlflowClient(mlflow_store.uri).delete_run(made.study.trials[0].user_attrs["run_id"])  # as if nothing was recorded
    made.lose_folders()
    other = machine("study.keep_models=all")
    other.work()
    assert trained.rates == list(RATES)
    assert "trial 0 RUNNING lr=0.001 resumed, which has its result in S3" in other.said
    assert [trial.values for trial in other.study.trials] == [[100 * rate] for rate in RATES]
    folder = other.study.trial_folder(0)
    assert (folder / "model").is_dir()
    assert (folder / "train.log").read_text(encoding="utf-8") == "train.log of 0.001"
    wait_written()
    run = MlflowClient(mlflow_store.uri).get_run(other.study.trials[0].user_attrs["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best/spearman_cosine"] == 0.1
    assert run.data.metrics["train/loss"] == 0.25
    files = {entry.path for entry in MlflowClient(mlflow_store.uri).list_artifacts(run.info.run_id)}
    assert {"config.yaml", "train.log", "emissions.csv", "scores"} <= files


def test_a_worker_that_has_lost_its_trial_sends_nothing_of_it(
    machine: Open, trained: Trained, s3: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine("study.n_trials=1")
    gone = asdict(replace(Lease.mine(), pid=1))
    trained.acts = [lambda: made.study._open[0].set_user_attr(LEASE, gone)]
    ask, sent = Study.ask, list[list[str]]()

    def noting(study: Study) -> OpenTrial | None:
        sent.append(kept(s3, place))
        trial: OpenTrial | None = ask(study)
        return trial

    monkeypatch.setattr(Study, "ask", noting)
    made.work()
    assert made.said.count("abandoned: another worker has reclaimed trial 0") == 1
    assert sent == [[], [], ["models/0000", *results(0)]]  # the other one died, and this one has it again


def test_a_bucket_that_is_away_fails_no_trial_is_said_once_and_has_all_at_the_end(
    machine: Open, trained: Trained, s3: Server, place: str
) -> None:
    made = machine()
    trained.acts = [s3.stop, lambda: None, s3.start]
    made.work()
    assert [trial.state.name for trial in made.study.trials] == ["COMPLETE"] * 3
    assert made.said.count("what trial 0 leaves stays on this machine for now: s3://") == 1
    assert made.said.count("stays on this machine for now") == 1
    assert "does not answer" in made.said
    assert kept(s3, place) == ["models/0001", *results(0, 1, 2)]


def test_a_bucket_that_comes_back_after_the_last_trial_gets_all_from_the_end_of_the_worker_or_the_next_command(
    machine: Open, trained: Trained, s3: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine()
    trained.acts = [lambda: None, s3.stop]
    try:
        made.work()
    finally:
        s3.start()
    assert kept(s3, place) == ["models/0000", *results(0)]
    machine().elsewhere.send_missing()
    assert kept(s3, place) == ["models/0000", "models/0001", *results(0, 1, 2)]
    again = machine()
    again.elsewhere.send_missing()
    again.elsewhere.delete_unneeded()
    assert again.said == ""
    assert kept(s3, place) == ["models/0001", *results(0, 1, 2)]


def test_the_answer_on_another_machine_is_that_of_one_machine(machine: Open, tmp_path: Path) -> None:
    made = machine()
    made.work()
    shutil.copytree(made.study.folder, tmp_path / "copy")
    made.lose_folders()
    other = machine()
    assert other.conclude()
    answer, tested = other.study.answer, other.study.test_scores
    assert "fetching what trials 0, 2 left from S3" in other.said
    assert answer is not None
    assert answer.selection is not None
    assert answer.selection.trial == BEST
    assert tested is not None
    assert tested.scores == {"test/spearman_cosine": pytest.approx(0.15)}
    for number in range(3):
        names = ("result.json", "config.yaml", "train.log", "emissions.csv", "scores/dev.parquet")
        for name in names:
            own = tmp_path / "copy" / "trials" / f"{number:04d}" / name
            assert (other.study.trial_folder(number) / name).read_bytes() == own.read_bytes()


def test_what_cannot_be_had_is_said_with_the_reason_and_the_next_command_adds_it(
    machine: Open, s3: Server, place: str
) -> None:
    made = machine()
    made.work()
    made.lose_folders()
    away = machine()
    s3.stop()
    try:
        assert away.conclude()
    finally:
        s3.start()
    assert f"test was not scored: the model of trial 1, the best, is not on this machine, and {place}" in away.said
    assert f"what trials 0, 1, 2 left is not on this machine: {place}" in away.said
    assert "does not answer" in away.said
    answer = away.study.answer
    assert answer is not None
    assert answer.selection is None
    assert answer.unknown["selection"].startswith("the scores of the dev items of trial 0 are not on ")
    assert away.study.test_scores is None
    back = machine()
    assert back.conclude()
    answer = back.study.answer
    assert answer is not None
    assert answer.selection is not None
    assert "selection" not in answer.unknown
    assert back.study.test_scores is not None


@pytest.fixture
def averaged(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The trainings whose models were averaged, at each soup; test is scored of what is in the folder."""
    made: list[list[int]] = []

    def soup(_: Path, members: Sequence[Member], __: Any) -> Soup:
        made.append([each.number for each in members if (each.folder / "model").is_dir()])
        return Soup((), (), (), {}, {}, None, {}, "made up")

    def scored(folder: Path, _: Any, result: TrialResult) -> TrialResult:
        (folder / "scores").mkdir(exist_ok=True)
        (folder / "scores" / "test.parquet").write_bytes(b"test")
        return replace(result, test={"test/spearman_cosine": result.objective / 2})

    monkeypatch.setattr("embedsweep.workers.conclusion.make_soup", soup)
    monkeypatch.setattr("embedsweep.workers.conclusion.score_model", scored)
    monkeypatch.setattr("embedsweep.workers.conclusion.complete_card", lambda *_: None)
    monkeypatch.setattr("embedsweep.workers.conclusion.interval_on_test", lambda *_: None)
    return made


def test_what_needs_models_of_finals_waits_for_the_bucket_and_adds_to_what_is_there(
    machine: Open, s3: Server, place: str, tmp_path: Path, averaged: list[list[int]]
) -> None:
    words = ("study.finals.top=2", "study.finals.seeds=2", "study.finals.soup=true")
    made = machine(*words)
    made.work()
    finals = open_finals(made.study)
    assert finals is not None
    Worker(finals, made.tracker, made.parent, made.display).work()
    shutil.rmtree(finals.folder / "trials")
    away = machine(*words)
    s3.stop()
    try:
        assert not away.conclude()
    finally:
        s3.start()
    assert "what needs the models of finals waits for the next command" in away.said
    assert away.study.answer is not None
    assert (averaged, away.study.answer.soup, away.study.finals_test, away.study.looks) == ([], None, None, ())
    back = machine(*words)
    assert back.conclude()
    assert averaged == [[0, 1, 2, 3]]
    assert back.study.finals_test is not None
    tested = sorted(back.study.finals_test.scores)
    assert len(tested) == 2
    shared = SharedResults(f"{place}/{kept_under(s3, place)}", "finals")
    for number in tested:
        identity = finals.trial(number).user_attrs[CONFIG_HASH]
        assert shared.fetch(number, tmp_path / "fetched" / str(number), identity=identity)
        names = {path.name for path in (tmp_path / "fetched" / str(number)).rglob("*") if path.is_file()}
        assert names == {"result.json", "config.yaml", "train.log", "emissions.csv", "dev.parquet", "test.parquet"}
    assert shared.models() == {back.study.finals_test.kept}


def kept_under(s3: Server, place: str) -> str:
    """Return the name of the study's folder in a bucket."""
    return s3.keys(place.removeprefix("s3://"))[0].split("/")[0]


def test_what_an_older_version_did_not_send_is_said_and_the_study_goes_on(
    machine: Open, s3: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine()
    with monkeypatch.context() as patch:
        patch.setattr(ResultsElsewhere, "send", lambda *_: None)
        made.work()
    made.lose_folders()
    other = machine()
    assert other.conclude()
    lines = (
        "test was not scored: the model of trial 1, the best, is neither on this machine nor in S3",
        "what trials 0, 1, 2 left is neither on this machine nor in S3",
    )
    assert all(line in other.said for line in lines)
    assert kept(s3, place) == []


def test_without_a_place_nothing_is_sent_or_fetched(
    machine: Open, s3: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine("study.checkpoints=null")
    made.work()
    made.elsewhere.send_missing()
    made.lose_folders()
    other = machine("study.checkpoints=null")
    assert other.conclude()
    does = f"in its folder on {gethostname()}, embedsweep train -m study.name=made_up scores it"
    assert f"test was not scored: the model of trial 1, the best, is not on this machine; {does}\n" in other.said
    assert s3.keys(place.removeprefix("s3://")) == []


def test_an_answer_that_lacked_scores_is_whole_once_a_command_has_them(machine: Open) -> None:
    made = machine("study.checkpoints=null")
    made.work()
    trials = made.study.folder / "trials"
    trials.rename(trials.with_name("elsewhere"))
    first = machine("study.checkpoints=null")
    assert first.conclude()
    assert first.study.answer is not None
    assert first.study.answer.selection is None
    shutil.rmtree(trials, ignore_errors=True)
    trials.with_name("elsewhere").rename(trials)
    assert made.conclude()
    answer = made.study.answer
    assert answer is not None
    assert answer.selection is not None
    assert "selection" not in answer.unknown
