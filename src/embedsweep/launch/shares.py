"""How a machine's cores and GPUs are dealt out among the workers of a command.

Owns how many workers there are and which environment each is started with. Knows nothing of what they do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from embedsweep.gate.devices import cuda_devices_of, gpu_count, visible_cores
from embedsweep.schema import WorkersConfig

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
