"""The rows of ``emissions.csv``, one an attempt: written, read and summed.

Owns the file's columns. Must not know where figures come from.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from embedsweep.schema import Emissions

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
"""The header of ``emissions.csv``; an empty cell is a figure that was not measured."""

_OLDER_COLUMNS = tuple(column for column in COLUMNS if column != "gpu_h")

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The rows of an ``emissions.csv``; none if there is no file, one that says so if it cannot be understood."""
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
    """Writes the file anew, in one step: whoever reads it finds the old rows or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def sum_rows(rows: Iterable[Row], country: str) -> Emissions:
    """Sums attempts.

    Args:
        rows: of ``emissions.csv``.
        country: stands where no attempt names one.
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
