"""What a command searches beside what it sweeps: the space of its search, and those that its options bring.

Owns where each key is searched: everywhere, or in trials of certain options. Knows nothing of values' types.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedsweep.config import (
    Composer,
    canonical,
    has_key,
    leaf_keys,
    nearest,
    nearest_key,
    resolve,
    shown,
    value_at,
)
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.sections import TRIAL_SECTIONS
from embedsweep.gate.words import Cell, Words, one_for_all, section_of
from embedsweep.schema import Axis, SearchConfig
from embedsweep.search_space import axis_of_entry


@dataclass(frozen=True)
class _Entry:
    """What a key is searched over in one cell.

    Attributes:
        place: whose space says so, as it is told (``search=lr``, ``loss=mnrl``).
        groups: the swept groups whose options bring the entry; none for one of the search itself.
        axis: the key's axis there, unconditional.
    """

    place: str
    groups: frozenset[str]
    axis: Axis


def searched_axes(
    search: SearchConfig, cells: Sequence[Cell], said: Words, composer: Composer, problems: list[Problem]
) -> list[Axis]:
    """The axes of the search and of the options it asks for, less those that the command itself sweeps or fixes.

    A key is searched in trials of an option if that option brings it, or if the option decides over what. An option's
    own entry comes before the search's.
    """
    mine = {axis.key for axis in said.axes} | said.refused | said.keys
    found = list(_check_search(search, mine, cells, composer))
    entries: list[dict[str, _Entry]] = []
    for cell in cells:
        try:
            entries.append(_entries(search, cell, said, mine, composer))
        except ConfigError as error:
            found += error.problems
    if found:
        problems += dict.fromkeys(found)
        said.refused.add("search")
        return []
    keys = dict.fromkeys(key for cell_entries in entries for key in cell_entries)
    return [axis for key in keys for axis in _axes_of(cells, [cell.get(key) for cell in entries])]


def _check_search(
    search: SearchConfig, mine: Collection[str], cells: Sequence[Cell], composer: Composer
) -> Iterator[Problem]:
    for key in search.space:
        if key in mine:
            continue
        where = f"search={search.name}, {key}"
        lacking = next((cell for cell in cells if not has_key(cell.composed, key)), None)
        if composer.is_group(key):
            yield Problem(where, f"options are swept on the command line: {key}=a,b")
        elif lacking is not None:
            yield Problem(where, f"no such key{nearest_key(key, list(leaf_keys(lacking.composed)))}")
        else:
            yield from _check_same_for_all(where, key)
    for section in search.option_spaces:
        if section not in TRIAL_SECTIONS:
            message = f"no section {section}{nearest(section, TRIAL_SECTIONS)}; there are: {', '.join(TRIAL_SECTIONS)}"
            yield Problem("search.option_spaces", message)


def _check_same_for_all(where: str, key: str) -> Iterator[Problem]:
    if section_of(key) not in TRIAL_SECTIONS or one_for_all(key) is not None:
        yield Problem(where, "is the same for all trials of a study and cannot be searched")


def _entries(
    search: SearchConfig, cell: Cell, said: Words, mine: Collection[str], composer: Composer
) -> dict[str, _Entry]:
    """What is searched in one cell, by key.

    Raises:
        ConfigError: all entries that are wrong, at once.
    """
    problems: list[Problem] = []
    spaces: list[tuple[str, frozenset[str], Mapping[str, Any]]] = [
        (f"search={search.name}", frozenset(), search.space),
        *_option_spaces(search, cell, said, problems),
    ]
    entries: dict[str, _Entry] = {}
    for place, groups, space in spaces:
        for key, entry in space.items():
            if key in mine:
                continue
            where = f"{place}, {key}"
            other = entries.get(key)
            if place != spaces[0][0]:
                problems += _check_key_of_option(where, key, cell, composer)
            if other is not None and other.place != spaces[0][0]:
                problems.append(Problem(where, f"{other.place} brings it, too: leave it out of one's space"))
            try:
                axis = axis_of_entry(key, entry, _lookup(entry, cell), place)
            except ConfigError as error:
                problems += error.problems
            else:
                entries[key] = _Entry(place, groups, axis)
    if problems:
        raise ConfigError(problems)
    return entries


def _option_spaces(
    search: SearchConfig, cell: Cell, said: Words, problems: list[Problem]
) -> Iterator[tuple[str, frozenset[str], Mapping[str, Any]]]:
    """Each space that the cell's options bring: as it is told, the swept groups it comes from, and what it says.

    An option inside another names its keys as if it stood by itself; ``loss.scale`` of one inside is
    ``loss.inner.scale``.
    """
    chosen = {**said.choices, **cell.swept}
    for place, space in cell.spaces.items():
        section = section_of(place)
        if section not in search.option_spaces:
            continue
        groups = [section, *(f"{section}@{section}{'.inner' * depth}" for depth in range(1, place.count(".") + 1))]
        told = f"{groups[-1]}={chosen.get(groups[-1], value_at(cell.composed, f'{place}.name'))}"
        if not isinstance(space, Mapping):
            problems.append(
                Problem(told, f"space must map keys to what they are searched over, but got {shown(space)}")
            )
            continue
        own = f"{section}."
        placed = {place + "." + key.removeprefix(own) if key.startswith(own) else key: space[key] for key in space}
        yield told, frozenset(groups) & cell.swept.keys(), placed


def _check_key_of_option(where: str, key: str, cell: Cell, composer: Composer) -> Iterator[Problem]:
    if composer.is_group(key):
        yield Problem(where, f"options are swept on the command line: {key}=a,b")
    elif not has_key(cell.composed, key):
        yield Problem(where, f"no such key{nearest_key(key, list(leaf_keys(cell.composed)))}")
    else:
        yield from _check_same_for_all(where, key)


def _lookup(entry: Any, cell: Cell) -> dict[str, Any]:
    """The value of the key that a relative entry is relative to."""
    centre = entry.get("of") if isinstance(entry, Mapping) else None
    section = section_of(centre) if isinstance(centre, str) else ""
    if section not in cell.composed:
        return {}
    return {str(centre): value_at(resolve(cell.composed, {}, [section]), str(centre))}


def _axes_of(cells: Sequence[Cell], entries: Sequence[_Entry | None]) -> Iterator[Axis]:
    """A key's axes: one for all cells, or one for each combination of the options that decide over what it is searched.

    Args:
        cells: every combination of swept options.
        entries: what the key is searched over in each; None where it is not.
    """
    needed = {group for entry in entries if entry is not None for group in entry.groups}
    optional = [group for group in cells[0].swept if group not in needed]
    for count in range(len(optional) + 1):
        for more in itertools.combinations(optional, count):
            groups = [group for group in cells[0].swept if group in needed or group in more]
            by_options: dict[tuple[str, ...], dict[str, Axis | None]] = {}
            for cell, entry in zip(cells, entries, strict=True):
                options = tuple(cell.swept[group] for group in groups)
                axis = entry.axis if entry is not None else None
                by_options.setdefault(options, {})[canonical(axis and vars(axis))] = axis
            if all(len(axes) == 1 for axes in by_options.values()):
                for options, axes in by_options.items():
                    for axis in axes.values():
                        if axis is not None:
                            yield replace(axis, when=dict(zip(groups, options, strict=True)))
                return
