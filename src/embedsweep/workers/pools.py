"""Make the pools of a command's workers: on this machine, or on a Ray cluster."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from embedsweep.config.workers import RayWorkersConfig, WorkersConfig
from embedsweep.machine import cuda_devices_of
from embedsweep.study.study import Study
from embedsweep.tracking.store import store_kind
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.environments import open_environments
from embedsweep.workers.job import Job
from embedsweep.workers.local_pool import WorkerPool
from embedsweep.workers.pool import Pool

MakePool = Callable[[Study, int], Pool]
"""Makes the workers of a study, or of its finals, for a number of trials that are left; they start on entering it."""


@contextmanager
def open_pools(
    request: Sweep, study: Study, device: str, n_trials: int, say: Callable[[str], None]
) -> Iterator[MakePool]:
    """Yield what makes the workers of a command's studies; a connection to a cluster ends with the block.

    Args:
        request: the validated command.
        study: the study.
        device: ``trainer.device``.
        n_trials: how many trials are left at most, of the study or of its finals.
        say: prints a line.

    Raises:
        ConfigError: there is no such cluster, or ``workers.mps=true`` and MPS is not available.
    """
    workers = request.workers
    arguments = (device, str(workers.processes_per_trial), store_kind(study.services.tracking.uri))
    if isinstance(workers, RayWorkersConfig) and n_trials:
        with _open_ray(request, workers, study, device, arguments) as make:
            yield make
        return
    with open_environments(workers, device, n_trials, study, say) as environments:

        def make_local(each: Study, count: int) -> Pool:
            dealt = environments[:count]
            gpus = cuda_devices_of(device)[: len(dealt) * workers.processes_per_trial]
            return WorkerPool(each.folder, arguments, dealt, gpus)

        yield make_local


def require_cluster(workers: WorkersConfig, device: str) -> None:
    """Connect to the Ray cluster that a command names, and leave it: no study is to be created for one that is missing.

    Raises:
        ConfigError: there is no such cluster, or no node of it could ever hold a worker.
    """
    if isinstance(workers, RayWorkersConfig) and workers.address != "none":
        from embedsweep.workers.cluster import Cluster

        with Cluster(workers, device):
            pass


@contextmanager
def _open_ray(
    request: Sweep, workers: RayWorkersConfig, study: Study, device: str, arguments: tuple[str, ...]
) -> Iterator[MakePool]:
    from embedsweep.workers.cluster import Cluster
    from embedsweep.workers.node import NodeOrder, files_of, running_kernel
    from embedsweep.workers.ray_pool import RayPool

    marker = study.folder / f".{uuid.uuid4().hex}"
    sweep = Job.of(study, request, "").sweep
    order = NodeOrder(str(Path.cwd()), sweep, running_kernel(), str(marker), files_of(study))
    marker.touch()
    try:
        with Cluster(workers, device) as cluster:
            yield lambda each, count: RayPool(
                cluster, workers, order, each.folder, arguments, count, study.services.emissions
            )
    finally:
        marker.unlink(missing_ok=True)
