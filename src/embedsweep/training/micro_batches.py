"""Micro-batches: how many examples are in memory at once, what that changes, and how batches are split.

A batch is what the loss sees, a micro-batch what memory holds. Losses in their cached form keep the batch whole by
themselves. A batch of independent examples is drawn whole and split inside the training step, so that samplers,
schedules and checkpoints do not change. Other losses see the micro-batch alone. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedsweep.config.trial import LossConfig, TrialConfig
from embedsweep.losses.nesting import in_batch, nest, not_captured
from embedsweep.losses.rows import Average, InBatch
from embedsweep.losses.table import LOSSES


def losses_of(config: TrialConfig) -> tuple[LossConfig, ...]:
    """Return the loss of every dataset of a trial; the main dataset's comes first."""
    return tuple(dataset.loss for dataset in config.datasets.values())


def kind_of(config: TrialConfig) -> InBatch:
    """Return what a micro-batch smaller than the batch does; COMPARED unless all losses are of one kind."""
    kinds = {in_batch(loss) for loss in losses_of(config)}
    return kinds.pop() if len(kinds) == 1 else InBatch.COMPARED


def averaged_over(loss: LossConfig) -> Average:
    """Return what a loss is a mean over, which its innermost loss decides."""
    return LOSSES[nest(loss)[-1].name].average


def micro_batch_size_of(config: TrialConfig) -> int:
    """Return the number of examples in memory at once."""
    return config.dataloader.micro_batch_size or config.dataloader.batch_size


def has_micro_batches(config: TrialConfig) -> bool:
    """Return whether memory holds less than a batch at once."""
    return micro_batch_size_of(config) < config.dataloader.batch_size


def cached_micro_batch(config: TrialConfig) -> int | None:
    """Return the micro-batch size of losses in their cached form; None if that is not needed or a loss has none."""
    is_cached = has_micro_batches(config) and kind_of(config) is InBatch.CACHED
    return micro_batch_size_of(config) if is_cached else None


def loss_batch_size_of(config: TrialConfig) -> int:
    """Return the number of examples that a loss sees at once, which are drawn together."""
    loss_sees_it = kind_of(config) is InBatch.COMPARED
    return micro_batch_size_of(config) if loss_sees_it else config.dataloader.batch_size


def why_eager(config: TrialConfig, processes: int, *, on_cuda: bool) -> str | None:
    """Return why the steps of a trial cannot be captured in CUDA graphs; None if no reason is known.

    Args:
        config: the trial.
        processes: how many processes train it together.
        on_cuda: whether it trains on a CUDA device.
    """
    if not on_cuda:
        return f"trainer.device={config.trainer.device} is no CUDA device here"
    if processes > 1:
        return f"{processes} processes train together"
    if config.trainer.precision == "fp16":
        return "fp16 scales the gradient anew after an overflow"
    if has_micro_batches(config):
        return f"batches are computed in parts (dataloader.micro_batch_size={config.dataloader.micro_batch_size})"
    if config.model.static_dim is not None:
        return "a static embedding has no texts of one length"
    return next((reason for loss in losses_of(config) if (reason := not_captured(loss)) is not None), None)


def with_micro_batch(config: TrialConfig, size: int) -> TrialConfig:
    """Return the same trial with ``size`` examples in memory at once."""
    if size == micro_batch_size_of(config):
        return config
    return replace(config, dataloader=replace(config.dataloader, micro_batch_size=size))


PARTS, SHARES, N_EXAMPLES = "parts", "shares", "examples"
"""Keys of a split batch: its parts, each a batch as usual, the weight of each part, and the number of examples."""


@dataclass(frozen=True)
class Split:
    """How batches of independent examples are computed in parts, one after another, with the gradient of the whole.

    Dropout and other random draws of a loss are drawn for each part, padding is that of each part, and sums are rounded
    in another order; otherwise nothing depends on the size, even if it does not divide a batch. If processes share a
    batch, each splits its own share, weighted by the examples in it.

    Attributes:
        size: maximum number of examples in a part.
        averages: what the loss of each dataset is a mean over, by the dataset's name.
    """

    size: int
    averages: Mapping[str, Average]


class SplittingCollator:
    """Collate a batch of examples in parts, each as the trainer's own collator does.

    Args:
        collate: the trainer's own collator.
        split: the size of a part, and what losses are means over.
    """

    def __init__(self, collate: Any, split: Split) -> None:
        self.collate = collate
        self.valid_label_columns = collate.valid_label_columns
        self._size = split.size
        self._averages = split.averages

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the parts of a batch, and the weight of each."""
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
        return {PARTS: parts, SHARES: shares, N_EXAMPLES: len(examples)}


def _words(part: Mapping[str, Any]) -> int:
    """Return how many tokens of the last text column a decoder predicts: all but the first of each text."""
    mask = [value for key, value in part.items() if key.endswith("attention_mask")][-1]
    return int(mask[:, 1:].sum())
