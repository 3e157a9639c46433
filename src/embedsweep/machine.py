"""The machine: its devices, cores and memory, and how workers share them.

It does not import torch, which takes seconds; memory functions use torch if this process has imported it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsweep.config.training import Precision
from embedsweep.config.workers import WorkersConfig
from embedsweep.errors import causes

MPS_CONTROL = "nvidia-cuda-mps-control"
MPS_FOLDERS = (Path("/usr/local/nvidia/bin"), Path("/usr/local/cuda/bin"))
"""Folders in which containers have the control program of CUDA's Multi-Process Service, beside ``PATH``."""


def visible_cores() -> int:
    """Return how many cores this process may use; in a job of Slurm no more than the job has, bound to them or not."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    of_job = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(count, int(of_job)) if of_job.isdecimal() and int(of_job) else count


def training_gpus(device: str) -> list[str]:
    """Return the name of the GPU that a single process trains on with ``trainer.device``; none on a CPU."""
    return visible_devices()[:1] if device not in ("cpu", "mps") else []


def visible_devices() -> list[str]:
    """Return the names of the CUDA devices for this process; those of ``CUDA_VISIBLE_DEVICES`` if it is set."""
    everything = [str(number) for number in range(cuda_device_count())]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not everything:
        return everything
    return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]


def cuda_devices_of(device: str) -> list[str]:
    """Return the visible CUDA devices that trials on ``device`` (``trainer.device``) may be spread over, by name."""
    if device in ("auto", "cuda"):
        return visible_devices()
    one = re.fullmatch(r"cuda:(\d+)", device)
    return visible_devices()[int(one[1]) :][:1] if one else []


def gpu_count(device: str) -> int:
    """Return how many GPUs of any kind trials on ``device`` (``trainer.device``) have; 0 on a CPU."""
    names = cuda_devices_of(device)
    return len(names) or int(device in ("auto", "mps") and has_metal())


@functools.cache
def cuda_device_count() -> int:
    """Return how many CUDA devices the driver shows, visible or not; 0 without a driver."""
    with _open_nvml() as nvml:
        return int(nvml.nvmlDeviceGetCount()) if nvml is not None else 0


@contextmanager
def _open_nvml() -> Iterator[Any]:
    """Yield NVML, the library that reads the state of GPUs; None without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver shows it.

    Attributes:
        name: the product's name.
        used_bytes: memory in use by all processes.
        total_bytes: all of its memory.
    """

    name: str
    used_bytes: int
    total_bytes: int


def read_gpu(visible: str) -> Gpu | None:
    """Return the GPU of a name from :func:`visible_devices`, as of now; None if the driver does not report it."""
    with _open_nvml() as nvml:
        if nvml is None:
            return None
        try:
            if visible.isdigit():
                handle = nvml.nvmlDeviceGetHandleByIndex(int(visible))
            else:
                handle = nvml.nvmlDeviceGetHandleByUUID(visible)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            return Gpu(str(nvml.nvmlDeviceGetName(handle)), int(memory.used), int(memory.total))
        except nvml.NVMLError:
            return None


def has_metal() -> bool:
    """Return whether this is an Apple machine with Metal."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def find_mps_control() -> Path | None:
    """Return the path of the control program of CUDA's Multi-Process Service; None if it is not installed."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, MPS_FOLDERS)])
    path = shutil.which(MPS_CONTROL, path=folders)
    return Path(path) if path is not None else None


def device_problem(device: str) -> str | None:
    """Return why ``device`` cannot be used here; None if it can."""
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
    """Return why ``device`` lacks ``precision``, so that transformers would train in fp32; None if it has it."""
    on_cpu = device == "cpu" or (device == "auto" and not has_metal() and not visible_devices())
    if precision == "fp16" and on_cpu:
        return "fp16 needs a GPU, and this trains on the CPU; use fp32 or bf16"
    return None


LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Settings against progress bars on the terminal, telemetry and a warning about forks."""


