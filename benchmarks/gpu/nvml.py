"""The GPU's utilisation, power and memory by NVML, sampled while the ways run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pynvml

EVERY_S = 0.2


class Sample(NamedTuple):
    """One reading of the whole GPU. What NVML does not report is NaN.

    Attributes:
        at: seconds since the epoch.
        utilisation: percent of the time in which a kernel ran.
        power: W.
        memory: GiB in use, by whichever process.
    """

    at: float
    utilisation: float
    power: float
    memory: float


@dataclass(frozen=True)
class DeviceUse:
    """The use of the GPU over a span; None where NVML does not report it.

    Attributes:
        utilisation: mean percent.
        power: mean W.
        energy_kj: power times the span.
        memory: the highest GiB.
    """

    utilisation: float | None = None
    power: float | None = None
    energy_kj: float | None = None
    memory: float | None = None


def use_of(samples: Sequence[Sample], begin: float, end: float) -> DeviceUse:
    """Return the use of the GPU from ``begin`` to ``end`` (seconds since the epoch)."""
    own = [sample for sample in samples if begin <= sample.at <= end]
    utilisation = _mean([sample.utilisation for sample in own])
    power = _mean([sample.power for sample in own])
    return DeviceUse(
        utilisation,
        power,
        None if power is None else power * (end - begin) / 1000,
        max((sample.memory for sample in own if not math.isnan(sample.memory)), default=None),
    )


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


class DeviceSampler(threading.Thread):
    """Sample the first GPU until the process ends. Without a GPU there are no samples.

    Attributes:
        device: the GPU's name and its driver's version, or why there is none.
        samples: so far.
    """

    def __init__(self) -> None:
        super().__init__(name="nvml", daemon=True)
        self.samples: list[Sample] = []
        self._reads: tuple[Callable[[], float], ...] = ()
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            name, driver = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlSystemGetDriverVersion())
            self.device = f"{name}, driver {driver}"
        except pynvml.NVMLError as error:
            self.device = f"no GPU ({error})"
            return
        self._reads = (
            lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30,
        )

    def run(self) -> None:
        """Sample until the process ends."""
        while self._reads:
            self.samples.append(self.read())
            time.sleep(EVERY_S)

    def read(self) -> Sample:
        """Return a reading of the GPU; there must be one."""
        return Sample(time.time(), *map(self._value, self._reads))

    def _value(self, read: Callable[[], float]) -> float:
        try:
            return read()
        except pynvml.NVMLError:
            return math.nan


def _text(value: Any) -> str:
    """Return a name as text; older bindings return bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
