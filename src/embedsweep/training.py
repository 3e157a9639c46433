"""Training: a SentenceTransformerTrainer put together from a configuration, and the one callback that watches it.

Owns the training arguments, early stopping, checkpoints in use and the choice of the best one. The trainer itself is
sentence-transformers' own. Knows neither studies nor MLflow's names for runs. Imports torch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import nn
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState

from embedsweep.checkpoints import Checkpoints
from embedsweep.errors import TrialError
from embedsweep.evaluation import PairEvaluator, metric_names, scores_of
from embedsweep.losses import LOSSES, InBatch
from embedsweep.optimizers import optimizer_arguments
from embedsweep.schema import Decision, EarlyStoppingConfig, TrialConfig

_log = logging.getLogger(__name__)
RELOAD_TOLERANCE = 1e-4
"""How far the best checkpoint's score may lie from the one it was chosen by: rounding on a GPU, no more."""


class Watcher(Protocol):
    """Who is told what a training does."""

    def trained(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Training metrics by step since the last call."""

    def evaluated(self, step: int, metrics: Mapping[str, float], *, last: bool) -> Decision:
        """Dev metrics after ``step`` optimizer steps, and whether training ends there; answers how to go on."""

    progressed: Callable[[int, int], None]
    """Is told how many optimizer steps of how many are done."""


@dataclass(frozen=True)
class Outcome:
    """What a training led to; the model holds the best checkpoint's weights.

    Attributes:
        dev: dev metrics of the best checkpoint.
        best_step: its optimizer step.
        steps: optimizer steps trained.
        pruned: whether the watcher ended it.
        train_s: seconds in training steps, over all attempts.
        eval_s: seconds in evaluations and checkpoints, over all attempts.
        log: the trainer's log, one entry a logged step.
    """

    dev: Mapping[str, float]
    best_step: int
    steps: int
    pruned: bool
    train_s: float
    eval_s: float
    log: Sequence[Mapping[str, float]]


def train(
    config: TrialConfig,
    model: SentenceTransformer,
    loss: nn.Module,
    examples: Dataset,
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    watcher: Watcher,
) -> Outcome:
    """Trains ``model`` in place, from the last whole checkpoint if there is one, and loads the best.

    Raises:
        TrialError: the loss or a score is not a number, or the best checkpoint is not what it was.
    """
    callback = _Watch(config, checkpoints, watcher)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=training_arguments(config, checkpoints.folder),
        train_dataset=examples,
        loss=loss,
        evaluator=evaluator,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    resumed = checkpoints.last_whole()
    if resumed is not None and callback.is_over(state := _state_of(checkpoints, resumed)):
        # Trained to its end before: a trainer would take one step more. Callbacks still see the arguments, which the
        # card tells; one of the library's wants an optimizer.
        trainer.callback_handler.optimizer = trainer.create_optimizer()
        trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
        trainer.state = state
    else:
        trainer.train(resume_from_checkpoint=str(checkpoints.path(resumed)) if resumed is not None else None)
    return _finish(config, trainer, evaluator, checkpoints, callback)


def training_arguments(config: TrialConfig, folder: Path) -> SentenceTransformerTrainingArguments:
    """sentence-transformers' arguments for a configuration, checkpoints going to ``folder``."""
    trainer, loader = config.trainer, config.dataloader
    micro_batch_size = loader.micro_batch_size or loader.batch_size
    if LOSSES[config.loss.name].in_batch is InBatch.CACHED:
        micro_batch_size = loader.batch_size
    every = _ratio_or_steps(trainer.eval_every)
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=trainer.epochs,
        max_steps=trainer.max_steps or -1,
        per_device_train_batch_size=micro_batch_size,
        gradient_accumulation_steps=loader.batch_size // micro_batch_size,
        per_device_eval_batch_size=config.evaluation.batch_size,
        batch_sampler=loader.batch_sampler,
        dataloader_drop_last=loader.drop_last,
        dataloader_num_workers=loader.num_workers,
        dataloader_persistent_workers=loader.num_workers > 0,
        dataloader_pin_memory=trainer.device != "cpu" and _has_cuda(),
        use_cpu=trainer.device == "cpu",
        fp16=trainer.precision == "fp16",
        bf16=trainer.precision == "bf16",
        seed=trainer.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        metric_for_best_model="eval_" + config.objective.replace("/", "_"),
        greater_is_better=True,
        logging_steps=_ratio_or_steps(trainer.log_every),
        # The filter would show a loss that is NaN as 0.0.
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        **optimizer_arguments(config.optimizer),
    )


