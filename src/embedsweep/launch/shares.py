"""How a machine's cores and GPUs are dealt out among the workers of a command.

Owns how many workers there are and what each is started with. Knows nothing of what they do.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass

from embedsweep.gate.devices import core_numbers, cuda_devices_of, gpu_count, visible_cores
from embedsweep.schema import WorkersConfig

CORES_A_PROCESS = 2
"""Without a GPU, and where no number was given: fewer cores leave no room for what a training does beside its steps."""


@dataclass(frozen=True)
class Share:
    """What one worker gets of a machine.

    Attributes:
        environment: is added to that of its process.
        cores: the system's numbers of those it runs on; None leaves that to the system.
    """

    environment: Mapping[str, str]
    cores: frozenset[int] | None = None


def worker_count(workers: WorkersConfig, device: str) -> int:
    """How many workers a command has, at least 1; ``device`` is ``trainer.device``."""
    if workers.count is not None:
        return workers.count
    gpus = gpu_count(device)
    processes = workers.per_device * gpus if gpus else visible_cores() // CORES_A_PROCESS
    return max(1, processes // workers.processes_per_trial)


def deal(workers: WorkersConfig, device: str, count: int) -> list[Share]:
    """The share of each of ``count`` workers, none where no trial is left.

    All get equally many threads, so that a trial's numbers do not depend on who runs it; GPUs are dealt in turn. What
    the user has set of threads stays, and then the system chooses the cores, as it does beside GPUs.
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
    cores = _parts(core_numbers(), count) if "OMP_NUM_THREADS" in common and not names else [None] * count
    return [
        Share({**common, **_visible(names, worker, workers.processes_per_trial)}, cores[worker])
        for worker in range(count)
    ]


def _parts(cores: list[int], count: int) -> list[frozenset[int] | None]:
    """An even part of the cores for each worker: moved about among them, two trainings on two cores took 6 % longer.

    None for all where a worker is alone, or there are fewer cores than workers.
    """
    if count < 2 or len(cores) < count:
        return [None] * count
    bounds = [worker * len(cores) // count for worker in range(count + 1)]
    return [frozenset(cores[begin:end]) for begin, end in itertools.pairwise(bounds)]


def _visible(names: list[str], worker: int, processes: int) -> dict[str, str]:
    """The GPUs of one worker, one for each of its processes as far as there are so many."""
    if not names:
        return {}
    own = (names[(worker * processes + process) % len(names)] for process in range(processes))
    return {"CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(own))}
