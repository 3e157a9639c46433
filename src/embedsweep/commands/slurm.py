"""A study whose trials run in Slurm's jobs: submit them, and if requested wait for their end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from embedsweep.errors import Interrupted, Problem, WorkerError
from embedsweep.report.live import TrialDisplay
from embedsweep.report.status import study_status
from embedsweep.study.finals import expects_finals, open_finals
from embedsweep.study.mounts import shared_file_system
from embedsweep.study.opening import place
from embedsweep.study.record import StudyRecord
from embedsweep.study.stopping import slurm_arrays
from embedsweep.study.storage import JOURNAL
from embedsweep.study.study import Study
from embedsweep.tracking.store import locate
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.conclusion import is_over
from embedsweep.workers.slurm import LOG, SCRIPT, live_jobs, submit

LOOK_EVERY_S = 5.0


def check_files(request: Sweep) -> Iterator[Problem]:
    """Report files that jobs on several nodes would write on a network file system, whose locks may exclude nobody."""
    count = request.workers.count or 1
    _, folder, url = place(request)
    files = {
        "study.storage": (_file_of(url, folder / JOURNAL), "study.storage=postgresql://host/database"),
        "tracking.uri": (locate(request.tracking.uri).database, "tracking.uri=http://host:5000"),
    }
    for key, (path, advice) in files.items():
        kind = shared_file_system(path) if path is not None and count > 1 else None
        if kind is not None:
            message = f"{path} is on a network file system ({kind}), whose locks may exclude nobody, and {count} jobs"
            yield Problem(key, f"{message} may run on several nodes: add {advice}, or workers.count=1")


def _file_of(url: str | None, journal: Path) -> Path | None:
    """Return the file that holds a study; None where that is a server."""
    if url is None:
        return journal
    parts = make_url(url)
    return Path(parts.database or "") if parts.drivername.startswith("sqlite") else None


def submit_jobs(request: Sweep, study: Study, left: int, display: TrialDisplay) -> None:
    """Submit as many jobs as are asked for and do not live yet, but not more than there are trials for them.

    Args:
        request: the validated command.
        study: the study, open.
        left: trials of it and its finals that no process runs.
        display: is told what was done.

    Raises:
        WorkerError: Slurm refuses them or does not answer.
    """
    jobs = live_jobs(study)
    if jobs:
        display.say(f"jobs of this study: {_states(jobs)} ({', '.join(jobs)})")
    # Without a trial left, there may be an answer to give.
    wanted = left if left or jobs else 1
    waiting = sum(state == "PENDING" for state in jobs.values())
    assert request.workers.count is not None, "validation asks for a number"
    count = min(request.workers.count - len(jobs), wanted - waiting)
    if count < 1:
        display.say(f"no job was added: workers.count={request.workers.count}, and {left} trials that no job runs yet")
    else:
        array = submit(study, request, count)
        log = study.folder / LOG.replace("%A", array).replace("%a", "*")
        display.say(
            f"submitted array {array} of {count} job{'s' if count > 1 else ''}: {study.folder / SCRIPT}; logs: {log}"
        )
    arrays = ",".join(slurm_arrays(study))
    display.say(f"watch it: embedsweep show {study.name}, squeue --jobs={arrays}; end it: embedsweep stop {study.name}")


def is_done(study: Study) -> bool:
    """Return whether nothing is left to do on a study: its trials, its finals and its answer are complete."""
    lacks_finals = study.finals is None and expects_finals(study)
    return is_over(study) and study.is_answered and not lacks_finals


def has_logs(study: Study) -> bool:
    """Return whether a job of a study has printed anything; one that never began has not."""
    return any(path.stat().st_size for path in (study.folder / LOG).parent.glob("*.log"))


def retry_failed(study: Study, say: Callable[[Study, list[int]], None]) -> None:
    """Enqueue the failed trials of a study and its finals again; jobs would do it each time they begin."""
    for each in (study, open_finals(study) if study.finals is not None else None):
        if each is not None and (retried := each.retry_failed()):
            say(each, retried)


def wait_for_jobs(study: Study, display: TrialDisplay, *, is_quiet: bool) -> None:
    """Show the progress of a study until none of its jobs is left.

    Raises:
        Interrupted: a signal came; the jobs go on.
    """
    said = ""
    try:
        while True:
            line, is_over = _progress(study)
            if line != said and not is_quiet:
                display.say(line)
            said = line
            if is_over:
                return
            time.sleep(LOOK_EVERY_S)
    except (Interrupted, KeyboardInterrupt):
        display.say(
            f"no longer waiting; the jobs go on: embedsweep show {study.name} shows them, embedsweep stop {study.name} "
            "ends them"
        )
        raise


def _progress(study: Study) -> tuple[str, bool]:
    """Return in words how far a study is, and whether all its jobs have ended."""
    try:
        jobs = live_jobs(study)
    except WorkerError as error:  # a controller may be away for minutes, and jobs go on meanwhile
        return str(error), False
    each: list[StudyRecord] = [study, *([study.finals] if study.finals is not None else [])]
    parts = [study_status(one).finished_text for one in each]
    return f"{', '.join(parts)}; jobs: {_states(jobs) or 'none'}", not jobs


def _states(jobs: Mapping[str, str]) -> str:
    counts = Counter(state.lower() for state in jobs.values())
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
