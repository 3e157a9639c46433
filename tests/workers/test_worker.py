"""A worker with fake trainings: what is recorded about its trials, and when they are retried."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from rich.console import Console

from embedsweep.config.identity import config_hash
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import TrackingConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import ConfigError, DeviceLostError, GroupError, Interrupted, TrialError
from embedsweep.lease import Lease
from embedsweep.report.lines import PlainLines
from embedsweep.report.ranking import print_ranking, rerun_command
from embedsweep.report.results import study_results
from embedsweep.report.running import RunningTrials
from embedsweep.signals import handled
from embedsweep.study.deaths import DEATHS
from embedsweep.study.duplicates import trained_config, trained_params
from embedsweep.study.leases import BEAT_EVERY_S, LEASE
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.opening import open_study
from embedsweep.study.pruning import FORGETS
from embedsweep.study.record import FAILURE, RETRY_OF
from embedsweep.study.study import Study
from embedsweep.tracking.names import best_metrics
from embedsweep.tracking.runs import Tracker
from embedsweep.training.folder import write_config, write_result
from embedsweep.training.trial import TrialSetup, run_trial
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.worker import Worker
from tests.configs import DEV_METRICS
from tests.tracking.stores import wait_written

if TYPE_CHECKING:
    from mlflow.entities import Run

DEVICE_LOST = "CUDA error: device-side assert triggered"
TWO = ["optimizer.lr=1e-3,2e-3", "study.name=made_up", "trainer.device=cpu"]
POINTS = (
    "name: points\nn_trials: 5\nspace:\n  dataloader.batch_size: choice(16, 32)\noption_spaces: []\nconstraints: []\n"
)
DRAWN = ["search=points", "study.sampler=random", "study.name=made_up", "trainer.device=cpu"]

Act = BaseException | Callable[[], None] | None


@dataclass
class Trained:
    """Stands in for ``run_trial``: does one act a call, then has a result.

    Attributes:
        acts: what happens in each call: an error to raise, or something to do; nothing once they are used up.
        pruned: whether trials end pruned.
        configs: what was trained.
    """

    acts: list[Act] = field(default_factory=list)
    pruned: bool = False
    configs: list[TrialConfig] = field(default_factory=list)

    def __call__(self, setup: TrialSetup) -> TrialResult:
        config, folder, progress = setup.config, setup.folder, setup.progress
        self.configs.append(config)
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder / "config.yaml", config)
        act = self.acts.pop(0) if self.acts else None
        progress(1, 2)
        if isinstance(act, BaseException):
            raise act
        if act is not None:
            act()
        progress(2, 2)
        value = 0.5 + config.dataloader.batch_size / 1000
        dev = dict.fromkeys(DEV_METRICS, value)
        setup.report(2, dev)
        cost = Emissions(0.001, 0.01, 1.0, "FRA", ())
        result = TrialResult(value, dev, {}, {}, {}, 2, 2, cost, self.pruned, None, 1.0)
        setup.run.log_metrics(2, {**best_metrics(dev), "emissions/co2eq_kg": cost.co2eq_kg})
        write_result(folder, result)
        return result


@dataclass
class Bench:
    """A study with a worker on it, and what was printed."""

    study: Study
    tracker: Tracker
    uri: str
    parent: str
    output: io.StringIO

    def work(self) -> None:
        display = PlainLines(Console(file=self.output, width=200), RunningTrials())
        Worker(self.study, self.tracker, self.parent, display).work()

    def run_of(self, number: int) -> Run:
        """The run of a trial, once all is written; there must be one only."""
        wait_written()
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(self.study.name)
        runs = client.search_runs([experiment.experiment_id], f"tags.`embedsweep.trial` = '{number}'")
        (run,) = runs
        assert run.info.run_id == self.study.trials[number].user_attrs["run_id"]
        return run

    @property
    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.trials]


Open = Callable[..., Bench]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    trained = Trained()
    monkeypatch.setattr("embedsweep.workers.worker.run_trial", trained)
    monkeypatch.setattr("embedsweep.workers.worker.data_warnings", lambda _: [])
    return trained


@pytest.fixture
def bench(mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "search").mkdir(parents=True)
    (tmp_path / "conf" / "search" / "points.yaml").write_text(POINTS, encoding="utf-8")

    def opened(*words: str) -> Bench:
        study = open_study(pass_sweep(list(words)))
        tracker = Tracker(mlflow_store)
        return Bench(study, tracker, mlflow_store.uri, tracker.parent_run(study.name, {}), io.StringIO())

    return opened


# --- attempts


def test_a_warning_is_shown_once_a_study_and_not_once_a_trial_or_a_command(
    bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ["3 of 8 train examples are duplicates"]
    monkeypatch.setattr("embedsweep.workers.worker.data_warnings", lambda _: list(shown))
    words = ("study.name=warned", "optimizer.lr=1e-4,1e-3,1e-2", "study.duplicates=replicate")
    first = bench(*words)
    first.study.n_trials = 2
    first.work()
    assert first.output.getvalue().count("data: 3 of 8 train examples are duplicates") == 1
    shown.append("7 sentences of dev also occur in train")
    again = bench(*words)
    again.work()
    assert again.states == ["COMPLETE"] * 3
    assert "duplicates" not in again.output.getvalue()
    assert again.output.getvalue().count("data: 7 sentences of dev also occur in train") == 1


@pytest.mark.parametrize(("after", "forgets"), [(0.495, False), (0.4, True)])
def test_a_pruner_knows_whether_a_running_trial_forgets(
    bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch, after: float, forgets: bool
) -> None:
    score = "dev/demo-dev/spearman_cosine"

    def train(setup: TrialSetup) -> TrialResult:
        setup.on_before({score: 0.5})
        setup.progress(1, 80)
        setup.report(10, {**dict.fromkeys(DEV_METRICS, 0.6), score: after})
        raise RuntimeError("that is all")

    monkeypatch.setattr("embedsweep.workers.worker.run_trial", train)
    keep = "study.keep=[{benchmark:demo-dev,metric:spearman_cosine,drop_at_most:0.01}]"
    made = bench(*TWO, "study.pruner=median", "study.max_retries=0", "evaluation.watch=[demo-dev]", keep)
    made.work()
    assert [trial.user_attrs[FORGETS] for trial in made.study.trials] == [forgets, forgets]


def test_a_trial_that_raised_is_retried_in_the_same_trial_and_run(bench: Open, trained: Trained) -> None:
    trained.acts = [RuntimeError("[/no] such luck"), None]
    made = bench(*TWO, "study.n_trials=1")
    made.work()
    assert made.states == ["COMPLETE"]
    assert [config_hash(config) for config in trained.configs] == [config_hash(trained.configs[0])] * 2
    run = made.run_of(0)
    assert (run.info.status, run.data.tags["embedsweep.attempts"]) == ("FINISHED", "2")
    assert FAILURE not in made.study.trials[0].user_attrs
    assert made.study.trials[0].user_attrs["embedsweep.attempts"] == 2
    printed = made.output.getvalue()
    assert "failed, retrying (1/1): RuntimeError: [/no] such luck" in printed
    assert "trial 0 RUNNING lr=0.001 resumed, attempt 2 of 2" in printed
    assert made.study.failed_trials == []


@pytest.mark.parametrize(
    ("words", "error", "attempts", "reason"),
    [
        ([], RuntimeError("no"), 2, "RuntimeError: no (in each of 2 attempts)"),
        (["study.max_retries=3"], RuntimeError("no"), 4, "RuntimeError: no (in each of 4 attempts)"),
        (["study.max_retries=0"], RuntimeError("no"), 1, "RuntimeError: no"),
        ([], TrialError("the loss is NaN"), 1, "TrialError: the loss is NaN"),
        ([], ConfigError.single("loss", "no such data"), 1, "ConfigError: loss: no such data"),
    ],
    ids=["once more", "thrice more", "never", "what has no result", "what cannot be"],
)
def test_a_trial_is_retried_max_retries_times_and_no_more(
    bench: Open, trained: Trained, words: list[str], error: Exception, attempts: int, reason: str
) -> None:
    trained.acts = [error] * attempts
    made = bench(*TWO, *words)
    made.work()
    assert len(trained.configs) == attempts + 1
    assert made.states == ["FAIL", "COMPLETE"]
    assert made.study.trials[0].user_attrs[FAILURE] == reason
    run = made.run_of(0)
    assert (run.info.status, run.data.tags["embedsweep.failure"]) == ("FAILED", reason)
    assert made.study.failed_trials
    assert made.study.is_complete


def test_different_reasons_of_a_failure_are_all_given(bench: Open, trained: Trained) -> None:
    trained.acts = [RuntimeError("first"), TrialError("second")]
    made = bench(*TWO, "study.n_trials=1")
    made.work()
    assert made.study.trials[0].user_attrs[FAILURE] == "TrialError: second; attempt 1: RuntimeError: first"


def test_an_interruption_uses_up_no_attempt(bench: Open, trained: Trained) -> None:
    words = (*TWO, "study.n_trials=1")
    for _ in range(3):
        trained.acts = [Interrupted(signal.SIGINT)]
        with pytest.raises(Interrupted):
            bench(*words).work()
    trained.acts = [RuntimeError("no"), None]
    made = bench(*words)
    made.work()
    assert made.states == ["COMPLETE"]
    assert len(trained.configs) == 5
    assert made.study.trials[0].user_attrs["embedsweep.attempts"] == 2


def leave_as_dead(study: Study, trial: OpenTrial) -> Lease:
    """Leaves a trial as a worker does that was killed."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        lease = Lease.of(process.pid)
    study._open[trial.number].set_user_attr(LEASE, asdict(lease))
    return lease


