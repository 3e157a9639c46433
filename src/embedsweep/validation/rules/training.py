"""Rules of training: batches, intervals, the device of this machine, and processes that share a trial. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.config.training import DataloaderConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Problem
from embedsweep.losses.nesting import across, nest
from embedsweep.losses.rows import Across, InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.machine import cuda_devices_of, device_problem, has_metal, precision_problem, visible_devices
from embedsweep.training.micro_batches import cached_micro_batch, kind_of, why_eager


def check_micro_batch(config: TrialConfig) -> Iterator[Problem]:
    """Check that micro-batches add up to the batch."""
    loader = config.dataloader
    if loader.micro_batch_size is not None and loader.batch_size % loader.micro_batch_size:
        message = f"must divide dataloader.batch_size={loader.batch_size}, but got {loader.micro_batch_size}"
        yield Problem("dataloader.micro_batch_size", message)


def check_grouped_batches(config: TrialConfig) -> Iterator[Problem]:
    """Check that batches grouped by label hold whole pairs of at least two classes."""
    loader = config.dataloader
    key, size = smallest_batch(loader, in_parts=kind_of(config) is InBatch.COMPARED)
    if loader.batch_sampler == "group_by_label" and (size < 4 or size % 2):
        message = f"batches grouped by label take an even number of at least 4 examples, but got {size}"
        yield Problem(f"dataloader.{key}", message)


def smallest_batch(loader: DataloaderConfig, *, in_parts: bool) -> tuple[str, int]:
    """Return the key and the size of what must divide or suffice: the micro-batch if there is one, else the batch.

    Args:
        loader: how examples become batches.
        in_parts: whether a micro-batch counts by itself; if not, the batch is whole in any case.
    """
    if in_parts and loader.micro_batch_size is not None:
        return "micro_batch_size", loader.micro_batch_size
    return "batch_size", loader.batch_size


def check_intervals(config: TrialConfig) -> Iterator[Problem]:
    """Check that evaluations and logs come at a ratio of the steps or at whole steps."""
    yield from _ratio_or_steps("trainer.eval_every", config.trainer.eval_every)
    yield from _ratio_or_steps("trainer.log_every", config.trainer.log_every)


def check_warmup(config: TrialConfig) -> Iterator[Problem]:
    """Check that warm-up is a ratio of the steps or whole steps."""
    yield from _ratio_or_steps("optimizer.warmup", config.optimizer.warmup)


def check_schedule(config: TrialConfig) -> Iterator[Problem]:
    """Check that the optimizer supports the schedule."""
    optimizer = config.optimizer
    if optimizer.name == "schedule_free" and optimizer.schedule != "constant":
        message = (
            f"optimizer=schedule_free averages instead of lowering the rate; use constant, not {optimizer.schedule}"
        )
        yield Problem("optimizer.schedule", message)


def _ratio_or_steps(key: str, value: float) -> Iterator[Problem]:
    if value > 1 and value != int(value):
        yield Problem(key, f"must be a ratio below 1 or a whole number of steps, but got {value:g}")


def check_device(config: TrialConfig) -> Iterator[Problem]:
    """Check that the device exists."""
    if (message := device_problem(config.trainer.device)) is not None:
        yield Problem("trainer.device", message)


def check_precision(config: TrialConfig) -> Iterator[Problem]:
    """Check that the device supports the precision."""
    trainer = config.trainer
    if device_problem(trainer.device) is not None:
        return
    if (message := precision_problem(trainer.precision, trainer.device)) is not None:
        yield Problem("trainer.precision", message)


def check_cuda_graphs(config: TrialConfig) -> Iterator[Problem]:
    """Check that steps can be captured in CUDA graphs if they must be."""
    trainer = config.trainer
    if trainer.cuda_graphs is not True or device_problem(trainer.device) is not None:
        return
    reason = why_eager(config, 1, on_cuda=bool(cuda_devices_of(trainer.device)))
    if reason is not None:
        yield Problem("trainer.cuda_graphs", f"must be auto or false, as {reason}")


KEY = "workers.processes_per_trial"


def check_processes(config: TrialConfig, processes: int) -> Iterator[Problem]:
    """Check that several processes can train a trial together, with the result of one process up to rounding.

    Args:
        config: the trial, valid for one process.
        processes: the number of processes.
    """
    if processes == 1:
        return
    yield from _check_device(config.trainer.device, processes)
    if config.trainer.cuda_graphs is True:
        yield Problem(
            "trainer.cuda_graphs", f"must be auto or false with {KEY}={processes}: one process captures steps"
        )
    if config.data.also:
        names = ", ".join(config.data.also)
        yield Problem(KEY, f"data.also={names} adds datasets, whose batches processes cannot share: must be 1")
    yield from _check_sizes(config, processes)
    yield from _check_loss(config)


def _check_device(device: str, processes: int) -> Iterator[Problem]:
    on_mps = device == "mps" or (device == "auto" and has_metal())
    if on_mps:
        yield Problem(KEY, f"there is only one mps device: must be 1, or set trainer.device=cpu, but got {processes}")
    elif device.startswith("cuda:"):
        yield Problem("trainer.device", f"{KEY}={processes} takes a GPU for each process: use cuda, not {device}")
    elif device != "cpu" and 0 < len(gpus := visible_devices()) < processes:
        message = f"takes a GPU for each process, and this machine shows {len(gpus)}; use {len(gpus)}"
        yield Problem(KEY, f"{message} or trainer.device=cpu, but got {processes}")


def _check_sizes(config: TrialConfig, processes: int) -> Iterator[Problem]:
    key, size = smallest_batch(config.dataloader, in_parts=True)
    if size % processes:
        yield Problem(KEY, f"must divide dataloader.{key}={size}, but got {processes}")


def _check_loss(config: TrialConfig) -> Iterator[Problem]:
    loss, loader = config.loss, config.dataloader
    cached = cached_micro_batch(config) is not None
    kind = across(loss, cached=cached)
    if kind is Across.NOT:
        name = next(part.name for part in nest(loss) if LOSSES[part.name].across is Across.NOT)
        able = ", ".join(name for name, row in LOSSES.items() if row.across is not Across.NOT)
        message = f"loss={name} cannot be trained by several processes: {Across.NOT.value}; must be 1, or use {able}"
        yield Problem(KEY, message)
    elif kind is Across.ITSELF and not loader.drop_last:
        name = nest(loss)[-1].name
        form = (
            f"the cached form of loss={name} (micro_batch_size={loader.micro_batch_size})" if cached else f"loss={name}"
        )
        message = f"must be true with {KEY}: {form} gathers equal parts only, and a last batch may be unequal"
        yield Problem("dataloader.drop_last", message)
