"""``embedsweep stop STUDY``: end all work on a study, wherever it runs, so that it can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console

from embedsweep.commands.arguments import Option, Verb, parse, whole_number
from embedsweep.commands.show import STORAGE, STUDY, open_named
from embedsweep.console import say
from embedsweep.errors import WorkerError
from embedsweep.files import STUDY_FILE

if TYPE_CHECKING:
    from embedsweep.study.record import StudyRecord

LOOK_EVERY_S = 1.0


def run(words: Sequence[str], console: Console) -> int:
    """Ask all commands and jobs of a study to end, wait until they have, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments, or there is no such study.
        StudyError: the study's storage cannot be used.
        WorkerError: workers still run after ``--within`` seconds.
    """
    arguments = parse(VERB, words)
    study = open_named(arguments)
    from embedsweep.study.stopping import request_stop
    from embedsweep.study.storage import storage_errors

    with storage_errors():
        request_stop(study)
        _Stop(study, lambda line: say(console, line)).wait(arguments.values.within)
    return 0


@dataclass
class _Stop:
    """Work on a study that was asked to end.

    Attributes:
        study: the study.
        tell: prints a line.
    """

    study: StudyRecord
    tell: Callable[[str], None]
    _has_slurm: bool = field(default=True, init=False)

    def wait(self, seconds: int) -> None:
        """Wait until nothing works on the study.

        Args:
            seconds: how long commands and jobs get to end by themselves; jobs that run then are cancelled.

        Raises:
            WorkerError: something still runs.
        """
        from embedsweep.study.stopping import CHECK_EVERY_S

        trials, jobs, begun = self._trials(), self._jobs(), time.monotonic()
        if not trials and not jobs:
            self.tell("no trial runs; a command that is about to begin one ends, too")
        said = ""
        # A command may hear of it only now, and begin a trial until then.
        while (left := self._left()) or time.monotonic() - begun < CHECK_EVERY_S + LOOK_EVERY_S:
            if left and left != said:
                self.tell(f"waiting for {left}")
                said = left
            if left and time.monotonic() - begun > seconds:
                self._cancel(self._jobs(), pending=False)
                raise WorkerError(f"after {seconds} s (--within) these still run: {left}; the others have ended")
            time.sleep(LOOK_EVERY_S)
        self._tell_end(trials, jobs)

    def _tell_end(self, trials: Mapping[str, str], jobs: Mapping[str, str]) -> None:
        from embedsweep.report.status import study_status

        ended = [f"trial{'s' if len(trials) > 1 else ''} {', '.join(trials)}"] if trials else []
        ended += [f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"] if jobs else []
        is_here = (self.study.folder / STUDY_FILE).is_file()
        command = f"embedsweep train -m study.name={self.study.name}" if is_here else "the command that began it"
        resumes = "" if self.study.is_complete else f"; {command} resumes it"
        what = f"stopped: {' and '.join(ended)}; " if ended else ""
        self.tell(f"{what}{study_status(self.study).finished_text}{resumes}")

    def _trials(self) -> dict[str, str]:
        """Return the trials of the study and its finals that a worker runs, in words, with its host."""
        from embedsweep.study.stopping import running_trials

        finals = self.study.finals
        own = {str(number): host for number, host in running_trials(self.study).items()}
        of_finals = running_trials(finals) if finals is not None else {}
        return {**own, **{f"{number} of the finals": host for number, host in of_finals.items()}}

    def _jobs(self) -> dict[str, str]:
        """Return the study's jobs that live; none, which is said, where this machine cannot ask Slurm."""
        from embedsweep.study.stopping import slurm_arrays
        from embedsweep.workers.slurm import live_jobs

        try:
            return live_jobs(self.study) if self._has_slurm else {}
        except WorkerError as error:
            self._has_slurm = False
            arrays = " ".join(slurm_arrays(self.study))
            self.tell(f"{error}. Where Slurm answers, scancel {arrays} ends what waits in the queue")
            return {}

    def _cancel(self, jobs: Mapping[str, str], *, pending: bool) -> None:
        from embedsweep.workers.slurm import cancel

        cancel(list(jobs), pending=pending)

    def _left(self) -> str:
        """Return in words what still works on the study; empty for nothing. A job may have been requeued meanwhile."""
        trials, jobs = self._trials(), self._jobs()
        if "PENDING" in jobs.values():
            self._cancel(jobs, pending=True)
        hosts = ", ".join(sorted(set(trials.values())))
        parts = [f"trial{'s' if len(trials) > 1 else ''} {', '.join(trials)} (on {hosts})"] if trials else []
        parts += [f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"] if jobs else []
        return " and ".join(parts)


VERB = Verb(
    name="stop",
    summary="end all work on a study, wherever it runs",
    run=run,
    description=(
        "End all commands that run trials of a study, on this machine and on others, and its jobs in Slurm's queue.\n"
        "They release their trials, which takes some seconds, and end as after Ctrl-C. Nothing is lost: the same\n"
        "command, or embedsweep train -m study.name=STUDY, resumes the study. Waits until all have ended."
    ),
    positionals=(STUDY,),
    options=(
        Option("--within", "SECONDS", "how long to wait; Slurm's jobs that run then are cancelled", whole_number(1)),
        STORAGE,
    ),
)
