from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep.errors import Interrupted, StudyError
from embedsweep.signals import handled
from embedsweep.study import stopping
from embedsweep.study.opening import open_study
from embedsweep.study.reading import read_study
from embedsweep.study.stopping import (
    OWN_ARRAY,
    StopWatch,
    add_slurm_array,
    folder_errors,
    request_stop,
    running_trials,
    slurm_arrays,
)
from embedsweep.study.study import Study
from tests.study.test_study import make_request

WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stopping, "CHECK_EVERY_S", 0.01)
    monkeypatch.delenv(OWN_ARRAY, raising=False)


def stopped_by(study: Study, during: Callable[[], object]) -> list[str]:
    """Watch a study until it is interrupted, calling a function first; return what the watch says."""
    said: list[str] = []
    with pytest.raises(Interrupted) as interrupted, handled():
        watch_long(study, said.append, during)
    assert interrupted.value.signum == signal.SIGINT
    return said


def watch_long(study: Study, say: Callable[[str], None], during: Callable[[], object]) -> None:
    with StopWatch(study, say):
        during()
        time.sleep(WITHIN_S)


def test_a_command_that_runs_is_interrupted_and_one_that_begins_later_is_not() -> None:
    study = open_study(make_request())
    record = read_study("compare")
    assert stopped_by(study, lambda: request_stop(record)) == ["stopped by embedsweep stop"]
    later = open_study(make_request())
    with handled(), StopWatch(later, pytest.fail) as watch:
        time.sleep(0.1)
    assert not watch.has_stopped
    assert stopped_by(later, lambda: request_stop(record)) == ["stopped by embedsweep stop"]


def test_a_program_that_calls_embedsweep_is_interrupted_as_by_ctrl_c(request: pytest.FixtureRequest) -> None:
    # A shell that starts the tests in the background has Ctrl-C ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, former))
    study = open_study(make_request())
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        watch_long(study, said.append, lambda: request_stop(read_study("compare")))
    assert said == ["stopped by embedsweep stop"]


def test_a_thread_is_not_interrupted() -> None:
    study = open_study(make_request())

    def work() -> None:
        with StopWatch(study, pytest.fail):
            request_stop(read_study("compare"))
            time.sleep(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_end_does_not_wait_for_a_storage_that_is_away_and_what_it_says_then_interrupts_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "END_S", 0.01)
    looks, answers = threading.Event(), threading.Event()
    watch = StopWatch(open_study(make_request()), pytest.fail)

    def away(_: Study) -> int:
        looks.set()
        answers.wait(WITHIN_S)
        return 1

    with handled():
        with watch:
            monkeypatch.setattr(stopping, "_stops", away)
            assert looks.wait(WITHIN_S)
        answers.set()
        watch._thread.join(WITHIN_S)
        time.sleep(0.05)


def test_a_job_that_waited_in_the_queue_while_its_study_was_stopped_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = open_study(make_request())
    add_slurm_array(study, "12", {})
    request_stop(read_study("compare"))
    add_slurm_array(study, "13", slurm_arrays(study))
    assert slurm_arrays(open_study(make_request())) == {"12": 0, "13": 1}
    monkeypatch.setenv(OWN_ARRAY, "13")
    with handled(), StopWatch(study, pytest.fail):
        time.sleep(0.1)
    monkeypatch.setenv(OWN_ARRAY, "12")
    assert stopped_by(study, lambda: pytest.fail("it has begun")) == ["stopped by embedsweep stop"]
    monkeypatch.setenv(OWN_ARRAY, "14")  # of another study
    with handled(), StopWatch(study, pytest.fail):
        time.sleep(0.1)


@pytest.mark.parametrize("ends", [lambda: time.sleep(WITHIN_S), Path("sweeps/compare/journal.log").read_text])
def test_a_study_whose_folder_is_moved_away_ends_whatever_works_on_it_with_one_sentence(
    ends: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    study = open_study(make_request())

    caplog.clear()

    def work() -> None:
        study.folder.rename("elsewhere")
        ends()

    why = "sweeps/compare was moved or deleted while study compare ran: .*Move it back, .* the same command"
    with pytest.raises(StudyError, match=why), handled(), StopWatch(study, pytest.fail), folder_errors(study):
        work()
    assert not caplog.records
    Path("elsewhere").rename(study.folder)
    with pytest.raises(ValueError, match="its own"), folder_errors(study):
        raise ValueError("its own")


def test_trials_that_run_are_named_with_their_host() -> None:
    study = open_study(make_request())
    first, second = study.ask(), study.ask()
    assert first is not None
    assert second is not None
    study.release(first)
    running = running_trials(read_study("compare"))
    assert list(running) == [1]
    assert running[1]
