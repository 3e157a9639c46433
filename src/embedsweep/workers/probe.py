"""A process of a probe: ``python -m embedsweep.workers.probe DEVICE FOLDER``, sent a configuration on stdin.

It prepares the training, says so, and when it is told to go trains until its stdin ends, telling how far it is. Owns
that order and what it tells. Records nothing and keeps no checkpoint.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

from embedsweep.config.result import Decision
from embedsweep.config.trial import TrialConfig
from embedsweep.machine import end_at_once, prepare_process, take_pipes
from embedsweep.workers.job import Event

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.training.data import Part

STEPS_A_LINE = 5
"""Optimizer steps between two lines: each makes the trainer wait for the device, and a large model takes seconds."""

FOR_EVER = 10**6
"""Steps of a training that ends when it is told to."""

NO_RATE = 1e-9
"""A learning rate that changes nothing: however long it trains, it does not diverge."""


READY, STEPS, OUT_OF_MEMORY = "ready", "steps", "out_of_memory"
"""What it tells: that it can go; its steps so far and the moment of the monotonic clock; that memory did not do."""


def main() -> int:
    """Trains until stdin ends; 0, also where memory did not do, which it tells."""
    device, folder = sys.argv[1], Path(sys.argv[2])
    lifeline, events = take_pipes()
    end_at_once()
    prepare_process(device)  # before torch is imported
    lines = _Lines(events)
    config = endless(pickle.load(lifeline))
    model, parts = _prepare(config)
    lines.tell(READY)
    try:
        pickle.load(lifeline)
    except EOFError:
        return 0  # as many at once were not asked for
    stopped = threading.Event()
    threading.Thread(target=_wait_for_end, args=(lifeline, stopped), daemon=True).start()
    from embedsweep.machine import is_out_of_memory

    try:
        _train(config, model, parts, folder, _Watcher(lines, stopped))
    except _StoppedError:
        return 0
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        lines.tell(OUT_OF_MEMORY)
    return 0


def endless(config: TrialConfig) -> TrialConfig:
    """The same training without evaluations, checkpoints and an end, by a learning rate that changes nothing."""
    trainer = replace(config.trainer, max_steps=FOR_EVER, eval_every=FOR_EVER, log_every=STEPS_A_LINE)
    optimizer = replace(config.optimizer, lr=NO_RATE)
    return replace(config, rungs=(), trainer=trainer, optimizer=optimizer)


def _wait_for_end(lifeline: IO[bytes], stopped: threading.Event) -> None:
    os.read(lifeline.fileno(), 1)
    stopped.set()


def _prepare(config: TrialConfig) -> tuple[SentenceTransformer, Mapping[str, Part]]:
    """The model, in the machine's memory, and the examples: all that takes time and does not need the device."""
    from transformers import set_seed

    import embedsweep.training.train  # noqa: F401
    from embedsweep.data import load_splits
    from embedsweep.models import build_model, count_tokens
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

    from embedsweep.models import torch_device
    from embedsweep.training.checkpoints import Checkpoints
    from embedsweep.training.train import Training, train

    model.to(torch_device(config.trainer.device) or get_device_name())
    train(Training(config, model, parts, Checkpoints(folder), watcher, is_resumable=False))


class _Lines:
    """What is told to whoever started this process, a line each."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def tell(self, name: str, *arguments: float) -> None:
        """Tells one thing; one that is gone is told nothing, which the end of stdin says, too."""
        with suppress(BrokenPipeError):
            self._stream.write(f"{Event(name, arguments).line()}\n")
            self._stream.flush()


class _StoppedError(Exception):
    """The training is to end."""


class _Watcher:
    """Tells how far the training is, and ends it when it is told to."""

    def __init__(self, lines: _Lines, stopped: threading.Event) -> None:
        self._lines = lines
        self._stopped = stopped

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Is of no account."""

    def on_progress(self, step: int, _total: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        self._lines.tell(STEPS, step, time.monotonic())

    def on_evaluation(self, step: int, metrics: Mapping[str, float], *, last: bool) -> Decision:  # noqa: ARG002
        """Never comes: it ends before."""
        return Decision.GO_ON


if __name__ == "__main__":
    sys.exit(main())
