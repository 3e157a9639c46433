"""Records that wait for the store: a folder with one file a run, ``sweeps/<study>/spool/<run id>.jsonl``.

Owns the files: they are appended to, line by line and down to the disk, by whichever process writes into the run; read
in order, with a note of how far; and deleted when all was carried out. Must not know how a record is carried out.

    <run id>.jsonl   which store and experiment; then a record a line
    <run id>.done    how many records were carried out
    <run id>.files/  artifacts, linked or copied as they were recorded
    <run id>.id      stays: the store's id of a run that was begun while the store was away
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from embedsweep.errors import TrackingError
from embedsweep.files import SINGLE, SWEEPS, write_atomically
from embedsweep.tracking.records import Files, Record, Study, Trial, from_line, to_line

SPOOL = "spool"


@dataclass(frozen=True)
class Origin:
    """Where records belong.

    Attributes:
        store: the store's URI, without secrets.
        experiment: the experiment's name.
    """

    store: str
    experiment: str


class Spool:
    """A folder of spooled records; it need not exist.

    Args:
        folder: ``sweeps/<study>/spool``, or ``sweeps/single/<run id>/spool`` of a run by itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spool) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def holds(self, run_id: str, store: str) -> bool:
        """Whether records of a run wait for the store."""
        return self._is_begun(run_id) and self.origin(run_id).store == store

    def origin(self, run_id: str) -> Origin:
        """Where the records of a run belong."""
        with self._file(run_id).open(encoding="utf-8") as file:
            return Origin(**json.loads(file.readline()))

    def waiting(self, store: str | None = None) -> list[str]:
        """Runs of which records wait for the store, or for any; a study's own first, then as they began."""
        if not self.folder.is_dir():
            return []
        found: list[tuple[bool, int, str]] = []
        for path in self.folder.glob("*.jsonl"):
            if self._is_begun(path.stem) if store is None else self.holds(path.stem, store):
                first = next((record for _, record in self.records(path.stem)), None)
                found.append((not isinstance(first, Study), getattr(first, "time_ms", 0), path.stem))
        return [run_id for *_, run_id in sorted(found)]

    def append(self, run_id: str, record: Record, origin: Origin) -> None:
        """Adds a record, which is on the disk when this returns; the files it names are kept as they are now.

        Raises:
            OSError: the disk is full or cannot be written; the spool is as it was.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(record, Files):
            record = self._kept(run_id, record)
        with self._writing():
            path = self._file(run_id)
            whole = _whole_length(path)
            lines = [to_line(record)] if whole else [json.dumps(asdict(origin)), to_line(record)]
            with path.open("ab") as file:
                file.truncate(whole)  # what a process that was killed, or a full disk, left of a line
                try:
                    file.write("".join(f"{line}\n" for line in lines).encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(path, whole)
                    raise

    def records(self, run_id: str) -> Iterator[tuple[int, Record]]:
        """The records of a run that were not carried out yet, with their positions.

        Raises:
            TrackingError: the file is damaged.
        """
        path = self._file(run_id)
        done = self._done(run_id)
        with path.open("rb") as file:
            next(file, None)
            for position, line in enumerate(file):
                if position >= done and line.endswith(b"\n"):
                    try:
                        yield position, from_line(line.decode())
                    except (ValueError, KeyError, TypeError) as error:
                        raise TrackingError(f"{path}, line {position + 2}, cannot be read: {error}") from None

    def carried_out(self, run_id: str, position: int) -> None:
        """Notes that all records up to this one were carried out."""
        write_atomically(self.folder / f"{run_id}.done", str(position + 1))

    def remove(self, run_id: str) -> bool:
        """Deletes what there is of a run if all of it was carried out; says whether it was."""
        with self._writing():
            if any(True for _ in self.records(run_id)):
                return False
            # The count goes first: records without it are carried out again, to no effect; a count without records
            # would skip the next ones.
            for path in (self.folder / f"{run_id}.done", self._file(run_id)):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / f"{run_id}.files", ignore_errors=True)
        return True

    def note_id(self, run_id: str, store_id: str) -> None:
        """Notes, for those who look for the run by the store's id, under which id it was begun."""
        if run_id != store_id:
            (self.folder / f"{run_id}.id").write_text(store_id, encoding="utf-8")

    def of_trial(self, number: int, parent: str, store: str) -> str | None:
        """The run of a trial whose creation waits here; None where there is none."""
        for run_id in self.waiting(store):
            begun = [record for record in self.everything(run_id) if isinstance(record, Trial)]
            if any(each.parent == parent and each.tags["embedsweep.trial"] == str(number) for each in begun):
                return run_id
        return None

    def everything(self, run_id: str) -> list[Record]:
        """All records of a run, also those that were carried out."""
        with self._file(run_id).open("rb") as file:
            next(file, None)
            return [from_line(line.decode()) for line in file if line.endswith(b"\n")]

    @contextmanager
    def replaying(self) -> Iterator[bool]:
        """Holds other processes off that would carry out the same records; false where one does so already."""
        lock = FileLock(self.folder / ".replay.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _is_begun(self, run_id: str) -> bool:
        """Whether its file says where it belongs; a full disk may have left an empty one, or half a line."""
        return _whole_length(self._file(run_id)) > 0

    def _writing(self) -> FileLock:
        return FileLock(self.folder / ".write.lock")

    def _file(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.jsonl"

    def _done(self, run_id: str) -> int:
        path = self.folder / f"{run_id}.done"
        return int(path.read_text(encoding="utf-8")) if path.is_file() else 0

    def _kept(self, run_id: str, record: Files) -> Files:
        """The record with its files in the spool: a trial's folder is tidied, and a user may delete it."""
        source = Path(record.path)
        if not source.exists():
            raise TrackingError(f"{source} cannot be stored with run {run_id}: there is no such file")
        target = self.folder / f"{run_id}.files" / uuid.uuid4().hex[:12] / source.name
        target.parent.mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_link)
        else:
            _link(source, target)
        return replace(record, path=str(target.relative_to(self.folder)))


def spool_of(experiment: str, run_id: str) -> Spool:
    """The spool that records of a run go to."""
    if experiment == SINGLE:
        return Spool(SWEEPS / SINGLE / run_id / SPOOL)
    return Spool(SWEEPS / experiment / SPOOL)


def all_spools(study: str | None = None) -> list[Spool]:
    """The spools of the working directory in which records wait, or a study's only."""
    patterns = [f"{study}/{SPOOL}"] if study is not None else [f"*/{SPOOL}", f"{SINGLE}/*/{SPOOL}"]
    folders = {folder for pattern in patterns for folder in SWEEPS.glob(pattern)}
    return [spool for folder in sorted(folders) if (spool := Spool(folder)).waiting()]


def begun_as(prefix: str) -> dict[str, str]:
    """Runs that were begun while the store was away and whose id there begins so: the id they have here -> there."""
    places = (f"*/{SPOOL}/*.id", f"{SINGLE}/*/{SPOOL}/*.id")
    found = {path.stem: path.read_text(encoding="utf-8") for place in places for path in SWEEPS.glob(place)}
    return {run_id: store_id for run_id, store_id in found.items() if store_id.startswith(prefix)}


def _whole_length(path: Path) -> int:
    """How many bytes of the file there are up to its last line's end."""
    if not path.is_file() or not (size := path.stat().st_size):
        return 0
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1


def _link(source: str | Path, target: str | Path) -> None:
    """A second name for the file, which takes no room and outlives the first; a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
