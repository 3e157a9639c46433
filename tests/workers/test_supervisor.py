"""The supervisor, with workers that are a few lines of Python: what it shows, when it restarts one, how all end."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from embedsweep.errors import Interrupted, WorkerError
from embedsweep.processes import ChildProcess
from embedsweep.report.lines import PlainLines
from embedsweep.report.running import RunningTrials
from embedsweep.signals import handled
from embedsweep.training.shared_checkpoints import LAST_S
from embedsweep.validation.sweep import Sweep, pass_sweep
from embedsweep.workers import job as job_module
from embedsweep.workers import local_pool
from embedsweep.workers.job import Job, RemoteDisplay, show
from embedsweep.workers.local_pool import WorkerPool
from embedsweep.workers.supervisor import Supervisor

CANARY = "kanarienvogel4711"
WORKER = """if True:
    import os, pickle, signal, sys, time
    def tell(*event):
        pickle.dump(event, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    def begin(label):
        tell("begin", label, {"loss": "mnrl"}, "", 0)
    def end(label):
        tell("end", label, "COMPLETE", 0.5, "")
    def first(name):
        try:
            open(name, "x").close()
        except FileExistsError:
            return False
        return True
    def released(*_):
        end_of = globals().get("trial")
        if end_of is not None:
            tell("end", end_of, "WAITING", None, "released")
        sys.exit(143)
    signal.signal(signal.SIGTERM, released)
    exec(os.environ["PROGRAM"])
"""
"""A worker that runs the program in its environment, with functions that send events."""

CRASH = 'print("some noise\\nand the reason", file=sys.stderr); sys.exit(7)'


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return pass_sweep(["study.name=faked", f"study.storage=postgresql://me:{CANARY}@127.0.0.1:9/none"])


@pytest.fixture
def job(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_pool, "COMMAND", (sys.executable, "-S", "-c", WORKER))
    return Job(0, sweep, 6, "parent", seconds=None, allocation_folder=None)


class Watched:
    """A supervisor of workers that run these programs, and what it has shown."""

    def __init__(
        self,
        job: Job,
        programs: Sequence[str],
        *,
        n_left: Callable[[], int] = lambda: 1,
        max_restarts: int = 3,
        silence: float | None = None,
        deadline: float | None = None,
    ) -> None:
        self._output = io.StringIO()
        display = PlainLines(Console(file=self._output, width=40), RunningTrials())
        environments: list[Mapping[str, str]] = [{"PROGRAM": program} for program in programs]
        self.registered: list[tuple[int, int]] = []
        emissions: Any = self
        folder = job.log.parents[1]
        self.pool = WorkerPool(folder, ("cpu", "1", "database"), environments)
        workers = replace(job.sweep.workers, max_restarts=max_restarts, silence=silence)
        self.supervisor = Supervisor(self.pool, job, workers, deadline, n_left, emissions, display)

    def add(self, worker: int, pid: int) -> None:
        """A worker's process is measured from now on; this stands in for the tracker of the machine."""
        self.registered.append((worker, pid))

    def remove(self, worker: int) -> None:
        """It is no more."""
        assert worker in dict(self.registered)

    def run(self) -> list[str]:
        """The lines that were shown; nothing that was started is left."""
        before = living_children()
        try:
            with self.pool:
                self.supervisor.run()
        finally:
            assert living_children() <= before
        return self.lines

    @property
    def lines(self) -> list[str]:
        """What was shown, less when it was and how long it took."""
        return re.sub(r" (?:after )?\d+s\b|(?m:^[-\d]{10} [:\d]{8} )", "", self._output.getvalue()).splitlines()


def living_children() -> set[psutil.Process]:
    return {one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE}


def interrupt(watched: Watched, signum: int, after: str, times: int = 1) -> None:
    """Sends this process a signal when a line was shown a given number of times."""

    def wait_and_send() -> None:
        while "\n".join(watched.lines).count(after) < times:
            time.sleep(0.02)
        os.kill(os.getpid(), signum)

    threading.Thread(target=wait_and_send, daemon=True).start()


def test_events_of_all_workers_are_shown_and_equal_lines_once(job: Job) -> None:
    program = 'tell("say", "data: few rows"); begin("{0}"); tell("progress", "{0}", 1, 4); tell("score", "{0}", 0.25); '
    program += 'end("{0}")'
    lines = Watched(job, [program.format(0), program.format(1)]).run()
    assert sorted(lines) == [
        "data: few rows",
        "trial 0 25% 0.2500",
        "trial 0 COMPLETE loss=mnrl 0.5000",
        "trial 0 RUNNING loss=mnrl",
        "trial 1 25% 0.2500",
        "trial 1 COMPLETE loss=mnrl 0.5000",
        "trial 1 RUNNING loss=mnrl",
    ]


def test_a_worker_that_dies_is_reported_and_restarted(job: Job) -> None:
    program = f'begin("5")\nif first("died"):\n    {CRASH}\nend("5")'
    lines = Watched(job, [program]).run()
    assert lines == [
        "trial 5 RUNNING loss=mnrl",
        "trial 5 WAITING loss=mnrl its worker died; the trial will be resumed",
        "worker 0 ended with exit code 7; sweeps/faked/workers/0.log ends",
        "  some noise",
        "  and the reason",
        "worker 0 is restarted (1/3)",
        "trial 5 RUNNING loss=mnrl",
        "trial 5 COMPLETE loss=mnrl 0.5000",
    ]


def test_a_worker_that_was_lost_with_its_machine_comes_again_and_uses_up_no_restart(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChildProcess, "is_lost", True)
    program = 'if first("once"):\n    sys.exit(1)\nif first("twice"):\n    sys.exit(1)\nbegin("5"); end("5")'
    lines = Watched(job, [program], max_restarts=0).run()
    assert lines == [
        "worker 0 ended with exit code 1",
        "worker 0 ended with exit code 1",
        "trial 5 RUNNING loss=mnrl",
        "trial 5 COMPLETE loss=mnrl 0.5000",
    ]


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "worker 0 was killed by SIGKILL: perhaps out of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "worker 0 was killed by SIGSEGV"),
        ("sys.exit(143)", "worker 0 was ended by SIGTERM"),
        ("sys.exit(1)", "worker 0 ended with exit code 1"),
    ],
)
def test_the_end_of_a_worker_is_described(job: Job, deed: str, reason: str) -> None:
    lines = Watched(job, [f'if first("died"):\n    begin("0"); {deed}']).run()
    assert lines[2:] == [reason, "worker 0 is restarted (1/3)"]


