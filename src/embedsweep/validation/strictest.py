"""Find the settings by which a study drops questions, so that all its trials are trained on the same ones.

With ``data.negatives.missing=drop`` a question is left out if the strictest of all settings that the study may try
finds too few negatives for it: the most negatives, the largest margins, the smallest range. Each of these can only find
fewer, so that no trial lacks any; one that does, by the library's own ``range_max``, repeats what it found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from embedsweep.config.axes import probes_of
from embedsweep.config.negatives import STRICTER
from embedsweep.config.study import Axis
from embedsweep.config.values import shown, value_at
from embedsweep.errors import Problem
from embedsweep.validation.cells import Cell, Overrides, section_of


def set_strictest(cells: Sequence[Cell], axes: Sequence[Axis], overrides: Overrides, problems: list[Problem]) -> None:
    """Set ``strictest`` in every cell whose trials may drop questions, unless the command does.

    Args:
        cells: every combination of swept options; changed in place.
        axes: all that is swept and searched.
        overrides: the command's; the setting is added to those that are the same for all trials.
        problems: where problems are added.
    """
    for place in dict.fromkeys(place for cell in cells for place in _places(cell)):
        key = f"{place}.missing"
        sections = [section for cell in cells if isinstance(section := value_at(cell.composed, place), dict)]
        swept = {axis.key: probes_of(axis) for axis in axes}
        may_drop = "drop" in (*swept.get(key, ()), *(section.get("missing") for section in sections))
        if not may_drop or f"{place}.strictest" in overrides.keys:
            continue
        strictest = dict(_strictest(place, sections, swept))
        if not strictest.get("count"):
            continue
        if f"{place}.miner" in swept:
            message = "cannot be swept with missing=drop: each miner would leave out other questions; name one, or set "
            problems.append(Problem(f"{place}.miner", f"{message}missing=repeat"))
        elif any(section_of(axis.key) == "model" for axis in axes) and any(not one.get("miner") for one in sections):
            message = "null is the base model, and this study compares several: name one, as missing=drop leaves out "
            problems.append(Problem(f"{place}.miner", f"{message}the questions for which it finds too few negatives"))
        for section in sections:
            section["strictest"] = strictest
        overrides.fixed.append(f"{place}.strictest={shown(strictest)}")


def _places(cell: Cell) -> Iterator[str]:
    yield "data.negatives"
    also = value_at(cell.composed, "data.also")
    yield from (f"data.also.{name}.negatives" for name in (also if isinstance(also, Mapping) else ()))


def _strictest(
    place: str, sections: Sequence[Mapping[str, Any]], swept: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, float]]:
    """Yield each key that decides how many negatives are found, with the value with which fewest are."""
    for key, strictest in STRICTER.items():
        values = swept.get(f"{place}.{key}") or [section.get(key) for section in sections]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if numbers:
            yield key, strictest(numbers)
