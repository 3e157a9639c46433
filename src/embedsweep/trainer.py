"""The trainer: sentence-transformers' own, with what this project does differently as overrides. Imports torch.

Nothing of the library's loop is copied. What is overridden and begins with an underscore is private there, so tests
hold what is relied on of it.
"""

from __future__ import annotations

import copy
import functools
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from torch import nn
from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from embedsweep.checkpoint_writer import CheckpointWriter
from embedsweep.cuda_graphs import CaptureError
from embedsweep.divergence import Watch
from embedsweep.errors import TrialError
from embedsweep.graphed import Graphed, PaddingCollator
from embedsweep.micro_batches import N_EXAMPLES, PARTS, SHARES, Split, SplittingCollator
from embedsweep.models import load_weights

_log = logging.getLogger(__name__)


class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]  # the library is untyped
    """Trains as sentence-transformers does; watches for divergence, splits batches and replays captured steps.

    Args:
        model: what is trained.
        divergence: is shown every loss and every gradient.
        split: how a batch is computed in parts; None computes it whole.
        graphed: the captured steps, and the lengths that batches are padded to; None captures nothing.
        why_eager: why it is None, for people.
        writer: writes checkpoints.
        saver: the model once more, in main memory, from which checkpoints are written while training goes on; None
            writes them from the model itself, which waits.
        is_over: whether training has ended for good, so that a checkpoint need not hold what it would go on with.
        trust_remote_code: whether code beside a checkpoint may be executed.
        given: what the library's trainer takes beside these.
    """

    def __init__(
        self,
        *,
        model: SentenceTransformer,
        divergence: Watch,
        split: Split | None,
        graphed: Graphed | None,
        why_eager: str | None,
        writer: CheckpointWriter,
        saver: SentenceTransformer | None,
        is_over: Callable[[TrainerState], bool],
        trust_remote_code: bool,
        **given: Any,
    ) -> None:
        self._divergence = divergence
        self._split = split
        self._graphed = graphed
        self._why_eager = why_eager
        self._norm: torch.Tensor | None = None
        """That of the gradient of a captured step, before it was clipped; None after any other step."""
        self._writer = writer
        self._saver = saver
        self._is_over = is_over
        self._trust_remote_code = trust_remote_code
        super().__init__(model=model, **given)

    @property
    def captured(self) -> str:
        """What was captured in CUDA graphs, in words, or why nothing was."""
        return f"none: {self._why_eager}" if self._graphed is None else self._graphed.told

    def get_data_collator(self, **given: Any) -> Any:
        """The library's collator; around it what splits a batch, or pads it to a length that graphs are made for."""
        collate = super().get_data_collator(**given)
        if self._split is not None:
            return SplittingCollator(collate, self._split)
        return collate if self._graphed is None else PaddingCollator(collate, self._graphed)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Gradients of a batch, and its loss."""
        if PARTS in inputs:
            return self._step_in_parts(model, inputs, num_items_in_batch)
        if self._graphed is not None and self._graphed.takes(inputs):
            return self._graphed_step(self._graphed, model, inputs)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The library's, watched for divergence."""
        loss = super().compute_loss(*args, **kwargs)
        self._divergence.saw_loss(loss)
        return loss

    def _step_in_parts(self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: Any) -> torch.Tensor:
        parts = list(zip(inputs[PARTS], inputs[SHARES], strict=True))
        weight = self._weight(inputs[N_EXAMPLES])
        value = torch.zeros((), device=self.args.device)
        for number, (part, share) in enumerate(parts, start=1):
            # What the trainer divides the loss of a part by.
            self.current_gradient_accumulation_steps = 1 / (share * weight)
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                value = value + super().training_step(model, part, num_items_in_batch)
        return value

    def _weight(self, examples: int) -> float:
        """What so many examples count for, of which every process has its own number: their mean gradient is taken."""
        if self.accelerator.num_processes == 1:
            return 1.0
        mean = self.accelerator.reduce(torch.tensor(float(examples), device=self.args.device), "mean")
        return examples / float(mean)

    def _graphed_step(self, graphed: Graphed, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        model.train()  # all of it: a model that was just loaded is in training mode itself, and its transformer is not
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()  # schedule-free optimizers train with other weights than they evaluate with
        batch = self._prepare_inputs(inputs)
        n_captured, begun = len(graphed.graphs), time.monotonic()
        try:
            loss, self._norm = graphed.graphs.step(batch, lambda given: super(Trainer, self).compute_loss(model, given))
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
            _log.info("CUDA graphs: step %d captured in %.2f s", self.state.global_step + 1, time.monotonic() - begun)
        self._divergence.saw_loss(loss)
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        # A captured step clips its gradient itself.
        return super()._clip_grad_norm(model) if self._norm is None else self._norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm if self._norm is None else self._norm)
        self._norm = None
        self._divergence.saw_gradient(norm)
        return norm

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        # The library's own takes a checkpoint of adapters for a whole model, with its base model where it once lay.
        load_weights(self.model, Path(checkpoint_path), self._trust_remote_code)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002  # the library's
        # Without its card, which takes longer than the weights of a small model, and without a pickle of the arguments.
        folder = output_dir or self.args.output_dir
        # Until the last checkpoint is sealed, the saver holds its weights; and sealing it deletes all it replaces.
        self._writer.wait()
        if self._saver is None:
            self.model.save_pretrained(folder, create_model_card=False)
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            weights = self.model.state_dict()
            for name, value in self._saver.state_dict().items():
                value.copy_(weights[name])
        save = functools.partial(self._saver.save_pretrained, folder, create_model_card=False)
        self._writer.submit(save)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._is_over(self.state):
            return
        if self._saver is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        states = {
            OPTIMIZER_NAME: _in_main_memory(self.optimizer.state_dict()),
            SCHEDULER_NAME: copy.deepcopy(self.lr_scheduler.state_dict()),
        }
        for name, state in states.items():
            self._writer.submit(functools.partial(torch.save, state, Path(output_dir) / name))


def _in_main_memory(state: Any) -> Any:
    """A copy of an optimizer's state that later steps do not change."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _in_main_memory(value) for key, value in state.items()}
    return [_in_main_memory(value) for value in state] if isinstance(state, list) else state
