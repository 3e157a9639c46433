"""What each worker of a command is given of the machine, for as long as the command's workers run.

Owns the order: MPS first, as trials are measured with it; then how many share a GPU; then the shares. The parts are
other modules'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embedsweep.config.study import StudyPlan, WorkersConfig
from embedsweep.machine import are_shared, cuda_devices_of, deal, worker_count
from embedsweep.workers.mps import Mps
from embedsweep.workers.probing import find_per_device


@contextmanager
def open_shares(
    workers: WorkersConfig, device: str, trials: int, plan: StudyPlan, folder: Path, say: Callable[[str], None]
) -> Iterator[list[Mapping[str, str]]]:
    """What is added to the environment of each worker process, while the block runs; none where no trial is left.

    Args:
        workers: who runs trials; ``inline`` starts no processes.
        device: ``trainer.device``.
        trials: how many are left.
        plan: the study's.
        folder: the study's.
        say: is told how GPUs are shared, where they are.

    Raises:
        ConfigError: ``workers.mps=true``, and it cannot be had.
    """
    if workers.name == "inline" or not trials:
        yield []
        return
    gpus = cuda_devices_of(device)
    with ExitStack() as stack:
        service: Mps | None = None
        per_device = 1 if workers.per_device == "auto" else workers.per_device
        if _is_probed(workers, trials, len(gpus)):
            if workers.mps is not False:
                service = stack.enter_context(Mps(gpus[0], say, required=workers.mps is True))
            added = service.environment if service is not None else {}

            def environment(processes: int) -> Mapping[str, str]:
                (share, *_) = deal(workers, device, processes * len(gpus))
                return {**share, **added, "CUDA_VISIBLE_DEVICES": gpus[0]}

            is_on = service is not None and service.is_on
            a_gpu = -(-trials // len(gpus))
            per_device = find_per_device(plan, folder, device, gpus[0], a_gpu, environment, say, mps=is_on)
        shares = deal(workers, device, min(worker_count(workers, device, per_device), trials))
        if workers.mps is True or (workers.mps == "auto" and are_shared(shares)):
            service = service or stack.enter_context(Mps(gpus[0], say, required=workers.mps is True))
            yield [{**share, **service.environment} for share in shares]
        else:
            stack.close()
            yield shares


def _is_probed(workers: WorkersConfig, trials: int, gpus: int) -> bool:
    """Whether it is to be measured how many trials share a GPU: where it is asked, and not said by their number."""
    asked = workers.per_device == "auto" and workers.count is None and workers.processes_per_trial == 1
    return asked and 0 < gpus < trials
