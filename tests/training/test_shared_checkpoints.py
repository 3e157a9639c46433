"""Checkpoints in a bucket: what is sent whole is fetched whole, and nothing else is used."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep.errors import BucketError, TrialTakenError
from embedsweep.training import bucket as bucket_module
from embedsweep.training import shared_checkpoints
from embedsweep.training.bucket import Bucket, problem
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.shared_checkpoints import CheckpointSender, SharedCheckpoints
from tests.buckets import Server

Make = Callable[..., Checkpoints]


@pytest.fixture
def place(s3: Server, request: pytest.FixtureRequest) -> str:
    """A place in a bucket of the test's own."""
    return f"{s3.new_bucket(f'test-{abs(hash(request.node.nodeid))}')}/some/prefix"


@pytest.fixture
def shared(place: str, monkeypatch: pytest.MonkeyPatch) -> SharedCheckpoints:
    monkeypatch.setattr(bucket_module, "TRIES", 1)
    monkeypatch.setattr(shared_checkpoints, "EVERY_S", 0.02)
    return SharedCheckpoints(place)


def write(folder: Path, *steps: int, mark: str = "") -> Checkpoints:
    """Write sealed checkpoints of a trial, and delete the others."""
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    for step in steps:
        path = checkpoints.path(step)
        (path / "1_Pooling").mkdir(parents=True, exist_ok=True)
        (path / "model.safetensors").write_bytes(f"weights of {step}{mark}".encode() * 100)
        (path / "1_Pooling" / "config.json").write_text("{}", encoding="utf-8")
        checkpoints.seal(step, {"train_s": float(step), "eval_s": 0.0})
    checkpoints.keep_only(set(steps))
    return checkpoints


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys_of(s3: Server, shared: SharedCheckpoints) -> list[str]:
    return s3.keys(shared.bucket.url.removeprefix("s3://").split("/")[0])


def test_what_one_folder_sent_another_has_once_it_is_fetched(
    s3: Server, shared: SharedCheckpoints, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    sent = write(here, 4, 8)
    (here / "emissions.csv").write_text("two attempts", encoding="utf-8")
    assert shared.newest(7) is None
    assert shared.fetch(7, there) is None
    assert shared.send(7, here) == 8
    assert shared.newest(7) == 8
    (there / CHECKPOINTS).mkdir(parents=True)
    write(there, 2)
    (there / "emissions.csv").write_text("one", encoding="utf-8")
    assert shared.fetch(7, there) == 8
    fetched = Checkpoints(there / CHECKPOINTS)
    for step in (4, 8):
        assert fetched.is_whole(step)
        assert bytes_of(fetched.path(step)) == bytes_of(sent.path(step))
    assert (there / "emissions.csv").read_text(encoding="utf-8") == "two attempts"
    assert sorted(path.name for path in there.iterdir()) == [CHECKPOINTS, "emissions.csv"]
    assert shared.fetch(7, there) is None  # it has it now
    assert all(key.startswith("some/prefix/0007/") for key in keys_of(s3, shared))


def test_a_checkpoint_that_was_replaced_goes_and_one_that_is_there_is_not_sent_again(
    s3: Server, shared: SharedCheckpoints, tmp_path: Path
) -> None:
    write(tmp_path, 4, 8)
    shared.send(7, tmp_path)
    before = keys_of(s3, shared)
    checkpoints = write(tmp_path, 4, 8, 12)
    checkpoints.keep_only({4, 12})
    assert shared.send(7, tmp_path) == 12
    after = keys_of(s3, shared)
    of_4 = {key for key in before if "checkpoint-4-" in key}
    assert of_4 <= set(after)
    assert not any("checkpoint-8-" in key for key in after)
    assert sum(key.endswith("complete.json") for key in after) == 2


def test_what_was_not_sent_whole_is_not_used_and_goes_with_the_next(
    s3: Server, shared: SharedCheckpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    write(here, 4)
    shared.send(7, here)
    write(here, 8)
    with monkeypatch.context() as patch:  # the process dies before the list of what is a whole is written

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Bucket, "put_text", die)
        with pytest.raises(KeyboardInterrupt):
            shared.send(7, here)
    assert any("checkpoint-8-" in key for key in keys_of(s3, shared))
    assert shared.fetch(7, tmp_path / "there") == 4
    write(here, 12)
    shared.send(7, here)
    assert not any("checkpoint-8-" in key for key in keys_of(s3, shared))
    assert not (here / "sent").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "complete.json"])
