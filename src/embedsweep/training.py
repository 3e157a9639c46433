"""Training: a SentenceTransformerTrainer put together from a configuration, and the one callback that watches it.

Owns early stopping, checkpoints in use and the choice of the best one. The trainer itself is
sentence-transformers' own. Knows neither studies nor MLflow's names for runs. Imports torch.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
)
from torch import nn
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState

from embedsweep.batches import tell_epochs
from embedsweep.checkpoints import Checkpoints
from embedsweep.divergence import LOOK_EVERY, Watch
from embedsweep.errors import TrialError
from embedsweep.evaluation import PairEvaluator, metric_names, scores_of
from embedsweep.losses import InBatch
from embedsweep.losses.state import load_own_state, own_state
from embedsweep.micro_batches import averaged_over, kind_of, losses_of, micro_batch_size_of, split_batches
from embedsweep.models import load_weights
from embedsweep.rungs import rung_steps
from embedsweep.schema import Decision, EarlyStoppingConfig, TrialConfig
from embedsweep.training_arguments import training_arguments

_log = logging.getLogger(__name__)
LOSS_WEIGHTS = "loss.safetensors"
"""Weights of the losses' own, beside a checkpoint of the model."""

PRUNED = "pruned"
"""Marks the evaluation after which a training was pruned, in the trainer's log and so in its checkpoint."""

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


class Trainees(Protocol):
    """Processes that train together."""

    @property
    def size(self) -> int:
        """How many."""

    def train(self, config: TrialConfig, folder: Path, watcher: Watcher) -> None:
        """Trains to the end, each by :func:`train_share`.

        Args:
            config: the trial.
            folder: the trial's own.
            watcher: who is told, and decides.
        """


@dataclass(frozen=True)
class Outcome:
    """What a training led to; the model holds the kept checkpoint's weights.

    Attributes:
        dev: dev metrics of the checkpoint that is kept: the best, or the last where that is asked or the training was
            pruned.
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


@dataclass(frozen=True)
class Task:
    """A dataset and the loss it is trained by."""

    dataset: Dataset
    loss: nn.Module


def train(
    config: TrialConfig,
    model: SentenceTransformer,
    tasks: Mapping[str, Task],
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    watcher: Watcher,
    group: Trainees | None = None,
) -> Outcome:
    """Trains ``model`` in place, from the last whole checkpoint if there is one, and loads the one to keep.

    A group of processes trains models of its own; what it led to is then loaded from its checkpoints.

    Args:
        config: the trial.
        model: what is trained.
        tasks: dataset and loss by name; batches of several take turns.
        evaluator: scores dev.
        checkpoints: where they go.
        watcher: who is told.
        group: who trains; None trains in this process.

    Raises:
        TrialError: the training diverged, or a checkpoint is not what it was.
        GroupError: a process of the group died or hung.
    """
    if group is not None:
        group.train(config, checkpoints.folder.parent, watcher)
    trainer, callback = _assembled(config, model, tasks, evaluator, checkpoints, watcher, group.size if group else 1)
    resumed = checkpoints.last_whole()
    state = _state_of(checkpoints, resumed) if resumed is not None else None
    if state is not None and (group is not None or callback.is_over(state)):
        # Trained to its end before: a trainer would take one step more. Callbacks still see the arguments, which the
        # card tells; one of the library's wants an optimizer.
        trainer.callback_handler.optimizer = trainer.create_optimizer()
        trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
        trainer.state = state
        return _finish(config, trainer, evaluator, checkpoints, callback, trained=False)
    _train_on(config, trainer, callback, resumed)
    return _finish(config, trainer, evaluator, checkpoints, callback, trained=True)


def train_share(
    config: TrialConfig,
    model: SentenceTransformer,
    tasks: Mapping[str, Task],
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    watcher: Watcher,
    processes: int,
) -> None:
    """One process's part of a training in a group, to its end: all processes call it, alike.

    Args:
        config: the trial.
        model: what is trained; alike in all processes.
        tasks: dataset and loss by name.
        evaluator: scores dev.
        checkpoints: where the first process writes them.
        watcher: who is told; decides alike in all processes.
        processes: how many there are.

    Raises:
        TrialError: the training diverged.
    """
    trainer, callback = _assembled(config, model, tasks, evaluator, checkpoints, watcher, processes)
    resumed = checkpoints.last_whole()
    if resumed is None or not callback.is_over(_state_of(checkpoints, resumed)):
        _train_on(config, trainer, callback, resumed)


def _assembled(
    config: TrialConfig,
    model: SentenceTransformer,
    tasks: Mapping[str, Task],
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    watcher: Watcher,
    processes: int,
) -> tuple[SentenceTransformerTrainer, _Watch]:
    losses = nn.ModuleDict({f"of_{number}": task.loss for number, task in enumerate(tasks.values())})
    divergence = Watch(list(losses.values()), fp16=config.trainer.precision == "fp16")
    callback = _Watch(config, checkpoints, watcher, losses, divergence)
    datasets = {name: task.dataset for name, task in tasks.items()}
    several = len(tasks) > 1
    trainer = SentenceTransformerTrainer(
        model=model,
        args=training_arguments(config, checkpoints.folder, datasets, processes),
        train_dataset=DatasetDict(datasets) if several else next(iter(datasets.values())),
        loss={name: task.loss for name, task in tasks.items()} if several else next(iter(tasks.values())).loss,
        evaluator=evaluator,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    _watch_gradients(trainer, divergence)
    size = micro_batch_size_of(config)
    # Shares of a batch may differ in size, too, and are to count accordingly.
    if kind_of(config) is InBatch.INDEPENDENT and (size < config.dataloader.batch_size or processes > 1):
        averages = {name: averaged_over(loss) for name, loss in zip(tasks, losses_of(config), strict=True)}
        split_batches(trainer, size // processes, averages)
    return trainer, callback


def _train_on(config: TrialConfig, trainer: SentenceTransformerTrainer, callback: _Watch, resumed: int | None) -> None:
    """Trains from a checkpoint's step, or from the beginning."""
    model = trainer.model
    # The library's own loader takes a checkpoint of adapters for a whole model, with its base model where it once lay.
    trainer._load_from_checkpoint = lambda path: load_weights(model, Path(path), config.model.trust_remote_code)
    folder = callback.checkpoints.path(resumed) if resumed is not None else None
    if folder is not None:
        _load_losses(callback.losses, model, folder)
    with _without_cards(model):
        trainer.train(resume_from_checkpoint=str(folder) if folder is not None else None)


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

    def __init__(
        self,
        config: TrialConfig,
        checkpoints: Checkpoints,
        watcher: Watcher,
        losses: nn.ModuleDict,
        divergence: Watch,
    ) -> None:
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
        if train_dataloader is not None:
            tell_epochs(train_dataloader)
        # A checkpoint brings the intervals of its own training, which may have had another end.
        state.compute_steps(args, state.max_steps)
        self._started = time.monotonic()

    def on_step_begin(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self.divergence.step = state.global_step + 1

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # With a checkpoint, as at the trainer's own interval: the best one is chosen among all evaluations.
        if state.global_step in rung_steps(self.config.rungs, state.max_steps):
            control.should_evaluate = control.should_save = True
        if control.should_log or control.should_evaluate or control.should_save or state.global_step % LOOK_EVERY == 0:
            self.divergence.look()

    def on_log(
        self, _args: Any, state: TrainerState, _control: TrainerControl, logs: Mapping[str, float], **_: Any
    ) -> None:
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
        begun = time.monotonic()
        args.distributed_state.wait_for_everyone()  # each process of a group writes its random state
        if args.process_index != 0:
            return
        if own := own_state(self.losses, model):
            save_file(own, self.checkpoints.path(state.global_step) / LOSS_WEIGHTS)
        self.checkpoints.seal(state.global_step, self.times())
        # Only a sealed checkpoint may replace another: a kill in between must find the older one.
        self.checkpoints.keep_only({state.global_step, state.best_global_step or state.global_step})
        self._eval_s += time.monotonic() - begun


@contextmanager
def _without_cards(model: SentenceTransformer) -> Iterator[None]:
    """Saves checkpoints of ``model`` without the library's card: it takes longer than the weights of a small model."""
    model.save_pretrained = functools.partial(model.save_pretrained, create_model_card=False)
    try:
        yield
    finally:
        del model.save_pretrained


def _watch_gradients(trainer: SentenceTransformerTrainer, divergence: Watch) -> None:
    """Shows the norm of each gradient, which the trainer computes to clip and log it but hands to no callback."""
    measured = trainer._get_grad_norm

    def watched(model: nn.Module, grad_norm: Any = None) -> Any:
        norm = measured(model, grad_norm=grad_norm)
        divergence.saw_gradient(norm)
        return norm

    trainer._get_grad_norm = watched


def _state_of(checkpoints: Checkpoints, step: int) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoints.path(step) / "trainer_state.json"))


