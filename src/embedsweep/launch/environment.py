"""How this process is prepared to train, before torch is imported, and to end.

Owns environment variables that torch and the libraries read at import. Knows nothing of trials.
"""

from __future__ import annotations

import atexit
import gc
import os
from typing import IO, TextIO

from embedsweep.gate.devices import visible_devices

LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What libraries would write to the terminal or send home by themselves, and a warning about forks."""


def prepare_process(device: str) -> None:
    """Prepares this process to train on ``device`` (``trainer.device``); call it before torch is imported."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    if device not in ("cpu", "mps"):
        _pin_gpu(int(device.partition(":")[2] or 0))


def end_at_once() -> None:
    """Lets this process end without a last garbage collection: over all that torch and MLflow import, it takes 1 s."""
    atexit.register(gc.freeze)


def take_pipes() -> tuple[IO[bytes], TextIO]:
    """Stdin and stdout for the supervisor alone: whatever prints goes where stderr goes, to this process's log."""
    lifeline, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return lifeline, events


def _pin_gpu(index: int) -> None:
    """Lets this process see one of the visible GPUs only: a trainer that sees several spreads every batch over them."""
    names = visible_devices()
    if index < len(names):
        os.environ["CUDA_VISIBLE_DEVICES"] = names[index]