def test_a_checkpoint_that_is_damaged_there_is_not_used(
    name: str, s3: Server, shared: SharedCheckpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "here", 4)
    shared.send(7, tmp_path / "here")
    (key,) = (key for key in keys_of(s3, shared) if key.endswith(name))
    shared.bucket.put_text(key.removeprefix("some/prefix/"), "torn")
    assert shared.fetch(7, tmp_path / "there") is None
    assert "is damaged: it is not used" in caplog.text
    assert list((tmp_path / "there").iterdir()) == []


def test_only_the_trial_itself_is_deleted(s3: Server, shared: SharedCheckpoints, tmp_path: Path) -> None:
    write(tmp_path, 4)
    for number in (7, 70, 12345):
        shared.send(number, tmp_path)
    assert sorted(shared.numbers()) == [7, 70, 12345]
    shared.delete(7)
    assert sorted(shared.numbers()) == [70, 12345]
    assert shared.newest(70) == 4


def test_the_sender_keeps_up_with_training_and_deletes_no_file_of_it(shared: SharedCheckpoints, tmp_path: Path) -> None:
    said: list[str] = []
    sent: list[int] = []

    def train() -> None:
        with CheckpointSender(shared, 7, tmp_path, said.append, sent.append):
            for step in range(1, 30):
                write(tmp_path, step)
                threading.Event().wait(0.01)
            raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        train()
    assert sent[-1] == 29  # the end waits for the newest
    assert sent == sorted(set(sent))
    assert said == []
    assert shared.newest(7) == 29
    assert Checkpoints(tmp_path / CHECKPOINTS).last_whole() == 29


@pytest.mark.parametrize("error", [None, TrialTakenError(7)], ids=["done", "taken"])
def test_what_is_not_needed_any_more_is_not_sent(
    error: Exception | None, shared: SharedCheckpoints, tmp_path: Path
) -> None:
    try:
        with CheckpointSender(shared, 7, tmp_path, print, print):
            if error is not None:
                write(tmp_path, 3)
                raise error
    except TrialTakenError:
        pass
    assert shared.newest(7) is None


def test_a_bucket_that_is_away_is_said_once_and_the_next_checkpoint_is_tried(
    s3: Server, shared: SharedCheckpoints, tmp_path: Path
) -> None:
    said: list[str] = []
    sent: list[int] = []
    arrived = threading.Event()

    def note(step: int) -> None:
        sent.append(step)
        arrived.set()

    s3.stop()
    try:
        with CheckpointSender(shared, 7, tmp_path, said.append, note):
            for step in (1, 2, 3):
                write(tmp_path, step)
                threading.Event().wait(0.3)
            s3.start()
            write(tmp_path, 4)
            assert arrived.wait(20)
    finally:
        if not arrived.is_set():
            s3.start()
    assert sent == [4]
    (line,) = said
    assert line.startswith("trial 7: its checkpoints stay on this machine for now: s3://")
    assert "does not answer" in line


