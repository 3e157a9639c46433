"""Whether the workers a command asks for can be had: in this process, and on this machine's devices.

Owns the checks of ``workers``. Knows nothing of how workers are started.
"""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.errors import Problem
from embedsweep.gate.devices import MPS_FOLDERS, cuda_devices_of, find_mps_control, gpu_count
from embedsweep.schema import WorkersConfig


def check_workers(workers: WorkersConfig) -> Iterator[Problem]:
    """What cannot be had of ``workers=inline``, which is this process."""
    if workers.name != "inline":
        return
    if workers.count not in (None, 1):
        yield Problem("workers.count", f"inline is this process alone, but got {workers.count}: add workers=local")
    if workers.per_device != 1:
        several = "auto asks how many" if workers.per_device == "auto" else f"{workers.per_device} are to"
        message = f"inline is this process alone, and {several} share a GPU: add workers=local"
        yield Problem("workers.per_device", message)
    if workers.mps is not False:
        message = f"inline is this process, which shares no GPU, but got {str(workers.mps).lower()}: add workers=local"
        yield Problem("workers.mps", message)
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
    yield from _check_mps(workers, device)
    gpus, share = gpu_count(device), workers.per_device
    if share == "auto":
        return  # without a GPU it is of no account; with one, a number of workers that is given decides
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


def _check_mps(workers: WorkersConfig, device: str) -> Iterator[Problem]:
    """What ``workers.mps=true`` lacks here; whether a daemon can be started is found out when it is."""
    if workers.mps is not True:
        return
    if not cuda_devices_of(device):
        message = f"there is no CUDA device to share (trainer.device={device}): set workers.mps to auto or false"
        yield Problem("workers.mps", message)
    elif find_mps_control() is None:
        folders = ", ".join(map(str, MPS_FOLDERS))
        message = (
            f"nvidia-cuda-mps-control, which comes with NVIDIA's driver, is neither on PATH nor in {folders}: install "
            "it, or set workers.mps to auto or false"
        )
        yield Problem("workers.mps", message)
