"""Measure energy and emissions with CodeCarbon, and describe how its figures were obtained."""

from __future__ import annotations

import logging
import operator
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from embedsweep.emissions.rows import WORLD_AVERAGE_G_PER_KWH, Row
from embedsweep.emissions.usage import gpu_indexes

# CodeCarbon samples load and power every second anyway, and flush and stop measure, too, so that a short trial is
# measured as well as a long one. Only energy counters that overflow need an interval.
MEASURE_EVERY_S = 15.0

# CodeCarbon does not measure again within 0.05 s of its last measurement.
SHORTEST_MEASURED_S = 0.05

NO_CPU = "no cpu measured"
NO_GPU_FOUND = "no gpu measured (codecarbon found none, torch did)"


@dataclass(frozen=True)
class Energy:
    """Energy by part of the machine, and its emissions; ``rest_kwh`` is what belongs to no named part.

    Attributes:
        cpu_kwh, gpu_kwh, ram_kwh, rest_kwh: kilowatt-hours.
        co2eq_kg: kilograms of CO2 equivalent.
    """

    cpu_kwh: float = 0.0
    gpu_kwh: float = 0.0
    ram_kwh: float = 0.0
    rest_kwh: float = 0.0
    co2eq_kg: float = 0.0

    @property
    def total_kwh(self) -> float:
        """The sum of all parts."""
        return self.cpu_kwh + self.gpu_kwh + self.ram_kwh + self.rest_kwh

    def __add__(self, other: Energy) -> Energy:
        return Energy(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: Energy) -> Energy:
        return Energy(*map(operator.sub, astuple(self), astuple(other)))

    def part(self, by_cpu: float, by_gpu: float) -> Energy:
        """Return a part: ``by_gpu`` of the GPUs' energy and ``by_cpu`` of all other; both in [0, 1]."""
        mine = Energy(self.cpu_kwh * by_cpu, self.gpu_kwh * by_gpu, self.ram_kwh * by_cpu, self.rest_kwh * by_cpu)
        # Emissions are in proportion to energy; without energy they are negligible.
        portion = mine.total_kwh / self.total_kwh if self.total_kwh else by_cpu
        return replace(mine, co2eq_kg=self.co2eq_kg * portion)


_FIGURES = ("duration_s", "energy_kwh", "co2eq_kg", "cpu_energy_kwh", "gpu_energy_kwh", "ram_energy_kwh", "gpu_h")


@dataclass(frozen=True)
class Reading:
    """The cost of an attempt so far; None is not measured.

    Attributes:
        unmeasured: what was only estimated or not measured, in words.
        gpu_h: hours of GPUs, summed over GPUs.
    """

    duration_s: float
    unmeasured: tuple[str, ...]
    energy_kwh: float | None = None
    co2eq_kg: float | None = None
    cpu_energy_kwh: float | None = None
    gpu_energy_kwh: float | None = None
    ram_energy_kwh: float | None = None
    cpu_model: str = ""
    gpu_model: str = ""
    gpu_h: float | None = None

    def cells(self) -> Row:
        """Return the cells of ``emissions.csv``; those that were not measured are empty."""
        figures = {name: getattr(self, name) for name in _FIGURES}
        texts = {"cpu_model": self.cpu_model, "gpu_model": self.gpu_model}
        return {name: "" if figure is None else repr(figure) for name, figure in figures.items()} | texts

    def energy(self) -> Energy:
        """Return the energy by part; what was not measured counts as 0."""
        cpu, gpu, ram = self.cpu_energy_kwh or 0.0, self.gpu_energy_kwh or 0.0, self.ram_energy_kwh or 0.0
        return Energy(cpu, gpu, ram, (self.energy_kwh or 0.0) - cpu - gpu - ram, self.co2eq_kg or 0.0)


class _Receiver:
    """An output method for CodeCarbon that keeps the latest figures: the public way to read a running tracker."""

    def __init__(self) -> None:
        self.latest: Any = None

    def out(self, total: Any, _delta: Any) -> None:
        self.latest = total

    def live_out(self, total: Any, delta: Any) -> None: ...

    def task_out(self, data: Any, experiment_name: str) -> None: ...

    def exit(self) -> None: ...