WRONG: dict[str, tuple[dict[str, str | None], str, str]] = {
    "no bucket": ({}, "s3://missing/x", "there is no bucket missing: create it"),
    "no keys": (
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        "s3://missing/x",
        "there are no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    "no server": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://missing/x", "does not answer"),
    "no URL": ({"AWS_ENDPOINT_URL": "here"}, "s3://missing/x", "Invalid endpoint: here"),
    "no profile": ({"AWS_PROFILE": "nobody"}, "s3://missing/x", "The config profile (nobody) could not be found"),
    "no place": ({}, "gs://bucket/x", "must name a bucket and, if you like, a prefix in it, as s3://bucket/prefix"),
    "a folder above": ({}, "s3://bucket/../x", "without parts that are '.', '..' or empty, but got s3://bucket/../x"),
    "the folder itself": ({}, "s3://bucket/x/.", "without parts that are '.', '..' or empty, but got s3://bucket/x/."),
    "no name": ({}, "s3://bucket//x", "without parts that are '.', '..' or empty, but got s3://bucket//x"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_place_is_said_with_what_to_do(
    case: str, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "TRIES", 1)
    variables, url, message = WRONG[case]
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    found = problem(url)
    assert found is not None
    assert message in found
    assert "testing-secret" not in found


def test_boto3_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "find_spec", lambda _: None)
    assert problem("s3://bucket") == "needs the Python package boto3: pip install 'embedsweep[s3]'"


def test_a_place_that_can_be_written_has_no_problem_and_keeps_nothing_of_the_check(s3: Server, place: str) -> None:
    assert problem(place) is None
    assert s3.keys(place.removeprefix("s3://").split("/")[0]) == []


@pytest.mark.parametrize("name", ["../../above", "/top", "a//b", "a/./b"])
def test_a_key_that_leaves_its_folder_is_refused(name: str, shared: SharedCheckpoints, tmp_path: Path) -> None:
    shared.bucket.put_text(f"0007/x/{name}", "somewhere")
    with pytest.raises(BucketError, match="is no name of a file in a folder"):
        shared.bucket.fetch("0007/x", tmp_path / "deep" / "folder")
    assert list(tmp_path.rglob("*")) == []


def test_a_worker_that_has_lost_its_trial_replaces_nothing(shared: SharedCheckpoints, tmp_path: Path) -> None:
    write(tmp_path / "new", 8)
    shared.send(7, tmp_path / "new")
    write(tmp_path / "old", 12)
    asked: list[bool] = []

    def is_over() -> bool:  # the lease is lost while the files are sent
        asked.append(len(asked) > 0)
        return asked[-1]

    assert shared.send(7, tmp_path / "old", is_over) is None
    assert asked == [False, True]
    assert shared.newest(7) == 8
    with (
        pytest.raises(ValueError, match="interrupted"),
        CheckpointSender(shared, 7, tmp_path / "old", print, print, lambda: False),
    ):
        raise ValueError("interrupted")
    assert shared.newest(7) == 8
    assert shared.fetch(7, tmp_path / "there") == 8


def test_large_files_are_sent_in_parts_and_those_of_a_killed_process_go(
    s3: Server, shared: SharedCheckpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)
    checkpoints = write(tmp_path / "here", 4)
    (checkpoints.path(4) / "optimizer.pt").write_bytes(b"0123456789" * (1 << 20))
    checkpoints.seal(4, {})
    client = shared.bucket._client
    name = shared.bucket.url.removeprefix("s3://").split("/")[0]
    client.create_multipart_upload(Bucket=name, Key="some/prefix/0007/checkpoint-2-x/optimizer.pt")
    shared.send(7, tmp_path / "here")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=name)
    assert shared.fetch(7, tmp_path / "there") == 4


def test_a_manifest_that_is_damaged_is_none(shared: SharedCheckpoints) -> None:
    for text in ("", "[]", json.dumps({"x": 1})):
        shared.bucket.put_text("0007/newest.json", text)
        assert shared.newest(7) is None


def test_an_error_of_a_bucket_names_it(s3: Server) -> None:
    with pytest.raises(BucketError, match="s3://absent/a: there is no bucket absent"):
        Bucket("s3://absent/a/").text("x")
