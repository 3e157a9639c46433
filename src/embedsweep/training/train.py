"""Train a model from a configuration, resume from its checkpoints and load the one to keep. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TYPE_CHECKING

from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn
from transformers import PrinterCallback, TrainerState

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.evaluation.dev import DevEvaluator, MakeEvaluator, dev_evaluator
from embedsweep.evaluation.evaluator import metric_names, scores_of
from embedsweep.losses.modules import load_own_state, own_state
from embedsweep.losses.nesting import build_loss, merges_columns, training_dataset
from embedsweep.losses.rows import InBatch
from embedsweep.models.build import load_weights
from embedsweep.training.built_models import BuiltModel
from embedsweep.training.callback import LOSS_WEIGHTS, TrainingCallback, TrainingListener
from embedsweep.training.checkpoints import Checkpoints, CheckpointWriter
from embedsweep.training.data import Part
from embedsweep.training.divergence import DivergenceCheck
from embedsweep.training.graphed import ModelGraphs, dataset_prompts
from embedsweep.training.micro_batches import (
    Split,
    averaged_over,
    cached_micro_batch,
    kind_of,
    losses_of,
    micro_batch_size_of,
    why_eager,
)
from embedsweep.training.stopping import Stop
from embedsweep.training.trainer import Trainer, TrainerOptions, training_arguments

if TYPE_CHECKING:
    from embedsweep.training.group import TrainingGroup

_log = logging.getLogger(__name__)

RELOAD_TOLERANCE = 1e-4
"""How far the best checkpoint's score may differ from the score it was chosen by: rounding on a GPU, no more."""


@dataclass(frozen=True)
class Task:
    """A dataset and the loss it is trained by.

    Attributes:
        dataset: the examples as the loss takes them.
        loss: the loss over the model.
        merges_columns: whether the trainer embeds all columns of a batch in one forward pass for the loss.
    """

    dataset: Dataset
    loss: nn.Module
    merges_columns: bool


@dataclass
class Training:
    """One training: what is trained on what, and who follows it.

    Args:
        config: the trial.
        model: the model, trained in place.
        parts: the datasets by name, from :func:`~embedsweep.training.data.training_parts`; several alternate.
        checkpoints: where checkpoints are written; training resumes from the last whole one.
        listener: receives signs of life, progress and metrics, and may prune.
        is_resumable: whether a later command may train on from the end; else the last checkpoint has no optimizer.
        built: what earlier trials made over this very model; None makes it anew.
        processes: how many processes share a batch; this one must be one of them if there are several.
        make_evaluator: makes what scores dev; None is `dev_evaluator`.
        stop: says whether training has to stop, with a checkpoint.

    Attributes:
        tasks: dataset and loss by name.
        evaluator: scores dev and what is watched beside it.
    """

    config: TrialConfig
    model: SentenceTransformer
    parts: InitVar[Mapping[str, Part]]
    checkpoints: Checkpoints
    listener: TrainingListener
    _: KW_ONLY
    is_resumable: bool
    built: BuiltModel | None = None
    processes: int = 1
    make_evaluator: MakeEvaluator | None = None
    stop: Stop = field(default_factory=Stop)
    tasks: dict[str, Task] = field(init=False)
    evaluator: DevEvaluator = field(init=False)

    def __post_init__(self, parts: Mapping[str, Part]) -> None:
        self.tasks = {name: build_task(self.config, part, self.model, self.processes) for name, part in parts.items()}
        self.evaluator = (self.make_evaluator or dev_evaluator)(self.config, self.model, self.listener.on_alive)