def _finish(
    config: TrialConfig,
    trainer: SentenceTransformerTrainer,
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    callback: _Watch,
    *,
    trained: bool,
) -> Outcome:
    """Loads the checkpoint to keep and scores it once more, unless the weights at hand are the ones just scored.

    Args:
        config: the trial.
        trainer: after training.
        evaluator: scores dev.
        checkpoints: where the best one is, and the last.
        callback: has the history.
        trained: whether this process trained up to the last step, so that its weights are those of that step.
    """
    state, times = trainer.state, callback.times()
    evaluations = {entry["step"]: entry for entry in state.log_history if callback.objective in entry}
    pruned = callback.was_pruned(state)
    # A pruned trial's value is the one it was pruned by, as in Optuna.
    kept = state.best_global_step if config.trainer.load_best_model_at_end and not pruned else state.global_step
    if trained and evaluator.has_scored and kept == state.global_step == max(evaluations):
        dev = metric_names(evaluations[kept], "dev")
    else:
        load_weights(trainer.model, checkpoints.path(kept), config.model.trust_remote_code)
        dev = scores_of(evaluator, trainer.model)
        written, loaded = evaluations[kept][callback.objective], dev[config.objective]
        if abs(loaded - written) > RELOAD_TOLERANCE:
            raise TrialError(
                f"the checkpoint of step {kept} scored {written:.6f} when it was written and {loaded:.6f} when it was "
                "loaded again"
            )
    return Outcome(
        dev=dev,
        best_step=kept,
        steps=state.global_step,
        pruned=pruned,
        train_s=times["train_s"],
        eval_s=times["eval_s"],
        log=state.log_history,
    )


def _load_losses(losses: nn.ModuleDict, model: SentenceTransformer, folder: Path) -> None:
    """Gives losses with weights of their own those they had at a checkpoint."""
    if own_state(losses, model):
        load_own_state(losses, model, load_file(folder / LOSS_WEIGHTS))
