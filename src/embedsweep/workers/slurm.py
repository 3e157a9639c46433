"""Arrays of Slurm jobs that work on a study: submit them, see which live, requeue and cancel them.

Each job runs ``embedsweep train -m study.name=NAME workers=local`` on one node, and so pulls trials like any command.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from embedsweep.config.compose import as_text_word
from embedsweep.config.values import shown
from embedsweep.config.workers import SlurmWorkersConfig
from embedsweep.errors import WorkerError
from embedsweep.files import user_path, write_atomically
from embedsweep.processes import PYTHON, same_package
from embedsweep.secrets import redact
from embedsweep.signals import BEGINS, JOB, shielded
from embedsweep.study.record import StudyRecord
from embedsweep.study.requeues import MOST, limits_without_progress
from embedsweep.study.stopping import StopWatch, add_slurm_array, own_array, slurm_arrays
from embedsweep.study.study import Study
from embedsweep.validation.slurm import fill_script
from embedsweep.validation.slurm_names import options_of
from embedsweep.validation.sweep import Sweep

TEMPLATE = Path(__file__).with_name("slurm_array.sh")
SCRIPT, LOG = "slurm/array.sh", "slurm/%A_%a.log"
"""Within the study's folder."""

FIXED_OPTIONS = (
    "--parsable",
    "--nodes=1",
    "--ntasks=1",
    "--requeue",
    "--open-mode=append",
    # Two minutes before the time limit, and to the process alone that the script has become.
    "--signal=B:TERM@120",
)
ASKED = ("partition", "time", "gpus_per_node", "cpus_per_task", "mem", "account", "qos")
"""Keys of ``workers.slurm`` that sbatch has an option for."""
ANSWER_WITHIN_S = 60.0
"""How long one of Slurm's commands may take; a busy controller lets them wait."""

WORKER_KEYS = ("per_device", "processes_per_trial", "max_restarts", "silence", "mps")
STUDY_KEYS = ("timeout", "max_retries", "max_deaths")
"""Keys that a study does not keep, so that a job's command has to repeat them."""

NO_JOB = "Invalid job id"
"""What Slurm says of a job that it has forgotten, some minutes after its end."""


def submit(study: Study, request: Sweep, count: int) -> str:
    """Submit an array of jobs for a study and return its id.

    Args:
        study: the study, open.
        request: the validated command, with ``workers=slurm``.
        count: how many jobs the array has.

    Raises:
        WorkerError: Slurm refuses it.
    """
    workers = request.workers
    assert isinstance(workers, SlurmWorkersConfig)
    script = study.folder / SCRIPT
    script.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(script, script_of(study, request))
    parallel = f"%{workers.slurm.array_parallelism}" if workers.slurm.array_parallelism else ""
    options = [
        *FIXED_OPTIONS,
        f"--job-name=embedsweep-{study.name}",
        f"--array=0-{count - 1}{parallel}",
        f"--chdir={Path.cwd()}",
        f"--output={log_pattern(Path.cwd() / study.folder)}",
        *options_of(workers.slurm, ASKED),
    ]
    # A job opens the study under its lock, and so only once it is known to be the study's.
    with study.lock(), shielded():
        live = {array: slurm_arrays(study)[array] for array in {task.partition("_")[0] for task in live_jobs(study)}}
        array = _call("sbatch", *options, str(script)).strip().partition(";")[0]
        try:
            add_slurm_array(study, array, live)
        except BaseException:
            cancel([array])  # nobody would know of it
            raise
    return array


def log_pattern(folder: Path) -> str:
    """Return the pattern of the jobs' logs in a study's folder; a % of the folder's own is none that Slurm fills in."""
    return f"{folder}".replace("%", "%%") + f"/{LOG}"


def script_of(study: Study, request: Sweep) -> str:
    """Return the script of a job: the built-in one or the user's, filled in."""
    workers = request.workers
    assert isinstance(workers, SlurmWorkersConfig)
    own = workers.slurm.script
    text = (user_path(own) if own is not None else TEMPLATE).read_text(encoding="utf-8")
    return fill_script(
        text, command=job_command(study, request), setup="\n".join(workers.slurm.setup), study=study.name
    )


