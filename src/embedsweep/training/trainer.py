"""sentence-transformers' trainer with this project's overrides, and its training arguments. Imports torch.

Overridden methods that begin with an underscore are private to the library: tests check that it still calls them.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import recursively_apply
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import nn
from transformers import TrainerControl, TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from embedsweep.config.training import OptimizerConfig, Schedule
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Interrupted, TrialError
from embedsweep.losses.modules import embed_together
from embedsweep.models.build import load_weights
from embedsweep.training.batches import batch_sampler_of
from embedsweep.training.checkpoints import PREFIX, CheckpointWriter
from embedsweep.training.cuda_graphs import CaptureError
from embedsweep.training.divergence import DivergenceCheck
from embedsweep.training.graphed import Graphed, PaddingCollator
from embedsweep.training.micro_batches import N_EXAMPLES, PARTS, SHARES, Split, SplittingCollator, loss_batch_size_of

_log = logging.getLogger(__name__)

OPTIMIZERS: Mapping[str, str] = {
    "adamw": "adamw_torch_fused",
    "adafactor": "adafactor",
    "schedule_free": "schedule_free_adamw",
}
"""Name -> transformers' name. Its Lion needs bitsandbytes, which is not a dependency here."""

SCHEDULES: Mapping[Schedule, str] = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


LOSS_SUM = "loss_sum_{}.json"
"""A file of a checkpoint, for each process that trains."""


@dataclass(frozen=True)
class TrainerOptions:
    """What the trainer does differently from the library's.

    Attributes:
        divergence: checks every loss and every gradient.
        split: how a batch is computed in parts; None computes it whole.
        merged: losses whose columns are embedded in one forward pass; each has ``compute_loss_from_embeddings``.
        graphed: the captured steps, and the lengths that batches are padded to; None captures nothing.
        why_eager: why ``graphed`` is None, in words.
        writer: writes checkpoints.
        interruptible: returns a block in which a signal is raised at once.
        saver: a copy of the model in main memory, from which checkpoints are written while training continues; None
            writes them from the model itself, and training waits.
        is_over: whether training has ended for good, so that a checkpoint needs no optimizer state.
        trust_remote_code: whether code beside a checkpoint may be executed.
    """

    divergence: DivergenceCheck
    writer: CheckpointWriter
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
    split: Split | None = None
    merged: Collection[nn.Module] = ()
    graphed: Graphed | None = None
    why_eager: str | None = None
    saver: SentenceTransformer | None = None
    is_over: Callable[[TrainerState], bool] = lambda _: False
    trust_remote_code: bool = False