def test_a_trial_that_kills_its_worker_again_and_again_is_failed(bench: Open, trained: Trained) -> None:
    for deaths in range(5):  # study.max_deaths
        study = bench(*TWO, "study.n_trials=1").study
        trial = study.ask()
        assert trial is not None
        assert (trial.attempt, trial.why_over, trial.deaths.count) == (deaths + 1, None, deaths)
        lease = leave_as_dead(study, trial)
    made = bench(*TWO, "study.n_trials=1")
    made.work()
    assert trained.configs == []
    assert made.states == ["FAIL"]
    reason = made.study.trials[0].user_attrs[FAILURE]
    start = "its worker died 5 times, one after another, before its first checkpoint (study.max_deaths=5; the last sign"
    assert reason.startswith(f"{start} of life of process {lease.pid} on ")
    assert made.run_of(0).info.status == "FAILED"
    assert made.run_of(0).data.tags["embedsweep.failure"] == reason


def test_a_later_command_may_allow_more_deaths(bench: Open, trained: Trained) -> None:
    for _ in range(2):
        study = bench(*TWO, "study.n_trials=1", "study.max_deaths=2").study
        trial = study.ask()
        assert trial is not None
        leave_as_dead(study, trial)
    made = bench(*TWO, "study.n_trials=1", "study.max_deaths=3")
    made.work()
    assert made.states == ["COMPLETE"]
    assert "trial 0 RUNNING lr=0.001 resumed, death 2 of 3 without a newer checkpoint" in made.output.getvalue()


