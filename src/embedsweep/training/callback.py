"""The callback that goes through a training: it reports, stops, seals checkpoints and looks for divergence.

Owns what happens between a trainer's steps, and how a training's state is read: whether it is over, and its history.
Knows neither studies nor MLflow, and not how a trainer is put together. Imports torch.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from embedsweep.config.result import Decision
from embedsweep.config.study import rung_steps
from embedsweep.config.trial import EarlyStoppingConfig, TrialConfig
from embedsweep.evaluation.pairs import metric_names
from embedsweep.losses.modules import own_state
from embedsweep.training.batches import tell_epochs
from embedsweep.training.checkpoints import Checkpoints, CheckpointWriter
from embedsweep.training.divergence import LOOK_EVERY, Watch

_log = logging.getLogger(__name__)
LOSS_WEIGHTS = "loss.safetensors"
"""Weights of the losses' own, beside a checkpoint of the model."""

PRUNED = "pruned"
"""Marks the evaluation after which a training was pruned, in the trainer's log and so in its checkpoint."""


class Watcher(Protocol):
    """Who is told what a training does."""

    def trained(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Training metrics by step since the last call."""

    def evaluated(self, step: int, metrics: Mapping[str, float], *, last: bool) -> Decision:
        """Dev metrics after ``step`` optimizer steps, and whether training ends there; answers how to go on."""

    progressed: Callable[[int, int], None]
    """Is told how many optimizer steps of how many are done."""


def out_of_patience(history: Sequence[float], config: EarlyStoppingConfig) -> bool:
    """Whether training ends early after these values of the objective, oldest first.

    As transformers' EarlyStoppingCallback counts, but from the whole history, which a checkpoint carries: so a resumed
    training stops where an undisturbed one does.
    """
    if config.patience is None:
        return False
    best, without_improvement = -math.inf, 0
    for value in history:
        without_improvement = 0 if value > best + config.min_delta else without_improvement + 1
        best = max(best, value)
    return without_improvement >= config.patience


class TrainingCallback(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Reports, stops and seals: everything this project does while the trainer runs."""

    def __init__(
        self,
        config: TrialConfig,
        checkpoints: Checkpoints,
        watcher: Watcher,
        losses: nn.ModuleDict,
        divergence: Watch,
        writer: CheckpointWriter,
    ) -> None:
        self.writer = writer
        self.config = config
        self.checkpoints = checkpoints
        self.losses = losses
        self.divergence = divergence
        self.watcher = watcher
        resumed = checkpoints.last_whole()
        self._before = checkpoints.times(resumed) if resumed is not None else {"train_s": 0.0, "eval_s": 0.0}
        self._points: list[tuple[int, Mapping[str, float]]] = []
        self._started = time.monotonic()
        self._eval_s = 0.0
        self.objective = "eval_" + config.objective.replace("/", "_")

    def is_over(self, state: TrainerState) -> bool:
        """Whether training has come to its end: by its steps, because it was pruned, or by early stopping."""
        ended = 0 < state.max_steps <= state.global_step or self.was_pruned(state)
        return ended or out_of_patience(self.history(state), self.config.trainer.early_stopping)

    def was_pruned(self, state: TrainerState) -> bool:
        """Whether the watcher ended training, in this attempt or in one that was cut off after its checkpoint."""
        return any(PRUNED in entry for entry in state.log_history)

    def history(self, state: TrainerState) -> list[float]:
        """All values of the objective so far, oldest first."""
        return [entry[self.objective] for entry in state.log_history if self.objective in entry]

    def times(self) -> dict[str, float]:
        """Seconds spent so far, over all attempts."""
        train_s = time.monotonic() - self._started - self._eval_s
        return {"train_s": self._before["train_s"] + train_s, "eval_s": self._before["eval_s"] + self._eval_s}

    def on_train_begin(
        self, args: Any, state: TrainerState, _control: TrainerControl, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Tells the loader where it goes on, and takes the intervals of this training."""
        if train_dataloader is not None:
            tell_epochs(train_dataloader)
        # A checkpoint brings the intervals of its own training, which may have had another end.
        state.compute_steps(args, state.max_steps)
        self._started = time.monotonic()

    def on_step_begin(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Says which step a divergence belongs to."""
        self.divergence.step = state.global_step + 1

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluates where pruning is decided, and looks for divergence and for a checkpoint that cannot be written."""
        self.writer.check()
        # With a checkpoint, as at the trainer's own interval: the best one is chosen among all evaluations.
        if state.global_step in rung_steps(self.config.rungs, state.max_steps):
            control.should_evaluate = control.should_save = True
        if control.should_log or control.should_evaluate or control.should_save or state.global_step % LOOK_EVERY == 0:
            self.divergence.look()

    def on_log(
        self, _args: Any, state: TrainerState, _control: TrainerControl, logs: Mapping[str, float], **_: Any
    ) -> None:
        """Keeps the loss and the learning rate until they are recorded with the next evaluation."""
        if "loss" not in logs:
            return
        self._points.append(
            (state.global_step, {"train/loss": logs["loss"], "train/learning_rate": logs["learning_rate"]})
        )
        _log.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, logs["loss"])
        self.watcher.progressed(state.global_step, state.max_steps)

    def on_evaluate(
        self, _args: Any, state: TrainerState, control: TrainerControl, metrics: Mapping[str, float], **_: Any
    ) -> None:
        """Reports an evaluation and ends the training where that is answered."""
        self._eval_s += metrics["eval_runtime"]
        self.watcher.progressed(state.global_step, state.max_steps)
        self.watcher.trained(self._points)
        self._points = []
        _log.info("step %d of %d: %s %.4f", state.global_step, state.max_steps, self.objective, metrics[self.objective])
        last = self.is_over(state)
        decision = self.watcher.evaluated(state.global_step, metric_names(metrics, "dev"), last=last)
        if decision is Decision.PRUNE:
            state.log_history[-1][PRUNED] = 1.0
        if decision is Decision.PRUNE or last:
            control.should_training_stop = True

    def on_save(
        self, args: Any, state: TrainerState, _control: TrainerControl, model: SentenceTransformer, **_: Any
    ) -> None:
        """Seals a checkpoint and removes those that it replaces."""
        begun = time.monotonic()
        args.distributed_state.wait_for_everyone()  # each process of a group writes its random state
        if args.process_index != 0:
            return
        step, own = state.global_step, own_state(self.losses, model)
        needed = {step, state.best_global_step or step}
        self._eval_s += time.monotonic() - begun
        self.writer.submit(functools.partial(self._seal, step, own, self.times(), needed))

    def _seal(self, step: int, own: dict[str, torch.Tensor], times: Mapping[str, float], needed: set[int]) -> None:
        if own:
            save_file(own, self.checkpoints.path(step) / LOSS_WEIGHTS)
        self.checkpoints.seal(step, times)
        # Only a sealed checkpoint may replace another: a kill in between must find the older one.
        self.checkpoints.keep_only(needed)
