"""A study on a real Slurm: its jobs are stopped, reach their limit, are preempted and lose a node; nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import slurm
from tests.faults import studies
from tests.faults.studies import Study
from tests.slurm import Slurm, running_slurm

N_TRIALS = 6
WORDS = (
    "loss=cosent,mnrl",
    "trainer.seed=1,2,3",
    *studies.PAIRS,
    "data.limit=64",
    "model=tiny",
    "optimizer.lr=1e-2",
    "trainer.device=cpu",
    "trainer.max_steps=200",
    "trainer.eval_every=0.05",
    "evaluation.before=false",
    "study.name=night",
    "workers=slurm",
    "workers.count=3",
    "workers.slurm.time=01:00:00",
)
WITHIN_S = 150.0
SLOW = "slow"
SLOWLY = f"""
import os, sys, time

if "embedsweep.workers.process" in sys.orig_argv:
    from embedsweep.study.study import Study

    check_held = Study.check_held

    def slowly(study, trial):
        time.sleep(0.6 if os.path.exists({SLOW!r}) else 0)
        check_held(study, trial)

    Study.check_held = slowly
"""
"""Makes each step of a trial long while there is a file of that name: the study is not to end before its faults."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A Slurm of two nodes, which commands of the test find."""
    with running_slurm() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


