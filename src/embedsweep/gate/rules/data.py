"""Whether the data is there, and leaves the loss examples of a shape it wants. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedsweep.data import load_splits
from embedsweep.data.convert import convert, target_shape
from embedsweep.data.shapes import Examples
from embedsweep.errors import ConfigError, Problem
from embedsweep.losses import LOSSES, InBatch
from embedsweep.schema import TrialConfig


def check_data(config: TrialConfig) -> Sequence[Problem]:
    """Whether every split can be read."""
    try:
        load_splits(config.data, config.evaluation)
    except ConfigError as error:
        return error.problems
    return ()


def check_conversion(config: TrialConfig) -> Sequence[Problem]:
    """Whether the data leaves the loss examples of a shape it wants."""
    if check_data(config):
        return ()
    try:
        _examples(config)
    except ConfigError as error:
        return error.problems
    return ()


def check_smallest_batch(config: TrialConfig) -> Iterator[Problem]:
    """Whether a loss that compares examples has some to compare."""
    loader, in_batch = config.dataloader, LOSSES[config.loss.name].in_batch
    key, batch = "batch_size", loader.batch_size
    if in_batch is InBatch.COMPARED and loader.micro_batch_size is not None:
        key, batch = "micro_batch_size", loader.micro_batch_size
    if in_batch is not InBatch.INDEPENDENT and batch < 2:
        message = f"loss={config.loss.name} compares examples inside a batch and needs at least 2, but got {batch}"
        yield Problem(f"dataloader.{key}", message)


def check_dropped_batch(config: TrialConfig) -> Iterator[Problem]:
    """Whether a batch is left where the last one is dropped."""
    if not config.dataloader.drop_last or check_data(config) or check_conversion(config):
        return
    batch, examples = config.dataloader.batch_size, len(_examples(config))
    if examples < batch:
        message = f"with drop_last no batch is left: {examples} examples for a batch of {batch}"
        yield Problem("dataloader.batch_size", message)


def _examples(config: TrialConfig) -> Examples:
    train = load_splits(config.data, config.evaluation).train
    shape = target_shape(train.shape, LOSSES[config.loss.name].wants, config.data.convert.to, config.loss.name)
    return convert(train, shape, config.data.convert, config.data.score_range)
