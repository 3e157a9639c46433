"""Training: a trainer put together from a configuration, run, and its checkpoint to keep chosen. Imports torch.

Knows neither studies nor MLflow's names for runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn
from transformers import PrinterCallback, TrainerState

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.evaluation.pairs import PairEvaluator, metric_names, scores_of
from embedsweep.losses.modules import load_own_state, own_state
from embedsweep.losses.nesting import build_loss, training_dataset
from embedsweep.losses.rows import InBatch
from embedsweep.models import load_weights
from embedsweep.training.built_models import BuiltModel
from embedsweep.training.callback import LOSS_WEIGHTS, TrainingCallback, Watcher
from embedsweep.training.checkpoints import Checkpoints, CheckpointWriter
from embedsweep.training.data import Part
from embedsweep.training.divergence import Watch
from embedsweep.training.graphed import ModelGraphs
from embedsweep.training.micro_batches import (
    Split,
    averaged_over,
    cached_micro_batch,
    kind_of,
    losses_of,
    micro_batch_size_of,
    why_eager,
)
from embedsweep.training.trainer import Trainer, training_arguments

RELOAD_TOLERANCE = 1e-4
"""How far the best checkpoint's score may lie from the one it was chosen by: rounding on a GPU, no more."""


class TrainingGroup(Protocol):
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
        eval_s: seconds in evaluations, over all attempts; what a thread writes meanwhile is in neither.
        log: the trainer's log, one entry a logged step.
        captured: what was captured in CUDA graphs, in words, or why nothing was.
    """

    dev: Mapping[str, float]
    best_step: int
    steps: int
    pruned: bool
    train_s: float
    eval_s: float
    log: Sequence[Mapping[str, float]]
    captured: str


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
    group: TrainingGroup | None = None,
    kept: BuiltModel | None = None,
    *,
    may_go_on: bool = True,
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
        kept: what earlier trials made over this very model; None makes it anew.
        may_go_on: whether a later command may train on from the end; else the last checkpoint has no optimizer's state.

    Raises:
        TrialError: the training diverged, or a checkpoint is not what it was.
        GroupError: a process of the group died or hung.
    """
    if group is not None:
        group.train(config, checkpoints.folder.parent, watcher)
    processes = group.size if group else 1
    with CheckpointWriter() as writer:
        trainer, callback = _assembled(
            config, model, tasks, evaluator, checkpoints, watcher, processes, writer, kept, may_go_on
        )
        return _trained(config, trainer, callback, evaluator, is_trained=group is not None)


def _trained(
    config: TrialConfig, trainer: Trainer, callback: TrainingCallback, evaluator: PairEvaluator, *, is_trained: bool
) -> Outcome:
    """Trains unless that was done, in a group or in an attempt that was cut off after its end."""
    checkpoints = callback.checkpoints
    resumed = checkpoints.last_whole()
    state = _state_of(checkpoints, resumed) if resumed is not None else None
    if state is not None and (is_trained or callback.is_over(state)):
        # Trained to its end before: a trainer would take one step more. Callbacks still see the arguments, which the
        # card tells; one of the library's wants an optimizer.
        trainer.callback_handler.optimizer = trainer.create_optimizer()
        trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
        trainer.state = state
        return _finish(config, trainer, evaluator, checkpoints, callback, trained=False)
    _train_on(trainer, callback, resumed)
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
    with CheckpointWriter() as writer:
        trainer, callback = _assembled(
            config, model, tasks, evaluator, checkpoints, watcher, processes, writer, None, may_go_on=True
        )
        resumed = checkpoints.last_whole()
        if resumed is None or not callback.is_over(_state_of(checkpoints, resumed)):
            _train_on(trainer, callback, resumed)


