"""Write, read and sum the rows of ``emissions.csv``, one per attempt; check country codes."""

from __future__ import annotations

import csv
import difflib
import importlib.util
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from embedsweep.config.result import Emissions
from embedsweep.files import write_atomically

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
    "gpu_h",
    "cpu_model",
    "gpu_model",
    "unmeasured",
)
"""The header of ``emissions.csv``; an empty cell was not measured."""

_OLDER_COLUMNS = tuple(column for column in COLUMNS if column != "gpu_h")

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of an ``emissions.csv``; none if there is no file, one with a remark if the file is invalid."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            header, *lines = list(csv.reader(file)) or [list(COLUMNS)]
        rows = [dict.fromkeys(COLUMNS, "") | dict(zip(header, line, strict=True)) for line in lines]
        if tuple(header) in (COLUMNS, _OLDER_COLUMNS) and all(row["attempt"].isdecimal() for row in rows):
            return rows
        problem = "unexpected content"
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        problem = str(error).replace(";", ",")
    return [dict.fromkeys(COLUMNS, "") | {"attempt": "1", "unmeasured": f"{path.name} could not be read ({problem})"}]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file in one step, so that a reader finds either the old rows or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def sum_rows(rows: Iterable[Row], country: str) -> Emissions:
    """Sum attempts.

    Args:
        rows: the rows of ``emissions.csv``.
        country: the country if no attempt names one.
    """
    co2eq_kg = energy_kwh = duration_s = 0.0
    gpu_h: list[float] = []
    countries: list[str] = []
    unmeasured: list[str] = []
    for row in rows:
        energy, co2eq = _figure(row["energy_kwh"]), _figure(row["co2eq_kg"])
        if energy is None or co2eq is None:
            unmeasured.append(f"attempt {row['attempt']} not measured")
        energy_kwh += energy or 0.0
        co2eq_kg += co2eq or 0.0
        duration_s += _figure(row["duration_s"]) or 0.0
        gpu_h += [hours for hours in [_figure(row["gpu_h"])] if hours is not None]
        countries += [row["country"]] if row["country"] else []
        unmeasured += filter(None, row["unmeasured"].split("; "))
    return Emissions(
        co2eq_kg=co2eq_kg,
        energy_kwh=energy_kwh,
        duration_s=duration_s,
        country=", ".join(dict.fromkeys(countries)) or country,
        unmeasured=tuple(dict.fromkeys(unmeasured)),
        gpu_h=sum(gpu_h) if gpu_h else None,
    )


def _figure(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


WORLD_AVERAGE = "world average"

WORLD_AVERAGE_G_PER_KWH = 475.0
"""Grams of CO2 equivalent per kWh of the world's electricity, which CodeCarbon uses for an unknown country.

``world_average`` in its ``data/private_infra/carbon_intensity_per_source.json``, after the IEA's Global Energy and
CO2 Status Report 2019, https://www.iea.org/reports/global-energy-co2-status-report-2019/emissions.
"""


def country_problem(code: str) -> str | None:
    """Describe the problem with a country code; return None if CodeCarbon knows the country's electricity.

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
    # Not importlib.resources.files, which imports the package and with it psutil, requests and logging handlers.
    spec = importlib.util.find_spec("codecarbon")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("codecarbon is not installed", name="codecarbon")
    data = Path(spec.origin).with_name("data") / "private_infra" / "global_energy_mix.json"
    mixes: dict[str, dict[str, Any]] = json.loads(data.read_text(encoding="utf-8"))
    return mixes


def _nearest_codes(code: str, countries: Mapping[str, str]) -> list[str]:
    """Return up to four codes: of the country with that name, else those with the same start, then similar ones."""
    wanted = code.strip().upper()
    named = [key for key, name in countries.items() if name.upper() == wanted]
    if named or wanted in countries:
        return named or [wanted]
    alike = difflib.get_close_matches(wanted, countries, n=4)
    beginning = [key for key in countries if len(wanted) == 2 and key.startswith(wanted)]
    return list(dict.fromkeys([*beginning, *alike]))[:4]
