"""Compare what a study's storage has with the files in its folder, which must not have more."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from embedsweep.errors import StudyError
from embedsweep.study.leases import LEASE
from embedsweep.study.record import LOST
from embedsweep.study.storage import repair_hint
from embedsweep.study.study_file import read_study_file
from embedsweep.study.trial_file import TRIAL_FILE, read_trial, write_trial
from embedsweep.training.folder import RESULT_FILE


@dataclass(frozen=True)
class KeptTrial:
    """A trial as its folder has it.

    Attributes:
        number: the trial's number.
        folder: its folder.
    """

    number: int
    folder: Path

    @cached_property
    def record(self) -> FrozenTrial | None:
        """Optuna's record of the trial; None if an older version made the folder, or the file is damaged."""
        return read_trial(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether the folder has the trial as finished."""
        return self.record is not None and self.record.state.is_finished()


def kept_trials(folder: Path) -> Iterator[KeptTrial]:
    """Yield the trials of a study whose folders hold a record or a result, by number."""
    for path in sorted((folder / "trials").glob("*")):
        if path.name.isdecimal() and any((path / name).is_file() for name in (TRIAL_FILE, RESULT_FILE)):
            yield KeptTrial(int(path.name), path)


def lost_trials(folder: Path, trials: Sequence[FrozenTrial]) -> list[KeptTrial]:
    """Return the trials that the storage does not have, or not as finished, and of which a folder has more.

    Args:
        folder: the study's folder.
        trials: all trials in the storage.
    """
    finished = {trial.number for trial in trials if trial.state.is_finished()}
    unfinished = (kept for kept in kept_trials(folder) if kept.number not in finished)
    return [kept for kept in unfinished if kept.number >= len(trials) or kept.is_finished]


def check_nothing_lost(name: str, folder: Path, study: optuna.Study | None) -> None:
    """Check that the storage has everything that the study's folder has.

    Args:
        name: the study's name.
        folder: its folder.
        study: the study in the storage; None if it is not there.

    Raises:
        StudyError: it has not, so that trials would be trained again; the message names the command that rebuilds it.
    """
    if lost := lost_trials(folder, study.get_trials(deepcopy=False) if study is not None else []):
        numbers = ", ".join(str(kept.number) for kept in lost)
        what = f"does not have what the trials' folders have: trial{'s' if len(lost) > 1 else ''} {numbers}"
    else:
        file = read_study_file(folder)
        known = study.user_attrs if study is not None else {}
        missing = sorted(file.attributes.keys() - known.keys()) if file is not None and known else []
        if not missing:
            return
        what = f"does not have what study.yaml has: {', '.join(missing)}"
    raise StudyError(f"the storage of study {name} is damaged: it {what}. {repair_hint(name)}")


def is_local(trial: FrozenTrial, url: str | None) -> bool:
    """Return whether this machine trained a finished trial and so has its folder; a database has trials of others, too.

    Args:
        trial: the trial; one in the place of a lost trial has no folder.
        url: the storage's URL; None is a journal.
    """
    if LOST in trial.user_attrs:
        return False
    lease = trial.user_attrs.get(LEASE)
    return url is None or (lease is not None and lease["host"] == socket.gethostname())


def complete_files(folder: Path, study: optuna.Study) -> None:
    """Write the records of finished trials that their folders lack: an older version, or a kill, left them out."""
    for trial in study.get_trials(deepcopy=False):
        path = folder / "trials" / f"{trial.number:04d}"
        if trial.state.is_finished() and path.is_dir():
            record = read_trial(path)
            if record is None or record.state is not trial.state:
                write_trial(path, trial)