def prepare_process(device: str) -> None:
    """Prepare this process to train on ``device`` (``trainer.device``); call it before torch is imported."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    if device not in ("cpu", "mps"):
        _pin_gpu(int(device.partition(":")[2] or 0))


def end_at_once() -> None:
    """Let this process end without a last garbage collection, which takes 1 s with torch and MLflow imported."""
    atexit.register(gc.freeze)


def _pin_gpu(index: int) -> None:
    """Make only one of the visible GPUs visible: a trainer that sees several spreads every batch over them."""
    names = visible_devices()
    if index < len(names):
        os.environ["CUDA_VISIBLE_DEVICES"] = names[index]


CORES_A_PROCESS = 2
"""Without a GPU and a configured number: training needs a core beside its steps."""


def worker_count(workers: WorkersConfig, device: str, per_device: int) -> int:
    """Return how many workers a command has, at least 1.

    Args:
        workers: the configuration.
        device: ``trainer.device``.
        per_device: how many processes share a GPU.
    """
    if workers.count is not None:
        return workers.count
    gpus = gpu_count(device)
    processes = per_device * gpus if gpus else visible_cores() // CORES_A_PROCESS
    return max(1, processes // workers.processes_per_trial)


def deal(workers: WorkersConfig, device: str, count: int) -> list[Mapping[str, str]]:
    """Return what is added to the environment of each of ``count`` workers; empty if no trial is left.

    All get equally many threads, so that a trial's numbers do not depend on its worker; GPUs are assigned in turn.
    Numbers of threads that the user has set stay.
    """
    processes = count * workers.processes_per_trial
    common: dict[str, str] = {}
    if "OMP_NUM_THREADS" not in os.environ:
        threads = str(max(1, visible_cores() // max(1, processes)))
        common = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", threads)}
    if processes > 1 and "OMP_WAIT_POLICY" not in os.environ:
        # Threads that spin while they wait take cores from other workers: two trainings on two cores took 73 s each,
        # and 26 s with threads that sleep.
        common["OMP_WAIT_POLICY"] = "PASSIVE"
    names = cuda_devices_of(device)
    return [{**common, **_visible(names, worker, workers.processes_per_trial)} for worker in range(count)]


def _visible(names: list[str], worker: int, processes: int) -> dict[str, str]:
    """Return the GPUs of one worker, one for each of its processes if there are enough."""
    if not names:
        return {}
    own = (names[(worker * processes + process) % len(names)] for process in range(processes))
    return {"CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(own))}


def are_shared(shares: Sequence[Mapping[str, str]]) -> bool:
    """Return whether several of these workers have the same GPU."""
    gpus = [gpu for share in shares for gpu in share.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return len(set(gpus)) < len(gpus)


OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "defaultcpuallocator: not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "cublas_status_alloc_failed",
    "std::bad_alloc",
    "could not create a primitive",
)
"""Parts of out-of-memory messages of torch's allocators, CUDA's libraries, the C++ runtime and oneDNN."""


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
"""Parts of CUDA's messages when a context is broken for good; the last two are of its Multi-Process Service."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception, or one of its causes, is an out-of-memory error."""
    return any(isinstance(each, MemoryError) or _has_sign(each, OUT_OF_MEMORY_SIGNS) for each in causes(error))


def is_device_lost(error: BaseException) -> bool:
    """Return whether this process can no longer use its GPU, by an exception, one of its causes, or the GPU itself.

    Every later CUDA call of such a process fails, in any trial; only a new process gets a new context. Running out of
    memory is not such an error.
    """
    is_reported = any("cuda" in str(each).lower() and _has_sign(each, DEVICE_LOST_SIGNS) for each in causes(error))
    return is_reported or not _device_answers()


def _has_sign(error: BaseException, signs: Sequence[str]) -> bool:
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def _torch_on_gpu() -> Any:
    """Return torch if this process has used a GPU with it; else None. It is not imported for that."""
    torch: Any = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _device_answers() -> bool:
    """Return whether the GPU carries out calls; true if this process has not used one."""
    if (torch := _torch_on_gpu()) is None:
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True


def free_memory() -> None:
    """Free what nothing refers to any more: a failed training leaves cycles, a GPU's allocator keeps blocks."""
    gc.collect()
    free_device_memory()


def free_device_memory() -> None:
    """Free the GPU memory that the last trial held: Python's own collector does not notice when that runs out."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def oom_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory; None if it does not count them.

    They are counted in this process's control group, else in the container, else on the whole machine.
    """
    for path in _kill_counters():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def _kill_counters() -> list[Path]:
    """Return the files in which the kernel may count them, the closest first."""
    groups: Mapping[str, str] = {}
    try:
        rows = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        groups = {kinds: path.lstrip("/") for _, kinds, path in (row.split(":", 2) for row in rows)}
    except (OSError, ValueError):
        pass
    root = Path("/sys/fs/cgroup")
    return [
        root / groups.get("", "") / "memory.events",
        root / "memory.events",
        root / "memory" / groups.get("memory", "") / "memory.oom_control",
        root / "memory" / "memory.oom_control",
        Path("/proc/vmstat"),
    ]


def peak_ram_gib() -> float:
    """Return the most main memory, in GiB, that this process held, with what its child processes hold now."""
    import psutil

    unit = 1 if sys.platform == "darwin" else 2**10
    total = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            total += child.memory_info().rss
    return total / 2**30


def reset_peak_memory() -> None:
    """Restart the measurement of `peak_memory_gib` from what is reserved now."""
    if (torch := _torch_on_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_memory_gib() -> float | None:
    """Return the most GPU memory, in GiB, that torch reserved in this process since the last reset.

    Reserved, not allocated: other trials on the GPU cannot use it. None if nothing was reserved, as on a CPU.
    """
    if (torch := _torch_on_gpu()) is None:
        return None
    try:
        reserved = int(torch.cuda.max_memory_reserved())
    except RuntimeError:  # the process's context on the GPU is broken, which was raised where it happened
        return None
    return reserved / 2**30 if reserved else None


OTHERS_GIB = 2.0
"""GPU memory in GiB that is neither free nor reserved by torch here, above which other processes hold some; the context
of this process takes up to 1 GiB."""


def others_hold_memory() -> bool:
    """Return whether other processes hold memory of this process's GPU, so that a later attempt may have more."""
    if (torch := _torch_on_gpu()) is None:
        return False
    free, total = torch.cuda.mem_get_info()
    return bool((total - free - torch.cuda.memory_reserved()) / 2**30 > OTHERS_GIB)
