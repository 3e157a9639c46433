"""What finished trials of a study leave, in a bucket, where whichever machine needs it finds it.

    <place>/results/trials/0007.tar.gz   the trial's files: its result, configuration, log, energy, scores of its items
    <place>/models/trials/0007.tar.gz    its model, where that is kept

Those of finals are in ``results/finals`` and ``models/finals``. An archive is one object, which S3 has whole or not at
all, and it ends with a checksum. The model is sent first, so that a trial whose files are there has lost nothing.
"""

from __future__ import annotations

import errno
import gzip
import io
import logging
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from embedsweep.config.checkpoints import is_plain
from embedsweep.evaluation.scores import SCORES
from embedsweep.files import MODEL
from embedsweep.training.bucket import Bucket
from embedsweep.training.folder import RESULT_FILE

_log = logging.getLogger(__name__)

RESULTS, MODELS = "results", "models"
FILES = ("config.yaml", "train.log", "emissions.csv", SCORES, RESULT_FILE)
"""What a trial leaves beside its model, in the order in which it is put into a folder: its result makes it complete."""

IDENTITY = "identity"
"""A file of each archive: the hash of the trial's configuration."""

SUFFIX = ".tar.gz"
PACKED = "packed-"
"""How the name of a folder in a trial's begins, which holds an archive while it is sent or fetched."""

COMPRESSION = {RESULTS: 6, MODELS: 0}
"""Of gzip; weights hardly get smaller."""

PIECE_BYTES = 1 << 20


def _nothing() -> None:
    pass


