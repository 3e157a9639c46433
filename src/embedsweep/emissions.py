"""What a trial costs in energy and CO2, attempt by attempt.

Owns ``emissions.csv`` of a trial's folder and is the only module that knows CodeCarbon. Must not know Optuna, MLflow,
torch's training or which trial it measures. In a process group only rank 0 may measure: every tracker counts the
whole machine.
"""

from __future__ import annotations

import csv
import difflib
import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from embedsweep.schema import Emissions, EmissionsConfig

COLUMNS = (
    "attempt",
    "started_at",
    "duration_s",
    "energy_kwh",
    "co2eq_kg",
    "country",
    "cpu_energy_kwh",
    "gpu_energy_kwh",
    "ram_energy_kwh",
    "cpu_model",
    "gpu_model",
    "unmeasured",
)
"""The header of ``emissions.csv``; an empty cell is a figure that was not measured."""

WORLD_AVERAGE = "world average"

WORLD_AVERAGE_G_PER_KWH = 475.0
"""Grams of CO2 equivalent per kWh of the world's electricity, as CodeCarbon assumes for a country it does not know.

``world_average`` in its ``data/private_infra/carbon_intensity_per_source.json``, after the IEA's Global Energy and
CO2 Status Report 2019, https://www.iea.org/reports/global-energy-co2-status-report-2019/emissions.
"""

# Between two measurements CodeCarbon samples loads and powers every second anyway, and flush and stop measure too, so
# that a trial of 10 s is measured at this interval as well as one of an hour. Only energy counters that wrap need it.
MEASURE_EVERY_S = 15.0

# CodeCarbon does not measure again within 0.05 s of its last measurement.
SHORTEST_MEASURED_S = 0.05

Row = dict[str, str]


class EmissionsMeter:
    """Measures one attempt of a trial and keeps its row of the trial's ``emissions.csv``.

    As a context manager it stops on any exception: a tracker left running keeps two threads. Nothing here raises
    because something could not be measured; that is said in ``unmeasured`` instead.

    Args:
        config: where the electricity comes from.
        path: the trial's ``emissions.csv``; its earlier rows are kept.
    """

    def __init__(self, config: EmissionsConfig, path: Path) -> None:
        self._country_iso_code = config.country_iso_code
        self._path = path
        self._earlier: list[Row] = []
        self._row: Row | None = None
        self._tracker: _Tracker | None = None
        self._write_problem: tuple[str, ...] = ()

    def start(self) -> None:
        """Begins the attempt: its row, still of next to nothing, is written.

        Raises:
            RuntimeError: this meter was started before; an attempt has a meter of its own.
        """
        if self._row is not None:
            raise RuntimeError("this EmissionsMeter was started before; every attempt needs its own")
        self._earlier = _read_rows(self._path)
        attempt = 1 + max((int(row["attempt"]) for row in self._earlier), default=0)
        self._row = dict.fromkeys(COLUMNS, "") | {
            "attempt": str(attempt),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "country": self._country,
        }
        self._tracker = _Tracker(self._country_iso_code)
        try:
            self._tracker.start()
            self.flush()
        except BaseException:
            # A signal that arrives here never reaches __exit__, and the tracker's threads would live on.
            self._tracker.stop()
            self._tracker = None
            raise

    def flush(self) -> None:
        """Measures now and rewrites this attempt's row, so that it counts up to here if the process is killed.

        Raises:
            RuntimeError: the meter is not running.
        """
        if self._tracker is None:
            raise RuntimeError("an EmissionsMeter can only be flushed between start and stop")
        self._record(self._tracker.read(), f"attempt {self._own['attempt']} counted up to its last flush")

    def stop(self) -> Emissions:
        """Ends the attempt; a second call changes nothing.

        Returns:
            The sum of all attempts, as `total`.
        """
        if self._tracker is not None:
            reading = self._tracker.stop()
            self._tracker = None
            self._record(reading)
        return self.total()

    def total(self) -> Emissions:
        """The sum of all attempts in the file, this meter's included, up to its last flush."""
        if self._row is None:
            return _sum(_read_rows(self._path), self._country)
        total = _sum([*self._earlier, self._row], self._country)
        return replace(total, unmeasured=total.unmeasured + self._write_problem)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _country(self) -> str:
        return self._country_iso_code or WORLD_AVERAGE

    @property
    def _own(self) -> Row:
        assert self._row is not None
        return self._row

    def _record(self, reading: _Reading, *remarks: str) -> None:
        self._row = self._own | reading.cells() | {"unmeasured": "; ".join((*reading.unmeasured, *remarks))}
        try:
            _write_rows(self._path, [*self._earlier, self._row])
        except OSError as error:
            # A full disk may end the training, but not for the sake of this file.
            self._write_problem = (f"{self._path.name} could not be written ({error.strerror})",)
        else:
            self._write_problem = ()


