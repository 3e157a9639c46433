"""A disk that is full, and folders that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from embedsweep.cli import main
from tests import unprivileged
from tests.faults import studies
from tests.faults.studies import WORDS, Study


@pytest.mark.slow
@pytest.mark.parametrize("place", ["step:5", "tell"])
def test_a_limit_on_file_sizes_ends_the_command_and_fails_no_trial(
    place: str, tmp_path: Path, undisturbed: Study
) -> None:
    full = studies.run(tmp_path, WORDS, ("full", place))
    assert full.code == 1, full.output
    assert "Traceback" not in full.output
    assert "FAIL" not in Study(tmp_path).states
    again = studies.run(tmp_path)
    assert again.code == 0, again.output
    studies.check_whole(Study(tmp_path))
    studies.check_equal(Study(tmp_path), undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk; only root can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.faults
def test_a_full_disk_ends_the_command_and_fails_no_trial(small_disk: Path, undisturbed: Study) -> None:
    folder = small_disk / "work"
    command = studies.start(folder, WORDS)
    studies.wait_for(command, "trial 0 11%")
    free = os.statvfs(small_disk)
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb") as file:  # the trial has written since, and leaves less
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - 16384)))
    full = studies.finish(command)
    assert full.code == 1, full.output
    assert "Traceback" not in full.output
    ballast.unlink()
    again = studies.run(folder)
    assert again.code == 0, again.output
    studies.check_whole(Study(folder))
    studies.check_equal(Study(folder), undisturbed)


@pytest.mark.parametrize("words", [(), ("-m",)], ids=["run", "study"])
@pytest.mark.parametrize("name", ["sweeps", "mlruns"])
def test_a_file_in_place_of_a_folder_is_refused_before_training(
    name: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("in the way")
    assert main(["train", *words, "data=demo"]) == 2
    error = capsys.readouterr().err
    assert f"{name}: must be a folder, but {tmp_path / name} is a file" in error
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("words", [(), ("-m", "loss=mnrl,cosent")], ids=["run", "study"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sweeps", "sweeps: cannot be read and written by this user"),
        ("mlruns", "mlruns: cannot be read and written by this user"),
        (".", "sweeps: cannot be created in "),
    ],
)
def test_a_read_only_folder_is_refused_before_training(
    name: str, message: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    command = [*unprivileged.prefix(), sys.executable, str(studies.ROOT / "train.py"), *words, "data=demo"]
    try:
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        folder.chmod(0o755)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