def job_command(study: Study, request: Sweep) -> str:
    """Return the command of a job, quoted for the shell: the study by its name, with what it does not keep."""
    texts = {"study.name": study.name, "study.storage": study.url, "tracking.uri": study.services.tracking.uri}
    workers, settings = asdict(request.workers), asdict(request.study)
    values = {
        "tracking.spool": request.tracking.spool,
        **{f"study.{key}": settings[key] for key in STUDY_KEYS},
        "workers": "local",
        **{f"workers.{key}": workers[key] for key in WORKER_KEYS},
    }
    words = [as_text_word(key, text) for key, text in texts.items() if text]
    words += [shlex.quote(f"{key}={shown(value)}") for key, value in values.items()]
    return " ".join([*map(shlex.quote, (*PYTHON, "embedsweep", "train", "-m")), *words])


def live_jobs(study: StudyRecord) -> dict[str, str]:
    """Return the state of each job of a study that has not ended, by its id (``12_0``): ``RUNNING``, ``PENDING``.

    Raises:
        WorkerError: Slurm does not answer.
    """
    jobs: dict[str, str] = {}
    for array in slurm_arrays(study):
        lines = _call("squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={array}", missing="")
        jobs |= dict(line.split() for line in lines.splitlines())
    return jobs


def cancel(jobs: Sequence[str], *, pending: bool = False) -> None:
    """Cancel jobs, or arrays of them; those that have ended are left as they are.

    Args:
        jobs: their ids.
        pending: cancel only those that wait in the queue.

    Raises:
        WorkerError: Slurm does not answer.
    """
    if jobs:
        _call("scancel", "--quiet", *(["--state=PENDING"] if pending else []), *jobs, missing="")


def requeue_own_job(study: StudyRecord, watch: StopWatch, say: Callable[[str], None]) -> None:
    """Let this job begin again later, where it was only warned of its end, and nobody has ended it.

    A job that is cancelled or preempted is ending when it gets its signal; Slurm itself requeues one that is preempted.
    One that still runs is at its time limit.

    Raises:
        WorkerError: it has come to its limit too often while the study got no further; the others are cancelled.
    """
    array = own_array(study)
    if array is None:
        return
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    with shielded():
        try:
            jobs = live_jobs(study)
            if jobs.get(job) != "RUNNING" or watch.has_stopped:
                return
            count = limits_without_progress(study, job)
            if count < MOST:
                say(f"job {job} is at its time limit, and is requeued")
                _call("scontrol", "requeue", job)
                return
            cancel([other for other in jobs if other != job and other.startswith(f"{array}_")])
        except WorkerError as error:
            say(f"job {job} cannot be requeued: {error}")
            return
    message = f"job {job} came to its time limit {count} times more, and study {study.name} got no further"
    raise WorkerError(
        f"{message}: it is too short to begin and to train a step. Raise workers.slurm.time; array {array} ends"
    )


def cancel_waiting_jobs(study: StudyRecord, say: Callable[[str], None]) -> None:
    """Cancel the jobs of a complete study that have not begun, where this process is one of its jobs."""
    if own_array(study) is None:
        return
    try:
        cancel(list(slurm_arrays(study)), pending=True)
    except WorkerError as error:  # they would find nothing to do
        say(f"jobs that wait in the queue were not cancelled: {error}")


def _call(program: str, *words: str, missing: str | None = None) -> str:
    """Run one of Slurm's programs and return what it prints.

    Args:
        program: its name.
        words: its arguments.
        missing: is returned where Slurm knows no such job; None is an error.

    Raises:
        WorkerError: it cannot be run, fails, or does not answer.
    """
    try:
        done = subprocess.run(
            [program, *words],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_WITHIN_S,
        )
    except FileNotFoundError:
        raise WorkerError(f"{program} is not on PATH: this machine has no access to Slurm") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerError(f"{program} does not answer: {error}") from None
    if done.returncode == 0:
        return done.stdout
    if missing is not None and NO_JOB in done.stderr:
        return missing
    raise WorkerError(f"{program} failed: {redact(' '.join(done.stderr.split()))}")


def _environment() -> Mapping[str, str]:
    """Return the environment of Slurm's programs, which sbatch hands on to the jobs: that of this process.

    Without the user's setting that lets sbatch wait for the end of the jobs, whose study would not know of them.
    """
    own = {name: value for name, value in os.environ.items() if name != "SBATCH_WAIT"}
    return {**own, **same_package(), JOB: BEGINS}
