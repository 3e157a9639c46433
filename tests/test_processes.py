"""Child processes that are a few lines of Python: messages both ways, their end, and what is left of them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from embedsweep import processes
from embedsweep.processes import ChildProcess, ProcessPool, at_most_every

CHILD = """
import os, signal, sys, time
from embedsweep.processes import ParentChannel
channel = ParentChannel()
"""


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with ProcessPool() as pool:
        yield pool


def start(pool: ProcessPool, folder: Path, program: str, number: int = 0) -> ChildProcess:
    command = (sys.executable, "-c", CHILD + program)
    return pool.start(number, command, folder / "logs" / f"{number}.log", {"WORD": f"word {number}"})


def receive_all(pool: ProcessPool) -> list[tuple[int, Any]]:
    """All messages, with their senders' numbers, until each process has ended."""
    messages: list[tuple[int, Any]] = []
    ended = 0
    deadline = time.monotonic() + 30
    while ended < len(pool.processes):
        assert time.monotonic() < deadline
        if (received := pool.receive(1.0)) is not None:
            messages.append((received[0].number, received[1]))
            ended += received[1] is None
    return messages


def test_messages_are_exchanged_in_order_and_the_end_comes_last(pool: ProcessPool, tmp_path: Path) -> None:
    echo = "channel.send(os.environ['WORD'])\nwhile (message := channel.receive()) != 'end':\n    channel.send(message)"
    for number in (0, 1):
        process = start(pool, tmp_path, echo, number)
        for message in ({"a": [number]}, "end"):
            process.send(message)
    messages = receive_all(pool)
    for number in (0, 1):
        assert [each for sender, each in messages if sender == number] == [f"word {number}", {"a": [number]}, None]
    assert [process.exit_code for process in pool.processes] == [0, 0]


def test_what_a_child_prints_is_in_its_log_and_not_among_its_messages(pool: ProcessPool, tmp_path: Path) -> None:
    process = start(pool, tmp_path, "print('noise'); os.system('echo more noise'); channel.send(1)")
    assert receive_all(pool) == [(0, 1), (0, None)]
    assert sorted(process.last_lines()) == ["more noise", "noise"]


def test_a_child_imports_the_package_of_its_parent_before_any_other(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embedsweep").mkdir()
    (tmp_path / "embedsweep" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start(pool, tmp_path, "import embedsweep\nchannel.send((embedsweep.__file__, os.environ['PYTHONPATH']))")
    package = Path(processes.__file__).parent
    assert receive_all(pool)[0][1] == (str(package / "__init__.py"), f"{package.parent}{os.pathsep}{tmp_path}")


def test_an_installed_package_does_not_come_before_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "__file__", "/venv/lib/python3.11/site-packages/embedsweep/processes.py")
    assert processes.same_package() == {}


def test_calls_are_limited_to_one_in_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.5, 0.9, 1.2, 2.1, 2.3])
    monkeypatch.setattr("embedsweep.processes.time.monotonic", lambda: next(times))
    calls: list[None] = []
    limited = at_most_every(1.0, lambda: calls.append(None))
    counts = []
    for _ in range(6):
        limited()
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 2, 3]


def test_half_a_message_is_dropped(pool: ProcessPool, tmp_path: Path) -> None:
    half = "import pickle\nchannel.send('whole'); channel._outgoing.write(pickle.dumps('half')[:8])"
    start(pool, tmp_path, half)
    assert receive_all(pool) == [(0, "whole"), (0, None)]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("sys.exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL: perhaps out of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("sys.exit(143)", "was ended by SIGTERM"),
    ],
)
def test_the_end_is_described(pool: ProcessPool, tmp_path: Path, program: str, reason: str) -> None:
    process = start(pool, tmp_path, program)
    assert receive_all(pool) == [(0, None)]
    assert process.describe_end() == reason


def test_the_description_of_the_end_quotes_the_log_of_this_process_only(pool: ProcessPool, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "0.log"
    log.parent.mkdir()
    log.write_text("of an earlier process\n")
    process = start(pool, tmp_path, "sys.exit('first\\n\\nlast')")
    receive_all(pool)
    assert process.describe_end() == f"ended with exit code 1; {log} ends\n  first\n  last"
    assert process.last_lines(1) == ["last"]


def test_the_reason_of_a_kill_is_given(pool: ProcessPool, tmp_path: Path) -> None:
    process = start(pool, tmp_path, "time.sleep(60)")
    process.kill("hung and was killed")
    assert receive_all(pool) == [(0, None)]
    assert process.describe_end() == "hung and was killed"


def test_messages_of_a_removed_process_are_dropped(pool: ProcessPool, tmp_path: Path) -> None:
    process = start(pool, tmp_path, "channel.send(1)")
    assert process.wait(30)
    pool.remove(process)
    assert [pool.receive(0.1) for _ in range(3)] == [None] * 3


def test_a_process_that_ends_with_its_stdin_is_not_killed_and_another_one_is(pool: ProcessPool, tmp_path: Path) -> None:
    polite = start(pool, tmp_path, "channel.send(1); channel.wait_for_end(); sys.exit(0)", 0)
    rude = start(pool, tmp_path, "channel.send(1); time.sleep(60)", 1)
    received = [pool.receive(30), pool.receive(30)]
    assert all(received)
    pool.end(grace_s=5.0)
    assert (polite.exit_code, rude.exit_code) == (0, -signal.SIGKILL)
    assert pool.processes == []


def test_leaving_the_block_kills_what_still_runs(tmp_path: Path) -> None:
    with ProcessPool() as pool:
        pids = [start(pool, tmp_path, "time.sleep(60)", number).pid for number in (0, 1)]
        assert all(map(psutil.pid_exists, pids))
    assert not any(map(psutil.pid_exists, pids))


def test_a_child_is_in_a_session_of_its_own(pool: ProcessPool, tmp_path: Path) -> None:
    process = start(pool, tmp_path, "time.sleep(60)")
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_a_process_whose_own_child_holds_its_pipe_can_be_removed(
    pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PIPE_DEADLINE_S", 0.1)
    process = start(pool, tmp_path, "channel.send(1)\nif os.fork() == 0:\n    time.sleep(3)\nos._exit(0)")
    began = time.monotonic()
    assert receive_all(pool) == [(0, 1), (0, None)]
    pool.remove(process)
    assert time.monotonic() - began < 3


def test_a_child_survives_sending_to_a_parent_that_is_gone() -> None:
    program = "channel.receive()\nfor _ in range(3):\n    channel.send('nobody reads it')\nos._exit(9)"
    command = [sys.executable, "-c", CHILD + program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(pickle.dumps("go"))
        process.stdin.close()
        assert process.wait(30) == 9