@pytest.mark.parametrize(
    ("error", "ends"),
    [(GroupError("process 1 of the group of 2 was killed by SIGKILL"), False), (RuntimeError(DEVICE_LOST), True)],
    ids=["a process of its group", "its GPU"],
)
def test_a_trial_that_lost_a_process_or_its_gpu_uses_up_no_retry(
    bench: Open, trained: Trained, error: Exception, ends: bool
) -> None:
    words = (*TWO, "study.n_trials=1", "study.max_retries=0")
    made = bench(*words)
    trained.acts = [error, None]
    with pytest.raises(DeviceLostError) if ends else nullcontext():
        made.work()
    assert f"will be resumed: {type(error).__name__}: {error}" in made.output.getvalue()
    again = bench(*words)
    again.work()
    assert again.states == ["COMPLETE"]
    assert again.study.trials[0].user_attrs[DEATHS]["count"] == 1
    assert again.run_of(0).info.status == "FINISHED"


def test_a_trial_that_loses_processes_again_and_again_is_failed(bench: Open, trained: Trained) -> None:
    trained.acts = [GroupError("gone")] * 5
    made = bench(*TWO, "study.n_trials=1")
    made.work()
    assert len(trained.configs) == 5
    assert made.states == ["FAIL"]
    assert made.study.trials[0].user_attrs[FAILURE].endswith("(study.max_deaths=5; GroupError: gone)")


