"""Detection of disk-full errors, with real writers and a real limit on file sizes."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from embedsweep.files import is_disk_full, write_atomically

TENSORS = {"a": torch.zeros(200_000)}
WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda path: torch.save(TENSORS, path),
    "safetensors": lambda path: save_file(TENSORS, path),
    "python": lambda path: path.write_bytes(bytes(800_000)),
}


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Limit the files of this process to ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_flushed_before_its_new_name_is(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, str | None]] = []

    def note(descriptor: int) -> None:
        text = (tmp_path / "file").read_text() if (tmp_path / "file").exists() else None
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), text))

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(tmp_path / "file", "new", durable=durable)
    assert flushed == ([(False, None), (True, "new")] if durable else [])
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writers_error_on_a_full_disk_is_detected(writer: str, tmp_path: Path) -> None:
    with limited_files(65_536), pytest.raises(Exception) as caught:  # noqa: PT011  (each writer has its own)
        WRITERS[writer](tmp_path / "file")
    assert is_disk_full(caught.value), repr(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (OSError(2, "No such file or directory"), False),
        (RuntimeError("CUDA out of memory"), False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
    ],
)
def test_disk_full_errors_are_detected_along_the_chain_of_causes(error: Exception, expected: bool) -> None:
    assert is_disk_full(error) is expected
    wrapped = RuntimeError("the checkpoint could not be written")
    wrapped.__cause__ = error
    assert is_disk_full(wrapped) is expected