def _assembled(
    config: TrialConfig,
    model: SentenceTransformer,
    tasks: Mapping[str, Task],
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    watcher: Watcher,
    processes: int,
    writer: CheckpointWriter,
    kept: BuiltModel | None,
    may_go_on: bool,
) -> tuple[Trainer, TrainingCallback]:
    losses = nn.ModuleDict({f"of_{number}": task.loss for number, task in enumerate(tasks.values())})
    divergence = Watch(fp16=config.trainer.precision == "fp16")
    callback = TrainingCallback(config, checkpoints, watcher, losses, divergence, writer)
    datasets = {name: task.dataset for name, task in tasks.items()}
    several = len(tasks) > 1
    graphs = kept.graphs if kept else ModelGraphs(model)
    reason = graphs.refused or _why_eager(config, processes, model)
    trainer = Trainer(
        model=model,
        divergence=divergence,
        split=_split_of(config, list(tasks), processes),
        graphed=None if reason else graphs.graphed(config, datasets),
        why_eager=reason,
        writer=writer,
        saver=kept.saver if kept else None,
        is_over=lambda state: not may_go_on and callback.is_over(state),
        trust_remote_code=config.model.trust_remote_code,
        args=training_arguments(config, checkpoints.folder, datasets, processes),
        train_dataset=DatasetDict(datasets) if several else next(iter(datasets.values())),
        loss={name: task.loss for name, task in tasks.items()} if several else next(iter(tasks.values())).loss,
        evaluator=evaluator,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, callback


def _why_eager(config: TrialConfig, processes: int, model: SentenceTransformer) -> str | None:
    """Why no step is captured in CUDA graphs; None if steps are."""
    if config.trainer.cuda_graphs is False:
        return "trainer.cuda_graphs=false"
    reason = why_eager(config, processes, on_cuda=model.device.type == "cuda")
    if reason is None and not (isinstance(model[0], Transformer) and isinstance(model.tokenizer.pad_token_id, int)):
        return "its texts are not padded to one length"
    return reason


def _split_of(config: TrialConfig, names: Sequence[str], processes: int) -> Split | None:
    """How a batch of the datasets ``names`` is computed in parts; None computes it whole."""
    size = micro_batch_size_of(config)
    # Shares of a batch may differ in size, too, and are to count accordingly.
    if kind_of(config) is not InBatch.INDEPENDENT or (size == config.dataloader.batch_size and processes == 1):
        return None
    averages = {name: averaged_over(loss) for name, loss in zip(names, losses_of(config), strict=True)}
    return Split(size // processes, averages)


def _train_on(trainer: Trainer, callback: TrainingCallback, resumed: int | None) -> None:
    """Trains from a checkpoint's step, or from the beginning."""
    folder = callback.checkpoints.path(resumed) if resumed is not None else None
    if folder is not None:
        _load_losses(callback.losses, trainer.model, folder)
    trainer.train(resume_from_checkpoint=str(folder) if folder is not None else None)
    callback.writer.wait()


def _state_of(checkpoints: Checkpoints, step: int) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoints.path(step) / "trainer_state.json"))


def _finish(
    config: TrialConfig,
    trainer: Trainer,
    evaluator: PairEvaluator,
    checkpoints: Checkpoints,
    callback: TrainingCallback,
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
        captured=trainer.captured,
    )


def _load_losses(losses: nn.ModuleDict, model: SentenceTransformer, folder: Path) -> None:
    """Gives losses with weights of their own those they had at a checkpoint."""
    if own_state(losses, model):
        load_own_state(losses, model, load_file(folder / LOSS_WEIGHTS))


_log = logging.getLogger(__name__)


def build_task(config: TrialConfig, part: Part, model: SentenceTransformer, processes: int) -> Task:
    """The dataset and the loss of one part.

    Args:
        config: the trial.
        part: the examples, and what they are trained by.
        model: what is trained.
        processes: how many share a batch; this is to be one of them where they are several.
    """
    cached = cached_micro_batch(config)
    # Examples that count each by itself need not see the other shares.
    seen_by = 1 if kind_of(config) is InBatch.INDEPENDENT else processes
    if config.trainer.merge_columns and cached is not None:
        _log.info("columns are not merged: loss=%s is in its cached form, which embeds them in parts", part.loss.name)
    n_classes = len(part.examples.classes) if part.examples.classes is not None else None
    return Task(
        training_dataset(part.loss, part.examples, model, part.seed),
        build_loss(
            part.loss,
            model,
            None if cached is None else cached // processes,
            n_classes,
            seen_by,
            merge_columns=config.trainer.merge_columns,
        ),
    )