def country_problem(code: str) -> str | None:
    """What is wrong with a country code, or None if CodeCarbon knows the country's electricity.

    Reads CodeCarbon's data file without importing CodeCarbon (5 ms instead of 100).

    Args:
        code: three letters, ISO 3166-1 alpha-3, in capitals.
    """
    countries = {key: str(mix["country_name"]) for key, mix in _energy_mixes().items()}
    if code in countries:
        return None
    nearest = _nearest_codes(code, countries)
    suggestion = f"Did you mean {', '.join(f'{key} ({countries[key]})' for key in nearest)}? " if nearest else ""
    return (
        f"CodeCarbon knows no country {code!r}. {suggestion}Give a three-letter ISO code in capitals (FRA, DEU, USA) "
        f"or null for the world average of {WORLD_AVERAGE_G_PER_KWH:.0f} g CO2eq/kWh."
    )


def _energy_mixes() -> dict[str, dict[str, Any]]:
    # Not importlib.resources.files: that imports the package, and with it psutil, requests and a logger's handlers.
    found = importlib.util.find_spec("codecarbon")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("codecarbon is not installed", name="codecarbon")
    data = Path(found.origin).with_name("data") / "private_infra" / "global_energy_mix.json"
    mixes: dict[str, dict[str, Any]] = json.loads(data.read_text(encoding="utf-8"))
    return mixes


def _nearest_codes(code: str, countries: Mapping[str, str]) -> list[str]:
    """At most four codes: the country of that name, else those that begin alike, then those that look alike."""
    wanted = code.strip().upper()
    named = [key for key, name in countries.items() if name.upper() == wanted]
    if named or wanted in countries:
        return named or [wanted]
    alike = difflib.get_close_matches(wanted, countries, n=4)
    beginning = [key for key in countries if len(wanted) == 2 and key.startswith(wanted)]
    return list(dict.fromkeys([*beginning, *alike]))[:4]


@dataclass(frozen=True)
class _Reading:
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

    def cells(self) -> Row:
        figures = {
            "duration_s": self.duration_s,
            "energy_kwh": self.energy_kwh,
            "co2eq_kg": self.co2eq_kg,
            "cpu_energy_kwh": self.cpu_energy_kwh,
            "gpu_energy_kwh": self.gpu_energy_kwh,
            "ram_energy_kwh": self.ram_energy_kwh,
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


class _Tracker:
    """A CodeCarbon tracker that says in words what it could not do.

    CodeCarbon logs its own exceptions and goes on dead; so nothing is believed but figures that arrive. A tracker that
    was stopped and started again goes on counting, so each of these serves one attempt.
    """

    def __init__(self, country_iso_code: str | None) -> None:
        self._country_iso_code = country_iso_code
        self._receiver = _Receiver()
        self._tracker: Any = None
        self._started = time.perf_counter()
        self._failure = "codecarbon did not start"
        self._last = _Reading(0.0, ())

    def start(self) -> None:
        self._started = time.perf_counter()
        try:
            self._tracker = _new_tracker(self._country_iso_code, self._receiver)
            self._tracker.start()
        except Exception as error:  # whatever a library of hardware probes may raise
            self._failure = f"codecarbon did not start ({type(error).__name__}: {error})".replace(";", ",")

    def read(self) -> _Reading:
        return self._ask("flush")

    def stop(self) -> _Reading:
        return self._ask("stop")

    def _ask(self, method: str) -> _Reading:
        self._receiver.latest = None
        try:
            if self._tracker is not None:
                getattr(self._tracker, method)()
        except Exception as error:
            self._failure = f"codecarbon failed ({type(error).__name__}: {error})".replace(";", ",")
        figures = self._receiver.latest
        if figures is not None:
            self._last = _reading(figures, getattr(self._tracker, "_hardware", []))
            self._failure = f"codecarbon stopped measuring after {self._last.duration_s:.1f} s"
            return self._last
        elapsed = time.perf_counter() - self._started
        return replace(self._last, duration_s=elapsed, unmeasured=(*self._last.unmeasured, self._failure))


def _new_tracker(country_iso_code: str | None, receiver: _Receiver) -> Any:
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
        # Trials run one at a time; "process" would still count the whole card and, with RAPL, the whole socket.
        tracking_mode="machine",
        measure_power_secs=MEASURE_EVERY_S,
        gpu_ids=None,  # those of CUDA_VISIBLE_DEVICES, else all
        force_mode_cpu_load=False,
        pue=1.0,
        wue=0.0,
        rapl_include_dram=False,
        rapl_prefer_psys=False,
    )