class EnergyTracker:
    """A CodeCarbon tracker that describes what it could not measure.

    CodeCarbon logs its own exceptions and continues without measuring; so only figures that arrive are used. A
    CodeCarbon tracker that is stopped and restarted continues its sums, so each of these serves one attempt.

    The energy of a GPU is read from NVML's energy counter (CodeCarbon averages the power of a GPU without one, and the
    reading says so); several GPUs are summed.

    Args:
        country_iso_code: the country whose electricity is used; None is the world average.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that count; if empty, all visible ones do.
        measure_every_s: seconds between CodeCarbon's own measurements.
    """

    def __init__(
        self, country_iso_code: str | None, gpus: Sequence[str] = (), measure_every_s: float = MEASURE_EVERY_S
    ) -> None:
        self._country_iso_code = country_iso_code
        self._gpus = gpus
        self._numbers: list[int] = []
        self._measure_every_s = measure_every_s
        self._receiver = _Receiver()
        self._tracker: Any = None
        self._started = time.perf_counter()
        self._failure = "codecarbon did not start"
        self._last = Reading(0.0, ())

    def start(self) -> None:
        """Start to measure; a failure is described in the readings."""
        self._started = time.perf_counter()
        try:
            # CodeCarbon 3.3.2 identifies GPUs by number, not by the UUIDs that CUDA_VISIBLE_DEVICES may contain.
            self._numbers = gpu_indexes(self._gpus) if self._gpus else []
            self._tracker = _new_tracker(self._country_iso_code, self._numbers, self._measure_every_s, self._receiver)
            self._tracker.start()
        except Exception as error:  # whatever a library of hardware probes may raise
            self._failure = f"codecarbon did not start ({type(error).__name__}: {error})".replace(";", ",")

    def read(self) -> Reading:
        """Measure now."""
        return self._call("flush")

    def stop(self) -> Reading:
        """Measure for the last time and end the tracker's threads."""
        return self._call("stop")

    def _call(self, method: str) -> Reading:
        self._receiver.latest = None
        try:
            if self._tracker is not None:
                getattr(self._tracker, method)()
        except Exception as error:
            self._failure = f"codecarbon failed ({type(error).__name__}: {error})".replace(";", ",")
        figures = self._receiver.latest
        if figures is not None:
            self._last = _reading(figures, getattr(self._tracker, "_hardware", []), self._numbers)
            self._failure = f"codecarbon stopped measuring after {self._last.duration_s:.1f} s"
            return self._last
        elapsed = time.perf_counter() - self._started
        return replace(self._last, duration_s=elapsed, unmeasured=(*self._last.unmeasured, self._failure))


def import_codecarbon() -> None:
    """Import in advance what a tracker needs, which takes a second."""
    import codecarbon  # noqa: F401


def _new_tracker(
    country_iso_code: str | None, gpu_numbers: Sequence[int], measure_every_s: float, receiver: _Receiver
) -> Any:
    from codecarbon import OfflineEmissionsTracker

    # It logs before it reads the level that it is given.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    # Set every option by which a user's .codecarbon.config or CODECARBON_* could make it upload data, write elsewhere,
    # assume another location or fail. The user may set force_cpu_power and force_ram_power, which describe the machine
    # and are ignored if they are not numbers.
    return OfflineEmissionsTracker(
        country_iso_code=country_iso_code,
        force_carbon_intensity_g_co2e_kwh=None if country_iso_code else WORLD_AVERAGE_G_PER_KWH,
        country_2letter_iso_code=None,
        region=None,
        cloud_provider=None,
        cloud_region=None,
        electricitymaps_api_token="",  # None would fall back to a configured co2_signal_api_token
        output_methods=[],
        output_handlers=[receiver],
        output_dir=".",
        emissions_endpoint=None,
        api_call_interval=-1,
        api_endpoint="",
        api_key="",
        experiment_id="",
        experiment_name="",
        project_name="embedsweep",
        logging_logger=None,
        logger_preamble="",
        log_level="error",
        metadata=None,
        allow_multiple_runs=True,
        # Trials run one at a time or share one tracker; "process" would still count the whole GPU and, with RAPL, the
        # whole CPU socket.
        tracking_mode="machine",
        measure_power_secs=measure_every_s,
        gpu_ids=list(gpu_numbers) or None,  # None: those of CUDA_VISIBLE_DEVICES, else all
        force_mode_cpu_load=False,
        pue=1.0,
        wue=0.0,
        rapl_include_dram=False,
        rapl_prefer_psys=False,
    )