def test_a_trial_may_be_resumed_before_its_workers_death_is_noticed(job: Job) -> None:
    wait = "while not os.path.exists({!r}):\n        time.sleep(0.02)\n"
    dies = 'if first("died"):\n    begin("9"); time.sleep(0.5); open("started", "x")\n'
    dies += f"    {wait.format('taken')}    sys.exit(1)"
    takes = f'if True:\n    {wait.format("started")}begin("9"); open("taken", "x")\ntime.sleep(1)\n'
    takes += 'tell("progress", "9", 1, 2); tell("score", "9", 0.4); end("9")'
    lines = Watched(job, [dies, takes]).run()
    assert [line for line in lines if line.startswith("trial")] == [
        "trial 9 RUNNING loss=mnrl",
        "trial 9 WAITING loss=mnrl its worker died; the trial will be resumed",
        "trial 9 RUNNING loss=mnrl",
        "trial 9 50% 0.4000",
        "trial 9 COMPLETE loss=mnrl 0.5000",
    ]


def test_a_worker_that_makes_no_progress_is_killed_and_restarted(job: Job) -> None:
    hangs = 'begin("0")\nif first("hung"):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)\nend("0")'
    slow = 'begin("1")\nfor step in range(8):\n    time.sleep(0.3); tell("progress", "1", step, 8)\nend("1")'
    lines = Watched(job, [hangs, slow], silence=3.0).run()
    assert "worker 0 made no progress for 3 s (workers.silence) and was killed" in lines
    assert "worker 0 is restarted (1/3)" in lines
    assert lines.count("trial 0 COMPLETE loss=mnrl 0.5000") == 1
    assert not any(line.startswith("worker 1") for line in lines)