def _reading(figures: Any, hardware: Iterable[Any]) -> _Reading:
    duration, energy = float(figures.duration), float(figures.energy_consumed)
    unmeasured = _cpu_remarks(hardware) + _gpu_remarks(hardware, float(figures.gpu_energy), duration)
    without = [part for part in ("cpu", "gpu") if any(word.startswith(f"no {part} measured") for word in unmeasured)]
    if any(type(part).__name__ == "RAM" for part in hardware):
        unmeasured.append("ram power estimated (not measured)")
    if duration < SHORTEST_MEASURED_S:
        unmeasured.append(f"an attempt under {SHORTEST_MEASURED_S:g} s is too short to measure")
    elif energy <= 0:
        return _Reading(duration, ("codecarbon measured no energy",))
    return _Reading(
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


def _gpu_remarks(hardware: Iterable[Any], gpu_energy_kwh: float, duration_s: float) -> list[str]:
    """Whether a GPU that is there went uncounted, or one that was not this process's was counted."""
    if any(getattr(part, "chip_part", "") == "GPU" for part in hardware):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpu = next((part for part in hardware if type(part).__name__ == "GPU"), None)
    if gpu is None:
        return ["no gpu measured (codecarbon found none, torch did)"] if _torch_has_gpu() else []
    counted = gpu.gpu_ids or []
    if not counted:
        # CodeCarbon 3.3.2 takes the G off "GPU-<uuid>" and then finds no such card.
        return [f"no gpu measured (codecarbon cannot match CUDA_VISIBLE_DEVICES={visible})"] if _torch_has_gpu() else []
    if gpu_energy_kwh <= 0 and duration_s >= 1:
        return ["no gpu measured (its energy was read as 0)"]
    if visible and len(counted) > len(visible.split(",")):
        return [f"all {len(counted)} gpus counted, though CUDA_VISIBLE_DEVICES={visible}"]
    return []


def _torch_has_gpu() -> bool:
    # A trial that uses a GPU has imported torch; importing it only to ask would take seconds.
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _read_rows(path: Path) -> list[Row]:
    """The rows of an ``emissions.csv``; none if there is no file, one that says so if it cannot be understood."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            header, *lines = list(csv.reader(file)) or [list(COLUMNS)]
        rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        if tuple(header) == COLUMNS and all(row["attempt"].isdecimal() for row in rows):
            return rows
        problem = "unexpected content"
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        problem = str(error).replace(";", ",")
    return [dict.fromkeys(COLUMNS, "") | {"attempt": "1", "unmeasured": f"{path.name} could not be read ({problem})"}]


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def _sum(rows: Iterable[Row], country: str) -> Emissions:
    """Sums attempts.

    Args:
        rows: of ``emissions.csv``.
        country: stands where no attempt names one.
    """
    co2eq_kg = energy_kwh = duration_s = 0.0
    countries: list[str] = []
    unmeasured: list[str] = []
    for row in rows:
        energy, co2eq = _figure(row["energy_kwh"]), _figure(row["co2eq_kg"])
        if energy is None or co2eq is None:
            unmeasured.append(f"attempt {row['attempt']} not measured")
        energy_kwh += energy or 0.0
        co2eq_kg += co2eq or 0.0
        duration_s += _figure(row["duration_s"]) or 0.0
        countries += [row["country"]] if row["country"] else []
        unmeasured += filter(None, row["unmeasured"].split("; "))
    return Emissions(
        co2eq_kg=co2eq_kg,
        energy_kwh=energy_kwh,
        duration_s=duration_s,
        country=", ".join(dict.fromkeys(countries)) or country,
        unmeasured=tuple(dict.fromkeys(unmeasured)),
    )


def _figure(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
