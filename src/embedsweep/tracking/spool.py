"""Records on their way to the store, on the local disk: one file per run, ``sweeps/<study>/spool/<run id>.jsonl``.

    <run id>.jsonl   the store, the experiment, the process and its writer; then one record per line. A sqlite file
                     below the working directory is named relative to it, so that the records find the store when both
                     are moved
    <run id>.done    the number of records that were written to the store; there once the first is about to be
    <run id>.refused why the store refuses the next one; gone once that is written
    <run id>.aside   kept: records that a repair gave up because the store refuses them
    <run id>.files/  artifacts, linked or copied when they were recorded
    <run id>.id      kept: the store's id of a run that was opened while the store was unreachable

Whichever process writes into a run appends records, line by line, flushed to the disk. They are replayed in order, and
deleted when all are written: files that a reader has just seen may be gone, and then nothing waits there.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from embedsweep.errors import TrackingError
from embedsweep.files import SINGLE, SINGLE_RUNS, SWEEPS, whole_length, write_atomically
from embedsweep.lease import Lease
from embedsweep.tracking.names import KIND, TRIAL
from embedsweep.tracking.records import Files, Record, StudyRun, TrialRun, from_line, to_line
from embedsweep.tracking.store import locate

SPOOL = "spool"
WRITE_LOCK, REPLAY_LOCK = ".write.lock", ".replay"
_REPLAY_LOCKS = 64  # so that processes which write different runs seldom wait for each other
_GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Origin:
    """The target that a run's records were recorded for.

    Attributes:
        store: the store's URI, without secrets.
        experiment: the experiment's name.
        process: who recorded the first one; None in files of earlier versions.
        writer: the writer of that process that did; empty in files of earlier versions.
    """

    store: str
    experiment: str
    process: Lease | None = None
    writer: str = ""


@dataclass(frozen=True)
class Spool:
    """A folder of spooled records; it need not exist.

    Attributes:
        folder: ``sweeps/<study>/spool``, or ``sweeps/single/<run id>/spool`` for a run without a study.
    """

    folder: Path

    def holds(self, run_id: str, store: str) -> bool:
        """Return whether records of a run wait for the store."""
        origin = self.origin(run_id)
        return origin is not None and origin.store == store

    def origin(self, run_id: str) -> Origin | None:
        """Return the target of a run's records; None if it has none, or a full disk left no whole line of them."""
        try:
            with self._file(run_id).open(encoding="utf-8") as file:
                line = file.readline()
        except _GONE:
            return None
        if not line.endswith("\n"):
            return None
        fields = json.loads(line)
        process = Lease(**fields["process"]) if fields.get("process") is not None else None
        return Origin(str(locate(fields["store"])), fields["experiment"], process, fields.get("writer", ""))

    def is_left(self, run_id: str) -> bool | None:
        """Return whether who recorded what waits of a run has ended, or is this process; None if that is unknown."""
        origin = self.origin(run_id)
        if origin is None or origin.process is None:
            return None
        if origin.process == Lease.mine():  # an earlier command of this program
            return True
        runs = origin.process.runs()
        return not runs if runs is not None else None

    def waiting(self, store: str | None = None, among: Collection[str] | None = None) -> list[str]:
        """Return the runs with records that wait for the store, or for any: a parent run first, then by start time.

        Args:
            store: the store's URI, without secrets; None is any.
            among: the runs to look at; None is all. Of many processes in one folder each looks at its own.
        """
        runs: list[tuple[bool, int, str]] = []
        for run_id in self._run_ids() if among is None else among:
            origin = self.origin(run_id)
            if origin is not None and store in (None, origin.store):
                first = next((record for _, record in self.records(run_id)), None)
                runs.append((not isinstance(first, StudyRun), getattr(first, "time_ms", 0), run_id))
        return [run_id for *_, run_id in sorted(runs)]

    def append(self, run_id: str, record: Record, origin: Origin) -> None:
        """Append a record and flush it to the disk; keep the files that it names as they are now.

        Raises:
            TrackingError: a file that the record names does not exist.
            OSError: the disk is full or cannot be written; the spool is unchanged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._write_lock():
            if isinstance(record, Files):  # under the lock: `remove` deletes the files of a run that is written
                record = self._keep_files(run_id, record)
            path = self._file(run_id)
            whole = whole_length(path)
            lines = [to_line(record)] if whole else [_header(origin), to_line(record)]
            with path.open("ab") as file:
                file.truncate(whole)  # drop a partial line that a killed process or a full disk left
                try:
                    file.write("".join(f"{line}\n" for line in lines).encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(path, whole)
                    raise

    def records(self, run_id: str, *, written: bool = False) -> Iterator[tuple[int, Record]]:
        """Yield the waiting records of a run with their positions; with ``written`` those already written, too.

        Raises:
            TrackingError: the file is damaged.
        """
        path = self._file(run_id)
        start = 0 if written else self._written_count(run_id)
        with ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
            except _GONE:
                return
            next(file, None)
            for position, line in enumerate(file):
                if position >= start and line.endswith(b"\n"):
                    try:
                        record = from_line(line.decode())
                    except (ValueError, KeyError, TypeError) as error:
                        raise TrackingError(f"{path}, line {position + 2}, cannot be read: {error}") from None
                    if isinstance(record, Files):
                        record = replace(record, path=str(self.folder / record.path))
                    yield position, record

    def is_begun(self, run_id: str) -> bool:
        """Return whether any process has tried to write a record of a run."""
        return self._done(run_id).exists()

    def mark_begun(self, run_id: str) -> None:
        """Note, before the first record of a run is written, that the store may have it from now on."""
        write_atomically(self._done(run_id), "0", durable=True)

    def mark_written(self, run_id: str, position: int) -> None:
        """Note that all records of a run up to this position are in the store."""
        write_atomically(self._done(run_id), str(position + 1))
        self._refused(run_id).unlink(missing_ok=True)

    def remove(self, run_id: str) -> bool:
        """Delete a run's records and files if all are in the store; return whether they were."""
        with self._write_lock():
            if any(True for _ in self.records(run_id)):
                return False
            self._delete(run_id)
            shutil.rmtree(self.folder / f"{run_id}.files", ignore_errors=True)
        return True

    def delete_folder(self) -> None:
        """Delete the folder, and that of the run around it, unless something waits or is kept in them."""
        with suppress(OSError):
            if all(path.name == WRITE_LOCK or path.name.startswith(REPLAY_LOCK) for path in self.folder.iterdir()):
                shutil.rmtree(self.folder)
                self.folder.parent.rmdir()

    def note_refusal(self, run_id: str, reason: str) -> None:
        """Keep why the store refuses the next record of a run."""
        if self._file(run_id).is_file():
            write_atomically(self._refused(run_id), reason)

    def refusal(self, run_id: str) -> str | None:
        """Return why the store refused the next record of a run; None if it did not."""
        try:
            return self._refused(run_id).read_text(encoding="utf-8")
        except _GONE:
            return None

    def set_aside(self, run_id: str) -> bool:
        """Move the next record of a run, which is given up, to ``<run id>.aside``; return whether there was one."""
        first = next(self.records(run_id), None)
        if first is None:
            return False
        position, record = first
        with (self.folder / f"{run_id}.aside").open("a", encoding="utf-8") as file:
            file.write(f"{to_line(record)}\n")
        self.mark_written(run_id, position)
        return True

    def set_all_aside(self, run_id: str) -> None:
        """Move all records that wait of a run to ``<run id>.aside``."""
        while self.set_aside(run_id):
            pass
        self.remove(run_id)

    def withdraw(self, run_id: str) -> bool:
        """Delete the only record that waits of a run, which the store refuses; return whether it was the only one."""
        with self._write_lock():
            if sum(1 for _ in self.records(run_id)) != 1:
                return False
            self._delete(run_id)
        return True

    def note_id(self, run_id: str, store_id: str) -> None:
        """Keep a run's id in the store for those who look for the run by it."""
        if run_id != store_id:
            (self.folder / f"{run_id}.id").write_text(store_id, encoding="utf-8")

    def run_of_trial(self, kind: str, number: int, parent: str, store: str) -> str | None:
        """Return the run of a trial, of the study or its finals, whose creation waits here, or None."""
        for run_id in self.waiting(store):
            for _, record in self.records(run_id, written=True):
                wanted = (parent, kind, str(number))
                if isinstance(record, TrialRun) and (record.parent, record.tags[KIND], record.tags[TRIAL]) == wanted:
                    return run_id
        return None

    def replay_lock(self, run_id: str, wait_s: float = 0.0) -> FileLock:
        """Return the lock under which a run's records are replayed; ``filelock.Timeout`` means that a process keeps it.

        Workers of one machine share the folder, and none waits while another writes its own run. The files stay, as a
        lock on a file that is gone excludes nobody: so there is a fixed number of them.
        """
        number = zlib.crc32(run_id.encode()) % _REPLAY_LOCKS
        return FileLock(self.folder / f"{REPLAY_LOCK}-{number:02x}.lock", timeout=wait_s)

    def _delete(self, run_id: str) -> None:
        # First no record counts as written: a count without records would skip the next ones. The count itself goes
        # last: records that are left are written again, to no effect, as long as it says that they were tried.
        if self.is_begun(run_id):
            write_atomically(self._done(run_id), "0")
        for path in (self._refused(run_id), self._file(run_id), self._done(run_id)):
            path.unlink(missing_ok=True)

    def _run_ids(self) -> list[str]:
        try:
            return [path.stem for path in self.folder.glob("*.jsonl")]
        except _GONE:
            return []

    def _written_count(self, run_id: str) -> int:
        try:
            return int(self._done(run_id).read_text(encoding="utf-8"))
        except (*_GONE, ValueError):  # a power cut may leave it empty, and what is written again changes nothing
            return 0

    def _write_lock(self) -> FileLock:
        return FileLock(self.folder / WRITE_LOCK)

    def _file(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.jsonl"

    def _done(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.done"

    def _refused(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.refused"

    def _keep_files(self, run_id: str, record: Files) -> Files:
        """Link or copy the record's files into the spool, because a trial's folder may be cleaned up or deleted."""
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
    """Return the spool for a run's records.

    Raises:
        TrackingError: the experiment's name cannot be a folder's.
    """
    if experiment in ("", ".", "..") or Path(experiment).name != experiment:
        raise TrackingError(f"experiment {experiment!r} cannot be the name of a folder; choose another study.name")
    if experiment == SINGLE:
        return Spool(SINGLE_RUNS / run_id / SPOOL)
    return Spool(SWEEPS / experiment / SPOOL)


def all_spools(study: str | None = None) -> list[Spool]:
    """Return the spools of the working directory in which records wait, or only a study's."""
    patterns = [f"{study}/{SPOOL}"] if study is not None else [f"*/{SPOOL}", f"{SINGLE}/*/{SPOOL}"]
    folders = {folder for pattern in patterns for folder in SWEEPS.glob(pattern)}
    return [spool for folder in sorted(folders) if (spool := Spool(folder)).waiting()]


def spooled_ids(prefix: str) -> dict[str, str]:
    """Return the local id and the store's id of each run that was spooled and whose store's id has this prefix."""
    patterns = (f"*/{SPOOL}/*.id", f"{SINGLE}/*/{SPOOL}/*.id")
    ids = {path.stem: path.read_text(encoding="utf-8") for pattern in patterns for path in SWEEPS.glob(pattern)}
    return {run_id: store_id for run_id, store_id in ids.items() if store_id.startswith(prefix)}


def _header(origin: Origin) -> str:
    """Return the first line of a run's file."""
    database, here = locate(origin.store).database, Path.cwd()
    if database is None or not database.is_relative_to(here):
        return json.dumps(asdict(origin))
    below = database.relative_to(here).as_posix()
    return json.dumps(asdict(replace(origin, store=origin.store.replace(database.as_posix(), below))))


def _link(source: str | Path, target: str | Path) -> None:
    """Hard-link a file, which takes no space and survives the deletion of the source; copy if links are impossible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