def test_a_worker_that_gives_signs_of_life_is_not_killed_and_they_are_not_shown(job: Job) -> None:
    evaluates = 'begin("0")\nfor _ in range(12):\n    time.sleep(0.1); tell("alive")\nend("0")'
    assert Watched(job, [evaluates], silence=0.7).run() == [
        "trial 0 RUNNING loss=mnrl",
        "trial 0 COMPLETE loss=mnrl 0.5000",
    ]


def test_a_worker_that_waits_for_one_that_hangs_is_not_killed_with_it(job: Job) -> None:
    hangs = 'begin("0")\nif first("hung"):\n    open("pid", "w").write(str(os.getpid())); time.sleep(60)\nend("0")'
    # It begins after the other one, which therefore is silent for longer.
    waits = 'while not os.path.exists("pid"):\n    time.sleep(0.02)\nbegin("1"); pid = int(open("pid").read())\n'
    waits += 'while os.path.exists(f"/proc/{pid}/exe"):\n    time.sleep(0.02)\ntime.sleep(0.3)\nend("1")'
    lines = Watched(job, [hangs, waits], silence=3.0).run()
    assert [line for line in lines if "workers.silence" in line] == [
        "worker 0 made no progress for 3 s (workers.silence) and was killed"
    ]
    assert "trial 1 COMPLETE loss=mnrl 0.5000" in lines


def test_a_worker_whose_death_leaves_no_trial_is_not_restarted(job: Job) -> None:
    lines = Watched(job, ['begin("0"); end("0"); sys.exit(1)'], n_left=lambda: 0).run()
    assert lines[-1] == "worker 0 ended with exit code 1"


def test_after_the_deadline_no_worker_is_restarted(job: Job) -> None:
    lines = Watched(job, ['begin("0"); sys.exit(1)'], deadline=time.monotonic()).run()
    assert lines[-1] == "worker 0 ended with exit code 1"


def test_after_the_last_restart_the_other_workers_continue_and_the_command_fails(job: Job) -> None:
    dying = f'begin("0"); open("deaths", "a").write("x"); {CRASH}'
    living = 'begin("1")\nwhile not os.path.exists("deaths") or len(open("deaths").read()) < 3:\n    time.sleep(0.02)\n'
    watched = Watched(job, [dying, living + 'time.sleep(0.3); end("1")'], max_restarts=2)
    with pytest.raises(WorkerError, match="the same command resumes the study with the trials that are left") as error:
        watched.run()
    assert str(error.value).startswith("worker 0 died and is not restarted, as workers.max_restarts=2 is reached")
    assert Path("deaths").read_text() == "xxx"
    assert watched.lines[-1].startswith("trial 1 COMPLETE")


@pytest.mark.parametrize(
    "progress",
    ['tell("progress", "0", 1, 4); tell("score", "0", 0.25)', 'end("0")'],
    ids=["an evaluation", "a finished trial"],
)
def test_a_worker_that_got_a_trial_further_is_restarted_without_end(job: Job, progress: str) -> None:
    program = 'open("deaths", "a").write("x"); begin("0"); count = len(open("deaths").read())\n'
    program += f"if count == 4:\n    {progress}\nif count < 7:\n    sys.exit(1)"
    lines = Watched(job, [program], max_restarts=3).run()
    restarts = [line for line in lines if "is restarted" in line]
    counts = (1, 2, 3, 1, 2, 3)
    assert restarts == [f"worker 0 is restarted ({count}/3)" for count in counts]