def _ratio_or_steps(value: float) -> float:
    return value if value < 1 else int(value)


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


class _Watch(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Reports, stops and seals: everything this project does while the trainer runs."""

    def __init__(self, config: TrialConfig, checkpoints: Checkpoints, watcher: Watcher) -> None:
        self.config = config
        self.checkpoints = checkpoints
        self.watcher = watcher
        self.pruned = False
        resumed = checkpoints.last_whole()
        self._before = checkpoints.times(resumed) if resumed is not None else {"train_s": 0.0, "eval_s": 0.0}
        self._points: list[tuple[int, Mapping[str, float]]] = []
        self._started = time.monotonic()
        self._eval_s = 0.0
        self.objective = "eval_" + config.objective.replace("/", "_")

    def is_over(self, state: TrainerState) -> bool:
        """Whether training has come to its end, by its steps or by early stopping."""
        ended = 0 < state.max_steps <= state.global_step
        return ended or out_of_patience(self.history(state), self.config.trainer.early_stopping)

    def history(self, state: TrainerState) -> list[float]:
        """All values of the objective so far, oldest first."""
        return [entry[self.objective] for entry in state.log_history if self.objective in entry]

    def times(self) -> dict[str, float]:
        """Seconds spent so far, over all attempts."""
        train_s = time.monotonic() - self._started - self._eval_s
        return {"train_s": self._before["train_s"] + train_s, "eval_s": self._before["eval_s"] + self._eval_s}

    def on_train_begin(self, _args: Any, _state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._started = time.monotonic()

    def on_log(
        self, _args: Any, state: TrainerState, _control: TrainerControl, logs: Mapping[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrialError(f"the training loss became {logs['loss']} at step {state.global_step}")
        self._points.append(
            (state.global_step, {"train/loss": logs["loss"], "train/learning_rate": logs["learning_rate"]})
        )
        _log.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, logs["loss"])
        self.watcher.progressed(state.global_step, state.max_steps)

    def on_evaluate(
        self, _args: Any, state: TrainerState, control: TrainerControl, metrics: Mapping[str, float], **_: Any
    ) -> None:
        self._eval_s += metrics["eval_runtime"]
        self.watcher.progressed(state.global_step, state.max_steps)
        self.watcher.trained(self._points)
        self._points = []
        _log.info("step %d of %d: %s %.4f", state.global_step, state.max_steps, self.objective, metrics[self.objective])
        last = self.is_over(state)
        decision = self.watcher.evaluated(state.global_step, metric_names(metrics, "dev"), last=last)
        self.pruned = decision is Decision.PRUNE
        if self.pruned or last:
            control.should_training_stop = True

    def on_save(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        begun = time.monotonic()
        self.checkpoints.seal(state.global_step, self.times())
        # Only a sealed checkpoint may replace another: a kill in between must find the older one.
        self.checkpoints.keep_only({state.global_step, state.best_global_step or state.global_step})
        self._eval_s += time.monotonic() - begun


def _state_of(checkpoints: Checkpoints, step: int) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoints.path(step) / "trainer_state.json"))


def _finish(
    config: TrialConfig,
    trainer: SentenceTransformerTrainer,
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    callback: _Watch,
) -> Outcome:
    """Loads the best checkpoint and scores it once more, unless the weights at hand are the ones just scored."""
    state, times = trainer.state, callback.times()
    history = callback.history(state)
    best_step = state.best_global_step
    evaluations = [entry for entry in state.log_history if callback.objective in entry]
    if evaluations[-1]["step"] == best_step and evaluator.has_scored:
        dev = metric_names(evaluations[-1], "dev")
    else:
        load_weights(trainer.model, checkpoints.path(best_step), config.model.trust_remote_code)
        dev = scores_of(evaluator, trainer.model)
        if abs(dev[config.objective] - max(history)) > RELOAD_TOLERANCE:
            raise TrialError(
                f"the best checkpoint (step {best_step}) scored {max(history):.6f} when it was written "
                f"and {dev[config.objective]:.6f} when it was loaded again"
            )
    return Outcome(
        dev=dev,
        best_step=best_step,
        steps=state.global_step,
        pruned=callback.pruned,
        train_s=times["train_s"],
        eval_s=times["eval_s"],
        log=state.log_history,
    )


def load_weights(model: SentenceTransformer, folder: Path, trust_remote_code: bool) -> None:
    """Gives ``model`` the weights saved in ``folder``."""
    saved = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trust_remote_code)
    model.load_state_dict(saved.state_dict())


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
