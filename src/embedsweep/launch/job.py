"""What a worker process is told when it starts.

Owns the job's form on the way through the worker's stdin: storage URLs may hold passwords, which everybody would see
on a command line and somebody might find in a file.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from embedsweep.gate import Sweep
from embedsweep.paths import SWEEPS
from embedsweep.schema import EmissionsConfig, KeepModels, TrackingConfig
from embedsweep.study import Study


@dataclass(frozen=True)
class Job:
    """All that a worker process needs.

    Attributes:
        number: the worker's, from 0.
        sweep: how the study is opened: by its name, wherever it lies.
        n_trials: how many trials the study has when it is complete.
        parent: the id of the study's own run.
        device: ``trainer.device``, the same for all trials.
        tracking: where trials are recorded.
        emissions: whose electricity is used.
        keep_models: which trials' models stay.
        seconds: after which, counted from when it is received, no trial is begun; None has no limit.
        share_folder: where its share of the machine's energy is told.
    """

    number: int
    sweep: Sweep
    n_trials: int
    parent: str
    device: str
    tracking: TrackingConfig
    emissions: EmissionsConfig
    keep_models: KeepModels
    seconds: float | None
    share_folder: Path | None

    @classmethod
    def of(cls, study: Study, asked: Sweep, parent: str, device: str) -> Job:
        """The job of the first worker, without a limit, on a study that the command has opened."""
        by_name = replace(
            asked, plan=None, n_trials=None, study=replace(asked.study, name=study.name), said=frozenset()
        )
        shared = study.services
        return cls(
            number=0,
            sweep=by_name,
            n_trials=study.n_trials,
            parent=parent,
            device=device,
            tracking=shared.tracking,
            emissions=shared.emissions,
            keep_models=shared.keep_models,
            seconds=None,
            share_folder=None,
        )

    @property
    def log(self) -> Path:
        """See :func:`worker_log`."""
        return worker_log(SWEEPS / str(self.sweep.study.name), self.number)

    @staticmethod
    def receive(stream: IO[bytes]) -> Job:
        """Reads the job that a worker is sent through its stdin."""
        job = pickle.load(stream)
        assert isinstance(job, Job)
        return job


def worker_log(study_folder: Path, number: int) -> Path:
    """Where all goes that libraries print or log between trials; what they say of a trial is in its own log."""
    return study_folder / "workers" / f"{number}.log"
