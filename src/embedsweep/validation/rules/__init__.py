"""The rules of a trial: checks that need more than one value, a file, the hub or this machine. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import fields

from embedsweep.config.trial import DataConfig, TrialConfig
from embedsweep.errors import Problem
from embedsweep.validation.rules.data import check_conversion, check_data, check_dropped_batch, check_smallest_batch
from embedsweep.validation.rules.loss import (
    check_architecture,
    check_cached,
    check_dims,
    check_grouping,
    check_matryoshka,
    check_merged_columns,
    check_nesting,
    check_other_models,
    check_sums,
    check_teacher_width,
)
from embedsweep.validation.rules.model import check_base_model
from embedsweep.validation.rules.training import (
    check_cuda_graphs,
    check_device,
    check_grouped_batches,
    check_intervals,
    check_micro_batch,
    check_precision,
    check_schedule,
    check_warmup,
)

DATA_KEYS = (
    *(f"data.{field.name}" for field in fields(DataConfig) if field.name != "convert"),
    "evaluation",
)
"""The keys that decide which examples and pairs there are."""

LOSS_KEYS = ("loss", "data.also")
"""The keys that decide the losses of all datasets."""


def check_trial(config: TrialConfig, broken: Collection[str]) -> list[Problem]:
    """Return everything wrong with how a trial's values go together.

    Args:
        config: the trial.
        broken: keys that are invalid by themselves; rules that look at them are skipped.
    """
    problems: list[Problem] = []
    for rule, needs in RULES:
        if not any(key == need or key.startswith(f"{need}.") for key in broken for need in needs):
            problems += rule(config)
    return problems


RULES: tuple[tuple[Callable[[TrialConfig], Iterable[Problem]], tuple[str, ...]], ...] = (
    (check_micro_batch, ("dataloader.batch_size", "dataloader.micro_batch_size")),
    (check_intervals, ("trainer.eval_every", "trainer.log_every")),
    (check_warmup, ("optimizer.warmup",)),
    (check_schedule, ("optimizer",)),
    (
        check_grouped_batches,
        ("dataloader.batch_size", "dataloader.micro_batch_size", "dataloader.batch_sampler", *LOSS_KEYS),
    ),
    (check_device, ("trainer.device",)),
    (check_precision, ("trainer.device", "trainer.precision")),
    (check_base_model, ("model",)),
    (check_nesting, LOSS_KEYS),
    (check_sums, LOSS_KEYS),
    (check_cached, ("dataloader.batch_size", "dataloader.micro_batch_size", "model", *LOSS_KEYS)),
    (
        check_merged_columns,
        ("trainer.merge_columns", "dataloader.batch_size", "dataloader.micro_batch_size", "model", *LOSS_KEYS),
    ),
    (check_cuda_graphs, ("trainer", "dataloader.batch_size", "dataloader.micro_batch_size", "model", *LOSS_KEYS)),
    (check_matryoshka, ("model", *LOSS_KEYS)),
    (check_other_models, ("model", *LOSS_KEYS)),
    (check_teacher_width, ("model", *LOSS_KEYS)),
    (check_architecture, ("model", *LOSS_KEYS)),
    (check_grouping, ("dataloader.batch_sampler", "data.shape", "data.convert", *LOSS_KEYS)),
    (check_dims, ("model", "evaluation.dims")),
    (check_data, DATA_KEYS),
    (check_conversion, (*DATA_KEYS, "data.convert", *LOSS_KEYS)),
    (check_smallest_batch, ("dataloader.batch_size", "dataloader.micro_batch_size", *LOSS_KEYS)),
    (check_dropped_batch, ("dataloader", "data", "loss")),
)
"""Each rule with the keys it looks at."""
