"""Whether several processes can train a trial together. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.errors import Problem
from embedsweep.gate.devices import has_metal, visible_devices
from embedsweep.losses import LOSSES, Across, across, nest
from embedsweep.micro_batches import cached_micro_batch
from embedsweep.schema import TrialConfig

KEY = "workers.processes_per_trial"


def check_processes(config: TrialConfig, processes: int) -> Iterator[Problem]:
    """Whether ``processes`` can train a trial together: to the result that one would have, within rounding.

    Args:
        config: the trial, sound for one process.
        processes: how many.
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
        yield Problem(KEY, f"an mps device is one: must be 1, or set trainer.device=cpu, but got {processes}")
    elif device.startswith("cuda:"):
        yield Problem("trainer.device", f"{KEY}={processes} takes a GPU for each process: use cuda, not {device}")
    elif device != "cpu" and 0 < len(gpus := visible_devices()) < processes:
        message = f"takes a GPU for each process, and this machine shows {len(gpus)}; use {len(gpus)}"
        yield Problem(KEY, f"{message} or trainer.device=cpu, but got {processes}")


def _check_sizes(config: TrialConfig, processes: int) -> Iterator[Problem]:
    loader = config.dataloader
    key, size = "batch_size", loader.batch_size
    if loader.micro_batch_size is not None:
        key, size = "micro_batch_size", loader.micro_batch_size
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
