"""The files of a spool."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from embedsweep.errors import TrackingError
from embedsweep.tracking.records import End, Files, Metrics, Tags
from embedsweep.tracking.spool import Origin, Spool

STUDY = "study-a"


def test_a_partial_line_is_dropped(tmp_path: Path) -> None:
    spool, origin = Spool(tmp_path / "spool"), Origin("store", STUDY)
    spool.append("a", Tags({"x": "1"}), origin)
    with (tmp_path / "spool" / "a.jsonl").open("a") as file:
        file.write('{"record": "tags", "ta')
    assert [record for _, record in spool.records("a")] == [Tags({"x": "1"})]
    spool.append("a", Metrics([(3, {"m": 0.1})], 7), origin)
    assert [record for _, record in spool.records("a")] == [Tags({"x": "1"}), Metrics([(3, {"m": 0.1})], 7)]
    spool.mark_written("a", 0)
    assert not spool.remove("a")
    assert [position for position, _ in spool.records("a")] == [1]
    spool.mark_written("a", 1)
    assert spool.remove("a")
    assert not spool.waiting()


@pytest.mark.parametrize("left", ["", '{"store": "sto'])
def test_a_file_that_a_full_disk_left_without_a_line_holds_nothing(left: str, tmp_path: Path) -> None:
    spool, origin = Spool(tmp_path / "spool"), Origin("store", STUDY)
    spool.append("b", Tags({"x": "1"}), origin)
    (tmp_path / "spool" / "a.jsonl").write_text(left)
    assert not spool.holds("a", "store")
    assert spool.waiting() == spool.waiting("store") == ["b"]
    spool.append("a", Tags({"y": "2"}), origin)
    assert [record for _, record in spool.records("a")] == [Tags({"y": "2"})]
    assert spool.origin("a") == origin


@pytest.mark.parametrize("left", ["", "\0\0"])
def test_records_whose_count_a_power_cut_took_are_written_again(left: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("a", Tags({"x": "1"}), Origin("store", STUDY))
    spool.mark_written("a", 0)
    (tmp_path / "a.done").write_text(left)
    assert spool.waiting("store") == ["a"]
    assert [record for _, record in spool.records("a")] == [Tags({"x": "1"})]


@pytest.mark.parametrize("deleted", range(3))
def test_a_process_that_is_killed_while_it_removes_what_is_written_leaves_nothing_that_is_doubled_or_skipped(
    deleted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, origin = Spool(tmp_path), Origin("store", STUDY)
    spool.append("a", Tags({"x": "1"}), origin)
    spool.mark_begun("a")
    spool.mark_written("a", 0)
    unlink, left = Path.unlink, iter(range(deleted))

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("a."):
            next(left)  # StopIteration is the kill
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(StopIteration):
            spool.remove("a")
    # A new run whose record was tried is searched for, and not created again.
    assert spool.is_begun("a") or not spool.waiting()
    waiting = [record for _, record in spool.records("a")]
    spool.append("a", Tags({"y": "2"}), origin)
    assert [record for _, record in spool.records("a")] == [*waiting, Tags({"y": "2"})]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("a", Tags({"x": "1"}), Origin("store", STUDY))
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(TrackingError, match=r"a\.jsonl, line 3, cannot be read"):
        list(spool.records("a"))


def test_files_survive_the_deletion_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("heavy")
    spool = Spool(tmp_path / "spool")
    spool.append("a", Files(str(tmp_path / "model"), "model"), Origin("store", STUDY))
    (tmp_path / "model" / "weights").unlink()
    ((_, record),) = spool.records("a")
    assert isinstance(record, Files)
    assert (Path(record.path) / "weights").read_text() == "heavy"
    with pytest.raises(TrackingError, match="no such file"):
        spool.append("a", Files(str(tmp_path / "nothing"), None), Origin("store", STUDY))


def test_files_are_not_removed_with_the_written_records_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append("a", Tags({"x": "1"}), Origin("store", STUDY))
    spool.mark_written("a", 0)
    (tmp_path / "train.log").write_text("step 1")
    remover = threading.Thread(target=spool.remove, args=["a"])
    keep = Spool._keep_files

    def keep_and_meet(self: Spool, run_id: str, record: Files) -> Files:
        kept = keep(self, run_id, record)
        remover.start()
        remover.join(0.3)
        return kept

    monkeypatch.setattr(Spool, "_keep_files", keep_and_meet)
    spool.append("a", Files(str(tmp_path / "train.log"), None), Origin("store", STUDY))
    remover.join()
    paths = [Path(record.path) for _, record in spool.records("a") if isinstance(record, Files)]
    assert [path.read_text() for path in paths] == ["step 1"]


def test_many_writers_lose_no_record(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")

    def write(number: int) -> None:
        for step in range(25):
            Spool(tmp_path / "spool").append("a", End(f"{number}-{step}", None, 0), Origin("store", STUDY))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [record.status for _, record in spool.records("a") if isinstance(record, End)]
    assert sorted(found) == sorted(f"{number}-{step}" for number in range(4) for step in range(25))


def test_what_another_process_writes_and_removes_meanwhile_no_longer_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    monkeypatch.setattr(Spool, "_run_ids", lambda _: ["gone"])  # listed a moment ago
    assert (spool.waiting(), spool.waiting("store"), list(spool.records("gone"))) == ([], [], [])
    assert (spool.origin("gone"), spool.holds("gone", "store")) == (None, False)