def test_restarts_of_one_worker_are_not_forgotten_because_another_gets_further(job: Job) -> None:
    dying = f'begin("0"); open("deaths", "a").write("x"); {CRASH}'
    living = 'begin("1")\nwhile not os.path.exists("deaths") or len(open("deaths").read()) < 3:\n'
    living += '    tell("progress", "1", 1, 4); tell("score", "1", 0.25); time.sleep(0.02)\nend("1")'
    with pytest.raises(WorkerError, match=r"workers\.max_restarts=2 is reached"):
        Watched(job, [dying, living], max_restarts=2).run()
    assert Path("deaths").read_text() == "xxx"


def test_a_command_whose_other_workers_left_nothing_undone_does_not_fail(job: Job) -> None:
    left = iter([1, 0])
    lines = Watched(job, ['begin("0"); sys.exit(1)'], max_restarts=0, n_left=lambda: next(left)).run()
    assert lines[-1].startswith("worker 0 died and is not restarted, as workers.max_restarts=0 is reached")


def test_the_command_fails_after_two_workers_that_cannot_start(job: Job) -> None:
    program = 'open("starts", "a").write("x"); import no_such_library'
    with pytest.raises(WorkerError) as error:
        Watched(job, [program], max_restarts=100).run()
    assert "workers cannot start; worker 0 ended with exit code 1; sweeps/faked/workers/0.log ends" in str(error.value)
    assert str(error.value).splitlines()[-1] == "  ModuleNotFoundError: No module named 'no_such_library'"
    assert Path("starts").read_text() == "xx"


def test_a_problem_of_all_trials_is_reported_once_and_ends_all_workers(job: Job) -> None:
    gone = 'begin("0"); tell("end", "0", "WAITING", None, "released"); tell("outage", "the store is gone"); sys.exit(1)'
    gone = f'while not os.path.exists("waits"):\n    time.sleep(0.02)\n{gone}'
    waiting = 'trial = "1"; begin("1"); open("waits", "w"); time.sleep(60)'
    watched = Watched(job, [waiting, gone])
    with pytest.raises(WorkerError, match=r"^the store is gone$"):
        watched.run()
    assert "worker" not in "".join(watched.lines)


def test_an_interrupt_reaches_every_worker_once_and_they_release_their_trials(job: Job) -> None:
    program = 'trial = "{0}"; begin("{0}"); time.sleep(60)'
    watched = Watched(job, [program.format(0), program.format(1)])
    interrupt(watched, signal.SIGINT, "RUNNING loss=mnrl", times=2)
    with handled(), pytest.raises(Interrupted) as error:
        watched.run()
    assert error.value.exit_code == 130
    started = ["trial 0 RUNNING loss=mnrl", "trial 1 RUNNING loss=mnrl"]
    assert sorted(watched.lines[:2]) == started
    assert sorted(watched.lines[2:]) == [f"{line.replace('RUNNING', 'WAITING')} released" for line in started]


def test_an_interrupt_between_the_first_job_and_the_second_ends_both_workers(job: Job) -> None:
    watched = Watched(job, ["time.sleep(60)", "time.sleep(60)"])
    add = watched.add

    def add_and_interrupt(worker: int, pid: int) -> None:
        add(worker, pid)
        os.kill(os.getpid(), signal.SIGINT)

    watched.add = add_and_interrupt  # type: ignore[method-assign]
    watched.remove = lambda worker: None  # type: ignore[method-assign]  # noqa: ARG005
    with handled(), pytest.raises(Interrupted):
        watched.run()
    assert len(watched.registered) == 1


