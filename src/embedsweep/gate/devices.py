"""What this machine has to train on, found out without torch, whose import takes seconds.

Owns the question whether a device and a precision can be had here. Knows nothing of models or batches.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from embedsweep.schema import Precision

MPS_CONTROL = "nvidia-cuda-mps-control"
MPS_FOLDERS = (Path("/usr/local/nvidia/bin"), Path("/usr/local/cuda/bin"))
"""Where containers have the control program of CUDA's Multi-Process Service, beside ``PATH``."""


def visible_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_devices() -> list[str]:
    """Names of the CUDA devices this process may use: all, or those of ``CUDA_VISIBLE_DEVICES``, which may be none."""
    everything = [str(number) for number in range(cuda_device_count())]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not everything:
        return everything
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def cuda_devices_of(device: str) -> list[str]:
    """Names of the visible CUDA devices that trials on ``device`` (``trainer.device``) may be spread over."""
    if device in ("auto", "cuda"):
        return visible_devices()
    one = re.fullmatch(r"cuda:(\d+)", device)
    return visible_devices()[int(one[1]) :][:1] if one else []


def gpu_count(device: str) -> int:
    """How many GPUs, of whichever kind, trials on ``device`` (``trainer.device``) have; 0 on a CPU."""
    names = cuda_devices_of(device)
    return len(names) or int(device in ("auto", "mps") and has_metal())


@functools.cache
def cuda_device_count() -> int:
    """How many CUDA devices the driver shows, visible or not; 0 without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver shows it.

    Attributes:
        name: what it is.
        used_bytes: of its memory, by whomever.
        total_bytes: of its memory.
    """

    name: str
    used_bytes: int
    total_bytes: int


def read_gpu(visible: str) -> Gpu | None:
    """The GPU of a name from :func:`visible_devices`, at this moment; None where the driver does not tell."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if visible.isdigit():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(memory.used), int(memory.total))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def has_metal() -> bool:
    """Whether this is an Apple machine with Metal."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def find_mps_control() -> Path | None:
    """The control program of CUDA's Multi-Process Service; None where there is none."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, MPS_FOLDERS)])
    found = shutil.which(MPS_CONTROL, path=folders)
    return Path(found) if found is not None else None


def device_problem(device: str) -> str | None:
    """Why ``device`` cannot be used here, or None."""
    if device in ("auto", "cpu"):
        return None
    if device == "mps":
        return None if has_metal() else "this machine has no mps device; use auto or cpu"
    if (match := re.fullmatch(r"cuda(?::(\d+))?", device)) is None:
        return f"must be auto, cpu, cuda, cuda:N or mps, but got {device}"
    count = len(visible_devices())
    if count == 0:
        return f"this machine shows no CUDA device, but got {device}; use auto or cpu"
    if int(match[1] or 0) >= count:
        return f"this machine has {count} CUDA devices, cuda:0 to cuda:{count - 1}, but got {device}"
    return None


def precision_problem(precision: Precision, device: str) -> str | None:
    """Why ``precision`` cannot be had on ``device``, or None; transformers would silently train in fp32."""
    on_cpu = device == "cpu" or (device == "auto" and not has_metal() and not visible_devices())
    if precision == "fp16" and on_cpu:
        return "fp16 needs a GPU, and this trains on the CPU; use fp32 or bf16"
    return None