class SharedResults:
    """What the finished trials of one study leave, in a bucket.

    Args:
        place: the study's place, ``s3://bucket/prefix/...``.
        kind: ``trials`` or ``finals``.

    Attributes:
        bucket: the files below it.
    """

    def __init__(self, place: str, kind: str) -> None:
        self.bucket = Bucket(place)
        self._kind = kind

    def send(
        self,
        number: int,
        folder: Path,
        check: Callable[[], None] = _nothing,
        alive: Callable[[], None] = _nothing,
        *,
        identity: str = "",
        with_model: bool = True,
    ) -> None:
        """Send what a trial leaves; it replaces what is there of it. Files that are not all here do not.

        Args:
            number: the trial's number.
            folder: its folder.
            check: is called before anything is replaced, and raises if it must not be.
            alive: is called whenever a part was sent, from another thread.
            identity: of the trial's configuration, which goes with it.
            with_model: whether its model is sent, too, if it is here.

        Raises:
            BucketError: the bucket does not answer.
            OSError: the disk is full, or the folder cannot be read.
        """
        if with_model and (folder / MODEL).is_dir():
            self._send(MODELS, number, folder, check, alive, identity)
        if (folder / RESULT_FILE).is_file():
            self._send(RESULTS, number, folder, check, alive, identity)

    def _send(
        self,
        what: str,
        number: int,
        folder: Path,
        check: Callable[[], None],
        alive: Callable[[], None],
        identity: str,
    ) -> None:
        names = (MODEL,) if what == MODELS else FILES
        _require_room(folder, names)
        with tempfile.TemporaryDirectory(prefix=PACKED, dir=folder) as packed:
            archive = Path(packed) / f"{what}{SUFFIX}"
            _pack(archive, folder, names, COMPRESSION[what], identity)
            check()
            self.bucket.put_file(archive, self._key(what, number), alive)

    def has(self, number: int) -> bool:
        """Return whether a trial's files are there.

        Raises:
            BucketError: the bucket does not answer.
        """
        return self.bucket.has(self._key(RESULTS, number))

    def fetch(self, number: int, folder: Path, *, identity: str = "") -> bool:
        """Fetch a trial's files into its folder, which is made if it is missing; they replace those that are here.

        Args:
            number: the trial's number.
            folder: its folder.
            identity: of its configuration: a storage that lost its last trials gives their numbers to others.

        Returns:
            Whether they are there, whole, and of this configuration.

        Raises:
            BucketError: the bucket does not answer.
            OSError: the disk is full, or the folder cannot be written.
        """
        with self._fetched(RESULTS, number, folder, _nothing, identity) as content:
            if content is None:
                return False
            for path in (path for name in FILES for path in _files(content / name)):
                target = folder / path.relative_to(content)
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
        return True

    def fetch_model(
        self, number: int, folder: Path, alive: Callable[[], None] = _nothing, *, identity: str = ""
    ) -> bool:
        """Fetch a trial's model into its folder, unless it is here; as `fetch`."""
        if (folder / MODEL).is_dir():
            return True
        with self._fetched(MODELS, number, folder, alive, identity) as content:
            if content is not None and (content / MODEL).is_dir():
                try:
                    (content / MODEL).rename(folder / MODEL)
                except OSError:  # another process of this machine has fetched it
                    if not (folder / MODEL).is_dir():
                        raise
        return (folder / MODEL).is_dir()

    @contextmanager
    def _fetched(
        self, what: str, number: int, folder: Path, alive: Callable[[], None], identity: str
    ) -> Iterator[Path | None]:
        """Hold the content of an archive, in a folder that is deleted after the block; None if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=PACKED, dir=folder) as packed:
                archive, content = Path(packed) / f"{what}{SUFFIX}", Path(packed) / "content"
                if not self.bucket.fetch_file(self._key(what, number), archive, alive):
                    yield None
                elif not _unpack(archive, content):
                    _log.warning("%s in %s is damaged: it is not used", self._key(what, number), self.bucket.url)
                    yield None
                elif identity != (content / IDENTITY).read_text(encoding="utf-8"):
                    key = self._key(what, number)
                    _log.warning("%s in %s is of another trial: it is not used", key, self.bucket.url)
                    yield None
                else:
                    yield content
        finally:
            with suppress(OSError):  # it stays unless it is empty
                folder.rmdir()

    def numbers(self) -> set[int]:
        """Return the numbers of the trials whose files are there.

        Raises:
            BucketError: the bucket does not answer.
        """
        return self._numbers(RESULTS)

    def models(self) -> set[int]:
        """Return the numbers of the trials whose models are there; as `numbers`."""
        return self._numbers(MODELS)

    def _numbers(self, what: str) -> set[int]:
        names = (name.removesuffix(SUFFIX) for name in self.bucket.names(f"{what}/{self._kind}"))
        return {int(name) for name in names if name.isdecimal()}

    def delete_model(self, number: int) -> None:
        """Delete a trial's model.

        Raises:
            BucketError: the bucket does not answer.
        """
        self.bucket.delete(self._key(MODELS, number))

    def _key(self, what: str, number: int) -> str:
        return f"{what}/{self._kind}/{number:04d}{SUFFIX}"


def clear_packed(folder: Path, older_than_s: float = 0.0) -> None:
    """Delete archives that a killed process left in a trial's folder.

    Args:
        folder: the trial's.
        older_than_s: spares those that a process may still send or fetch.
    """
    for path in folder.glob(f"{PACKED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                shutil.rmtree(path)


def _require_room(folder: Path, names: tuple[str, ...]) -> None:
    """Check that a copy of files leaves as much room on the disk as it takes: other trials write there, too.

    Raises:
        OSError: it does not.
    """
    size = sum(path.stat().st_size for name in names for path in _files(folder / name))
    if (free := shutil.disk_usage(folder).free) < 2 * size:
        raise OSError(errno.ENOSPC, f"sending {size >> 20} MiB needs twice as much room, and {free >> 20} MiB are free")


def _pack(archive: Path, folder: Path, names: tuple[str, ...], level: int, identity: str) -> None:
    """Write those files and folders that exist into an archive: names and bytes, and nothing of this machine."""
    with tarfile.open(archive, "w:gz", compresslevel=level) as packed:
        first = tarfile.TarInfo(IDENTITY)
        first.size = len(identity.encode())
        packed.addfile(first, io.BytesIO(identity.encode()))
        for path in (path for name in names for path in _files(folder / name)):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            with path.open("rb") as file:
                entry.size = path.stat().st_size
                packed.addfile(entry, file)


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or all files below a folder; nothing of what is not there."""
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (each for each in sorted(path.rglob("*")) if each.is_file())


def _unpack(archive: Path, folder: Path) -> bool:
    """Write the files of an archive into a new folder; return whether it is whole, and its names stay in there."""
    folder.mkdir()
    (folder / IDENTITY).touch()
    try:
        with gzip.open(archive) as plain:
            _unpack_plain(plain, folder)
            while plain.read(PIECE_BYTES):  # the checksum is at the end
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError):
        return False
    return True


def _unpack_plain(plain: gzip.GzipFile, folder: Path) -> None:
    with tarfile.open(fileobj=plain, mode="r|") as packed:
        for entry in packed:
            source = packed.extractfile(entry)
            if source is None or not is_plain(entry.name):
                raise tarfile.TarError(f"{entry.name!r} is no file in a folder")
            path = folder / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(source, file, PIECE_BYTES)