def test_a_second_interrupt_kills_workers_that_take_their_time(job: Job) -> None:
    watched = Watched(job, ['signal.signal(signal.SIGTERM, lambda *_: begin("1")); begin("0"); time.sleep(60)'])
    interrupt(watched, signal.SIGTERM, "trial 0 RUNNING")
    interrupt(watched, signal.SIGTERM, "trial 1 RUNNING")
    began = time.monotonic()
    with handled(), pytest.raises(Interrupted) as error:
        watched.run()
    assert error.value.exit_code == 143
    assert time.monotonic() - began < 10
    assert "interrupted again: workers are killed" in watched.lines


def test_workers_that_ignore_an_interrupt_are_killed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "RELEASE_S", 0.5)
    watched = Watched(job, ['signal.signal(signal.SIGTERM, signal.SIG_IGN); begin("0"); time.sleep(60)'])
    interrupt(watched, signal.SIGINT, "trial 0 RUNNING")
    with handled(), pytest.raises(Interrupted):
        watched.run()


@pytest.mark.parametrize(("place", "more_s"), [(None, 0.0), ("s3://bucket/prefix", LAST_S)])
def test_a_worker_that_is_to_end_has_time_to_send_its_last_checkpoint(
    job: Job, place: str | None, more_s: float
) -> None:
    sweep = replace(job.sweep, study=replace(job.sweep.study, checkpoints=place))
    assert replace(job, sweep=sweep).release_s == job_module.RELEASE_S + more_s


def test_a_worker_that_waited_long_for_a_machine_with_room_does_not_count_as_hung(job: Job) -> None:
    watched = Watched(job, ['begin("0"); time.sleep(1.5); end("0")'], silence=60)
    watched.supervisor._states[0].silent_s = 3600  # as of a worker that is to be started again, but has no machine yet
    assert watched.run() == ["trial 0 RUNNING loss=mnrl", "trial 0 COMPLETE loss=mnrl 0.5000"]


def test_a_process_that_cannot_be_started_is_an_error_with_a_reason(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_pool, "COMMAND", ("/no/such/python",))
    with pytest.raises(WorkerError, match=r"worker 0 cannot be started: .*No such file"):
        Watched(job, [""]).run()


def test_workers_that_never_get_a_job_are_ended(job: Job) -> None:
    watched = Watched(job, ["time.sleep(60)", "time.sleep(60)"])
    began, before = time.monotonic(), living_children()
    with watched.pool:
        assert len(living_children() - before) == 2
    assert living_children() == before
    assert time.monotonic() - began < 10


def test_a_password_reaches_a_worker_neither_by_its_command_line_nor_by_its_environment(job: Job) -> None:
    program = f'word = "{CANARY[::-1]}"[::-1]; open("{{0}}", "w").write(str(word in {{1}}))'
    programs = [
        program.format("environment", '" ".join(sys.orig_argv) + str(os.environ)'),
        program.format("stdin", "sys.stdin.buffer.raw.read(100000).decode(errors='replace')"),
    ]
    Watched(job, programs).run()
    assert [Path(name).read_text() for name in ("environment", "stdin")] == ["False", "True"]


def test_a_job_names_the_log_of_its_worker(job: Job) -> None:
    assert replace(job, number=3).log == Path("sweeps/faked/workers/3.log")


def test_events_make_the_same_calls_on_the_supervisors_display() -> None:
    calls: list[tuple[Any, ...]] = [
        ("say", "a line\nof two"),
        ("begin", "0", {"loss": "mnrl", "optimizer.lr": 1e-3, "model.dense": None}, "resumed", 1),
        ("progress", "0", 3, 10),
        ("score", "0", 0.5),
        ("end", "0", "COMPLETE", 0.5, "Grüße"),
        ("end", "0", "FAIL", None, ""),
    ]
    seen: list[tuple[object, ...]] = []

    class Recorder:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *arguments: seen.append((name, *arguments))

    display = RemoteDisplay(lambda event: show(event, Recorder()))
    for name, *arguments in calls:
        getattr(display, name)(*arguments)
    assert seen == calls
