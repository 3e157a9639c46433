"""How batches, evaluations and this machine's devices go together. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.errors import Problem
from embedsweep.gate.devices import cuda_devices_of, device_problem, precision_problem
from embedsweep.losses import InBatch
from embedsweep.micro_batches import kind_of, why_eager
from embedsweep.schema import TrialConfig


def check_micro_batch(config: TrialConfig) -> Iterator[Problem]:
    """Whether micro-batches add up to the batch."""
    loader = config.dataloader
    if loader.micro_batch_size is not None and loader.batch_size % loader.micro_batch_size:
        message = f"must divide dataloader.batch_size={loader.batch_size}, but got {loader.micro_batch_size}"
        yield Problem("dataloader.micro_batch_size", message)


def check_grouped_batches(config: TrialConfig) -> Iterator[Problem]:
    """Whether batches grouped by label hold whole pairs of at least two classes."""
    loader = config.dataloader
    key, size = "batch_size", loader.batch_size
    if loader.micro_batch_size is not None and kind_of(config) is InBatch.COMPARED:
        key, size = "micro_batch_size", loader.micro_batch_size
    if loader.batch_sampler == "group_by_label" and (size < 4 or size % 2):
        message = f"batches grouped by label take an even number of at least 4 examples, but got {size}"
        yield Problem(f"dataloader.{key}", message)


def check_intervals(config: TrialConfig) -> Iterator[Problem]:
    """Whether evaluations and logs come at a ratio or at whole steps."""
    yield from _ratio_or_steps("trainer.eval_every", config.trainer.eval_every)
    yield from _ratio_or_steps("trainer.log_every", config.trainer.log_every)


def check_warmup(config: TrialConfig) -> Iterator[Problem]:
    """Whether warm-up is a ratio or whole steps."""
    yield from _ratio_or_steps("optimizer.warmup", config.optimizer.warmup)


def check_schedule(config: TrialConfig) -> Iterator[Problem]:
    """Whether the optimizer takes the schedule."""
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
    """Whether the device is there."""
    if (message := device_problem(config.trainer.device)) is not None:
        yield Problem("trainer.device", message)


def check_precision(config: TrialConfig) -> Iterator[Problem]:
    """Whether the device can do the precision."""
    trainer = config.trainer
    if device_problem(trainer.device) is not None:
        return
    if (message := precision_problem(trainer.precision, trainer.device)) is not None:
        yield Problem("trainer.precision", message)


def check_cuda_graphs(config: TrialConfig) -> Iterator[Problem]:
    """Whether steps can be captured in CUDA graphs where they must be."""
    trainer = config.trainer
    if trainer.cuda_graphs is not True or device_problem(trainer.device) is not None:
        return
    reason = why_eager(config, 1, on_cuda=bool(cuda_devices_of(trainer.device)))
    if reason is not None:
        yield Problem("trainer.cuda_graphs", f"must be auto or false, as {reason}")
