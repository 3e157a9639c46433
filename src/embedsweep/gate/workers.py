"""Whether the workers a command asks for can be had: in this process, and on this machine's devices.

Owns the checks of ``workers``. Knows nothing of how workers are started.
"""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.errors import Problem
from embedsweep.gate.devices import gpu_count
from embedsweep.schema import WorkersConfig


def check_workers(workers: WorkersConfig) -> Iterator[Problem]:
    """What cannot be had of ``workers=inline``, which is this process."""
    if workers.name != "inline":
        return
    if workers.count not in (None, 1):
        yield Problem("workers.count", f"inline is this process alone, but got {workers.count}: add workers=local")
    if workers.per_device > 1:
        message = f"inline is this process alone, and {workers.per_device} are to share a GPU: add workers=local"
        yield Problem("workers.per_device", message)
    if workers.max_restarts > 0:
        message = (
            f"inline is this process, which nobody starts again, but got {workers.max_restarts}: add workers=local"
        )
        yield Problem("workers.max_restarts", message)
    if workers.silence is not None:
        message = f"inline is this process, which nobody watches, but got {workers.silence:g}: add workers=local"
        yield Problem("workers.silence", message)


def check_shares(workers: WorkersConfig, device: str) -> Iterator[Problem]:
    """What does not fit of local workers whose trials run on ``device`` (``trainer.device``)."""
    if workers.name == "inline":
        return
    gpus, share = gpu_count(device), workers.per_device
    if not gpus:
        if share > 1:
            message = f"there is no GPU that {share} could share (trainer.device={device}): say workers.count=N instead"
            yield Problem("workers.per_device", message)
        return
    processes = (workers.count or 1) * workers.processes_per_trial
    if processes > gpus * share:
        on = f"{gpus} GPU{'s' if gpus > 1 else ''} with {share} process{'es' if share > 1 else ''} each"
        enough = -(-processes // gpus)
        message = f"{processes} processes do not fit on {on}: say workers.per_device={enough} if they fit in its memory"
        yield Problem("workers.count", message)
