"""An attempt's part of its worker's share of the machine's energy.

Owns what a share is worth to a trial, in words. Must not know how the machine is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from embedsweep.emissions.share import Share, ask_share, begin_trial, end_trial, read_share
from embedsweep.emissions.tracker import NO_GPU_FOUND, SHORTEST_MEASURED_S, Reading, torch_has_gpu

NO_SHARE = "nobody measured the machine for this worker"
NO_ANSWER = "counted up to the last reading of the machine, nobody answered at the end"
NO_ENERGY = "no energy was measured for this worker"
NO_GPU_TIME = "no time of a GPU was counted for this worker"


class Portion:
    """What a worker's share grew by since the start; stands in for a `Tracker` of an attempt's own.

    Args:
        path: the worker's share.
        gpus: names of the GPUs that the attempt holds, as in ``CUDA_VISIBLE_DEVICES``; none on a CPU.
    """

    def __init__(self, path: Path, gpus: Sequence[str] = ()) -> None:
        self._path = path
        self._gpus = gpus
        self._before: Share | None = None
        self._is_noted = False
        self._started = time.perf_counter()

    def start(self) -> None:
        """Begins to count."""
        self._started = time.perf_counter()
        with suppress(OSError):  # then the GPUs' time is not counted, which the readings say
            begin_trial(self._path, self._gpus)
            self._is_noted = True
        self._before, _ = ask_share(self._path)

    def read(self) -> Reading:
        """Up to the machine's last reading, which is a few seconds old at most."""
        return self._reading(read_share(self._path))

    def stop(self) -> Reading:
        """Up to now."""
        with suppress(OSError):
            end_trial(self._path)
        share, is_fresh = ask_share(self._path)
        reading = self._reading(share)
        return reading if is_fresh else replace(reading, unmeasured=(*reading.unmeasured, NO_ANSWER))

    def _reading(self, share: Share | None) -> Reading:
        duration_s = time.perf_counter() - self._started
        if share is None or self._before is None:
            return Reading(duration_s, (NO_SHARE,))
        energy, gpu_s = share.energy - self._before.energy, share.gpu_s - self._before.gpu_s
        # One that shared its GPU may have been idle all the time; one that had it to itself has used it.
        gpu_h = gpu_s / 3600 if self._is_noted and (gpu_s > 0 or share.gpu_by) else None
        unmeasured = list(share.unmeasured)
        if self._gpus and gpu_h is None:
            unmeasured.append(NO_GPU_TIME)
        if gpu_h is not None and share.gpu_by:
            unmeasured.insert(0, f"approximate: this worker's part of the GPU's time, {share.gpu_by}")
        if "all" in share.without or energy.total_kwh <= 0:
            return Reading(duration_s, (*unmeasured, NO_ENERGY), gpu_h=gpu_h)
        without = set(share.without)
        unmeasured.insert(0, f"approximate: this worker's part of the machine's energy, {share.by}")
        if energy.gpu_kwh <= 0 and duration_s >= 1 and "gpu" not in without and torch_has_gpu():
            # The process that measures has no torch to ask.
            unmeasured.append(NO_GPU_FOUND)
            without.add("gpu")
        if duration_s < SHORTEST_MEASURED_S:
            unmeasured.append(f"an attempt under {SHORTEST_MEASURED_S:g} s is too short to measure")
        return Reading(
            duration_s=duration_s,
            unmeasured=tuple(unmeasured),
            energy_kwh=energy.total_kwh,
            co2eq_kg=energy.co2eq_kg,
            cpu_energy_kwh=None if "cpu" in without else energy.cpu_kwh,
            gpu_energy_kwh=None if "gpu" in without else energy.gpu_kwh,
            ram_energy_kwh=energy.ram_kwh,
            gpu_h=gpu_h,
            cpu_model=share.cpu_model,
            gpu_model=share.gpu_model,
        )
