"""Signals are raised at once, or deferred inside `shielded()`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console
from sqlalchemy import event
from sqlalchemy.engine import Engine

from embedsweep.commands.sweep import run_sweep
from embedsweep.config.study import TrackingConfig
from embedsweep.errors import Interrupted, UnreachableError
from embedsweep.signals import BEGINS, ENDS, JOB, Deferral, handled, hold_until_begun, raise_if_held, shielded
from embedsweep.study.opening import open_study
from embedsweep.tracking.runs import Tracker
from embedsweep.tracking.store import waiting_for_lock
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from tests.tracking.stores import wait_written


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt_and_fail() -> None:
    interrupt()
    raise ValueError("broken")


@contextmanager
def interrupted_after(statement: str) -> Iterator[None]:
    """Send a signal in the middle of a transaction: after the first statement that starts with the given text."""
    done: list[bool] = []

    def listen(*arguments: object) -> None:
        if str(arguments[2]).startswith(statement) and not done:
            done.append(True)
            interrupt()

    event.listen(Engine, "after_cursor_execute", listen)
    try:
        with handled(), pytest.raises(Interrupted):
            yield
    finally:
        event.remove(Engine, "after_cursor_execute", listen)


def test_a_signal_is_raised_at_once() -> None:
    done = []

    def work() -> None:
        interrupt()
        done.append(1)

    with handled(), pytest.raises(Interrupted) as error:
        work()
    assert error.value.exit_code == 143
    assert done == []


@pytest.mark.parametrize(
    ("before", "ends"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)], ids=["plainly", "with nohup"]
)
def test_a_hangup_interrupts_a_command_unless_it_was_ignored_at_the_start(before: signal.Handlers, ends: bool) -> None:
    former = signal.signal(signal.SIGHUP, before)
    try:
        with handled(), pytest.raises(Interrupted) if ends else nullcontext() as error:
            os.kill(os.getpid(), signal.SIGHUP)
        assert error is None or error.value.exit_code == 129
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_signal_waits_for_the_outermost_shielded_block() -> None:
    done = []

    @shielded()
    def inner() -> None:
        interrupt()
        done.append("inner")

    @shielded()
    def outer() -> None:
        inner()
        done.append("outer")

    with handled(), pytest.raises(Interrupted):
        outer()
    assert done == ["inner", "outer"]


def test_a_failing_block_raises_its_error_and_the_next_one_the_signal() -> None:
    with handled():
        with pytest.raises(ValueError, match="broken"), shielded():
            interrupt_and_fail()
        with pytest.raises(Interrupted), shielded():
            pass


def held(work: Callable[[], None], *, seconds: float = 60.0, once: bool = False) -> list[str]:
    """Return what was done before a signal that work caused was raised, with a deferral around it."""
    done: list[str] = []

    def defer() -> None:
        with Deferral(seconds) as deferral:
            deferral.is_on = True
            work()
            done.append("work")
            assert deferral.signum == signal.SIGTERM

    with handled(once=once), pytest.raises(Interrupted):
        defer()
    return done


def interrupt_twice() -> None:
    interrupt()
    interrupt()


def interrupt_and_work_long() -> None:
    interrupt()
    time.sleep(60)


@pytest.mark.parametrize(
    ("work", "seconds", "done"),
    [
        (interrupt, 60, ["work"]),
        (shielded()(interrupt), 60, ["work"]),
        (interrupt_twice, 60, []),
        (interrupt_and_work_long, 0.05, []),
        (interrupt_and_fail, 60, []),
    ],
    ids=["once", "in a shielded block", "twice", "for too long", "before an error"],
)
def test_a_deferral_holds_the_first_signal_back_for_a_while(
    work: Callable[[], None], seconds: float, done: list[str]
) -> None:
    assert held(work, seconds=seconds) == done


@pytest.mark.parametrize(("seconds", "done"), [(20.0, ["work"]), (0.1, [])], ids=["in time", "late"])
def test_the_second_of_two_senders_does_not_cut_the_work_short(seconds: float, done: list[str]) -> None:
    def work() -> None:
        interrupt_twice()
        time.sleep(0.5)

    assert held(work, seconds=seconds, once=True) == done


def test_a_deferral_that_is_off_or_lifted_holds_nothing_back() -> None:
    with handled(), Deferral() as deferral:
        with pytest.raises(Interrupted):
            interrupt()
        deferral.is_on = True
        with pytest.raises(Interrupted), deferral.lifted():
            interrupt()
        assert deferral.is_on
        assert deferral.signum == signal.SIGTERM
        with pytest.raises(Interrupted):
            deferral.raise_held()
        assert deferral.signum is None


def test_a_shield_in_another_thread_defers_no_signal() -> None:
    started, over = threading.Event(), threading.Event()

    def write() -> None:
        with shielded():
            started.set()
            over.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        started.wait(30)
        with handled(), pytest.raises(Interrupted):
            interrupt()
    finally:
        over.set()
        thread.join()


def test_a_signal_ends_the_wait_for_a_locked_database_after_the_current_attempt() -> None:
    tries: list[str] = []

    def write() -> None:
        tries.append("try")
        interrupt()
        raise UnreachableError("database is locked")

    with handled(), pytest.raises(Interrupted):
        waiting_for_lock(write, tries.append, seconds=60.0)
    assert tries == ["try"]


def test_a_pending_signal_is_dropped_with_its_handler() -> None:
    with handled(), pytest.raises(ValueError, match="broken"), shielded():
        interrupt_and_fail()
    with handled(), shielded():
        pass


def test_a_write_to_mlflow_is_finished_and_leaves_the_database_unlocked(
    mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = pass_single(["loss=mnrl"]).config
    trial = Tracker(mlflow_store).trial_run("signals", 0, config, "0" * 12)
    with interrupted_after("INSERT INTO metrics"):
        trial.log_metrics(3, {"dev/spearman_cosine": 0.5})
        wait_written()
    trial.finish("RUNNING")
    wait_written()
    client = MlflowClient(mlflow_store.uri)
    assert client.get_run(trial.run_id).info.status == "KILLED"
    assert [point.step for point in client.get_metric_history(trial.run_id, "dev/spearman_cosine")] == [3]


def test_a_report_to_optuna_is_finished_first_and_leaves_the_database_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["loss=mnrl,cosent", "study.name=signals", f"study.storage=sqlite:///{tmp_path}/optuna.db"]
    study = open_study(pass_sweep(words))
    trial = study.ask()
    assert trial is not None
    with interrupted_after("INSERT INTO trial_intermediate_values"):
        study.report(trial, 3, {"dev/spearman_cosine": 0.5}, 10)
    study.release(trial)
    assert study.trials[0].intermediate_values == {3: 0.5}


def test_a_study_interrupted_while_its_parent_run_is_opened_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: TrackingConfig
) -> None:
    monkeypatch.chdir(tmp_path)
    request = pass_sweep(["loss=mnrl,cosent", "study.name=started", f"tracking.uri={mlflow_store.uri}"])
    with interrupted_after("INSERT INTO runs"):
        run_sweep(request, Console(quiet=True), "train.py")
    client = MlflowClient(mlflow_store.uri)
    experiment = client.get_experiment_by_name("started")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["KILLED"]


@pytest.mark.parametrize("state", [BEGINS, ENDS])
def test_a_job_that_is_told_to_end_before_it_has_begun_ends_once_it_has(
    state: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    former = signal.getsignal(signal.SIGTERM)
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, former))
    monkeypatch.setenv(JOB, state)
    hold_until_begun()
    assert JOB not in os.environ  # no child is to hold its signals back
    if state == BEGINS:
        interrupt()
    with handled():
        time.sleep(0)
        with pytest.raises(Interrupted) as interrupted:
            raise_if_held()
        assert interrupted.value.signum == signal.SIGTERM
        raise_if_held()
        with pytest.raises(Interrupted):
            interrupt()


def test_a_command_that_is_no_job_holds_no_signal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    hold_until_begun()
    with handled():
        raise_if_held()
        with pytest.raises(Interrupted):
            interrupt()
