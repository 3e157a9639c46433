from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep.errors import TrialTakenError
from embedsweep.training.checkpoints import SEAL, Checkpoints, CheckpointWriter

TIMES = {"train_s": 12.5, "eval_s": 3.25}
FILES = {"model.safetensors": b"weights" * 9, "1_Pooling/config.json": b"{}", "rng_state.pth": b"\0\1\2"}


def written(checkpoints: Checkpoints, step: int, *, sealed: bool = True) -> Path:
    """Write a checkpoint as a trainer does, with a folder inside it."""
    path = checkpoints.path(step)
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    if sealed:
        checkpoints.seal(step, TIMES)
    return path


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def other_content(path: Path) -> None:
    """Replace the content with as many other bytes: after a crash, blocks may not have reached the disk."""
    path.write_bytes(b"\xff" * path.stat().st_size)


def add_file(path: Path) -> None:
    path.with_name("another.bin").write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [cut, other_content, Path.unlink, add_file]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_with_a_damaged_file_is_skipped(
    checkpoints: Checkpoints, damage: Callable[[Path], None], name: str
) -> None:
    written(checkpoints, 10)
    path = written(checkpoints, 20)
    assert checkpoints.last_whole() == 20
    damage(path / name)
    assert checkpoints.last_whole() == 10


@pytest.mark.parametrize("mark", [None, b"", b'{"files": {', b"null", b"[]", b"{}", b"\xff\xfe"])
def test_a_checkpoint_without_a_whole_seal_is_skipped(checkpoints: Checkpoints, mark: bytes | None) -> None:
    written(checkpoints, 10)
    path = written(checkpoints, 20) / SEAL
    path.unlink() if mark is None else path.write_bytes(mark)
    assert checkpoints.last_whole() == 10


def test_a_crash_while_the_seal_is_written_leaves_no_seal(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(checkpoints, 10)
    written(checkpoints, 20, sealed=False)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.seal(20, TIMES)
    monkeypatch.undo()
    assert checkpoints.last_whole() == 10
    checkpoints.seal(20, TIMES)  # the torn seal is no obstacle
    assert checkpoints.last_whole() == 20


def test_the_last_checkpoint_has_the_highest_step_and_not_the_highest_name(checkpoints: Checkpoints) -> None:
    for step in (9, 100, 20):
        written(checkpoints, step)
    (checkpoints.folder / "checkpoint-best").mkdir()
    (checkpoints.folder / "runs").mkdir()
    assert checkpoints.last_whole() == 100


def test_without_a_folder_there_is_no_checkpoint_and_nothing_to_delete(checkpoints: Checkpoints) -> None:
    assert checkpoints.last_whole() is None
    checkpoints.keep_only(set())
    checkpoints.clear()
    assert not checkpoints.folder.exists()


def test_times_are_those_of_the_seal(checkpoints: Checkpoints) -> None:
    path = written(checkpoints, 10)
    assert checkpoints.times(10) == TIMES
    assert set(json.loads((path / SEAL).read_text())["files"]) == set(FILES)


def test_keep_only_deletes_the_others_and_torn_ones(checkpoints: Checkpoints) -> None:
    for step in (10, 20, 30):
        written(checkpoints, step)
    written(checkpoints, 40, sealed=False)
    checkpoints.keep_only({10, 30})
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["checkpoint-10", "checkpoint-30"]
    assert checkpoints.last_whole() == 30


def test_clear_deletes_them_all(checkpoints: Checkpoints) -> None:
    written(checkpoints, 10)
    checkpoints.clear()
    assert not checkpoints.folder.exists()


def test_a_checkpoint_that_an_older_version_sealed_is_whole_until_it_is_damaged(checkpoints: Checkpoints) -> None:
    """Its seal names no hash: BLAKE2b of 16 bytes was the only one."""
    path = written(checkpoints, 10, sealed=False)
    hashes = {
        name: [len(content), hashlib.blake2b(content, digest_size=16).hexdigest()] for name, content in FILES.items()
    }
    (path / SEAL).write_text(json.dumps({"files": hashes, "times": TIMES}))
    assert checkpoints.last_whole() == 10
    assert checkpoints.times(10) == TIMES
    other_content(path / "model.safetensors")
    assert checkpoints.last_whole() is None


def test_a_checkpoint_sealed_by_an_unknown_hash_is_skipped(checkpoints: Checkpoints) -> None:
    path = written(checkpoints, 10)
    (path / SEAL).write_text(json.dumps({**json.loads((path / SEAL).read_text()), "hash": "of tomorrow"}))
    assert checkpoints.last_whole() is None


def test_writes_are_carried_out_in_order_while_the_caller_continues() -> None:
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
    """Submit a write as a training does, then end or fail."""
    with CheckpointWriter() as writer:
        writer.submit(write)
        if error is not None:
            raise error


def full() -> None:
    raise OSError(28, "No space left on device")


def test_leaving_the_block_waits_for_writes_even_if_training_failed() -> None:
    done = []

    def slow() -> None:
        time.sleep(0.2)
        done.append(1)

    with pytest.raises(ConnectionError):
        train(slow, ConnectionError())
    assert done == [1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoints")]


@pytest.mark.parametrize(("error", "expected"), [(None, OSError), (ConnectionError(), ConnectionError)])
def test_a_failed_write_is_raised_on_leaving_unless_training_failed_itself(
    error: Exception | None, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        train(full, error)


def test_after_a_failed_write_nothing_is_written_and_the_caller_gets_the_error() -> None:
    done = list[int]()
    writer = CheckpointWriter()
    writer.submit(full)
    while writer._error is None:
        time.sleep(0.01)
    for call in (writer.check, writer.wait, lambda: writer.submit(lambda: done.append(1))):
        with pytest.raises(OSError, match="No space left"):
            call()
    writer.__exit__(ValueError, ValueError(), None)
    assert done == []


def test_a_writer_that_was_never_used_has_no_thread() -> None:
    before = threading.active_count()
    with CheckpointWriter() as writer:
        writer.wait()
        assert threading.active_count() == before


def test_pending_writes_of_a_trial_that_another_worker_took_are_cancelled() -> None:
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
