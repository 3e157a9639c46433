"""How a model is trained, as frozen types with the bounds of their values: batches, optimizer, trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from embedsweep.config.types import Count, Described, LearningRate, NotNegative, Positive, Seed, WholeNumber

Precision = Literal["fp32", "fp16", "bf16"]
Switch = Literal["auto", True, False]
OptimizerName = Literal["adamw", "adafactor", "schedule_free"]
Schedule = Literal["linear", "cosine", "constant"]
BatchSampler = Literal["batch_sampler", "no_duplicates", "group_by_label"]
MultiDatasetBatchSampler = Literal["proportional", "round_robin"]


@dataclass(frozen=True)
class DataloaderConfig:
    """How examples become batches.

    Attributes:
        name: the option's name.
        batch_size: examples an optimizer step sees.
        micro_batch_size: examples in memory at once, a divisor of ``batch_size``; None is ``batch_size``.
        batch_sampler: ``no_duplicates`` keeps equal texts out of one batch, ``group_by_label`` puts at least two of a
            class into each.
        multi_dataset_batch_sampler: how batches of several datasets take turns: ``proportional`` to their sizes, or
            ``round_robin`` until the smallest is used up.
        drop_last: whether the last, smaller batch of an epoch is left out.
        num_workers: processes that tokenise; 0 tokenises in the trial's own.
    """

    name: str
    batch_size: Count
    micro_batch_size: Count | None
    batch_sampler: BatchSampler
    multi_dataset_batch_sampler: MultiDatasetBatchSampler
    drop_last: bool
    num_workers: WholeNumber


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule.

    Attributes:
        name: the option's name (``adamw``).
        lr: peak learning rate.
        weight_decay: decoupled weight decay, on all but biases and norms.
        warmup: below 1 a ratio of all steps, else a number of steps.
        schedule: what the rate does after warm-up.
        max_grad_norm: gradients are clipped to this norm; 0 leaves them alone.
    """

    name: OptimizerName
    lr: LearningRate
    weight_decay: NotNegative
    warmup: NotNegative
    schedule: Schedule
    max_grad_norm: NotNegative


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """When a training that no longer improves ends.

    Attributes:
        patience: evaluations in a row without improvement; None trains to the end.
        min_delta: by how much the objective must rise to count as improvement.
    """

    patience: Count | None
    min_delta: NotNegative


@dataclass(frozen=True)
class TrainerConfig:
    """The training itself.

    Attributes:
        name: the option's name.
        epochs: passes over the training data, unless ``max_steps`` is set.
        max_steps: optimizer steps; None trains ``epochs``.
        precision: ``fp16`` and ``bf16`` are automatic mixed precision.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        seed: of data order, dropout and new layers.
        eval_every: below 1 a ratio of all steps, else a number of steps, between evaluations and checkpoints.
        log_every: below 1 a ratio of all steps, else a number of steps, between two values of the training loss.
        load_best_model_at_end: whether the result is the best checkpoint, by the objective; else the last one.
        merge_columns: whether all text columns of a batch are embedded in one forward pass; else the first has its
            own. The loss and its gradients are the same up to rounding and what dropout draws.
        cuda_graphs: whether steps are captured once for each shape of a batch and replayed; ``auto`` where that is
            possible. Batches are then padded to a few lengths, which changes rounding and what dropout draws.
        early_stopping: when to end early.
    """

    name: str
    epochs: Positive
    max_steps: Count | None
    precision: Precision
    device: Annotated[str, Described("auto, cpu, cuda, cuda:N or mps")]
    seed: Seed
    eval_every: Positive
    log_every: Positive
    load_best_model_at_end: bool
    merge_columns: bool
    cuda_graphs: Switch
    early_stopping: EarlyStoppingConfig


def rung_steps(rungs: Sequence[float], total: int) -> tuple[int, ...]:
    """Return the optimizer step of each rung: its fraction of all steps, rounded up.

    Args:
        rungs: fractions in (0, 1), rising.
        total: optimizer steps of the whole training, at least 1. In a short one several rungs fall on one step, and a
            late one on the last.
    """
    # Binary noise (0.07 * 100 is above 7) must not move a rung by a step.
    return tuple(math.ceil(round(fraction * total, 9)) for fraction in rungs)
