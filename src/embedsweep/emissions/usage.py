"""Read what the processes of workers use: CPU time from psutil, and GPU time and energy from NVML."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from typing import Any

import psutil


class Usage:
    """Reads the CPU and GPU time of each worker, and the energy of GPUs."""

    def __init__(self) -> None:
        self._processes: dict[int, list[psutil.Process]] = {}
        self._cpu_s: dict[int, float] = {}
        self._gpus = _Gpus()

    @property
    def workers(self) -> list[int]:
        """The workers that are counted."""
        return list(self._processes)

    def add(self, worker: int, pid: int) -> None:
        """Count a process and its children as a worker's from now on; a worker may have several.

        A process that has already ended uses nothing.
        """
        processes = self._processes.setdefault(worker, [])
        with suppress(psutil.Error):
            processes.append(psutil.Process(pid))
        self._cpu_s[worker] = sum(_cpu_s(each) for process in processes for each in _with_children(process))

    def remove(self, worker: int) -> None:
        """Stop counting for a worker."""
        self._processes.pop(worker, None)
        self._cpu_s.pop(worker, None)

    def cpu_s(self) -> dict[int, float]:
        """Return the seconds of CPU time, user and system, by worker since the last call, or since it was added."""
        used = {}
        for worker, roots in self._processes.items():
            cpu_s = sum(_cpu_s(each) for process in roots for each in _with_children(process))
            # The time of a process that its parent did not wait for is lost when it ends, so the sum may decrease.
            used[worker] = max(0.0, cpu_s - self._cpu_s[worker])
            self._cpu_s[worker] = cpu_s
        return used

    def gpu_times(self) -> dict[str, dict[int, float]]:
        """Return the GPU time by GPU and worker since the last call, in a unit that is the same for all of a GPU.

        Contains what the driver reports for workers' processes: nothing in another container or on a part of a GPU
        (MIG), and nothing under CUDA MPS, where it reports the server's process instead.
        """
        times: dict[str, dict[int, float]] = {}
        for gpu, of_processes in self._gpus.times().items():
            for pid, used in of_processes.items():
                worker = self._worker_of(pid) if used else None
                if worker is not None:
                    of_workers = times.setdefault(gpu, {})
                    of_workers[worker] = of_workers.get(worker, 0.0) + used
        return times

    def gpu_energy(self) -> dict[str, float]:
        """Return the millijoules that each GPU with an energy counter drew since the last call."""
        return self._gpus.energy()

    def gpu(self, name: str) -> str:
        """Return the UUID of a GPU by its name in ``CUDA_VISIBLE_DEVICES``, or the name if NVML does not know it."""
        index = self._gpus.index(name)
        return name if index is None else self._gpus.uuids[index]

    def close(self) -> None:
        """Close NVML."""
        self._gpus.close()

    def _worker_of(self, pid: int) -> int | None:
        """Return the worker that a process belongs to, itself or by an ancestor; None if there is none."""
        roots = {process.pid: worker for worker, processes in self._processes.items() for process in processes}
        if pid in roots:
            return roots[pid]
        try:
            ancestors = psutil.Process(pid).parents()
        except psutil.Error:
            return None
        return next((roots[each.pid] for each in ancestors if each.pid in roots), None)


def gpu_indexes(names: Iterable[str]) -> list[int]:
    """Return NVML's indexes of GPUs by their names in ``CUDA_VISIBLE_DEVICES``; empty unless all are found."""
    with closing(_Gpus()) as gpus:
        indexes = [gpus.index(name) for name in names]
    known = [index for index in indexes if index is not None]
    return known if len(known) == len(indexes) else []


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_s(process: psutil.Process) -> float:
    """Return the seconds of CPU time of a process and of its ended children; 0 if it has ended itself."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


class _Gpus:
    """The GPUs that NVML shows, identified by UUID.

    Attributes:
        uuids: in the order of NVML's indexes.
    """

    def __init__(self) -> None:
        import pynvml

        self._nvml: Any = pynvml
        self._handles: dict[str, Any] = {}
        self._seen: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            self._is_open = False
            self.uuids: list[str] = []
            return
        self._is_open = True
        with suppress(pynvml.NVMLError):
            for index in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = pynvml.nvmlDeviceGetUUID(handle)
                self._handles[uuid.decode() if isinstance(uuid, bytes) else uuid] = handle
        self.uuids = list(self._handles)
        self.times()  # discard earlier usage
        self.energy()

    def index(self, name: str) -> int | None:
        """Return NVML's index of a GPU by its name in ``CUDA_VISIBLE_DEVICES``, a number or the start of a UUID.

        CUDA may number GPUs of different models in another order than NVML (``CUDA_DEVICE_ORDER``).
        """
        if name.isdecimal():
            return int(name) if int(name) < len(self.uuids) else None
        return next((index for index, uuid in enumerate(self.uuids) if name and uuid.startswith(name)), None)

    def times(self) -> dict[str, dict[int, float]]:
        """Return the GPU time by GPU and process id since the last call."""
        times: dict[str, dict[int, float]] = {}
        for uuid, handle in self._handles.items():
            seen = self._seen.get(uuid, 0)
            try:
                samples = self._nvml.nvmlDeviceGetProcessUtilization(handle, seen)
            except self._nvml.NVMLError:  # also if no process has used it recently
                continue
            of_processes = times.setdefault(uuid, {})
            for sample in samples:
                if sample.timeStamp > seen:
                    of_processes[sample.pid] = of_processes.get(sample.pid, 0.0) + sample.smUtil
                    self._seen[uuid] = max(self._seen.get(uuid, 0), sample.timeStamp)
        return times

    def energy(self) -> dict[str, float]:
        """Return the millijoules by GPU since the last call, without GPUs whose counter cannot be read."""
        drawn: dict[str, float] = {}
        for uuid, handle in self._handles.items():
            with suppress(self._nvml.NVMLError):
                counted = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
                # A driver that was reloaded counts from 0.
                drawn[uuid] = float(max(0, counted - self._counted.get(uuid, counted)))
                self._counted[uuid] = counted
        return drawn

    def close(self) -> None:
        if self._is_open:
            self._nvml.nvmlShutdown()
