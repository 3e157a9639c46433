"""What finished trials leave in a bucket: whole or not at all, and nothing outside a trial's folder."""

from __future__ import annotations

import errno
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from embedsweep.errors import BucketError, TrialTakenError
from embedsweep.training import bucket as bucket_module
from embedsweep.training.shared_results import PACKED, SharedResults, clear_packed
from tests.buckets import Server

FILES = ("config.yaml", "train.log", "emissions.csv", "scores/dev.parquet", "scores/before.parquet", "result.json")
MODEL = ("model/model.safetensors", "model/1_Pooling/config.json")


@pytest.fixture
def place(s3: Server, request: pytest.FixtureRequest) -> str:
    """A place in a bucket of the test's own."""
    return f"{s3.new_bucket(f'left-{abs(hash(request.node.nodeid))}')}/some/prefix"


@pytest.fixture
def shared(place: str, monkeypatch: pytest.MonkeyPatch) -> SharedResults:
    monkeypatch.setattr(bucket_module, "TRIES", 1)
    return SharedResults(place, "trials")


def write(folder: Path, names: tuple[str, ...] = (*FILES, *MODEL), mark: str = "") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"{name} {mark}".encode() * 1000)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys_of(s3: Server, shared: SharedResults) -> list[str]:
    return s3.keys(shared.bucket.url.removeprefix("s3://").split("/")[0])


def test_what_a_trial_left_on_one_machine_another_has_once_it_is_fetched(
    s3: Server, shared: SharedResults, tmp_path: Path
) -> None:
    here, there = write(tmp_path / "here"), write(tmp_path / "there", ("train.log", "checkpoints/x"), "of before")
    (here / "trial.json").write_text("{}", encoding="utf-8")  # Optuna's record, which the storage has
    assert not shared.has(7)
    assert not shared.fetch(7, there)
    assert not shared.fetch_model(7, there)
    shared.send(7, here)
    assert keys_of(s3, shared) == ["some/prefix/models/trials/0007.tar.gz", "some/prefix/results/trials/0007.tar.gz"]
    assert shared.has(7)
    assert shared.fetch(7, there)
    assert bytes_of(there).keys() == {*FILES, "checkpoints/x"}
    assert shared.fetch_model(7, there)
    assert shared.fetch_model(7, there)  # it is here
    sent = bytes_of(here)
    assert {name: content for name, content in bytes_of(there).items() if name in sent} == {
        name: content for name, content in sent.items() if name != "trial.json"
    }
    assert list(here.glob(f"{PACKED}*")) == list(there.glob(f"{PACKED}*")) == []


def test_trials_and_finals_are_told_apart_and_models_go_alone(
    shared: SharedResults, place: str, tmp_path: Path
) -> None:
    of_finals = SharedResults(place, "finals")
    here, pruned = write(tmp_path / "here"), write(tmp_path / "pruned", FILES)
    for number in (7, 70, 12345):
        shared.send(number, here)
    shared.send(8, pruned)
    of_finals.send(3, here)
    assert shared.numbers() == {7, 8, 70, 12345}
    assert shared.models() == {7, 70, 12345}
    assert (of_finals.numbers(), of_finals.models()) == ({3}, {3})
    shared.delete_model(7)
    assert shared.models() == {70, 12345}
    assert shared.numbers() == {7, 8, 70, 12345}


def test_files_that_are_sent_again_replace_those_before_and_not_the_model(
    s3: Server, shared: SharedResults, tmp_path: Path
) -> None:
    here = write(tmp_path / "here")
    shared.send(7, here)
    write(here, ("scores/test.parquet", *MODEL), "later")
    shared.send(7, here, with_model=False)
    shared.fetch(7, tmp_path / "there")
    shared.fetch_model(7, tmp_path / "there")
    fetched = bytes_of(tmp_path / "there")
    assert fetched["scores/test.parquet"] == bytes_of(here)["scores/test.parquet"]
    assert b"later" not in fetched["model/model.safetensors"]


def test_a_worker_that_has_lost_its_trial_sends_nothing(s3: Server, shared: SharedResults, tmp_path: Path) -> None:
    def check() -> None:
        raise TrialTakenError(7)

    with pytest.raises(TrialTakenError):
        shared.send(7, write(tmp_path / "here"), check)
    assert keys_of(s3, shared) == []
    assert list((tmp_path / "here").glob(f"{PACKED}*")) == []


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99], ids=["empty", "half", "almost whole"])
@pytest.mark.parametrize("what", ["results", "models"])
def test_an_archive_that_is_damaged_there_is_not_used(
    what: str, kept: float, shared: SharedResults, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared.send(7, write(tmp_path / "here"))
    archive, key = tmp_path / "archive", f"{what}/trials/0007.tar.gz"
    assert shared.bucket.fetch_file(key, archive)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * kept)])
    shared.bucket.put_file(archive, key)
    fetch = shared.fetch if what == "results" else shared.fetch_model
    assert not fetch(7, tmp_path / "there")
    assert f"{key} in {shared.bucket.url} is damaged: it is not used" in caplog.text
    assert not (tmp_path / "there").exists()


