"""Whose electricity is assumed: the countries CodeCarbon knows, and the world's average.

Reads CodeCarbon's data without importing it. Must not know how energy is measured.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORLD_AVERAGE = "world average"

WORLD_AVERAGE_G_PER_KWH = 475.0
"""Grams of CO2 equivalent per kWh of the world's electricity, as CodeCarbon assumes for a country it does not know.

``world_average`` in its ``data/private_infra/carbon_intensity_per_source.json``, after the IEA's Global Energy and
CO2 Status Report 2019, https://www.iea.org/reports/global-energy-co2-status-report-2019/emissions.
"""


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
