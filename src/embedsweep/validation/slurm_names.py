"""Ask Slurm whether it has what a command names, so that no study is created for a partition that is misspelt."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping

from embedsweep.config.values import nearest
from embedsweep.config.workers import SlurmConfig
from embedsweep.errors import Problem

ANSWER_WITHIN_S = 10.0

REFUSALS: Mapping[str, str] = {
    "account": r"invalid account[^:\n]*",  # these words go on with "account/partition combination"
    "qos": r"invalid qos[^:\n]*",
    "partition": r"invalid partition[^:\n]*",
}
"""Key of ``workers.slurm`` -> how Slurm refuses its value. Any other refusal may be of a queue that is busy or down."""


def why_no_answer() -> str | None:
    """Return in Slurm's words why its controller cannot be asked from this machine; None if it answers, or is slow."""
    done = _run("scontrol", "ping")
    if done is None or done.returncode == 0:
        return None
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return lines[-1] if lines else "scontrol ping fails"


def check_names(slurm: SlurmConfig) -> Iterator[Problem]:
    """Report names that Slurm refuses; nothing where it does not answer.

    Slurm judges a job that it does not submit: whether accounts count, and who may use a partition, is up to it. It
    names one thing at a time.
    """
    names = [name for name in REFUSALS if getattr(slurm, name) is not None]
    while names:
        _, refusal = _answer("sbatch", "--test-only", "--wrap=:", *options_of(slurm, names))
        found = {name: re.search(REFUSALS[name], refusal, re.IGNORECASE) for name in names}
        refused = next(((name, match[0].lower()) for name, match in found.items() if match is not None), None)
        if refused is None:
            return
        name, reason = refused
        value, known = str(getattr(slurm, name)), _known(name)
        there = f"; there are: {', '.join(known)}" if known else ""
        yield Problem(f"workers.slurm.{name}", f"Slurm refuses {value}{nearest(value, known)}: {reason}{there}")
        names.remove(name)


def options_of(slurm: SlurmConfig, names: Iterable[str]) -> list[str]:
    """Return the options of sbatch for those keys of a job that are set."""
    asked = {name: getattr(slurm, name) for name in names}
    return [f"--{name.replace('_', '-')}={value}" for name, value in asked.items() if value is not None]


def _known(name: str) -> list[str]:
    """Return the partitions, or the accounts or qualities of service of this user; none where Slurm has no list."""
    if name == "partition":
        names, _ = _answer("sinfo", "--noheader", "--format=%R")
    else:
        names, _ = _answer("sacctmgr", "--noheader", "--parsable2", "show", "assoc", *_of_user(), f"format={name}")
    return sorted(set(re.split(r"[\s,]+", names)) - {""})


def _of_user() -> list[str]:
    """Return the words that ask of this user only; none for one without a name."""
    try:
        return [f"user={getpass.getuser()}"]
    except (KeyError, OSError):
        return []


def _answer(program: str, *words: str) -> tuple[str, str]:
    """Return what a program of Slurm prints as its result, and as its errors; nothing if it cannot be asked."""
    if (done := _run(program, *words)) is None:
        return "", ""
    return done.stdout if done.returncode == 0 else "", done.stderr


def _run(program: str, *words: str) -> subprocess.CompletedProcess[str] | None:
    """Run a program of Slurm; None if it is not there or does not answer in time."""
    try:
        return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=ANSWER_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
