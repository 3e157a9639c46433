from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep.training.checkpoints import MARK, Checkpoints

TIMES = {"train_s": 12.5, "eval_s": 3.25}
FILES = {"model.safetensors": b"weights" * 9, "1_Pooling/config.json": b"{}", "rng_state.pth": b"\0\1\2"}


def written(checkpoints: Checkpoints, step: int, *, sealed: bool = True) -> Path:
    """A checkpoint as a trainer writes it, in a folder of its own with folders in it."""
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
    """Of the same length, as a crash leaves a file whose blocks never reached the disk."""
    path.write_bytes(b"\xff" * path.stat().st_size)


def add_file(path: Path) -> None:
    path.with_name("another.bin").write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [cut, other_content, Path.unlink, add_file]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_with_a_damaged_file_is_passed_over(
    checkpoints: Checkpoints, damage: Callable[[Path], None], name: str
) -> None:
    written(checkpoints, 10)
    path = written(checkpoints, 20)
    assert checkpoints.last_whole() == 20
    damage(path / name)
    assert checkpoints.last_whole() == 10


@pytest.mark.parametrize("mark", [None, b"", b'{"files": {', b"null", b"[]", b"{}", b"\xff\xfe"])
def test_a_checkpoint_without_a_whole_mark_is_passed_over(checkpoints: Checkpoints, mark: bytes | None) -> None:
    written(checkpoints, 10)
    path = written(checkpoints, 20) / MARK
    path.unlink() if mark is None else path.write_bytes(mark)
    assert checkpoints.last_whole() == 10


def test_a_crash_while_the_mark_is_written_leaves_no_mark(
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
    checkpoints.seal(20, TIMES)  # the half-written mark does not stand in the way
    assert checkpoints.last_whole() == 20


def test_the_last_is_the_highest_step_and_not_the_highest_word(checkpoints: Checkpoints) -> None:
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


def test_times_are_those_the_checkpoint_was_sealed_with(checkpoints: Checkpoints) -> None:
    path = written(checkpoints, 10)
    assert checkpoints.times(10) == TIMES
    assert set(json.loads((path / MARK).read_text())["files"]) == set(FILES)


def test_keep_only_deletes_the_others_torn_ones_too(checkpoints: Checkpoints) -> None:
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
    """Its mark names no hash: BLAKE2b of 16 bytes was the only one."""
    path = written(checkpoints, 10, sealed=False)
    hashes = {
        name: [len(content), hashlib.blake2b(content, digest_size=16).hexdigest()] for name, content in FILES.items()
    }
    (path / MARK).write_text(json.dumps({"files": hashes, "times": TIMES}))
    assert checkpoints.last_whole() == 10
    assert checkpoints.times(10) == TIMES
    other_content(path / "model.safetensors")
    assert checkpoints.last_whole() is None


def test_a_checkpoint_sealed_by_a_hash_that_is_not_known_is_passed_over(checkpoints: Checkpoints) -> None:
    path = written(checkpoints, 10)
    (path / MARK).write_text(json.dumps({**json.loads((path / MARK).read_text()), "hash": "of tomorrow"}))
    assert checkpoints.last_whole() is None
