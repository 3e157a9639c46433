"""MPS: found or started, reported, and stopped; the control program is a shell script with its few commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from embedsweep import machine
from embedsweep.errors import ConfigError, Interrupted
from embedsweep.workers import environments
from embedsweep.workers.environments import LOG, PIPE, Mps

CONTROL = """#!/bin/sh
pipe=${CUDA_MPS_PIPE_DIRECTORY:-$FAKE/default}
if [ "$1" = -d ]; then
    if [ -e "$FAKE/refuses" ]; then echo; cat "$FAKE/refuses"; exit 1; fi
    echo "visible ${CUDA_VISIBLE_DEVICES-all}" >>"$FAKE/commands"
    if [ -e "$FAKE/mute" ]; then exit 0; fi
    sleep 300 & echo $! >"$pipe/control"
    cp "$pipe/control" "$FAKE/pid"
    exit 0
fi
read -r command
echo "$command in $pipe" >>"$FAKE/commands"
if ! [ -e "$pipe/control" ]; then echo "Cannot find MPS control daemon process"; exit 1; fi
if [ "$command" = quit ]; then kill "$(cat "$pipe/control")"; fi
"""

CLIENT = "import os; open(os.environ['FAKE'] + '/client', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + PIPE)"
CLIENT = CLIENT.replace("PIPE", f"os.environ['{PIPE}']")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose control program is a script; the folder holds its instructions and the commands it got."""
    folder = tmp_path / "fake"
    (folder / "bin").mkdir(parents=True)
    (folder / "default").mkdir()
    program = folder / "bin" / "nvidia-cuda-mps-control"
    program.write_text(CONTROL)
    program.chmod(0o755)
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(environments, "LONGEST_TEMPORARY", len(str(temporary)))
    monkeypatch.setattr(machine, "MPS_FOLDERS", (tmp_path / "none",))
    monkeypatch.setattr(environments, "CLIENT_COMMAND", (sys.executable, "-I", "-S", "-c", CLIENT))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE", str(folder))
    for name in (PIPE, LOG, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return folder


def daemon_of(fake: Path) -> int:
    return int((fake / "pid").read_text())


def is_gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def temporary_of(fake: Path) -> list[Path]:
    return list((fake.parent / "t").iterdir())


def test_a_daemon_is_started_for_the_workers_alone_and_stopped_at_the_end(fake: Path) -> None:
    lines: list[str] = []
    with Mps("0", lines.append, required=False) as service:
        assert service.is_on
        assert service.environment.keys() == {PIPE, LOG}
        assert PIPE not in os.environ
        (folder,) = temporary_of(fake)
        assert service.environment == {PIPE: str(folder / "pipe"), LOG: str(folder / "log")}
        assert (fake / "client").read_text() == f"0 {folder / 'pipe'}"
        assert psutil.pid_exists(daemon_of(fake))
    assert lines == ["workers share a GPU through an MPS daemon of this command"]
    assert is_gone(daemon_of(fake))
    assert temporary_of(fake) == []
    assert (fake / "commands").read_text().splitlines()[-1] == f"quit in {folder / 'pipe'}"


@pytest.mark.parametrize(
    ("error", "raised"), [(Interrupted(signal.SIGTERM), Interrupted), (ValueError("no"), ValueError)]
)
def test_the_daemon_ends_however_the_command_ends(
    fake: Path, error: BaseException, raised: type[BaseException]
) -> None:
    with pytest.raises(raised), Mps("0", lambda _: None, required=False):
        raise error
    assert is_gone(daemon_of(fake))
    assert temporary_of(fake) == []


def test_the_daemon_ends_when_the_command_is_killed(fake: Path) -> None:
    program = (
        "import sys, time; from embedsweep.workers import environments as made; made.CLIENT_COMMAND = ('true',)\n"
        "with made.Mps('0', print, required=True): print('up', flush=True); time.sleep(60)"
    )
    command = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ, text=True)
    assert command.stdout is not None
    assert [command.stdout.readline(), command.stdout.readline()][1] == "up\n"
    pid = daemon_of(fake)
    assert psutil.pid_exists(pid)
    command.kill()
    command.communicate()
    assert is_gone(pid)


