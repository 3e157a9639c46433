"""Check what a study on Slurm asks for, before anything is submitted."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from embedsweep.config.study import StudyConfig, TrackingConfig
from embedsweep.config.workers import SlurmWorkersConfig
from embedsweep.errors import Problem
from embedsweep.files import user_path
from embedsweep.secrets import redact
from embedsweep.validation.slurm_names import check_names, why_no_answer

SHORTEST_LIMIT_S = 300
"""A job is warned two minutes before its limit, by a clock that may be a minute early, and needs time to begin."""

PLACEHOLDERS = ("command", "setup", "study")
"""What stands in double braces in a script -> the command of a job, ``workers.slurm.setup``, the study's name."""

SCRIPT = "workers.slurm.script"
_PLACEHOLDER = re.compile(r"\{\{ *(\w+) *\}\}")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_MEM = re.compile(r"[0-9]+(?:[KMGT]B?)?", re.IGNORECASE)
_NO_LIMIT = ("infinite", "unlimited")


def check_slurm(workers: SlurmWorkersConfig, study: StudyConfig, tracking: TrackingConfig) -> Iterator[Problem]:
    """Report what a command with ``workers=slurm`` cannot do, or Slurm would refuse or never end well."""
    if shutil.which("sbatch") is None and not study.dry_run:
        message = "slurm submits jobs with sbatch, which is not on PATH: start it on a login node, or use workers=local"
        yield Problem("workers", message)
    elif not study.dry_run and (why := why_no_answer()) is not None:
        yield Problem("workers", f"Slurm does not answer on this machine ({why}): start it where squeue does")
    if workers.count is None:
        yield Problem("workers.count", "must be the number of jobs of the array, but got null")
    yield from _check_measures(study)
    if workers.slurm.time is not None:
        yield from _check_limit("workers.slurm.time", workers.slurm.time)
    if workers.slurm.mem is not None and not _MEM.fullmatch(workers.slurm.mem):
        message = f"must be memory as Slurm writes it (16G, 500M; K, M, G or T), but got {workers.slurm.mem!r}"
        yield Problem("workers.slurm.mem", message)
    yield from check_names(workers.slurm)
    yield from _check_nodes(workers)
    yield from _check_secrets(workers, study, tracking)
    if workers.slurm.script is not None:
        yield from _check_script(user_path(workers.slurm.script))


def seconds_of(limit: str) -> int | None:
    """Return the seconds of a time limit as Slurm writes it; None for no limit.

    Args:
        limit: minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM``, ``D-HH:MM:SS``, or ``infinite``.

    Raises:
        ValueError: it is none of these.
    """
    if limit.lower() in _NO_LIMIT:
        return None
    if (match := _TIME.fullmatch(limit.strip())) is None:
        raise ValueError(limit)
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(match["days"]) * 86400 + hours * 3600 + minutes * 60 + seconds
    # Without days, one number is minutes, and two are minutes and seconds.
    hours, minutes, seconds = parts if len(parts) == 3 else (0, *parts, 0)[:3]
    return hours * 3600 + minutes * 60 + seconds or None


def _check_limit(where: str, limit: str) -> Iterator[Problem]:
    try:
        seconds = seconds_of(limit)
    except ValueError:
        forms = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"
        yield Problem(where, f"must be a time limit as Slurm writes it ({forms}), but got {limit!r}")
        return
    if seconds is not None and seconds < SHORTEST_LIMIT_S:
        message = (
            f"must be at least five minutes, but {limit} is {seconds} s: a job is warned two to three minutes before "
            "its limit, and would have no time to train"
        )
        yield Problem(where, message)


def _check_measures(study: StudyConfig) -> Iterator[Problem]:
    """Report what would be measured on this machine, which is not the one that trains."""
    advice = "measures on this machine, and trials would run on another: use workers=local in a job (srun)"
    if study.dry_run == "quote":
        yield Problem("study.dry_run", f"quote {advice}")
    if study.budget_hours is not None:
        yield Problem("study.budget_hours", f"{advice}, or set study.n_trials")


def _check_nodes(workers: SlurmWorkersConfig) -> Iterator[Problem]:
    """Report a trial that does not fit on one node."""
    processes, slurm = workers.processes_per_trial, workers.slurm
    key, room = (
        ("gpus_per_node", slurm.gpus_per_node) if slurm.gpus_per_node else ("cpus_per_task", slurm.cpus_per_task)
    )
    if room is not None and processes > room:
        message = (
            f"{processes} processes train each trial on one node, which workers.slurm.{key}={room} gives too little: "
            f"raise that to {processes}. A trial over several nodes is not supported: small models gain nothing by it"
        )
        yield Problem("workers.processes_per_trial", message)


def _check_secrets(workers: SlurmWorkersConfig, study: StudyConfig, tracking: TrackingConfig) -> Iterator[Problem]:
    """Report secrets that would be written into the script."""
    urls = {
        "study.storage": (study.storage, "PGPASSFILE or ~/.pgpass"),
        "tracking.uri": (tracking.uri, "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    }
    for key, (url, place) in urls.items():
        if url is not None and redact(url) != url:
            message = f"has a password, which would stand in the jobs' script: leave it out, and set {place}"
            yield Problem(key, message)
    for line in workers.slurm.setup:
        if redact(line) != line:
            message = f"has a secret, which would stand in the jobs' script: {redact(line)}; export it before"
            yield Problem("workers.slurm.setup", message)


def _check_script(path: Path) -> Iterator[Problem]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        yield Problem(SCRIPT, f"{path} cannot be read: {reason}")
        return
    if not text.startswith("#!"):
        yield Problem(SCRIPT, f"{path} must begin with #! and a shell, as #!/bin/bash")
    found = _PLACEHOLDER.findall(text)
    for name in dict.fromkeys(name for name in found if name not in PLACEHOLDERS):
        there = ", ".join(f"{{{{{each}}}}}" for each in PLACEHOLDERS)
        yield Problem(SCRIPT, f"{path} has {{{{{name}}}}}, which stands for nothing; there are: {there}")
    if "command" not in found:
        message = f"{path} must have {{{{command}}}} where the worker runs: exec {{{{command}}}}, which gets SIGTERM"
        yield Problem(SCRIPT, message)
    for line, directive in enumerate(text.splitlines(), 1):
        if directive.startswith("#SBATCH"):
            yield from _check_directive(f"{path}, line {line}", directive)


def _check_directive(where: str, directive: str) -> Iterator[Problem]:
    """Report an option of sbatch in a user's script that one job of the array cannot have."""
    try:
        words = shlex.split(directive.removeprefix("#SBATCH"), comments=True)
    except ValueError as error:
        yield Problem(where, f"cannot be read: {error}")
        return
    pairs = dict(itertools.zip_longest(words, words[1:], fillvalue=""))
    pairs |= {key: value for key, sign, value in (word.partition("=") for word in words) if sign}
    for key in ("--nodes", "-N", "--ntasks", "-n"):
        if pairs.get(key, "1") not in ("1", "1-1"):
            message = (
                f"{key} {pairs[key]} asks for several nodes or tasks, and each job is one command on one node: a trial "
                "over several nodes is not supported. More jobs: workers.count"
            )
            yield Problem(where, message)
    for key in ("--time", "-t"):
        if key in pairs:
            yield from _check_limit(where, pairs[key])
    for key in ("--array", "-a"):
        if key in pairs:
            yield Problem(where, f"{key} is decided by workers.count and workers.slurm.array_parallelism: leave it out")


def fill_script(text: str, **values: str) -> str:
    """Return a script with values in place of the names of `PLACEHOLDERS`."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)