def test_a_changed_byte_of_a_model_is_noticed(shared: SharedResults, tmp_path: Path) -> None:
    shared.send(7, write(tmp_path / "here"))
    archive, key = tmp_path / "archive", "models/trials/0007.tar.gz"
    shared.bucket.fetch_file(key, archive)
    content = bytearray(archive.read_bytes())
    content[content.index(b"safetensors ", len(content) // 2)] ^= 1
    archive.write_bytes(bytes(content))
    shared.bucket.put_file(archive, key)
    assert not shared.fetch_model(7, tmp_path / "there")


@pytest.mark.parametrize("name", ["../above", "/top", "scores/../../above", "link"])
def test_an_archive_with_a_name_that_leaves_the_folder_is_not_used(
    name: str, shared: SharedResults, tmp_path: Path
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as packed:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = (tarfile.SYMTYPE, "/etc") if name == "link" else (tarfile.REGTYPE, "")
        packed.addfile(entry, io.BytesIO())
    (tmp_path / "archive").write_bytes(content.getvalue())
    shared.bucket.put_file(tmp_path / "archive", "results/trials/0007.tar.gz")
    before = sorted(tmp_path.rglob("*"))
    assert not shared.fetch(7, tmp_path / "deep" / "folder")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "deep"])


def test_a_model_of_several_parts_arrives_whole_and_each_part_is_a_sign_of_life(
    s3: Server, shared: SharedResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)
    here, signs = write(tmp_path / "here"), list[int]()
    (here / "model" / "large").write_bytes(b"0123456789" * (1 << 20))
    shared.send(7, here, alive=lambda: signs.append(1))
    assert len(signs) > 3
    assert shared.fetch_model(7, tmp_path / "there", lambda: signs.append(2))
    assert signs.count(2) > 3
    assert (tmp_path / "there" / "model" / "large").read_bytes() == (here / "model" / "large").read_bytes()


def test_what_a_killed_process_left_while_it_packed_goes(shared: SharedResults, tmp_path: Path) -> None:
    write(tmp_path, (*FILES, f"{PACKED}abc/models.tar.gz"))
    clear_packed(tmp_path, older_than_s=60)
    assert bytes_of(tmp_path).keys() == {*FILES, f"{PACKED}abc/models.tar.gz"}
    clear_packed(tmp_path)
    assert bytes_of(tmp_path).keys() == set(FILES)


def test_what_another_trial_of_the_same_number_left_is_not_used(shared: SharedResults, tmp_path: Path) -> None:
    shared.send(7, write(tmp_path / "here"), identity="0123abcd")
    for identity, is_own in (("ffff0000", False), ("", False), ("0123abcd", True)):
        there = tmp_path / f"there-{identity}"
        assert shared.fetch(7, there, identity=identity) is is_own
        assert shared.fetch_model(7, there, identity=identity) is is_own
        assert there.exists() is is_own


def test_files_that_are_not_all_here_do_not_replace_those_that_are_there(shared: SharedResults, tmp_path: Path) -> None:
    shared.send(7, write(tmp_path / "here"))
    shared.send(7, write(tmp_path / "other", ("train.log", "scores/test.parquet")), with_model=False)
    assert shared.fetch(7, tmp_path / "there")
    assert bytes_of(tmp_path / "there")["result.json"] == bytes_of(tmp_path / "here")["result.json"]


def test_a_model_is_not_copied_where_that_would_leave_too_little_room(
    shared: SharedResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "here")
    size = sum(path.stat().st_size for path in (folder / "model").rglob("*") if path.is_file())
    usage = shutil.disk_usage(tmp_path)._replace(free=2 * size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"sending \d+ MiB needs twice as much room") as caught:
        shared.send(7, folder)
    assert caught.value.errno == errno.ENOSPC


def test_a_bucket_that_is_away_is_an_error_with_its_name(s3: Server, shared: SharedResults, tmp_path: Path) -> None:
    write(tmp_path / "here")
    s3.stop()
    try:
        for act in (
            lambda: shared.send(7, tmp_path / "here"),
            lambda: shared.fetch(7, tmp_path / "there"),
            lambda: shared.has(7),
            shared.numbers,
            lambda: shared.delete_model(7),
        ):
            with pytest.raises(BucketError, match="does not answer"):
                act()
    finally:
        s3.start()
    assert list((tmp_path / "here").glob(f"{PACKED}*")) == []