class Night:
    """The study's jobs, seen from outside.

    Args:
        folder: the working directory.
        cluster: where they run.
    """

    def __init__(self, folder: Path, cluster: Slurm) -> None:
        self._folder, self._cluster = folder, cluster

    def wait_for(self, is_so: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + WITHIN_S
        while not is_so():
            texts = "\n".join(f"{job}:\n{self.log(job)}" for job in self.jobs_with_logs())
            assert time.monotonic() < deadline, f"not within {WITHIN_S:.0f} s: {what}\n{texts}\n{self._cluster.logs()}"
            time.sleep(0.2)

    def jobs_with_logs(self) -> list[str]:
        """Return the ids of the jobs that have printed something."""
        return sorted(path.stem for path in self._folder.glob("sweeps/night/slurm/*.log"))

    def log(self, job: str) -> str:
        """Return what a job has printed, each time that it ran."""
        path = self._folder / "sweeps" / "night" / "slurm" / f"{job}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def wait_for_training(self, *jobs: str) -> None:
        """Wait until each of these jobs is in the middle of a trial."""
        self.wait_for(lambda: all(self._trains(job) for job in jobs), f"{jobs} train")

    def _trains(self, job: str) -> bool:
        lines = [line for line in self.log(job).splitlines() if re.search(r" trial \d+ ", line)]
        return bool(lines) and re.search(r" trial \d+ \d+%", lines[-1]) is not None

    def wait_until_resumed(self, job: str, after: int) -> None:
        """Wait until a job has begun again, and trains."""
        self.wait_for(lambda: self.log(job).count("study night:") > after, f"{job} begins again")

    def end_early(self, job: str, times: int) -> None:
        """Tell a job to end while it is set up, as Slurm does two minutes before its limit, and wait until it does."""
        self.wait_for(lambda: self.log(job).count("shell") == times, f"{job} begins {times} times")
        os.kill(int(re.findall(r"shell (\d+)", self.log(job))[-1]), signal.SIGTERM)
        self.wait_for(lambda: self.log(job).count("interrupted") == times, f"{job} ends {times} times")

    def starts(self, job: str) -> int:
        """How often a job has begun."""
        return self.log(job).count("study night:")


def test_a_study_on_slurm_survives_stops_limits_preemption_and_the_loss_of_a_node(
    tmp_path: Path, cluster: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(SLOWLY)
    monkeypatch.setenv("PYTHONPATH", f"{patches}:{studies.ROOT / 'src'}")
    (tmp_path / SLOW).touch()
    night = Night(tmp_path, cluster)
    submitted = studies.run(tmp_path, (*WORDS, "workers.slurm.array_parallelism=2"))
    assert submitted.code == 0, submitted.output
    assert "submitted array 1 of 3 jobs: sweeps/night/slurm/array.sh" in submitted.output
    assert "end it: embedsweep stop night" in submitted.output
    again = studies.run(tmp_path, WORDS)
    assert "no job was added: workers.count=3" in again.output, again.output

    # The third job waits in the queue: it must not begin.
    night.wait_for_training("1_0", "1_1")
    stopped = studies.finish(studies.start_program(tmp_path, ["-m", "embedsweep", "stop", "night"]))
    assert stopped.code == 0, stopped.output
    assert re.search(r"stopped: trials \d, \d and jobs? .*1_0", stopped.output), stopped.output
    assert cluster.jobs() == []
    assert night.jobs_with_logs() == ["1_0", "1_1"]
    for job in ("1_0", "1_1"):
        assert "stopped by embedsweep stop" in night.log(job)
        assert "requeued" not in night.log(job)

    printed = tmp_path / "printed"
    waiting = studies.start(tmp_path, ["study.name=night", *WORDS[-3:], "--wait"], output=printed)
    night.wait_for(lambda: len(cluster.jobs("RUNNING")) == 3, "three jobs run")
    jobs = cluster.jobs()
    night.wait_for_training(*jobs)

    # Slurm looks at limits every 30 s, and warns a job two minutes before its own: at the next look at this one's.
    late = jobs[0]
    before = night.starts(late)
    cluster.run("scontrol", "update", f"JobId={late}", f"TimeLimit={cluster.minutes(late) + 2}")
    warned = f"job {late} is at its time limit, and is requeued"
    night.wait_for(lambda: warned in night.log(late), warned)
    cluster.run("scontrol", "update", f"JobId={late}", "TimeLimit=60")
    night.wait_until_resumed(late, before)

    (on_node1,) = [job for job in jobs if f"{job} node1" in cluster.run("squeue", "-h", "--array", "--format=%i %N")]
    night.wait_for_training(on_node1)
    before = night.starts(on_node1)
    urgent = ("--partition=high", "--nodelist=node1", "--cpus-per-task=2", f"--chdir={tmp_path}", "--wrap=sleep 5")
    cluster.run("sbatch", *urgent)
    night.wait_until_resumed(on_node1, before)
    assert "interrupted" in night.log(on_node1)
    assert "requeued" not in night.log(on_node1)  # Slurm itself does it

    # The other node has no room for it until another job ends; then the study may be complete, and it is cancelled.
    night.wait_for_training(on_node1)
    interrupted = night.log(on_node1).count("interrupted")
    cluster.run("scontrol", "update", "NodeName=node1", "State=DRAIN", "Reason=test")
    cluster.run("scontrol", "requeue", on_node1)
    night.wait_for(lambda: night.log(on_node1).count("interrupted") > interrupted, "the drained node is left")
    (tmp_path / SLOW).unlink()
    code = waiting.wait(studies.WITHIN_S)
    output = printed.read_text(encoding="utf-8")
    assert code == 0, output
    assert "6 of 6 trials finished" in output
    assert "best: trial" in output
    assert cluster.jobs() == []
    study = Study(tmp_path)
    studies.check_whole(study, N_TRIALS)
    logs = "".join(map(night.log, night.jobs_with_logs()))
    assert "Traceback" not in logs
    assert "from its start" not in logs
    assert len(re.findall(r"RUNNING .*resumed", logs)) >= 4
    assert all("embedsweep.deaths" not in trial.user_attrs for trial in study.trials)


def test_a_job_that_is_told_to_end_before_it_trains_is_requeued_until_its_limit_is_known_to_be_too_short(
    tmp_path: Path, cluster: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(studies.ROOT / "src"))
    night = Night(tmp_path, cluster)
    set_up = ("workers.slurm.setup=['echo shell $$', 'sleep 5']", "workers.slurm.array_parallelism=1")
    submitted = studies.run(tmp_path, (*WORDS, *set_up))
    assert submitted.code == 0, submitted.output
    cluster.run("scontrol", "hold", "1_1,1_2")  # they would get the study further
    for times in range(1, 5):
        night.end_early("1_0", times)
    night.wait_for(lambda: not cluster.jobs(), "the array ends")
    log = night.log("1_0")
    assert log.count("job 1_0 is at its time limit, and is requeued") == 3
    assert "embedsweep: job 1_0 came to its time limit 3 times more, and study night got no further" in log
    assert "RUNNING" not in log
    assert "Traceback" not in log
    assert night.jobs_with_logs() == ["1_0"]
