"""The journal after a crash: a truncated last line and stale locks."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep

WORDS = ["loss=mnrl,cosent", "study.name=torn"]
HOLD = """
import os, signal, sys
from filelock import FileLock
locks = [FileLock(path) for path in sys.argv[1:]]
for lock in locks:
    lock.acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study with one running trial."""
    monkeypatch.chdir(tmp_path)
    assert _open().ask() is not None
    return tmp_path / "sweeps" / "torn"


def _open() -> Study:
    return open_study(pass_sweep(WORDS))


@pytest.mark.parametrize("torn", [b"{", b'{"op_code": 5, "worker_id": "a', b"\x00" * 512])
def test_a_truncated_last_line_is_moved_to_a_file(folder: Path, torn: bytes) -> None:
    journal = folder / "journal.log"
    intact = journal.read_bytes()
    journal.write_bytes(intact + torn)

    study = _open()
    assert journal.read_bytes() == intact
    assert (folder / "journal.log.torn").read_bytes() == torn + b"\n"
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    assert study.ask() is not None
    assert [trial.state.name for trial in _open().trials] == ["RUNNING", "RUNNING"]


def test_an_intact_journal_is_not_changed(folder: Path) -> None:
    intact = (folder / "journal.log").read_bytes()
    _open()
    assert (folder / "journal.log").read_bytes() == intact
    assert not (folder / "journal.log.torn").exists()


def test_locks_of_a_killed_process_do_not_block(folder: Path) -> None:
    locks = sorted(folder.glob("*.lock"))
    assert len(locks) == 2
    killed = subprocess.run([sys.executable, "-c", HOLD, *locks], check=False)
    assert killed.returncode == -signal.SIGKILL

    started = time.monotonic()
    assert _open().ask() is not None
    assert time.monotonic() - started < 10


def test_a_stale_lock_of_optuna_does_not_block(folder: Path) -> None:
    journal = folder / "journal.log"
    intact = journal.read_bytes()
    stale = folder / "journal.log.lock"
    stale.unlink(missing_ok=True)
    stale.symlink_to(journal)  # Optuna's own backend locks so, and its dashboard leaves this when it is killed

    started = time.monotonic()
    assert _open().ask() is not None
    assert time.monotonic() - started < 10
    assert journal.read_bytes().startswith(intact)


def test_a_line_truncated_by_another_process_does_not_affect_an_open_study(folder: Path) -> None:
    study = _open()
    journal = folder / "journal.log"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker')

    trial = study.ask()

    assert trial is not None
    study.set_run(trial, "run", "hash")
    assert _open().trials[trial.number].user_attrs["run_id"] == "run"
    assert (folder / "journal.log.torn").read_bytes() == b'{"op_code": 5, "worker\n'
