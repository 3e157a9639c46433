"""What this machine has to train on, found out without torch, whose import takes seconds.

Owns the question whether a device and a precision can be had here. Knows nothing of models or batches.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsweep.config.study import WorkersConfig
from embedsweep.config.trial import Precision
from embedsweep.errors import causes

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


def _pin_gpu(index: int) -> None:
    """Lets this process see one of the visible GPUs only: a trainer that sees several spreads every batch over them."""
    names = visible_devices()
    if index < len(names):
        os.environ["CUDA_VISIBLE_DEVICES"] = names[index]


CORES_A_PROCESS = 2
"""Without a GPU, and where no number was given: fewer cores leave no room for what a training does beside its steps."""


def worker_count(workers: WorkersConfig, device: str, per_device: int) -> int:
    """How many workers a command has, at least 1.

    Args:
        workers: what was asked.
        device: ``trainer.device``.
        per_device: how many processes share a GPU.
    """
    if workers.count is not None:
        return workers.count
    gpus = gpu_count(device)
    processes = per_device * gpus if gpus else visible_cores() // CORES_A_PROCESS
    return max(1, processes // workers.processes_per_trial)


def deal(workers: WorkersConfig, device: str, count: int) -> list[Mapping[str, str]]:
    """What is added to the environment of each of ``count`` workers, none where no trial is left.

    All get equally many threads, so that a trial's numbers do not depend on who runs it; GPUs are dealt in turn. What
    the user has set of threads stays.
    """
    processes = count * workers.processes_per_trial
    common: dict[str, str] = {}
    if "OMP_NUM_THREADS" not in os.environ:
        threads = str(max(1, visible_cores() // max(1, processes)))
        common = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", threads)}
    if processes > 1 and "OMP_WAIT_POLICY" not in os.environ:
        # Threads that wait by spinning take the cores away from the other workers: two trainings on two cores took
        # 73 s each so, and 26 s with threads that sleep.
        common["OMP_WAIT_POLICY"] = "PASSIVE"
    names = cuda_devices_of(device)
    return [{**common, **_visible(names, worker, workers.processes_per_trial)} for worker in range(count)]


def _visible(names: list[str], worker: int, processes: int) -> dict[str, str]:
    """The GPUs of one worker, one for each of its processes as far as there are so many."""
    if not names:
        return {}
    own = (names[(worker * processes + process) % len(names)] for process in range(processes))
    return {"CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(own))}


def are_shared(shares: Sequence[Mapping[str, str]]) -> bool:
    """Whether several of these workers are given the same GPU."""
    given = [gpu for share in shares for gpu in share.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return len(set(given)) < len(given)


SIGNS = (
    "out of memory",
    "defaultcpuallocator: not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "cublas_status_alloc_failed",
    "std::bad_alloc",
    "could not create a primitive",
)
"""What a RuntimeError says where memory did not do: torch's allocators, CUDA's libraries, the C++ runtime, oneDNN."""


DEVICE_LOST_SIGNS = (
    "device-side assert",
    "unspecified launch failure",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "uncorrectable ecc error",
    "launch timed out",
    "busy or unavailable",
    "mps client",
    "mps server",
)
"""What CUDA says when a process's context is broken for good; the last two of its Multi-Process Service."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that led to it, says that memory did not do."""
    return any(isinstance(each, MemoryError) or _says(each, SIGNS) for each in causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Whether this process can use its GPU no more, by what an exception says, one that led to it, or the GPU itself.

    Every later CUDA call of such a process fails, whichever trial makes it; only a new process gets a new context.
    Running out of memory is not of that kind.
    """
    is_told = any("cuda" in str(each).lower() and _says(each, DEVICE_LOST_SIGNS) for each in causes(error))
    return is_told or not _device_answers()


def _says(error: BaseException, signs: Sequence[str]) -> bool:
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def _torch_on_gpu() -> Any:
    """torch, where this process has used a GPU with it; else None. It is not imported for that."""
    torch: Any = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _device_answers() -> bool:
    """Whether the GPU does what it is told to; true where this process has not used one."""
    if (torch := _torch_on_gpu()) is None:
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True


def free_memory() -> None:
    """Gives back what nothing refers to any more: a failed training leaves cycles, a GPU's allocator blocks."""
    gc.collect()
    free_device_memory()


def free_device_memory() -> None:
    """Gives a GPU back what the last trial held: Python's own collector does not see when that runs out."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Begins to count anew what `peak_memory_gib` tells, from what is reserved now."""
    if (torch := _torch_on_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_memory_gib() -> float | None:
    """The most memory of its GPU, in GiB, that torch reserved in this process since the count began.

    Reserved, not allocated: that is what other trials on the GPU cannot have. None where nothing was reserved, as on a
    CPU.
    """
    if (torch := _torch_on_gpu()) is None:
        return None
    try:
        reserved = int(torch.cuda.max_memory_reserved())
    except RuntimeError:  # an error has broken the process's context on the GPU; it is told by whoever met it
        return None
    return reserved / 2**30 if reserved else None


OTHERS_GIB = 2.0
"""Memory of a GPU that is neither free nor torch's of this process, above which other processes hold some of it; a
process's own context takes up to 1 GiB."""


def others_hold_memory() -> bool:
    """Whether other processes hold memory of this process's GPU, so that what was too little may do at another time."""
    if (torch := _torch_on_gpu()) is None:
        return False
    free, total = torch.cuda.mem_get_info()
    return bool((total - free - torch.cuda.memory_reserved()) / 2**30 > OTHERS_GIB)