@dataclass(frozen=True)
class Outcome:
    """The result of a training; the model holds the weights of the kept checkpoint.

    Attributes:
        dev: dev metrics of the kept checkpoint: the best, or the last if the configuration says so or it was pruned.
        best_step: its optimizer step.
        steps: optimizer steps trained.
        pruned: whether the listener ended it.
        train_s: seconds in training steps, over all attempts.
        eval_s: seconds in evaluations, over all attempts; what a thread writes meanwhile is in neither.
        log: the trainer's log, one entry per logged step.
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


def build_task(config: TrialConfig, part: Part, model: SentenceTransformer, processes: int) -> Task:
    """Build the dataset and the loss of one part; ``processes`` share a batch."""
    cached = cached_micro_batch(config)
    # Losses of independent examples need not see the other processes' shares.
    seen_by = 1 if kind_of(config) is InBatch.INDEPENDENT else processes
    merge_columns = config.trainer.merge_columns
    if merge_columns and cached is not None:
        _log.info("columns are not merged: loss=%s is in its cached form, which embeds them in parts", part.loss.name)
    # The trainer merges columns for a loss that it calls itself; one inside another loss has to do so on its own.
    is_inside = part.loss.inner is not None or seen_by > 1
    n_classes = len(part.examples.classes) if part.examples.classes is not None else None
    loss = build_loss(
        part.loss,
        model,
        None if cached is None else cached // processes,
        n_classes,
        seen_by,
        merge_columns=merge_columns and is_inside,
    )
    by_trainer = merge_columns and not is_inside and merges_columns(part.loss, cached=cached is not None)
    return Task(training_dataset(part.loss, part.examples, model, part.seed), loss, by_trainer)


def train(training: Training, group: TrainingGroup | None = None) -> Outcome:
    """Train the model in place, from the last whole checkpoint if there is one, and load the checkpoint to keep.

    A group of processes trains models of its own, and the result is then loaded from its checkpoints.

    A signal ends it after a step, with a checkpoint of that step; one that comes while dev is scored ends it at once,
    with a checkpoint, too, and whoever resumes the training scores dev first.

    Raises:
        TrialError: the training diverged, or a checkpoint's score changed on loading.
        Interrupted: a signal came.
        GroupError: a process of the group died or hung.
    """
    checkpoints = training.checkpoints
    if group is not None:
        group.train(training.config, checkpoints.folder.parent, training.listener)
    with CheckpointWriter() as writer:
        trainer, callback = _assemble(training, group.size if group else 1, writer)
        resumed = checkpoints.last_whole()
        state = _state_of(checkpoints, resumed) if resumed is not None else None
        was_trained = state is not None and (group is not None or callback.is_over(state))
        if was_trained:
            # The trainer would take one step more. Callbacks still see the arguments, which the card prints; one of
            # the library's needs an optimizer.
            trainer.callback_handler.optimizer = trainer.create_optimizer()
            trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
            trainer.state = state
        else:
            _run(trainer, callback, resumed)
        return _finish(training, trainer, callback, has_last_weights=not was_trained)


def train_share(training: Training) -> None:
    """Train this process's share of every batch, to the end: all processes of a group call it, with equal trainings.

    Raises:
        TrialError: the training diverged.
        Interrupted: a process was told to stop; the checkpoint of the last step is written.
    """
    checkpoints = training.checkpoints
    with CheckpointWriter() as writer:
        trainer, callback = _assemble(training, training.processes, writer)
        resumed = checkpoints.last_whole()
        if resumed is None or not callback.is_over(_state_of(checkpoints, resumed)):
            _run(trainer, callback, resumed)


def _assemble(training: Training, processes: int, writer: CheckpointWriter) -> tuple[Trainer, TrainingCallback]:
    config, model, tasks, built = training.config, training.model, training.tasks, training.built
    losses = nn.ModuleDict({f"of_{number}": task.loss for number, task in enumerate(tasks.values())})
    divergence = DivergenceCheck(fp16=config.trainer.precision == "fp16")
    checkpoints, listener, stop = training.checkpoints, training.listener, training.stop
    callback = TrainingCallback(config, checkpoints, listener, losses, divergence, writer, stop)
    datasets = {name: task.dataset for name, task in tasks.items()}
    prompts = {name: dataset_prompts(config, model, name, dataset) for name, dataset in datasets.items()}
    several = len(tasks) > 1
    graphs = built.graphs if built else ModelGraphs(model)
    reason = graphs.refused or _why_eager(config, processes, model)
    options = TrainerOptions(
        divergence,
        writer,
        stop.lifted,
        split=_split_of(config, list(tasks), processes),
        merged={task.loss for task in tasks.values() if task.merges_columns},
        graphed=None if reason else graphs.graphed(config, datasets),
        why_eager=reason,
        saver=built.saver if built else None,
        is_over=lambda state: not training.is_resumable and callback.is_over(state),
        trust_remote_code=config.model.trust_remote_code,
    )
    trainer = Trainer(
        options,
        model=model,
        args=training_arguments(config, checkpoints.folder, prompts, processes),
        train_dataset=DatasetDict(datasets) if several else next(iter(datasets.values())),
        loss={name: task.loss for name, task in tasks.items()} if several else next(iter(tasks.values())).loss,
        evaluator=training.evaluator,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, callback


def _why_eager(config: TrialConfig, processes: int, model: SentenceTransformer) -> str | None:
    """Return why no step is captured in CUDA graphs; None if steps are."""
    if config.trainer.cuda_graphs is False:
        return "trainer.cuda_graphs=false"
    reason = why_eager(config, processes, on_cuda=model.device.type == "cuda")
    if reason is None and not (isinstance(model[0], Transformer) and isinstance(model.tokenizer.pad_token_id, int)):
        return "its texts are not padded to one length"
    return reason


def _split_of(config: TrialConfig, names: Sequence[str], processes: int) -> Split | None:
    """Return how a batch of the datasets ``names`` is computed in parts; None computes it whole."""
    size = micro_batch_size_of(config)
    # Shares of processes may differ in size, too, and must be weighted accordingly.
    if kind_of(config) is not InBatch.INDEPENDENT or (size == config.dataloader.batch_size and processes == 1):
        return None
    averages = {name: averaged_over(loss) for name, loss in zip(names, losses_of(config), strict=True)}
    return Split(size // processes, averages)


def _run(trainer: Trainer, callback: TrainingCallback, resumed: int | None) -> None:
    """Train from the checkpoint of step ``resumed``, or from the beginning."""
    folder = callback.checkpoints.path(resumed) if resumed is not None else None
    if folder is not None and own_state(callback.losses, trainer.model):
        load_own_state(callback.losses, trainer.model, load_file(folder / LOSS_WEIGHTS))
    with callback.stop:
        trainer.train(resume_from_checkpoint=str(folder) if folder is not None else None)
    callback.writer.wait()


def _state_of(checkpoints: Checkpoints, step: int) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoints.path(step) / "trainer_state.json"))


def _finish(training: Training, trainer: Trainer, callback: TrainingCallback, *, has_last_weights: bool) -> Outcome:
    """Load the checkpoint to keep and score it again, unless the model holds the weights that were just scored.

    Args:
        training: the training.
        trainer: after training.
        callback: has the history.
        has_last_weights: whether this process trained to the last step, so that the model holds its weights.
    """
    config, checkpoints, evaluator = training.config, training.checkpoints, training.evaluator
    state, times = trainer.state, callback.times()
    evaluations = {entry["step"]: entry for entry in state.log_history if callback.objective in entry}
    pruned = callback.was_pruned(state)
    # A pruned trial's value is the one it was pruned by, as in Optuna.
    kept = state.best_global_step if config.trainer.load_best_model_at_end and not pruned else state.global_step
    if has_last_weights and evaluator.has_scored and kept == state.global_step == max(evaluations):
        dev = metric_names(evaluations[kept], "dev")
    else:
        load_weights(trainer.model, checkpoints.path(kept), config.model.trust_remote_code)
        dev = scores_of(evaluator, trainer.model)
        written, loaded = evaluations[kept][callback.objective], dev[config.objective]
        if abs(loaded - written) > RELOAD_TOLERANCE:
            raise TrialError(
                f"the checkpoint of step {kept} scored {written:.6f} when it was written and {loaded:.6f} when it was "
                "loaded"
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
