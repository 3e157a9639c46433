"""The rules of a trial: checks that need more than one value, a file, the hub or this machine. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import fields

from embedsweep.config.trial import SPLITS, DataConfig, TrialConfig
from embedsweep.errors import Problem, gather_problems
from embedsweep.validation.rules import data, loss, model, negatives, training

OWN_DATA_KEYS = tuple(f"data.{field.name}" for field in fields(DataConfig) if field.name != "convert")
"""The keys that decide which examples there are."""

DATA_KEYS = (*OWN_DATA_KEYS, "evaluation")
"""The keys that decide which examples and pairs there are."""

LOSS_KEYS = ("loss", "data.also")
"""The keys that decide the losses of all datasets."""


BATCH_KEYS = ("dataloader.batch_size", "dataloader.micro_batch_size")
"""The keys that decide how many examples are in memory at once."""


def check_trial(config: TrialConfig, broken: Collection[str]) -> list[Problem]:
    """Return everything wrong with how a trial's values go together.

    Args:
        config: the trial.
        broken: keys that are invalid by themselves, ``loss.*`` for all of a section; rules that look at them are
            skipped.
    """
    problems: list[Problem] = []
    for rule, needs in RULES:
        if not _are_broken(needs, broken):
            with gather_problems(problems):
                problems += rule(config)
    if _are_broken(("evaluation",), broken) and not _are_broken(OWN_DATA_KEYS, broken):
        known = [split for split in SPLITS if not any(key.startswith(f"evaluation.{split}") for key in broken)]
        problems += data.check_own_data(config, known)
    return problems


def _are_broken(needs: Collection[str], broken: Collection[str]) -> bool:
    """Return whether any key that a rule looks at, or one below it, is invalid."""
    return any(
        key == need or key.startswith(f"{need}.") or (key.endswith(".*") and need.startswith(key[:-1]))
        for key in broken
        for need in needs
    )


RULES: tuple[tuple[Callable[[TrialConfig], Iterable[Problem]], tuple[str, ...]], ...] = (
    (training.check_micro_batch, BATCH_KEYS),
    (training.check_intervals, ("trainer.eval_every", "trainer.log_every")),
    (training.check_warmup, ("optimizer.warmup",)),
    (training.check_schedule, ("optimizer",)),
    (training.check_grouped_batches, (*BATCH_KEYS, "dataloader.batch_sampler", *LOSS_KEYS)),
    (training.check_device, ("trainer.device",)),
    (training.check_precision, ("trainer.device", "trainer.precision")),
    (lambda config: model.check_model(config.model), ("model",)),
    (model.check_prompts, ("model", "data.shape", "data.also", "evaluation")),
    (loss.check_nesting, LOSS_KEYS),
    (loss.check_sums, LOSS_KEYS),
    (loss.check_cached, (*BATCH_KEYS, "model", *LOSS_KEYS)),
    (loss.check_merged_columns, ("trainer.merge_columns", *BATCH_KEYS, "model", *LOSS_KEYS)),
    (training.check_cuda_graphs, ("trainer", *BATCH_KEYS, "model", *LOSS_KEYS)),
    (loss.check_matryoshka, ("model", *LOSS_KEYS)),
    (loss.check_other_models, ("model", *LOSS_KEYS)),
    (loss.check_teacher_width, ("model", *LOSS_KEYS)),
    (loss.check_architecture, ("model", *LOSS_KEYS)),
    (loss.check_grouping, ("dataloader.batch_sampler", "data.shape", "data.convert", *LOSS_KEYS)),
    (negatives.check_negatives, ("data.negatives", "data.also", "model")),
    (negatives.check_cached_tuples, (*BATCH_KEYS, *DATA_KEYS, *LOSS_KEYS)),
    (loss.check_dims, ("model", "evaluation.dims")),
    (data.check_data, DATA_KEYS),
    (data.check_test_is_not_dev, DATA_KEYS),
    (data.check_conversion, (*DATA_KEYS, "data.convert", *LOSS_KEYS)),
    (data.check_max_tokens, (*DATA_KEYS, "data.convert", "model", *LOSS_KEYS)),
    (data.check_smallest_batch, (*BATCH_KEYS, *LOSS_KEYS)),
    (data.check_dropped_batch, ("dataloader", "data", "loss")),
)
"""Each rule with the keys it looks at."""