def _reading(figures: Any, hardware: Iterable[Any], gpu_numbers: Sequence[int]) -> Reading:
    duration, energy = float(figures.duration), float(figures.energy_consumed)
    unmeasured = _cpu_remarks(hardware) + _gpu_remarks(hardware, float(figures.gpu_energy), duration, gpu_numbers)
    without = [part for part in ("cpu", "gpu") if any(word.startswith(f"no {part} measured") for word in unmeasured)]
    if any(type(part).__name__ == "RAM" for part in hardware):
        unmeasured.append("ram power estimated (not measured)")
    if duration < SHORTEST_MEASURED_S:
        unmeasured.append(f"an attempt under {SHORTEST_MEASURED_S:g} s is too short to measure")
    elif energy <= 0:
        return Reading(duration, ("codecarbon measured no energy",))
    return Reading(
        duration_s=duration,
        unmeasured=tuple(unmeasured),
        energy_kwh=energy,
        co2eq_kg=float(figures.emissions),
        cpu_energy_kwh=None if "cpu" in without else float(figures.cpu_energy),
        gpu_energy_kwh=None if "gpu" in without else float(figures.gpu_energy),
        ram_energy_kwh=float(figures.ram_energy),
        cpu_model=str(figures.cpu_model or ""),
        gpu_model=str(figures.gpu_model or ""),
    )


def _cpu_remarks(hardware: Iterable[Any]) -> list[str]:
    """Describe how the CPU's power was obtained, if no energy counter was read.

    Hardware is distinguished by class name, as in CodeCarbon's own cache, because its classes differ by platform.
    """
    if any(getattr(part, "chip_part", "") == "CPU" for part in hardware):
        return []
    cpu = next((part for part in hardware if type(part).__name__ == "CPU"), None)
    if cpu is None:
        return [NO_CPU]
    mode = getattr(cpu, "_mode", "unknown")
    watts = getattr(cpu, "_tdp", None)
    return {
        "intel_rapl": [],
        "windows_emi": [],
        "intel_power_gadget": [],
        "cpu_load": [f"cpu power estimated (load x assumed TDP of {watts} W, no RAPL)"],
        "constant": [f"cpu power assumed (half of a TDP of {watts} W, no RAPL)"],
    }.get(mode, [f"cpu measured in an unknown way ({mode})"])


def is_cpu_estimated(unmeasured: Iterable[str]) -> bool:
    """Return whether a reading's remarks say that the CPU's power was estimated, because it has no energy counter."""
    return any(word.startswith(("cpu power estimated", "cpu power assumed")) for word in unmeasured)


def _gpu_remarks(
    hardware: Iterable[Any], gpu_energy_kwh: float, duration_s: float, gpu_numbers: Sequence[int]
) -> list[str]:
    """Describe whether a GPU was not counted, was counted although it was not requested, or was estimated."""
    if any(getattr(part, "chip_part", "") == "GPU" for part in hardware):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpu = next((part for part in hardware if type(part).__name__ == "GPU"), None)
    if gpu is None:
        return [NO_GPU_FOUND] if torch_has_gpu() else []
    counted = gpu.gpu_ids or []
    if not counted:
        # CodeCarbon 3.3.2 strips the G of "GPU-<uuid>" and then finds no such GPU.
        return [f"no gpu measured (codecarbon cannot match CUDA_VISIBLE_DEVICES={visible})"] if torch_has_gpu() else []
    if gpu_energy_kwh <= 0 and duration_s >= 1:
        return ["no gpu measured (its energy was read as 0)"]
    if visible and not gpu_numbers and len(counted) > len(visible.split(",")):
        return [f"all {len(counted)} gpus counted, though CUDA_VISIBLE_DEVICES={visible}"]
    return ["gpu energy estimated (power read every second, no energy counter)"] if _lacks_counter(gpu) else []


def _lacks_counter(gpu: Any) -> bool:
    """Return whether CodeCarbon averages the power of a GPU that it counts, because it has no energy counter."""
    devices = getattr(getattr(gpu, "devices", None), "devices", [])
    return any(each.gpu_index in gpu.gpu_ids and getattr(each, "_use_power_fallback", False) for each in devices)


def torch_has_gpu() -> bool:
    """Return whether torch, if this process has imported it, sees a GPU."""
    # A trial that uses a GPU has imported torch; importing it only to check would take seconds.
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available() or torch.backends.mps.is_available())