class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]  # the library is untyped
    """Train as sentence-transformers does; check for divergence, split batches, merge columns, replay captured steps.

    Args:
        options: what it does differently.
        arguments: arguments of the library's trainer.
    """

    control: TrainerControl
    """The library's own."""

    def __init__(self, options: TrainerOptions, **arguments: Any) -> None:
        self._options = options
        self._graphed, self._why_eager = options.graphed, options.why_eager
        self._norm: torch.Tensor | None = None
        """Gradient norm of a captured step before clipping; None after any other step."""
        super().__init__(**arguments)

    @property
    def captured(self) -> str:
        """What was captured in CUDA graphs, in words, or why nothing was."""
        return f"none: {self._why_eager}" if self._graphed is None else self._graphed.summary

    def get_data_collator(self, **arguments: Any) -> Any:
        """Return the library's collator, wrapped if it has to split batches or pad them to the lengths of graphs."""
        collate = super().get_data_collator(**arguments)
        if self._options.split is not None:
            return SplittingCollator(collate, self._options.split)
        return collate if self._graphed is None else PaddingCollator(collate, self._graphed)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute the gradients of a batch and return its loss."""
        if PARTS in inputs:
            return self._step_in_parts(model, inputs, num_items_in_batch)
        if self._graphed is not None and self._graphed.takes(inputs):
            return self._graphed_step(self._graphed, model, inputs)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch, checked for divergence."""
        loss = self._batch_loss(model, inputs, *args, **kwargs)
        self._options.divergence.check_loss(loss)
        return loss

    def _batch_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss: Any = self.loss[inputs["dataset_name"]] if isinstance(self.loss, dict) else self.loss
        if loss not in self._options.merged:
            return super().compute_loss(model, inputs, *args, **kwargs)
        columns, labels = self.collect_features(inputs)
        return loss.compute_loss_from_embeddings(embed_together(model, columns), labels)

    def _step_in_parts(self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: Any) -> torch.Tensor:
        parts = list(zip(inputs[PARTS], inputs[SHARES], strict=True))
        weight = self._weight(inputs[N_EXAMPLES])
        value = torch.zeros((), device=self.args.device)
        for number, (part, share) in enumerate(parts, start=1):
            # The trainer divides the loss of a part by this.
            self.current_gradient_accumulation_steps = 1 / (share * weight)
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                value = value + super().training_step(model, part, num_items_in_batch)
        return value

    def _weight(self, examples: int) -> float:
        """Return the weight of this process's share, as shares may differ in size and gradients are averaged."""
        if self.accelerator.num_processes == 1:
            return 1.0
        mean = self.accelerator.reduce(torch.tensor(float(examples), device=self.args.device), "mean")
        return examples / float(mean)

    def _graphed_step(self, graphed: Graphed, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        model.train()  # all of it: a model that was just loaded is in training mode itself, and its transformer is not
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()  # schedule-free optimizers train with other weights than they evaluate with
        batch = self._prepare_inputs(inputs)
        n_captured, started = len(graphed.graphs), time.monotonic()
        try:
            loss, self._norm = graphed.graphs.step(batch, functools.partial(self._batch_loss, model))
        except CaptureError as error:
            graphed.forget()
            if graphed.is_required:
                raise TrialError(
                    f"trainer.cuda_graphs=true, and a step cannot be captured ({error}): use auto"
                ) from error
            self._graphed, self._why_eager = None, f"a step cannot be captured ({error})"
            _log.warning("CUDA graphs: %s", self.captured)
            return super().training_step(model, inputs)
        if len(graphed.graphs) > n_captured:
            _log.info("CUDA graphs: step %d captured in %.2f s", self.state.global_step + 1, time.monotonic() - started)
        self._options.divergence.check_loss(loss)
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Score dev; a signal ends it."""
        with self._options.interruptible():
            return super().evaluation_loop(*args, **kwargs)

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        # The library skips the scheduler where it evaluates before it trains; here that is the last step of a training
        # that was stopped before its evaluation.
        is_late, folder = skip_scheduler, Path(self.args.output_dir, f"{PREFIX}{self.state.global_step}")
        if is_late:
            self._load_rng_state(str(folder))
        try:
            metrics: dict[str, float] = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        except Interrupted:
            if not is_late:
                self._save_now()
            raise
        if is_late:
            self._determine_best_metric(metrics, trial)
            self._replace(folder)
        return metrics

    def _replace(self, folder: Path) -> None:
        """Write a checkpoint anew in files of its own: the former ones may be linked elsewhere, to be sent."""
        if self.args.process_index == 0:
            shutil.rmtree(folder)
        self.args.distributed_state.wait_for_everyone()
        self._save_now()

    def _save_now(self) -> None:
        self._save_checkpoint(self.model, None)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _run_epoch(self, **arguments: Any) -> None:
        if not self.control.should_training_stop:  # which the evaluation before the first step may have decided
            super()._run_epoch(**arguments)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # Losses since the last one that was logged, of which the next is the mean; each process has its own.
        sums = {"loss": float(self._tr_loss), "since": self._globalstep_last_logged}
        Path(output_dir, LOSS_SUM.format(self.args.process_index)).write_text(json.dumps(sums), encoding="utf-8")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        path = Path(checkpoint or "", LOSS_SUM.format(self.args.process_index))
        if checkpoint is not None and path.is_file():  # older versions wrote none
            sums = json.loads(path.read_text(encoding="utf-8"))
            self._tr_loss.fill_(sums["loss"])
            self._globalstep_last_logged = sums["since"]

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        # A captured step clips its gradient itself.
        return super()._clip_grad_norm(model) if self._norm is None else self._norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm if self._norm is None else self._norm)
        self._norm = None
        self._options.divergence.check_gradient(norm)
        return norm

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        # The library would load a checkpoint of adapters as a whole model, with its base model from its former place.
        load_weights(self.model, Path(checkpoint_path), self._options.trust_remote_code)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002  # the library's
        # Without the card, which takes longer than a small model's weights, and without a pickle of the arguments.
        folder = output_dir or self.args.output_dir
        # Until the last checkpoint is sealed, the saver holds its weights; and sealing it deletes all it replaces.
        self._options.writer.wait()
        if self._options.saver is None:
            self.model.save_pretrained(folder, create_model_card=False)
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            weights = self.model.state_dict()
            for name, value in self._options.saver.state_dict().items():
                value.copy_(weights[name])
        save = functools.partial(self._options.saver.save_pretrained, folder, create_model_card=False)
        self._options.writer.submit(save)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._options.is_over(self.state):
            return
        if self._options.saver is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        states = {
            # Copies, which later steps do not change.
            OPTIMIZER_NAME: recursively_apply(
                lambda each: each.detach().to("cpu", copy=True), self.optimizer.state_dict()
            ),
            SCHEDULER_NAME: copy.deepcopy(self.lr_scheduler.state_dict()),
        }
        for name, state in states.items():
            self._options.writer.submit(functools.partial(torch.save, state, Path(output_dir) / name))


def training_arguments(
    config: TrialConfig, folder: Path, prompts: Mapping[str, Mapping[str, str]], processes: int
) -> SentenceTransformerTrainingArguments:
    """Return sentence-transformers' training arguments for a configuration.

    Args:
        config: the trial.
        folder: where checkpoints are written.
        prompts: training dataset -> text column -> its prompt, for the columns that get one.
        processes: how many processes share a batch; a divisor of the batch size and of the micro-batch size.
    """
    trainer, loader = config.trainer, config.dataloader
    # A smaller loss batch is drawn as such, so that it has no duplicates and whole groups; others are split later.
    loss_batch_size = loss_batch_size_of(config)
    pinned = trainer.device != "cpu" and torch.cuda.is_available()
    every = _ratio_or_steps(trainer.eval_every)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=trainer.epochs,
        max_steps=trainer.max_steps or -1,
        per_device_train_batch_size=loss_batch_size // processes,
        gradient_accumulation_steps=loader.batch_size // loss_batch_size,
        per_device_eval_batch_size=config.evaluation.batch_size,
        prompts=_trainer_prompts(prompts),
        batch_sampler=batch_sampler_of(loader, processes),
        multi_dataset_batch_sampler=loader.multi_dataset_batch_sampler,
        dataloader_drop_last=loader.drop_last,
        dataloader_num_workers=loader.num_workers,
        dataloader_persistent_workers=loader.num_workers > 0,
        dataloader_pin_memory=pinned,
        # A batch is copied to the device while the step before it is computed.
        accelerator_config={"non_blocking": pinned},
        # A process that shares a batch would look for a GPU of its own.
        use_cpu=trainer.device == "cpu" or (processes > 1 and not torch.cuda.is_available()),
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
    # In a group of processes the library drops the last batch, which it shares out unevenly; here shares may be uneven.
    arguments.dataloader_drop_last = loader.drop_last
    return arguments


def _trainer_prompts(prompts: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
    if not any(prompts.values()):
        return None
    several = {name: dict(of_columns) for name, of_columns in prompts.items()}
    return several if len(several) > 1 else next(iter(several.values()))


def _ratio_or_steps(value: float) -> float:
    return value if value < 1 else int(value)


def optimizer_arguments(config: OptimizerConfig) -> dict[str, Any]:
    """Return the training arguments of an optimizer and its schedule.

    ``schedule_free`` (Defazio et al. 2024, https://arxiv.org/abs/2405.15682) warms up by itself over a number of steps,
    but takes a ratio for a number of steps below 1, which gives no warm-up: therefore steps are left to it and ratios
    to the schedule; with both, the rate would be warmed up twice. The logged rate lacks the warm-up over steps.
    """
    in_steps = config.warmup >= 1
    schedule = SCHEDULES[config.schedule]
    if config.name == "schedule_free" and in_steps:
        schedule = "constant"
    return {
        "optim": OPTIMIZERS[config.name],
        "learning_rate": config.lr,
        "weight_decay": config.weight_decay,
        "warmup_steps": int(config.warmup) if in_steps else config.warmup,
        "lr_scheduler_type": schedule,
        "max_grad_norm": config.max_grad_norm,
    }