def test_the_result_of_a_dead_worker_is_recorded_though_its_deaths_are_used_up(
    bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*TWO, "study.n_trials=1", "study.max_deaths=1")
    made = bench(*words)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "complete", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):  # which nothing catches, as nothing does a kill
            made.work()
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        made.study._open[0].set_user_attr(LEASE, asdict(Lease.of(process.pid)))
    monkeypatch.setattr("embedsweep.workers.worker.run_trial", run_trial)  # the real one, which trains nothing here
    again = bench(*words)
    again.work()
    assert again.states == ["COMPLETE"]
    assert len(trained.configs) == 1


def test_a_signal_during_ask_uses_up_no_attempt(bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Study.ask

    def ask(study: Study) -> OpenTrial | None:
        trial = original(study)
        os.kill(os.getpid(), signal.SIGTERM)
        return trial

    monkeypatch.setattr(Study, "ask", ask)
    made = bench(*TWO)
    with handled(), pytest.raises(Interrupted):
        made.work()
    assert made.study.trials[0].user_attrs["embedsweep.attempts"] == 0
    assert made.study.trials[0].user_attrs[LEASE] is None
    assert trained.configs == []


# --- recorded once


@pytest.fixture
def living() -> Iterator[Lease]:
    """The lease of another process that lives."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield Lease.of(process.pid)


def fail() -> None:
    raise RuntimeError("no")


ENDS: dict[str, Callable[[], None]] = {"well": lambda: None, "badly": fail}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_recorded_about_a_trial_that_another_worker_reclaimed(
    bench: Open, trained: Trained, living: Lease, end: str
) -> None:
    made = bench(*TWO)

    def act() -> None:
        made.study._open[0].set_user_attr(LEASE, asdict(living))
        ENDS[end]()

    trained.acts = [act]
    made.work()
    assert made.states == ["RUNNING", "COMPLETE"]
    first = made.study.trials[0].user_attrs
    assert (first[LEASE], first["embedsweep.attempts"]) == (asdict(living), 1)
    assert not {"emissions_kg", FAILURE, "embedsweep.failed_attempts"} & first.keys()
    assert made.run_of(0).info.status == "RUNNING"
    assert "abandoned: another worker has reclaimed trial 0" in made.output.getvalue()


@pytest.mark.parametrize("end", ENDS)
def test_a_trial_that_another_worker_ended_stays_unchanged(bench: Open, trained: Trained, end: str) -> None:
    made = bench(*TWO)

    def act() -> None:
        made.study._study.tell(0, 0.125)
        ENDS[end]()

    trained.acts = [act]
    made.work()
    assert made.states == ["COMPLETE", "COMPLETE"]
    assert made.study.trials[0].value == 0.125


def test_a_worker_stops_training_a_trial_that_was_reclaimed(
    bench: Open, trained: Trained, living: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedsweep.study.leases.BEAT_EVERY_S", 0.01)
    made = bench(*TWO)

    def act() -> None:
        made.study._open[0].set_user_attr(LEASE, asdict(living))
        deadline = time.monotonic() + 20
        while not made.study._lost and time.monotonic() < deadline:
            time.sleep(0.01)

    trained.acts = [act]
    made.work()
    assert not (made.study.trial_folder(0) / "result.json").exists()
    assert 0 in made.study._lost
    assert made.states == ["RUNNING", "COMPLETE"]


@pytest.mark.parametrize(("value", "n_trials"), [(0.9, 4), (0.1, 3)])
def test_a_worker_waits_for_a_trial_that_may_lift_the_stop(
    bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch, value: float, n_trials: int
) -> None:
    words = ("study.name=calm", "optimizer.lr=1e-4,2e-4,3e-4,4e-4,5e-4", "study.patience=1", "trainer.device=cpu")
    made = bench(*words)
    other = open_study(pass_sweep(words))
    running = other.ask()
    assert running is not None

    waits: list[float] = []

    def end(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            dev = dict.fromkeys(DEV_METRICS, value)
            cost = Emissions(0.001, 0.01, 1.0, "FRA", ())
            other.complete(running, TrialResult(value, dev, {}, {}, {}, 2, 2, cost, False, None, 1.0))

    monkeypatch.setattr("embedsweep.workers.worker.time", SimpleNamespace(monotonic=time.monotonic, sleep=end))
    made.work()
    assert made.states == ["COMPLETE"] * n_trials
    assert waits == [BEAT_EVERY_S] * 2
    output = made.output.getvalue()
    assert output.count("study.patience is reached: waiting to see whether trial 0 improves on the best") == 1
    assert output.count("study.patience is reached: no further trial is started") == 1


def test_a_worker_waits_no_longer_than_its_time(bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("study.name=calm", "optimizer.lr=1e-4,2e-4,3e-4,4e-4,5e-4", "study.patience=1", "trainer.device=cpu")
    made, now = bench(*words), [0.0]
    assert open_study(pass_sweep(words)).ask() is not None
    monkeypatch.setattr(
        "embedsweep.workers.worker.time",
        SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds)),
    )
    display = PlainLines(Console(file=made.output, width=200), RunningTrials())
    Worker(made.study, made.tracker, made.parent, display, deadline=BEAT_EVERY_S).work()
    assert now == [2 * BEAT_EVERY_S]
    assert made.output.getvalue().endswith("study.timeout has passed: no further trial is started\n")


def test_a_signal_ends_the_command_though_its_trial_was_reclaimed(bench: Open, trained: Trained, living: Lease) -> None:
    made = bench(*TWO)

    def act() -> None:
        made.study._open[0].set_user_attr(LEASE, asdict(living))
        raise Interrupted(signal.SIGTERM)

    trained.acts = [act]
    with pytest.raises(Interrupted):
        made.work()
    assert made.study.trials[0].user_attrs[LEASE] == asdict(living)


# --- configurations that failed


def test_failed_configurations_get_new_trials_once_each(bench: Open, trained: Trained) -> None:
    words = (*TWO, "study.max_retries=0")
    trained.acts = [RuntimeError("no"), RuntimeError("no")]
    made = bench(*words)
    made.work()
    assert made.states == ["FAIL", "FAIL"]

    assert made.study.retry_failed() == [0, 1]
    assert made.study.retry_failed() == []
    assert made.study.unfinished == [2, 3]
    trained.acts = [None, RuntimeError("again")]
    made.work()
    assert made.states == ["FAIL", "FAIL", "COMPLETE", "FAIL"]
    assert [trial.user_attrs.get(RETRY_OF) for trial in made.study.trials] == [None, None, 0, 1]
    assert [trial.params for trial in made.study.trials[2:]] == [trial.params for trial in made.study.trials[:2]]
    assert made.run_of(2).data.tags["embedsweep.retry_of"] == "0"
    assert made.study.is_complete
    assert [trial.number for trial in made.study.failed_trials] == [3]

    again = bench(*words)
    again.work()  # by default none of them is retried
    assert len(again.study.trials) == 4
    assert again.study.retry_failed() == [3]
    again.work()
    assert again.states == ["FAIL", "FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert again.study.failed_trials == []
    assert again.study.is_complete


def test_the_rest_of_a_grid_follows_the_failed_ones(bench: Open, trained: Trained) -> None:
    words = ("optimizer.lr=1e-3,2e-3,3e-3", "study.name=made_up", "trainer.device=cpu", "study.max_retries=0")
    trained.acts = [RuntimeError("no")]
    bench(*words, "study.n_trials=1").work()
    made = bench(*words)
    assert made.study.retry_failed() == [0]
    made.work()
    assert [trial.params["optimizer.lr"] for trial in made.study.trials] == [1e-3, 1e-3, 2e-3, 3e-3]
    assert made.states == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


# --- duplicates


@pytest.mark.parametrize("pruned", [False, True], ids=["complete", "pruned"])
def test_a_configuration_that_is_sampled_again_is_not_trained_again(
    bench: Open, trained: Trained, pruned: bool
) -> None:
    trained.pruned = pruned
    made = bench(*DRAWN)
    made.work()
    assert len(trained.configs) == len({config_hash(config) for config in trained.configs}) == 2
    state = "PRUNED" if pruned else "COMPLETE"
    assert made.states == [state] * 5
    first: dict[int, int] = {}
    for trial in made.study.trials:
        batch, run = trial.params["dataloader.batch_size"], made.run_of(trial.number)
        original = first.setdefault(batch, trial.number)
        assert trial.value == 0.5 + batch / 1000
        assert run.data.params["dataloader.batch_size"] == str(batch)
        assert (run.info.status, run.data.tags["embedsweep.state"]) == ("FINISHED", state)
        folder = made.study.trial_folder(trial.number)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        is_reused = original != trial.number
        assert trial.user_attrs["emissions_kg"] == result["emissions"]["co2eq_kg"] == (0.0 if is_reused else 0.001)
        assert ("emissions/co2eq_kg" in run.data.metrics) is not is_reused
        assert run.data.metrics["best/spearman_cosine"] == trial.value
        config = (folder / "config.yaml").read_text(encoding="utf-8")
        assert config == (made.study.trial_folder(original) / "config.yaml").read_text(encoding="utf-8")
        tags = {key: value for key, value in run.data.tags.items() if key.startswith("embedsweep.reused_from")}
        source = {
            "embedsweep.reused_from": made.run_of(original).info.run_id,
            "embedsweep.reused_from_trial": str(original),
        }
        assert tags == (source if is_reused else {})
        assert (f"reused from trial {original}" in line_of(made, trial.number)) is is_reused
    assert len(first) == 2
    if not pruned:
        assert made.study.best is not None
        assert made.study.best.number == first[32]


def line_of(made: Bench, number: int) -> str:
    """What was printed at the end of a trial."""
    return [line for line in made.output.getvalue().splitlines() if f" trial {number} " in line][-1]


def test_a_reuse_that_was_interrupted_is_repeated(
    bench: Open, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Study.reuse
    monkeypatch.setattr(Study, "reuse", lambda *_: (_ for _ in ()).throw(Interrupted(signal.SIGTERM)))
    with pytest.raises(Interrupted):
        bench(*DRAWN).work()
    monkeypatch.setattr(Study, "reuse", original)
    made = bench(*DRAWN)
    made.work()
    assert made.states == ["COMPLETE"] * 5
    assert len(trained.configs) == 2
    assert [len(made.run_of(number).data.metrics) > 0 for number in range(5)] == [True] * 5


def test_all_scores_are_reused_though_the_other_folder_is_elsewhere(bench: Open, trained: Trained) -> None:
    made = bench(*DRAWN, "study.n_trials=2")
    made.work()
    shutil.rmtree(made.study.folder / "trials")
    made = bench(*DRAWN)
    made.work()
    assert len(trained.configs) == 2
    reused = [trial for trial in made.study.trials if "embedsweep.duplicate" in trial.user_attrs]
    metrics = [made.run_of(trial.number).data.metrics for trial in reused[1:]]
    assert metrics == [{name.replace("dev/", "best/"): trial.value for name in DEV_METRICS} for trial in reused[1:]]
    assert "on another machine" not in made.output.getvalue()


def test_replicates_are_trained_with_seeds_of_their_own(bench: Open, trained: Trained) -> None:
    made = bench(*DRAWN, "study.duplicates=replicate")
    made.work()
    assert len(trained.configs) == len({config_hash(config) for config in trained.configs}) == 5
    seen: Counter[int] = Counter()
    first: dict[int, int] = {}
    for config, trial in zip(trained.configs, made.study.trials, strict=True):
        batch, run = config.dataloader.batch_size, made.run_of(trial.number)
        assert config.trainer.seed == 42 + seen[batch]
        assert run.data.params["trainer.seed"] == str(config.trainer.seed)
        assert run.data.tags["embedsweep.config_hash"] == trial.user_attrs["config_hash"] == config_hash(config)
        original = first.setdefault(batch, trial.number)
        expected = made.run_of(original).info.run_id if seen[batch] else None
        assert run.data.tags.get("embedsweep.replicate_of") == expected
        assert trained_config(made.study.plan, trial) == config
        seen[batch] += 1
    assert sum(seen.values()) == 5


def test_trials_with_the_same_values_that_run_side_by_side_have_different_seeds(bench: Open) -> None:
    study = bench(*DRAWN, "study.duplicates=replicate").study
    for _ in range(5):  # of two configurations
        trial = study.ask()
        assert trial is not None
        study.duplicate(trial, cell_config(study.plan, trial.params))
    assert len({config_hash(trained_config(study.plan, trial)) for trial in study.trials}) == 5
    assert {trial.state.name for trial in study.trials} == {"RUNNING"}


def test_a_replicate_that_failed_is_retried_with_its_seed(bench: Open, trained: Trained) -> None:
    made = bench(*DRAWN, "study.duplicates=replicate")
    seeds = iter([None, None, None, RuntimeError("no"), None])
    trained.acts = list(seeds)
    made.work()
    assert made.states == ["COMPLETE"] * 5
    assert trained.configs[3] == trained.configs[4]
    assert trained.configs[3].trainer.seed != 42


def test_the_command_that_runs_a_replicate_again_has_its_seed(bench: Open, trained: Trained) -> None:
    made = bench(*DRAWN, "study.duplicates=replicate", "trainer.seed=7")
    made.work()
    for config, trial in zip(trained.configs, made.study.trials, strict=True):
        command = rerun_command("x", made.study.fixed, trained_params(made.study.plan, trial))
        assert config_hash(pass_single(shlex.split(command)[1:]).config) == config_hash(config)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("loss=mnrl,sharp", "model=tiny"), [{"loss": "mnrl", "model": "tiny"}, {"loss": "sharp", "model": "tiny"}]),
        (("loss=sharp", "optimizer.lr=1e-3,2e-3"), [{"loss": "sharp"}] * 2),
    ],
    ids=["swept", "fixed"],
)
def test_runs_and_the_ranking_name_an_option_of_ones_own(
    words: tuple[str, ...], options: list[dict[str, str]], bench: Open, trained: Trained
) -> None:
    option = Path("conf/loss/sharp.yaml")
    option.parent.mkdir()
    option.write_text("defaults: [mnrl, _self_]\nscale: 50.0\n", encoding="utf-8")
    made = bench(*words, "study.name=made_up", "trainer.device=cpu")
    made.work()
    assert [config.loss.parameters["scale"] for config in trained.configs][-1] == 50.0
    for number, expected in enumerate(options):
        run = made.run_of(number)
        tags = {key: value for key, value in run.data.tags.items() if key.startswith("embedsweep.option.")}
        assert tags == {f"embedsweep.option.{group}": name for group, name in expected.items()}
        assert run.data.params["loss.name"] == "mnrl"
    print_ranking(Console(file=made.output, width=200), study_results(made.study))
    assert ("loss=sharp" in made.output.getvalue()) is ("loss=mnrl,sharp" in words)
