"""How a process begins and ends: one GPU of those it may see, no chatter, imports while it waits, no delay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedsweep import machine
from embedsweep.errors import DeviceLostError, Interrupted, StudyError
from embedsweep.machine import LIBRARIES, prepare_process
from embedsweep.workers import process


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set before deleted, so that the fixture takes away what the test will have set.
    for name in (*LIBRARIES, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "cuda_device_count", lambda: 4)


@pytest.mark.parametrize(
    ("device", "visible", "seen"),
    [
        ("auto", None, "0"),
        ("cuda", None, "0"),
        ("cuda:0", None, "0"),
        ("cuda:3", None, "3"),
        ("cuda:7", None, None),
        ("auto", "2,3", "2"),
        ("auto", "", ""),
        ("cuda:1", "2,3", "3"),
        ("cuda:0", "GPU-5ea6", "GPU-5ea6"),
        ("cpu", None, None),
        ("cpu", "2,3", "2,3"),
        ("mps", None, None),
    ],
)
def test_a_process_sees_the_one_gpu_it_trains_on(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, seen: str | None
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    prepare_process(device)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen


def test_a_machine_without_gpus_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cuda_device_count", lambda: 0)
    prepare_process("auto")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_libraries_are_kept_quiet_unless_the_user_sets_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    prepare_process("cpu")
    assert {name: os.environ[name] for name in LIBRARIES} == {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }


def printed_by(program: str, folder: Path) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("ending", "printed"), [("", "collected\n"), ("end_at_once()", "")])
def test_a_process_ends_without_a_last_collection(ending: str, printed: str, tmp_path: Path) -> None:
    program = f"""
from embedsweep.machine import end_at_once

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("collected")

cycle = Cycle()
{ending}
"""
    assert printed_by(program, tmp_path) == printed


@pytest.mark.slow
def test_a_worker_has_imported_all_that_its_store_needs_before_it_has_a_job(tmp_path: Path) -> None:
    program = """
import sys
from embedsweep.workers.process import _import_all
_import_all("cpu", "database")
before = {name.partition(".")[0] for name in sys.modules}
from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.runs import Tracker
Tracker(TrackingConfig("mlflow", "sqlite:///mlruns/mlflow.db", spool=False)).close()
print(sorted({name.partition(".")[0] for name in sys.modules} - before))
"""
    assert printed_by(program, tmp_path).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "code", "outage", "logged"),
    [
        (StudyError("the disk is full"), 1, [("outage", "the disk is full")], ""),
        (
            DeviceLostError("CUDA error: device-side assert triggered"),
            1,
            [],
            "this process can no longer use its GPU (CUDA error: device-side assert triggered); the same command "
            "resumes in a new process\n",
        ),
        (Interrupted(signal.SIGTERM), 143, [], ""),
    ],
)
def test_a_worker_that_lost_its_gpu_ends_alone_and_a_problem_of_all_trials_is_sent(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    outage: list[tuple[str, str]],
    logged: str,
) -> None:
    def fail(*_: object) -> int:
        raise error

    class Channel:
        def send(self, message: object) -> None:
            sent.append(message)

    sent: list[object] = []
    monkeypatch.setattr(sys, "argv", ["process", "cpu", "1", "database"])
    monkeypatch.setattr(process, "ParentChannel", Channel)
    monkeypatch.setattr("faulthandler.enable", lambda: None)
    monkeypatch.setattr(process, "end_at_once", lambda: None)
    monkeypatch.setattr(process, "_import_all", fail)
    assert process.main() == code
    assert sent == outage
    assert capsys.readouterr().err == logged


def test_a_worker_whose_supervisor_is_gone_ends_after_the_time_that_its_job_says() -> None:
    program = """
import signal, threading
from embedsweep.processes import ParentChannel
from embedsweep.workers.process import _end_with_supervisor
signal.signal(signal.SIGTERM, lambda *_: print("told to end", flush=True))
channel, alone = ParentChannel(), threading.Event()
threading.Thread(target=_end_with_supervisor, args=(channel, alone, 0.2)).start()
alone.wait()
threading.Event().wait()
"""
    ended = subprocess.run([sys.executable, "-c", program], input=b"", capture_output=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, b"told to end\n")
