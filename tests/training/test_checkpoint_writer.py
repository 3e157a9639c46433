from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from embedsweep.errors import TrialTakenError
from embedsweep.training.checkpoints import CheckpointWriter


def test_writes_are_carried_out_in_order_while_the_caller_goes_on() -> None:
    begin, done = threading.Event(), list[int]()

    def first() -> None:
        begin.wait(10)
        done.append(1)

    with CheckpointWriter() as writer:
        writer.submit(first)
        writer.submit(lambda: done.append(2))
        assert done == []
        begin.set()
        writer.wait()
        assert done == [1, 2]
        writer.submit(lambda: done.append(3))
    assert done == [1, 2, 3]


def train(write: Callable[[], None], error: Exception | None) -> None:
    """What a training does that fails, or ends, after a checkpoint was handed over."""
    with CheckpointWriter() as writer:
        writer.submit(write)
        if error is not None:
            raise error


def full() -> None:
    raise OSError(28, "No space left on device")


def test_leaving_waits_for_what_is_under_way_also_when_training_failed() -> None:
    done = []

    def slow() -> None:
        time.sleep(0.2)
        done.append(1)

    with pytest.raises(ConnectionError):
        train(slow, ConnectionError())
    assert done == [1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoints")]


@pytest.mark.parametrize(("error", "told"), [(None, OSError), (ConnectionError(), ConnectionError)])
def test_what_failed_is_raised_in_the_end_unless_training_failed_itself(
    error: Exception | None, told: type[Exception]
) -> None:
    with pytest.raises(told):
        train(full, error)


def test_nothing_is_written_after_what_failed_and_the_caller_gets_the_error() -> None:
    done = list[int]()
    writer = CheckpointWriter()
    writer.submit(full)
    while writer._error is None:
        time.sleep(0.01)
    for ask in (writer.check, writer.wait, lambda: writer.submit(lambda: done.append(1))):
        with pytest.raises(OSError, match="No space left"):
            ask()
    writer.__exit__(ValueError, ValueError(), None)
    assert done == []


def test_a_writer_that_was_never_used_has_no_thread() -> None:
    before = threading.active_count()
    with CheckpointWriter() as writer:
        writer.wait()
        assert threading.active_count() == before


def test_of_a_trial_that_another_worker_took_up_nothing_more_is_written() -> None:
    begin, done = threading.Event(), list[int]()

    def under_way() -> None:
        begin.wait(10)
        done.append(1)

    def taken_up() -> None:
        with CheckpointWriter() as writer:
            writer.submit(under_way)
            writer.submit(lambda: done.append(2))
            threading.Timer(0.2, begin.set).start()
            raise TrialTakenError(3)

    with pytest.raises(TrialTakenError):
        taken_up()
    assert done == [1]
