"""Trainings for tests: as a new process runs them, followed by a listener that records what it receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sentence_transformers import SentenceTransformer
from torch import nn

from embedsweep.config.result import Decision
from embedsweep.config.trial import TrialConfig
from embedsweep.data.load import load_splits
from embedsweep.models.build import build_model
from embedsweep.training.built_models import BuiltModel
from embedsweep.training.checkpoints import Checkpoints
from embedsweep.training.data import training_parts
from embedsweep.training.group import TrainingGroup
from embedsweep.training.train import Outcome, Training, train


@dataclass
class RecordingListener:
    """Records what it receives, acts at a step, and prunes where it is configured to.

    Attributes:
        prune_at: step of the evaluation after which it prunes.
        at: step -> what it does before it records the evaluation of that step.
        points: training metrics by step.
        evaluations: dev metrics by step.
        steps: numbers of steps done, as they were reported.
        last: steps of the evaluations that were reported as the last.
        total: the number of all steps.
        signs_of_life: how many there were.
    """

    prune_at: int | None = None
    at: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    points: dict[int, Mapping[str, float]] = field(default_factory=dict)
    evaluations: dict[int, Mapping[str, float]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    total: int = 0
    signs_of_life: int = 0

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        assert not self.points.keys() & dict(points).keys()
        self.points |= dict(points)

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> Decision:
        self.at.get(step, lambda: None)()
        assert step not in self.evaluations
        self.evaluations[step] = metrics
        return Decision.PRUNE if step == self.prune_at else Decision.CONTINUE

    def on_alive(self) -> None:
        self.signs_of_life += 1

    def on_progress(self, step: int, total: int) -> None:
        assert 0 < step <= total
        self.steps.append(step)
        self.total = total


def crash() -> None:
    raise ConnectionError("the machine is gone")


def crashing_at(step: int) -> RecordingListener:
    """Return a listener that raises ConnectionError at the evaluation of a step."""
    return RecordingListener(at={step: crash})


def log_of(outcome: Outcome) -> list[dict[str, float]]:
    """Return the trainer's log without entries that depend on the machine's speed."""
    timing = ("runtime", "per_second", "total_flos")
    return [
        {key: value for key, value in entry.items() if not any(word in key for word in timing)}
        for entry in outcome.log
        if "train_runtime" not in entry
    ]


def _no_count(_: object) -> list[int]:
    raise AssertionError("tokens are counted only if texts have a maximum, and here they have none")


def train_config(
    config: TrialConfig,
    folder: Path,
    listener: RecordingListener | None = None,
    *,
    built: BuiltModel | None = None,
    loss: nn.Module | None = None,
    change_model: Callable[[SentenceTransformer], object] = lambda _: None,
    group: TrainingGroup | None = None,
    is_resumable: bool = True,
) -> tuple[Outcome, SentenceTransformer]:
    """Train as a new process does: everything is built anew, and only the checkpoints in ``folder`` stay.

    Args:
        config: the trial.
        folder: its checkpoints.
        listener: by default a new one.
        built: the model to train; by default it is built.
        loss: replaces the configured loss.
        change_model: changes the model before it is trained.
        group: processes that train instead of this one.
        is_resumable: whether a later command may train on from the end.
    """
    splits = load_splits(config.data, config.evaluation)
    model = built.model if built is not None else build_model(config.model, "cpu")
    change_model(model)
    training = Training(
        config,
        model,
        training_parts(config, splits, _no_count),
        Checkpoints(folder),
        listener or RecordingListener(),
        is_resumable=is_resumable,
        built=built,
    )
    if loss is not None:
        training.tasks = {name: replace(task, loss=loss) for name, task in training.tasks.items()}
    return train(training, group), model
