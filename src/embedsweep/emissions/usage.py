"""What the processes of workers use of the machine: CPU time, and GPU time where the driver tells it by process.

Owns every call of psutil and NVML of this package. Must not know energy.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class Use:
    """What a worker used since it was read last.

    Attributes:
        cpu_s: seconds of CPU time, user and system, of its processes and their children.
        gpu: GPU time, over all GPUs, in a unit that is the same for all workers read at once; 0 where the driver tells
            none.
        holds_gpu: whether one of its processes holds a GPU.
    """

    cpu_s: float
    gpu: float
    holds_gpu: bool


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

    def read(self) -> dict[int, Use]:
        """What each worker used since the last call, or since it was added."""
        gpu, holders = self._gpus.read()
        uses = {}
        for worker, roots in self._processes.items():
            processes = [each for process in roots for each in _with_children(process)]
            pids = {process.pid for process in processes}
            cpu_s = sum(map(_cpu_s, processes))
            # A process that nobody waited for takes its time with it, so that the sum may fall.
            used = max(0.0, cpu_s - self._cpu_s[worker])
            self._cpu_s[worker] = cpu_s
            uses[worker] = Use(used, sum(gpu.get(pid, 0.0) for pid in pids), bool(pids & holders))
        return uses

    def close(self) -> None:
        """Lets the driver go."""
        self._gpus.close()


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
    """NVML, as far as it tells of processes: not of those in another container, nor on a part of a GPU (MIG)."""

    def __init__(self) -> None:
        import pynvml

        self._nvml: Any = pynvml
        self._seen: dict[Any, int] = {}
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._seen = dict.fromkeys(range(count), 0)
        except pynvml.NVMLError:
            return
        self.read()  # what was before does not count

    def read(self) -> tuple[dict[int, float], set[int]]:
        """GPU time by process id since the last call, and the ids of all processes that hold a GPU."""
        times: dict[int, float] = {}
        holders: set[int] = set()
        for index, seen in self._seen.items():
            try:
                gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
                holders |= {process.pid for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu)}
                samples = self._nvml.nvmlDeviceGetProcessUtilization(gpu, seen)
            except self._nvml.NVMLError:  # also where no process has used it lately
                continue
            for sample in samples:
                if sample.timeStamp > seen:
                    times[sample.pid] = times.get(sample.pid, 0.0) + sample.smUtil
                    self._seen[index] = max(self._seen[index], sample.timeStamp)
        return times, holders

    def close(self) -> None:
        if self._seen:
            self._nvml.nvmlShutdown()
