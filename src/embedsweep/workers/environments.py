"""The environment variables of each worker process: its GPUs, its threads, and MPS where workers share a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from embedsweep.config.study import WorkersConfig
from embedsweep.machine import are_shared, cuda_devices_of, deal, worker_count
from embedsweep.study.record import StudyRecord
from embedsweep.workers.mps import Mps
from embedsweep.workers.probe import find_per_device


@contextmanager
def open_environments(
    workers: WorkersConfig, device: str, trials: int, study: StudyRecord, say: Callable[[str], None]
) -> Iterator[list[Mapping[str, str]]]:
    """Yield the variables added to the environment of each worker process; none where no trial is left.

    MPS comes first, as trials are measured with it; then the number of trials per GPU; then the distribution. A daemon
    that is started here ends with the block.

    Args:
        workers: how trials are run; ``inline`` starts no processes.
        device: ``trainer.device``.
        trials: how many are left.
        study: the study.
        say: prints a line about how GPUs are shared.

    Raises:
        ConfigError: ``workers.mps=true``, and MPS is not available.
    """
    if workers.name == "inline" or not trials:
        yield []
        return
    gpus = cuda_devices_of(device)
    with ExitStack() as stack:
        service: Mps | None = None
        per_device = 1 if workers.per_device == "auto" else workers.per_device
        if _needs_probe(workers, trials, len(gpus)):
            if workers.mps is not False:
                service = stack.enter_context(Mps(gpus[0], say, required=workers.mps is True))
            mps = service.environment if service is not None else {}

            def environment(processes: int) -> Mapping[str, str]:
                (first, *_) = deal(workers, device, processes * len(gpus))
                return {**first, **mps, "CUDA_VISIBLE_DEVICES": gpus[0]}

            is_on = service is not None and service.is_on
            trials_per_gpu = -(-trials // len(gpus))
            per_device = find_per_device(study, device, gpus[0], trials_per_gpu, environment, say, mps=is_on)
        environments = deal(workers, device, min(worker_count(workers, device, per_device), trials))
        if workers.mps is True or (workers.mps == "auto" and are_shared(environments)):
            service = service or stack.enter_context(Mps(gpus[0], say, required=workers.mps is True))
            yield [{**each, **service.environment} for each in environments]
        else:
            stack.close()
            yield environments


def _needs_probe(workers: WorkersConfig, trials: int, gpus: int) -> bool:
    """Return whether to measure how many trials share a GPU: if that is automatic and more than one could."""
    is_automatic = workers.per_device == "auto" and workers.count is None and workers.processes_per_trial == 1
    return is_automatic and 0 < gpus < trials