@pytest.mark.parametrize(("gpu", "visible", "seen"), [("3", "3,4", "all"), ("GPU-5e", "GPU-5e", "GPU-5e")])
def test_the_daemon_sees_gpus_under_the_names_that_workers_use(
    fake: Path, monkeypatch: pytest.MonkeyPatch, gpu: str, visible: str, seen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with Mps(gpu, lambda _: None, required=False):
        assert f"visible {seen}" in (fake / "commands").read_text().splitlines()
        assert (fake / "client").read_text().startswith(f"{gpu} ")


@pytest.mark.parametrize("named", [False, True])
def test_a_daemon_that_runs_is_used_and_left_running(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    folder = tmp_path / "own" if named else fake / "default"
    folder.mkdir(exist_ok=True)
    if named:
        monkeypatch.setenv(PIPE, str(folder))
    lines: list[str] = []
    (folder / "control").write_text("0")
    with Mps("0", lines.append, required=True) as service:
        assert (service.is_on, service.environment) == (True, {})
    where = f"in {folder} ({PIPE})" if named else "at the default place"
    assert lines == [f"workers share a GPU through the MPS daemon that runs {where}"]
    assert (fake / "commands").read_text().splitlines() == [f"get_server_list in {folder}"]
    assert temporary_of(fake) == []


def test_a_named_daemon_is_used_where_the_control_program_is_missing(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake / "bin" / "nvidia-cuda-mps-control").unlink()
    monkeypatch.setenv(PIPE, str(tmp_path))
    (tmp_path / "control").touch()
    with Mps("0", lambda _: None, required=True) as service:
        assert service.is_on


def _without_program(fake: Path) -> None:
    (fake / "bin" / "nvidia-cuda-mps-control").unlink()


def _not_executable(fake: Path) -> None:
    (fake / "bin" / "nvidia-cuda-mps-control").write_text("#!/no/such/shell\n")


def _refused(fake: Path) -> None:
    (fake / "refuses").write_text("An instance of this daemon is already running\n\n")


def _mute(fake: Path) -> None:
    (fake / "mute").touch()


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (_without_program, "nvidia-cuda-mps-control is not found"),
        (_not_executable, "it did not start ([Errno 2] No such file or directory: "),
        (_refused, "it did not start (An instance of this daemon is already running)"),
        (_mute, "it was started and did not answer for 0.5 s"),
    ],
)
def test_if_mps_is_not_available_the_reason_is_printed_or_is_an_error(
    fake: Path, monkeypatch: pytest.MonkeyPatch, deed: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.setattr(environments, "START_S", 0.5)
    deed(fake)
    lines: list[str] = []
    with Mps("0", lines.append, required=False) as service:
        assert (service.is_on, service.environment) == (False, {})
        assert temporary_of(fake) == []
    (line,) = lines
    assert line.startswith(f"workers share a GPU by time-slicing, as MPS is not available: {reason}")
    with pytest.raises(ConfigError) as error, Mps("0", lines.append, required=True):
        pass
    assert str(error.value).startswith(f"workers.mps: MPS is not available: {reason}")
    assert len(lines) == 1
    assert temporary_of(fake) == []


def test_a_daemon_through_which_no_process_can_use_the_gpu_is_stopped(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = "import sys; sys.exit('cuInit failed with CUDA_ERROR_MPS_CONNECTION_FAILED')"
    monkeypatch.setattr(environments, "CLIENT_COMMAND", (sys.executable, "-I", "-S", "-c", failing))
    lines: list[str] = []
    with Mps("2", lines.append, required=False) as service:
        assert not service.is_on
    assert lines[0].endswith("cannot use GPU 2 through it (cuInit failed with CUDA_ERROR_MPS_CONNECTION_FAILED)")
    assert is_gone(daemon_of(fake))


def test_a_named_daemon_that_does_not_answer_is_reported(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIPE, str(tmp_path))
    lines: list[str] = []
    with Mps("0", lines.append, required=False) as service:
        assert not service.is_on
    assert lines == [
        f"workers share a GPU by time-slicing, as MPS is not available: no daemon answers in {PIPE}={tmp_path}"
    ]


def test_the_daemons_sockets_have_short_paths(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "LONGEST_TEMPORARY", 60)
    monkeypatch.setattr("tempfile.tempdir", str(fake.parent / ("long" * 20)))
    with Mps("0", lambda _: None, required=False) as service:
        assert len(f"{service.environment[PIPE]}/control_privileged") < 108


def test_without_a_cuda_driver_the_real_client_reports_what_failed(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if machine.cuda_device_count():
        pytest.skip("this machine has a CUDA device")
    monkeypatch.undo()
    result = subprocess.run(environments.CLIENT_COMMAND, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert (
        result.stderr.strip().splitlines()[-1].startswith(("OSError: libcuda.so.1", "cuInit failed with CUDA_ERROR_"))
    )
