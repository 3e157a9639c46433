"""What the processes of workers use of the machine: CPU time, and GPU time where the driver tells it by process.

Owns every call of psutil and NVML of this package. Must not know how energy and time are shared out.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil


class Usage:
    """Reads what each worker used."""

    def __init__(self) -> None:
        self._processes: dict[int, list[psutil.Process]] = {}
        self._cpu_s: dict[int, float] = {}
        self._gpus = _Gpus()

    @property
    def workers(self) -> list[int]:
        """The workers that are read."""
        return list(self._processes)

    def add(self, worker: int, pid: int) -> None:
        """Counts a process and its children as a worker's from now on; a worker may have several.

        One that has ended already counts as a worker that uses nothing.
        """
        processes = self._processes.setdefault(worker, [])
        with suppress(psutil.Error):
            processes.append(psutil.Process(pid))
        self._cpu_s[worker] = sum(_cpu_s(each) for process in processes for each in _with_children(process))

    def remove(self, worker: int) -> None:
        """Counts nothing for a worker any more."""
        self._processes.pop(worker, None)
        self._cpu_s.pop(worker, None)

    def cpu_s(self) -> dict[int, float]:
        """Seconds of CPU time, user and system, that each worker used since the last call, or since it was added."""
        used = {}
        for worker, roots in self._processes.items():
            cpu_s = sum(_cpu_s(each) for process in roots for each in _with_children(process))
            # A process that nobody waited for takes its time with it, so that the sum may fall.
            used[worker] = max(0.0, cpu_s - self._cpu_s[worker])
            self._cpu_s[worker] = cpu_s
        return used

    def gpu_times(self) -> dict[str, dict[int, float]]:
        """GPU time by GPU and worker since the last call, in a unit that is the same for all of a GPU.

        As far as the driver tells it of workers' processes: not at all in another container or on a part of a GPU
        (MIG), and with CUDA MPS of the server's process instead, which is no worker's.
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
        """Millijoules that each GPU drew since the last call, of those with an energy counter."""
        return self._gpus.energy()

    def gpu(self, name: str) -> str:
        """The UUID of the GPU of a name in ``CUDA_VISIBLE_DEVICES``; the name itself where NVML does not know it."""
        index = self._gpus.index(name)
        return name if index is None else self._gpus.uuids[index]

    def close(self) -> None:
        """Lets the driver go."""
        self._gpus.close()

    def _worker_of(self, pid: int) -> int | None:
        """The worker that a process or one of its ancestors is; None without one."""
        roots = {process.pid: worker for worker, processes in self._processes.items() for process in processes}
        if pid in roots:
            return roots[pid]
        try:
            ancestors = psutil.Process(pid).parents()
        except psutil.Error:
            return None
        return next((roots[each.pid] for each in ancestors if each.pid in roots), None)


def gpu_indexes(names: Iterable[str]) -> list[int]:
    """NVML's indexes of the GPUs of some names in ``CUDA_VISIBLE_DEVICES``; none unless all of them are found."""
    gpus = _Gpus()
    try:
        indexes = [gpus.index(name) for name in names]
    finally:
        gpus.close()
    found = [index for index in indexes if index is not None]
    return found if len(found) == len(indexes) else []


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU time of a process and of its children that have ended; 0 where it has itself."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


class _Gpus:
    """The GPUs that NVML shows, each known by its UUID.

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
        self.times()  # what was before does not count
        self.energy()

    def index(self, name: str) -> int | None:
        """NVML's index of the GPU of a name in ``CUDA_VISIBLE_DEVICES``, a number or the beginning of a UUID.

        CUDA may number GPUs of different models in another order than NVML (``CUDA_DEVICE_ORDER``).
        """
        if name.isdecimal():
            return int(name) if int(name) < len(self.uuids) else None
        return next((index for index, uuid in enumerate(self.uuids) if name and uuid.startswith(name)), None)

    def times(self) -> dict[str, dict[int, float]]:
        """GPU time by GPU and process id since the last call."""
        times: dict[str, dict[int, float]] = {}
        for uuid, handle in self._handles.items():
            seen = self._seen.get(uuid, 0)
            try:
                samples = self._nvml.nvmlDeviceGetProcessUtilization(handle, seen)
            except self._nvml.NVMLError:  # also where no process has used it lately
                continue
            of_processes = times.setdefault(uuid, {})
            for sample in samples:
                if sample.timeStamp > seen:
                    of_processes[sample.pid] = of_processes.get(sample.pid, 0.0) + sample.smUtil
                    self._seen[uuid] = max(self._seen.get(uuid, 0), sample.timeStamp)
        return times

    def energy(self) -> dict[str, float]:
        """Millijoules by GPU since the last call; without those whose counter cannot be read."""
        drawn: dict[str, float] = {}
        for uuid, handle in self._handles.items():
            with suppress(self._nvml.NVMLError):
                counted = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
                # A driver that was loaded again counts from 0.
                drawn[uuid] = float(max(0, counted - self._counted.get(uuid, counted)))
                self._counted[uuid] = counted
        return drawn

    def close(self) -> None:
        if self._is_open:
            self._nvml.nvmlShutdown()
