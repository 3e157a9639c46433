"""CodeCarbon's tracker, believed in nothing but figures that arrive.

Owns every call of CodeCarbon and what its way of measuring is worth, in words. Must not know trials or files.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedsweep.emissions.rows import WORLD_AVERAGE_G_PER_KWH, Row
from embedsweep.emissions.usage import gpu_indexes

# Between two measurements CodeCarbon samples loads and powers every second anyway, and flush and stop measure too, so
# that a trial of 10 s is measured at this interval as well as one of an hour. Only energy counters that wrap need it.
MEASURE_EVERY_S = 15.0

# CodeCarbon does not measure again within 0.05 s of its last measurement.
SHORTEST_MEASURED_S = 0.05

NO_GPU_FOUND = "no gpu measured (codecarbon found none, torch did)"


@dataclass(frozen=True)
class Reading:
    """What an attempt has cost so far; None is not measured."""

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
        """The figures as cells of ``emissions.csv``; one that was not measured is empty."""
        figures = {
            "duration_s": self.duration_s,
            "energy_kwh": self.energy_kwh,
            "co2eq_kg": self.co2eq_kg,
            "cpu_energy_kwh": self.cpu_energy_kwh,
            "gpu_energy_kwh": self.gpu_energy_kwh,
            "ram_energy_kwh": self.ram_energy_kwh,
            "gpu_h": self.gpu_h,
        }
        texts = {"cpu_model": self.cpu_model, "gpu_model": self.gpu_model}
        return {name: "" if figure is None else repr(figure) for name, figure in figures.items()} | texts


class _Receiver:
    """An output method of CodeCarbon's that keeps the latest figures: the public way to read a running tracker."""

    def __init__(self) -> None:
        self.latest: Any = None

    def out(self, total: Any, _delta: Any) -> None:
        self.latest = total

    def live_out(self, total: Any, delta: Any) -> None: ...

    def task_out(self, data: Any, experiment_name: str) -> None: ...

    def exit(self) -> None: ...


class Tracker:
    """A CodeCarbon tracker that says in words what it could not do.

    CodeCarbon logs its own exceptions and goes on dead; so nothing is believed but figures that arrive. A tracker that
    was stopped and started again goes on counting, so each of these serves one attempt.

    The energy of a GPU is read from NVML's counter of all that it drew (CodeCarbon averages its power where it has
    none, which is said); several GPUs are summed.

    Args:
        country_iso_code: whose electricity is used; None is the world's average.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that count; without any, all visible ones do.
        measure_every_s: seconds between measurements of its own.
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
        """Begins to measure; what keeps it from that is said by the readings."""
        self._started = time.perf_counter()
        try:
            # CodeCarbon 3.3.2 knows GPUs by number, not by the UUIDs that CUDA_VISIBLE_DEVICES may have as well.
            self._numbers = gpu_indexes(self._gpus) if self._gpus else []
            self._tracker = _new_tracker(self._country_iso_code, self._numbers, self._measure_every_s, self._receiver)
            self._tracker.start()
        except Exception as error:  # whatever a library of hardware probes may raise
            self._failure = f"codecarbon did not start ({type(error).__name__}: {error})".replace(";", ",")

    def read(self) -> Reading:
        """Measures now."""
        return self._ask("flush")

    def stop(self) -> Reading:
        """Measures for the last time and ends the tracker's threads."""
        return self._ask("stop")

    def _ask(self, method: str) -> Reading:
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


def _new_tracker(
    country_iso_code: str | None, gpu_numbers: Sequence[int], measure_every_s: float, receiver: _Receiver
) -> Any:
    from codecarbon import OfflineEmissionsTracker

    # It announces itself before it reads the level it is given.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    # Every option is given that a user's .codecarbon.config or CODECARBON_* could set to upload something, to write
    # elsewhere, to assume another place or to fail. Left to the user are force_cpu_power and force_ram_power, which
    # say what the machine draws and are ignored where they are not numbers.
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
        # Trials run one at a time or share one tracker; "process" would still count the whole card and, with RAPL, the
        # whole socket.
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
    """How the CPU's power came about, where no energy counter was read.

    Hardware is told apart by class name, as CodeCarbon's own cache does: its classes differ by platform.
    """
    if any(getattr(part, "chip_part", "") == "CPU" for part in hardware):
        return []
    cpu = next((part for part in hardware if type(part).__name__ == "CPU"), None)
    if cpu is None:
        return ["no cpu measured"]
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
    """Whether the CPU's power was estimated, for want of an energy counter, by what a reading says in words."""
    return any(word.startswith(("cpu power estimated", "cpu power assumed")) for word in unmeasured)


def _gpu_remarks(
    hardware: Iterable[Any], gpu_energy_kwh: float, duration_s: float, gpu_numbers: Sequence[int]
) -> list[str]:
    """Whether a GPU that is there went uncounted, one was counted that nobody asked for, or one was estimated."""
    if any(getattr(part, "chip_part", "") == "GPU" for part in hardware):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpu = next((part for part in hardware if type(part).__name__ == "GPU"), None)
    if gpu is None:
        return [NO_GPU_FOUND] if torch_has_gpu() else []
    counted = gpu.gpu_ids or []
    if not counted:
        # CodeCarbon 3.3.2 takes the G off "GPU-<uuid>" and then finds no such card.
        return [f"no gpu measured (codecarbon cannot match CUDA_VISIBLE_DEVICES={visible})"] if torch_has_gpu() else []
    if gpu_energy_kwh <= 0 and duration_s >= 1:
        return ["no gpu measured (its energy was read as 0)"]
    if visible and not gpu_numbers and len(counted) > len(visible.split(",")):
        return [f"all {len(counted)} gpus counted, though CUDA_VISIBLE_DEVICES={visible}"]
    return ["gpu energy estimated (power read every second, no energy counter)"] if _lacks_counter(gpu) else []


def _lacks_counter(gpu: Any) -> bool:
    """Whether CodeCarbon averages the power of a GPU that it counts, for want of an energy counter."""
    devices = getattr(getattr(gpu, "devices", None), "devices", [])
    return any(each.gpu_index in gpu.gpu_ids and getattr(each, "_use_power_fallback", False) for each in devices)


def torch_has_gpu() -> bool:
    """Whether torch, where this process has imported it, sees a GPU."""
    # A trial that uses a GPU has imported torch; importing it only to ask would take seconds.
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available() or torch.backends.mps.is_available())
