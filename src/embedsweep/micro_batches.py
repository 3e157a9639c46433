"""Micro-batches: what a smaller one does to a trial, and how a batch of independent examples is split.

A batch is what the loss sees, a micro-batch what memory holds. Losses in their cached form keep the batch whole by
themselves; a batch of examples that count each by itself is drawn whole and split inside of the training step, so that
samplers, schedules and checkpoints know nothing of it; other losses see the micro-batch alone. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from embedsweep.losses import LOSSES, Average, InBatch, in_batch, nest
from embedsweep.schema import LossConfig, TrialConfig


def losses_of(config: TrialConfig) -> tuple[LossConfig, ...]:
    """The loss of every dataset of a trial; the data's own comes first."""
    return (config.loss, *(also.loss for also in config.data.also.values()))


def kind_of(config: TrialConfig) -> InBatch:
    """What a micro-batch smaller than the batch does to a trial; COMPARED unless all its losses are of one kind."""
    kinds = {in_batch(loss) for loss in losses_of(config)}
    return kinds.pop() if len(kinds) == 1 else InBatch.COMPARED


def averaged_over(loss: LossConfig) -> Average:
    """What a loss is a mean over: what the innermost is."""
    return LOSSES[nest(loss)[-1].name].average


def micro_batch_size_of(config: TrialConfig) -> int:
    """Examples in memory at once."""
    return config.dataloader.micro_batch_size or config.dataloader.batch_size


def has_micro_batches(config: TrialConfig) -> bool:
    """Whether memory is to hold less than a batch at once."""
    return micro_batch_size_of(config) < config.dataloader.batch_size


def cached_micro_batch(config: TrialConfig) -> int | None:
    """The micro-batch of losses in their cached form; None where none is wanted, or not every loss has one."""
    is_cached = has_micro_batches(config) and kind_of(config) is InBatch.CACHED
    return micro_batch_size_of(config) if is_cached else None


def loss_batch_size_of(config: TrialConfig) -> int:
    """Examples that a loss sees at once, and that are drawn together."""
    loss_sees_it = kind_of(config) is InBatch.COMPARED
    return micro_batch_size_of(config) if loss_sees_it else config.dataloader.batch_size


def with_micro_batch(config: TrialConfig, size: int) -> TrialConfig:
    """The same trial with so many examples in memory at once."""
    if size == micro_batch_size_of(config):
        return config
    return replace(config, dataloader=replace(config.dataloader, micro_batch_size=size))


def split_batches(trainer: Any, size: int, averages: Mapping[str, Average]) -> None:
    """Lets ``trainer`` compute each batch in parts, one after another, with the gradient of the whole.

    Dropout and whatever else a loss draws at random is drawn for each part, padding is that of each part, and sums are
    rounded in another order; else nothing depends on the size, also where it does not divide a batch. Where processes
    share a batch, each splits its own share, and all count by how many examples they hold.

    Args:
        trainer: a SentenceTransformerTrainer before it trains; changed in place.
        size: examples in a part, at most.
        averages: what the loss of each dataset is a mean over, by the dataset's name.
    """
    trainer.data_collator = _SplittingCollator(trainer.data_collator, size, averages)
    whole_step = trainer.training_step

    def training_step(model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> Any:
        parts = list(zip(inputs[_PARTS], inputs[_SHARES], strict=True))
        weight = _weight(inputs[_EXAMPLES], trainer.accelerator)
        value: Any = 0
        for number, (part, share) in enumerate(parts, start=1):
            # What the trainer divides the loss of a part by.
            trainer.current_gradient_accumulation_steps = 1 / (share * weight)
            with nullcontext() if number == len(parts) else trainer.accelerator.no_sync(model):
                value = value + whole_step(model, part, num_items_in_batch)
        return value

    trainer.training_step = training_step


_PARTS, _SHARES, _EXAMPLES = "parts", "shares", "examples"
"""What a split batch consists of: batches as they are otherwise, the share of each in the whole, and its examples."""


def _weight(examples: int, accelerator: Any) -> float:
    """What so many examples count for, of which every process has its own number: their mean gradient is taken."""
    if accelerator.num_processes == 1:
        return 1.0
    import torch

    mean = accelerator.reduce(torch.tensor(float(examples), device=accelerator.device), "mean")
    return examples / float(mean)


class _SplittingCollator:
    """Makes a batch of examples into parts, each as the trainer's own collator makes it."""

    def __init__(self, collate: Any, size: int, averages: Mapping[str, Average]) -> None:
        self.collate = collate
        self.valid_label_columns = collate.valid_label_columns
        self._size = size
        self._averages = averages

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        starts = range(0, len(examples), self._size)
        parts = [self.collate(list(examples[start : start + self._size])) for start in starts]
        name = examples[0].get("dataset_name", next(iter(self._averages)))
        match self._averages[name]:
            case "nothing":
                shares = [1.0] * len(parts)
            case "examples":
                shares = [min(self._size, len(examples) - start) / len(examples) for start in starts]
            case "words":
                words = [_words(part) for part in parts]
                shares = [count / sum(words) for count in words]
        return {_PARTS: parts, _SHARES: shares, _EXAMPLES: len(examples)}


def _words(part: Mapping[str, Any]) -> int:
    """Tokens of the last text column that a decoder is to predict: all but the first of each text."""
    mask = [value for key, value in part.items() if key.endswith("attention_mask")][-1]
    return int(mask[:, 1:].sum())
