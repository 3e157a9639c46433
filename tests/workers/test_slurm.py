"""How programs of Slurm are called, and when a job has itself requeued."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep.errors import WorkerError
from embedsweep.signals import BEGINS, ENDS
from embedsweep.signals import JOB as SIGNALLED
from embedsweep.study.opening import open_study
from embedsweep.study.reading import read_study
from embedsweep.study.stopping import OWN_ARRAY, StopWatch, add_slurm_array, request_stop
from embedsweep.study.study import Study
from embedsweep.training.checkpoints import CHECKPOINTS, SEAL, Checkpoints
from embedsweep.validation.slurm import fill_script
from embedsweep.workers.slurm import TEMPLATE, cancel, requeue_own_job
from tests.study.test_study import make_request

JOB = "12_3"


@pytest.fixture(autouse=True)
def _in_a_folder_with_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")


def program(name: str, text: str) -> None:
    """Put a program on PATH."""
    path = Path("bin") / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_programs_of_slurm_get_the_users_variables_but_for_the_one_that_lets_sbatch_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = "account $SBATCH_ACCOUNT, wait ${SBATCH_WAIT-unset}, job $EMBEDSWEEP_JOB, $*"
    program("scancel", f'echo "{printed}" >&2\nexit 1')
    monkeypatch.setenv("SBATCH_ACCOUNT", "team")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    with pytest.raises(WorkerError, match="account team, wait unset, job begins, --quiet 12"):
        cancel(["12"])


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of an array of whose jobs this process is one, which comes to its limit."""
    program("squeue", f"echo {JOB} RUNNING\necho 12_4 PENDING\necho 12_5 RUNNING")
    for name in ("scontrol", "scancel"):
        program(name, f'echo "{name} $*" >> called')
    monkeypatch.setenv(OWN_ARRAY, "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    study = open_study(make_request())
    add_slurm_array(study, "12", {})
    return study


def called() -> list[str]:
    """Return the calls that changed something since the last look."""
    path = Path("called")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def begins_a_checkpoint(study: Study) -> None:
    """Get the only trial that runs a step further."""
    checkpoints = Checkpoints(study.trial_folder(0) / CHECKPOINTS)
    path = checkpoints.path((checkpoints.last_sealed or 0) + 1)
    path.mkdir(parents=True)
    (path / SEAL).touch()


def fails_a_trial(study: Study) -> None:
    """Finish a trial, whose checkpoints go with it."""
    trial = study.ask()
    assert trial is not None
    study.fail(trial, "no")


@pytest.mark.parametrize("progress", [begins_a_checkpoint, fails_a_trial])
def test_a_job_is_requeued_at_its_limit_as_long_as_the_study_gets_further(
    study: Study, progress: Callable[[Study], None]
) -> None:
    assert study.ask() is not None
    said: list[str] = []
    for number in range(7):
        # Every third time, after two without any.
        if number % 3 == 0:
            progress(study)
        requeue_own_job(open_study(make_request()), StopWatch(study, said.append), said.append)
        assert called() == [f"scontrol requeue {JOB}"]
        if progress is fails_a_trial and number >= 3:
            break  # no trial is left
    assert set(said) == {f"job {JOB} is at its time limit, and is requeued"}


def test_a_job_whose_limit_is_too_short_for_a_step_ends_its_array(study: Study) -> None:
    watch = StopWatch(study, pytest.fail)
    for _ in range(3):
        requeue_own_job(study, watch, lambda _: None)
        assert called() == [f"scontrol requeue {JOB}"]
    why = f"job {JOB} came to its time limit 3 times more, and study compare got no further.*Raise workers.slurm.time"
    with pytest.raises(WorkerError, match=why):
        requeue_own_job(study, watch, pytest.fail)
    assert called() == ["scancel --quiet 12_4 12_5"]


def test_a_job_is_not_requeued_whose_study_is_stopped_in_the_same_moment(study: Study) -> None:
    watch = StopWatch(study, pytest.fail)
    request_stop(read_study("compare"))
    requeue_own_job(study, watch, pytest.fail)
    assert called() == []


@pytest.mark.parametrize(("setup", "state"), [(":", BEGINS), ("kill -TERM $$; echo set up", ENDS)])
def test_a_job_that_is_told_to_end_while_it_is_set_up_tells_its_command(setup: str, state: str) -> None:
    script = fill_script(TEMPLATE.read_text(), setup=setup, command='sh -c "echo $EMBEDSWEEP_JOB"', study="night")
    environment = {**os.environ, SIGNALLED: BEGINS}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == state
