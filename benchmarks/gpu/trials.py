"""The trials of a way, read from the storage of its studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from benchmarks.gpu.task import LOSSES, Point, Task
from benchmarks.gpu.ways import STUDY, Way


@dataclass(frozen=True)
class Trial:
    """One trial that was started.

    Attributes:
        number: the index of its point in the task.
        point: its configuration.
        state: Optuna's name of the state: COMPLETE, PRUNED, FAIL or RUNNING (interrupted).
        begin: seconds since the epoch.
        end: the same; None if it was interrupted.
        steps: optimizer steps; 0 for failed and interrupted trials, whose steps are unknown.
        score: dev Spearman (cosine) of a complete trial.
    """

    number: int
    point: Point
    state: str
    begin: float
    end: float | None
    steps: int
    score: float | None

    @property
    def is_done(self) -> bool:
        """Whether it is complete or was pruned."""
        return self.state in {"COMPLETE", "PRUNED"}


def read_trials(way: Way, folder: Path, task: Task) -> list[Trial]:
    """Return the trials that a way has started, in the order in which they ended; none if there is no storage yet.

    Raises:
        LookupError: a trial's point is not in the task.
    """
    journal = folder / "journal.log" if way.is_peer else folder / "sweeps" / STUDY / "journal.log"
    if not journal.is_file():
        return []
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    there = optuna.get_all_study_names(storage)
    names = [name for name in (LOSSES if way.is_peer else (STUDY,)) if name in there]
    trials = [
        _read_trial(frozen, peer_point(frozen, name) if way.is_peer else own_point(frozen), task)
        for name in names
        for frozen in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        if _is_started(frozen)
    ]
    return sorted(trials, key=lambda trial: (trial.end is None, trial.end or trial.begin))


def _is_started(frozen: FrozenTrial) -> bool:
    # A trial that was killed early has no values yet.
    return frozen.datetime_start is not None and frozen.state is not TrialState.WAITING and bool(frozen.params)


def peer_point(frozen: FrozenTrial, loss: str) -> Point:
    """Return the point of a trial of A, whose study is named after its loss."""
    params = frozen.params
    return Point(loss, params["per_device_train_batch_size"], params["learning_rate"], params["warmup_steps"])


def own_point(frozen: FrozenTrial) -> Point:
    """Return the point of a trial of embedsweep, whose parameter names may carry a condition after the key."""
    params = {name.split(" ")[0]: value for name, value in frozen.params.items()}
    return Point(
        params["loss"],
        int(params["dataloader.batch_size"]),
        params["optimizer.lr"],
        params["optimizer.warmup"],
    )


def _read_trial(frozen: FrozenTrial, point: Point, task: Task) -> Trial:
    assert frozen.datetime_start is not None
    complete, pruned = frozen.state is TrialState.COMPLETE, frozen.state is TrialState.PRUNED
    steps = task.steps(point) if complete else 0
    if pruned:
        # It reported once at each rung, the last time where it was pruned.
        steps = task.steps_at_rung(point, len(frozen.intermediate_values))
    return Trial(
        number=task.number_of(point),
        point=point,
        state=frozen.state.name,
        begin=frozen.datetime_start.timestamp(),
        end=None if frozen.datetime_complete is None else frozen.datetime_complete.timestamp(),
        steps=steps,
        score=frozen.value if complete else None,
    )
