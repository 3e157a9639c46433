"""A process of a probe: ``python -m embedsweep.workers.probe_process DEVICE FOLDER``, which is sent a `TrialConfig`.

It prepares the training and sends `READY`. On the next message it trains, sending its steps, until its stdin ends. It
records nothing and keeps no checkpoint.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.config.result import Decision
from embedsweep.config.trial import TrialConfig
from embedsweep.machine import end_at_once, is_out_of_memory, prepare_process
from embedsweep.processes import ParentChannel

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.training.data import Part

STEPS_PER_MESSAGE = 5
"""Optimizer steps between two messages: each makes the trainer wait for the device, and a large model takes seconds."""

UNLIMITED_STEPS = 10**6
"""``trainer.max_steps`` of a training that ends only when its stdin does."""

NO_RATE = 1e-9
"""A learning rate that changes nothing: however long it trains, it does not diverge."""

READY, STEPS, OUT_OF_MEMORY = "ready", "steps", "out_of_memory"
"""Names of the messages. `STEPS` comes with the optimizer steps so far and the time of the monotonic clock, in s."""


def main() -> int:
    """Train until stdin ends; return 0, also after running out of memory, which is sent as a message."""
    device, folder = sys.argv[1], Path(sys.argv[2])
    channel = ParentChannel()
    end_at_once()
    prepare_process(device)  # before torch is imported
    config = endless(channel.receive())
    model, parts = _prepare(config)
    channel.send((READY,))
    try:
        channel.receive()
    except EOFError:
        return 0  # the probe ended before this process was needed
    stopped = threading.Event()
    threading.Thread(target=_wait_for_end, args=(channel, stopped), daemon=True).start()
    try:
        _train(config, model, parts, folder, _Watcher(channel, stopped))
    except _StoppedError:
        return 0
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        channel.send((OUT_OF_MEMORY,))
    return 0


def endless(config: TrialConfig) -> TrialConfig:
    """Return the same training without evaluations, checkpoints and an end, at a learning rate that changes nothing."""
    trainer = replace(
        config.trainer, max_steps=UNLIMITED_STEPS, eval_every=UNLIMITED_STEPS, log_every=STEPS_PER_MESSAGE
    )
    optimizer = replace(config.optimizer, lr=NO_RATE)
    return replace(config, rungs=(), trainer=trainer, optimizer=optimizer)


def _wait_for_end(channel: ParentChannel, stopped: threading.Event) -> None:
    channel.wait_for_end()
    stopped.set()


def _prepare(config: TrialConfig) -> tuple[SentenceTransformer, Mapping[str, Part]]:
    """Return the model, in main memory, and the examples: all that takes time and does not need the device."""
    from transformers import set_seed

    import embedsweep.training.train  # noqa: F401
    from embedsweep.data.load import load_splits
    from embedsweep.models.build import build_model, count_tokens
    from embedsweep.training.data import training_parts

    splits = load_splits(config.data, config.evaluation)
    set_seed(config.trainer.seed)
    model = build_model(config.model, "cpu")
    return model, training_parts(config, splits, lambda texts: count_tokens(model, texts))


def _train(
    config: TrialConfig,
    model: SentenceTransformer,
    parts: Mapping[str, Part],
    folder: Path,
    watcher: _Watcher,
) -> None:
    from sentence_transformers.util import get_device_name

    from embedsweep.models.build import torch_device
    from embedsweep.training.checkpoints import Checkpoints
    from embedsweep.training.train import Training, train

    model.to(torch_device(config.trainer.device) or get_device_name())
    train(Training(config, model, parts, Checkpoints(folder), watcher, is_resumable=False))


class _StoppedError(Exception):
    """Raised in a training step to end the training."""


class _Watcher:
    """Sends how many steps are done, and ends the training once ``stopped`` is set."""

    def __init__(self, channel: ParentChannel, stopped: threading.Event) -> None:
        self._channel = channel
        self._stopped = stopped

    def on_alive(self) -> None:
        """Ignore signs of life."""

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Ignore the metrics of training steps."""

    def on_progress(self, step: int, _total: int) -> None:
        """Send the optimizer steps so far, or end the training."""
        if self._stopped.is_set():
            raise _StoppedError
        self._channel.send((STEPS, step, time.monotonic()))

    def on_evaluation(self, _step: int, _metrics: Mapping[str, float]) -> Decision:
        """Continue; never called, as the training ends before its first evaluation."""
        return Decision.CONTINUE


if __name__ == "__main__":
    sys.exit(main())
