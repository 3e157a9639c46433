"""Submitting a study's jobs to a real Slurm whose partition does not start any, and ``embedsweep stop``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.commands import stop
from embedsweep.commands.slurm import has_logs
from embedsweep.study import stopping
from embedsweep.study.record import StudyRecord
from embedsweep.workers.slurm import live_jobs, log_pattern
from tests import slurm
from tests.report.studies import result, study_of
from tests.slurm import Slurm, running_slurm

WORDS = ("train", "-m", "loss=mnrl,cosent", "trainer.device=cpu", "study.name=night")
needs_slurm = pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """A Slurm that starts no job."""
    with running_slurm() as running:
        running.run("scontrol", "update", "PartitionName=low", "State=DOWN")
        yield running


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stopping, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(stop, "LOOK_EVERY_S", 0.1)


def test_a_percent_sign_of_a_folder_is_none_of_slurms() -> None:
    assert log_pattern(Path("/runs/100%A/sweeps/night")) == "/runs/100%%A/sweeps/night/slurm/%A_%a.log"


@needs_slurm
def test_jobs_ask_for_what_the_command_says_and_run_the_study_by_its_name(
    cluster: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    asked = {"partition": "low", "time": "2-12:00", "cpus_per_task": "2", "mem": "500M", "array_parallelism": "1"}
    keys = [f"workers.slurm.{key}={value}" for key, value in asked.items()]
    words = [*WORDS, "workers=slurm", "workers.count=5", *keys, "workers.slurm.setup=['export MODE=night']"]
    assert main([*words, "study.max_deaths=7", "study.timeout=60"]) == 0
    printed = capsys.readouterr().out
    (array,) = re.findall(r"submitted array (\d+) of 2 jobs: sweeps/night/slurm/array.sh", printed)  # it has two trials
    job = dict(re.findall(r"(\w+)=(\S+)", cluster.run("scontrol", "show", "job", f"{array}_0")))
    expected = {
        "ArrayTaskThrottle": "1",
        "JobName": "embedsweep-night",
        "TimeLimit": "2-12:00:00",
        "NumNodes": "1-1",
        "NumTasks": "1",
        "MinMemoryNode": "500M",
        "Requeue": "1",
        "WorkDir": str(Path.cwd()),
        "Command": str(Path("sweeps/night/slurm/array.sh").absolute()),
        "StdOut": str(Path(f"sweeps/night/slurm/{array}_0.log").absolute()),
    }
    assert {key: job.get(key) for key in expected} == expected
    script = Path("sweeps/night/slurm/array.sh").read_text().splitlines()
    assert script[0] == "#!/bin/bash"
    assert script[-2] == "export MODE=night"
    assert script[-1].startswith(f"exec {sys.executable} -P -m embedsweep train -m 'study.name=\"night\"' ")
    for word in ("study.max_deaths=7", "study.timeout=60.0", "workers=local", "workers.max_restarts=10"):
        assert f" {word}" in script[-1]

    assert main(words) == 0
    again = capsys.readouterr().out
    assert f"jobs of this study: 2 pending ({array}_0, {array}_1)" in again
    assert "no job was added" in again
    assert cluster.jobs() == [f"{array}_0", f"{array}_1"]

    assert main(["stop", "night"]) == 0
    printed = capsys.readouterr().out
    assert (
        f"stopped: jobs {array}_0, {array}_1; 0 of 2 trials finished; embedsweep train -m study.name=night" in printed
    )
    assert cluster.jobs() == []


@needs_slurm
def test_a_partition_that_slurm_lacks_is_named_with_all_other_problems_before_a_study_is_created(
    cluster: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    assert main([*WORDS, "workers=slurm", "workers.slurm.partition=hihg", "trainer.epochs=-1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "embedsweep: 2 problems; nothing was trained",
        "  workers.slurm.partition: Slurm refuses hihg (did you mean high?): invalid partition specified; there are: "
        "high, low",
        "  trainer.epochs: must be a number above 0, but got -1",
    ]
    assert not Path("sweeps").exists()


@needs_slurm
def test_what_else_slurm_refuses_is_said_in_its_words(
    cluster: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    assert main([*WORDS, "workers=slurm", "workers.slurm.gpus_per_node=1"]) == 1
    assert "sbatch failed: sbatch: error: " in capsys.readouterr().err


@needs_slurm
def test_a_job_that_is_requeued_while_its_study_is_stopped_is_cancelled(
    cluster: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    assert main([*WORDS, "workers=slurm"]) == 0
    (job,) = cluster.jobs()
    looks = 0

    def look(study: StudyRecord) -> dict[str, str]:
        nonlocal looks
        looks += 1
        return {job: "RUNNING"} if looks == 1 else live_jobs(study)

    monkeypatch.setattr("embedsweep.workers.slurm.live_jobs", look)
    assert main(["stop", "night", "--within=20"]) == 0
    assert f"stopped: job {job};" in capsys.readouterr().out
    assert cluster.jobs() == []


def test_only_an_array_with_logs_is_said_to_have_some() -> None:
    study = study_of(result(0.5), name="night", words=("study.n_trials=2",))
    assert not has_logs(study)
    log = study.folder / "slurm" / "12_0.log"
    log.parent.mkdir()
    (study.folder / "slurm" / "array.sh").write_text("#!/bin/bash")
    assert not has_logs(study)
    log.write_text("study night: 2 trials")
    assert has_logs(study)


@needs_slurm
def test_files_on_a_network_file_system_are_for_one_job(
    cluster: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setattr("embedsweep.commands.slurm.shared_file_system", lambda _: "nfs4")
    database = Path("mlruns/mlflow.db").absolute()
    why = "is on a network file system (nfs4), whose locks may exclude nobody, and 2 jobs may run on several nodes: add"
    assert main([*WORDS, "workers=slurm", "workers.count=2"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "embedsweep: 2 problems; nothing was trained",
        f"  study.storage: sweeps/night/journal.log {why} study.storage=postgresql://host/database, or workers.count=1",
        f"  tracking.uri: {database} {why} tracking.uri=http://host:5000, or workers.count=1",
    ]
    assert not Path("sweeps/night").exists()
    assert main([*WORDS, "workers=slurm", "workers.count=1"]) == 0
    assert main(["stop", "night"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WORDS, "--wait: is for jobs: a command with workers=inline runs the trials itself; leave it out"),
        (("train",), "--wait: is for the jobs of a study: add -m and workers=slurm, or leave it out"),
    ],
)
def test_only_jobs_are_waited_for(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--wait"]) == 2
    assert message in capsys.readouterr().err


def test_a_study_on_which_nothing_works_is_stopped_without_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    study_of(result(0.5), result(0.7), name="night", words=("study.n_trials=3",))
    assert main(["stop", "night"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "no trial runs; a command that is about to begin one ends, too",
        "2 of 3 trials finished; embedsweep train -m study.name=night resumes it",
    ]
    assert main(["stop", "nigth"]) == 2
    assert "no such study (did you mean night?)" in capsys.readouterr().err


def test_a_study_on_which_nothing_works_is_stopped_however_short_the_time_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study_of(result(0.5), result(0.7), name="night", words=("study.n_trials=3",))
    monkeypatch.setattr(stopping, "CHECK_EVERY_S", 1.2)
    assert main(["stop", "night", "--within=1"]) == 0


def test_a_trial_that_does_not_end_in_time_is_named_and_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(result(0.5), name="night", words=("study.n_trials=2",))
    assert study.ask() is not None  # and this process does not hear of it
    assert main(["stop", "night", "--within=1"]) == 1
    printed = capsys.readouterr()
    assert re.search(r"waiting for trial 1 \(on \S+\)", printed.out)
    assert "after 1 s (--within) these still run: trial 1 (on" in printed.err
