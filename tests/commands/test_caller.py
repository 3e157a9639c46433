"""A program that calls embedsweep finds its process as it was."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from embedsweep.commands.caller import check_one_gpu, guest, readable
from embedsweep.errors import ConfigError, EmbedsweepError, Problem, StudyError
from embedsweep.signals import shielded


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    before = dict(os.environ)
    with guest():
        assert "RANK" not in os.environ
        assert "MLFLOW_TRACKING_URI" not in os.environ
        os.environ["CUDA_VISIBLE_DEVICES"] = "1"
        os.environ["NEW"] = "1"
        del os.environ["MINE"]
    assert dict(os.environ) == before


def test_loggers_and_warning_filters_are_as_before_and_new_loggers_are_no_louder_than_the_root() -> None:
    mine = logging.getLogger("a program of mine")
    handler = logging.NullHandler()
    mine.addHandler(handler)
    mine.setLevel(logging.DEBUG)
    filters = warnings.filters[:]
    with guest():
        mine.handlers.clear()
        mine.setLevel(logging.ERROR)
        mine.propagate = False
        logging.getLogger("a library's").setLevel(logging.INFO)
        logging.getLogger("a quiet library's").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
    assert (mine.handlers, mine.level, mine.propagate) == ([handler], logging.DEBUG, True)
    assert mine.isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("a library's").isEnabledFor(logging.INFO)
    assert logging.getLogger("a quiet library's").level == logging.ERROR
    assert warnings.filters == filters


def test_what_fails_restores_as_well_and_the_next_call_may_train() -> None:
    def fail() -> None:
        with guest():
            os.environ["NEW"] = "1"
            raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            fail()
    assert "NEW" not in os.environ


def test_a_second_call_at_the_same_time_is_refused() -> None:
    refused: list[BaseException] = []

    def call() -> None:
        try:
            with guest():
                pass
        except EmbedsweepError as error:
            refused.append(error)

    with guest():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert [str(error).partition(":")[0] for error in refused] == ["another call of embedsweep trains in this process"]
    call()
    assert len(refused) == 1


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of SIGINT, which a shell that runs the tests in the background has it ignore."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_a_keyboard_interrupt_after_what_must_not_be_cut() -> None:
    done: list[str] = []

    def write() -> None:
        with guest(), shielded():
            signal.raise_signal(signal.SIGINT)
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_that_the_program_has_set_stay_its_own() -> None:
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda signum, _: caught.append(signum)) for number in numbers}
    try:
        with guest():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert caught == list(numbers)


@pytest.mark.parametrize(
    ("count", "is_initialized", "device", "is_refused"),
    [(2, True, "auto", True), (2, False, "auto", False), (1, True, "cuda", False), (2, True, "cpu", False)],
)
def test_a_process_that_has_used_one_of_several_gpus_cannot_train_on_one(
    monkeypatch: pytest.MonkeyPatch, count: int, is_initialized: bool, device: str, is_refused: bool
) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: is_initialized, device_count=lambda: count)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    refusal = pytest.raises(EmbedsweepError, match="sees 2, and a trial trains on one: set CUDA_VISIBLE_DEVICES=0")
    with refusal if is_refused else nullcontext():
        check_one_gpu(device)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError([Problem("study.storage", "postgresql://me:geheim@host/db is away"), Problem("b", "two")]),
        StudyError("postgresql://me:geheim@host/db is away"),
        KeyboardInterrupt("postgresql://me:***@host/db is away"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_keep_their_kind_and_have_no_secrets_and_no_frames_of_the_package(error: BaseException) -> None:
    @readable
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert "geheim" not in str(caught.value)
    assert "postgresql://me:***@host/db is away" in str(caught.value)
    assert caught.value.__cause__ is None
    assert [entry.name for entry in caught.traceback] == [
        "test_errors_keep_their_kind_and_have_no_secrets_and_no_frames_of_the_package",
        "calling",
    ]
