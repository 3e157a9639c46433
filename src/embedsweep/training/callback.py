"""The trainer callback: report progress, end training, seal checkpoints, check for divergence. Imports torch."""

from __future__ import annotations

import functools
import logging
import math
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from embedsweep.config.result import Decision
from embedsweep.config.training import EarlyStoppingConfig, rung_steps
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Interrupted
from embedsweep.evaluation.evaluator import metric_names
from embedsweep.losses.modules import own_state
from embedsweep.training.batches import pass_epochs_on
from embedsweep.training.checkpoints import Checkpoints, CheckpointWriter
from embedsweep.training.curve import points_of
from embedsweep.training.divergence import CHECK_EVERY, DivergenceCheck
from embedsweep.training.stopping import Stop

_log = logging.getLogger(__name__)
LOSS_WEIGHTS = "loss.safetensors"
"""Weights that belong to the losses, beside a checkpoint of the model."""

PRUNED = "pruned"
"""Marks the evaluation after which a training was pruned, in the trainer's log and therefore in its checkpoint."""


class TrainingListener(Protocol):
    """Receives the progress and the metrics of a training, and decides whether it is pruned."""

    def on_progress(self, step: int, total: int) -> None:
        """Receive the number of optimizer steps done, and of all."""

    def on_alive(self) -> None:
        """Receive a sign of life: a step, or a batch of texts that an evaluation encodes."""

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Receive training metrics by step since the last call."""

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> Decision:
        """Receive the dev metrics after ``step`` steps; decide how training continues."""


def out_of_patience(history: Sequence[float], config: EarlyStoppingConfig) -> bool:
    """Return whether early stopping ends training after these values of the objective, oldest first.

    It counts as transformers' EarlyStoppingCallback does, but over the whole history, which a checkpoint contains: a
    resumed training stops where an undisturbed one does.
    """
    if config.patience is None:
        return False
    best, without_improvement = -math.inf, 0
    for value in history:
        without_improvement = 0 if value > best + config.min_delta else without_improvement + 1
        best = max(best, value)
    return without_improvement >= config.patience


class TrainingCallback(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Report, end training and seal checkpoints while the trainer runs.

    Args:
        config: the trial.
        checkpoints: the trial's.
        listener: receives progress and metrics.
        losses: the losses of all datasets.
        divergence: checks losses and gradients.
        writer: writes checkpoints.
        stop: says whether training has to stop, with a checkpoint.
    """

    def __init__(
        self,
        config: TrialConfig,
        checkpoints: Checkpoints,
        listener: TrainingListener,
        losses: nn.ModuleDict,
        divergence: DivergenceCheck,
        writer: CheckpointWriter,
        stop: Stop,
    ) -> None:
        self.checkpoints = checkpoints
        self.losses = losses
        self.writer = writer
        self.stop = stop
        self.objective = "eval_" + config.objective.replace("/", "_")
        self._config = config
        self._divergence = divergence
        self._listener = listener
        resumed = checkpoints.last_whole()
        self._before = checkpoints.times(resumed) if resumed is not None else {"train_s": 0.0, "eval_s": 0.0}
        self._points: list[tuple[int, Mapping[str, float]]] = []
        self._started = time.monotonic()
        self._eval_s = 0.0

    def is_over(self, state: TrainerState) -> bool:
        """Return whether training has ended: all steps are done and scored, or it was pruned or stopped early."""
        is_last = 0 < state.max_steps <= state.global_step
        ended = (is_last and not self.lacks_scores(state)) or self.was_pruned(state)
        return ended or out_of_patience(self.history(state), self._config.trainer.early_stopping)

    def was_pruned(self, state: TrainerState) -> bool:
        """Return whether the listener ended training, in this attempt or one that was killed after its checkpoint."""
        return any(PRUNED in entry for entry in state.log_history)

    def history(self, state: TrainerState) -> list[float]:
        """Return all values of the objective so far, oldest first."""
        return [entry[self.objective] for entry in state.log_history if self.objective in entry]

    def lacks_scores(self, state: TrainerState) -> bool:
        """Return whether the last step is one that is evaluated, but training was stopped before that."""
        step = state.global_step
        is_scored = any(entry["step"] == step for entry in state.log_history if self.objective in entry)
        is_rung = step in rung_steps(self._config.rungs, state.max_steps)
        is_due = step % state.eval_steps == 0 or step >= state.max_steps or is_rung
        return step > 0 and is_due and not is_scored

    def times(self) -> dict[str, float]:
        """Return seconds spent so far, over all attempts."""
        train_s = time.monotonic() - self._started - self._eval_s
        return {"train_s": self._before["train_s"] + train_s, "eval_s": self._before["eval_s"] + self._eval_s}

    def on_train_begin(
        self, args: Any, state: TrainerState, _control: TrainerControl, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Prepare the loader to be resumed, and use the intervals of this training."""
        if train_dataloader is not None:
            pass_epochs_on(train_dataloader)
        # A checkpoint contains the intervals of its own training, which may have had another number of steps.
        state.compute_steps(args, state.max_steps)
        args.eval_on_start = self.lacks_scores(state)
        scored = max((entry["step"] for entry in state.log_history if self.objective in entry), default=0)
        self._points = [(step, metrics) for step, metrics in points_of(state.log_history) if step > scored]
        self._started = time.monotonic()

    def on_step_begin(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Set the step that a message about divergence names; it is one that a signal must not lose."""
        self.stop.is_on = True
        self._divergence.step = state.global_step + 1

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate where pruning is decided, or stop; check for divergence and for failed writes of checkpoints."""
        self._listener.on_alive()
        self.writer.check()
        # With a checkpoint, as at the trainer's own interval: the best one is chosen among all evaluations.
        if state.global_step in rung_steps(self._config.rungs, state.max_steps):
            control.should_evaluate = control.should_save = True
        if self.stop.is_due():
            # Scoring dev may take longer than there is time; whoever resumes the training does so first.
            control.should_evaluate, control.should_save = False, True
        is_due = state.global_step % CHECK_EVERY == 0
        if control.should_log or control.should_evaluate or control.should_save or is_due:
            self._divergence.check_pending()

    def on_log(
        self, _args: Any, state: TrainerState, _control: TrainerControl, logs: Mapping[str, float], **_: Any
    ) -> None:
        """Keep the loss and the learning rate until they are recorded with the next evaluation."""
        if "loss" not in logs:
            return
        self._points.append(
            (state.global_step, {"train/loss": logs["loss"], "train/learning_rate": logs["learning_rate"]})
        )
        _log.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, logs["loss"])
        self._listener.on_progress(state.global_step, state.max_steps)

    def on_evaluate(
        self, _args: Any, state: TrainerState, control: TrainerControl, metrics: Mapping[str, float], **_: Any
    ) -> None:
        """Report an evaluation, and end training if the listener decides so."""
        self._eval_s += metrics["eval_runtime"]
        self._listener.on_progress(state.global_step, state.max_steps)
        self._listener.on_metrics(self._points)
        self._points = []
        _log.info("step %d of %d: %s %.4f", state.global_step, state.max_steps, self.objective, metrics[self.objective])
        decision = self._listener.on_evaluation(state.global_step, metric_names(metrics, "dev"))
        if decision is Decision.PRUNE:
            state.log_history[-1][PRUNED] = 1.0
        if self.is_over(state):
            control.should_training_stop = True

    def on_save(
        self, args: Any, state: TrainerState, _control: TrainerControl, model: SentenceTransformer, **_: Any
    ) -> None:
        """Seal a checkpoint and delete those that it replaces; then stop if a signal waits.

        Raises:
            Interrupted: a signal waits.
        """
        started = time.monotonic()
        args.distributed_state.wait_for_everyone()  # each process of a group writes its random state
        if args.process_index == 0:
            step, own = state.global_step, own_state(self.losses, model)
            # The checkpoint of a step that is not scored yet is written anew when it is; until then there is another.
            scored = max((entry["step"] for entry in state.log_history if self.objective in entry), default=step)
            needed = {step, scored, state.best_global_step or step}
            self._eval_s += time.monotonic() - started
            self.writer.submit(functools.partial(self._seal, step, own, self.times(), needed))
        if self.stop.is_due():
            _log.info("step %d of %d: stopped by a signal", state.global_step, state.max_steps)
            raise Interrupted(self.stop.signum or signal.SIGTERM)

    def _seal(self, step: int, own: dict[str, torch.Tensor], times: Mapping[str, float], needed: set[int]) -> None:
        if own:
            save_file(own, self.checkpoints.path(step) / LOSS_WEIGHTS)
        self.checkpoints.seal(step, times)
        # Only a sealed checkpoint may replace another: after a kill in between, the older one must still be there.
        self.checkpoints.keep_only(needed)
