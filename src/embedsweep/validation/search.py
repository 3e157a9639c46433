"""Validate what a command searches beside what it sweeps: the space of its search, and the spaces of its options.

A key is searched everywhere, or in the trials of certain options.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedsweep.config.axes import active_axes, axis_of_entry, completed, grid, probes_of, random_cell, value_on
from embedsweep.config.compose import Composer
from embedsweep.config.identity import canonical
from embedsweep.config.study import Axis, Choice, DiscreteAxis, SearchConfig, StudyPlan
from embedsweep.config.trial import Shape
from embedsweep.config.values import has_key, leaf_keys, nearest, nearest_key, resolve, shown, value_at
from embedsweep.errors import ConfigError, Problem, gather_problems, raise_problems
from embedsweep.losses.table import LOSSES
from embedsweep.validation.cells import Cell, Overrides, one_for_all, section_of
from embedsweep.validation.plan_cells import broken_constraint, cell_config
from embedsweep.validation.rules.data import scored_on
from embedsweep.validation.rules.training import check_processes
from embedsweep.validation.sections import TRIAL_SECTIONS


@dataclass(frozen=True)
class _Entry:
    """What a key is searched over in one cell.

    Attributes:
        place: whose space the entry is in, for messages (``search=lr``, ``loss=mnrl``).
        groups: the swept groups whose options have the entry; empty for an entry of the search itself.
        axis: the key's axis there, unconditional.
    """

    place: str
    groups: frozenset[str]
    axis: Axis


def searched_axes(
    search: SearchConfig, cells: Sequence[Cell], overrides: Overrides, composer: Composer, problems: list[Problem]
) -> list[Axis]:
    """Return the axes of the search and of its options' spaces, without keys that the command itself sweeps or fixes.

    A key is searched in the trials of an option if the option's space has it, or if the option decides its range. An
    option's own entry takes precedence over the search's.
    """
    mine = {axis.key for axis in overrides.axes} | overrides.refused | overrides.keys
    wrong = list(_check_search(search, mine, cells, composer))
    entries: list[dict[str, _Entry]] = []
    for cell in cells:
        with gather_problems(wrong):
            entries.append(_entries(search, cell, overrides, mine, composer))
    if wrong:
        problems += dict.fromkeys(wrong)
        overrides.refused.add("search")
        return []
    keys = dict.fromkeys(key for cell_entries in entries for key in cell_entries)
    return [axis for key in keys for axis in _axes_of(cells, [cell.get(key) for cell in entries])]


def _check_search(
    search: SearchConfig, mine: Collection[str], cells: Sequence[Cell], composer: Composer
) -> Iterator[Problem]:
    for key in search.space:
        if key not in mine:
            yield from _check_key(f"search={search.name}, {key}", key, cells, composer)
    for section in search.option_spaces:
        if section not in TRIAL_SECTIONS:
            message = f"no section {section}{nearest(section, TRIAL_SECTIONS)}; there are: {', '.join(TRIAL_SECTIONS)}"
            yield Problem("search.option_spaces", message)


def _check_key(where: str, key: str, cells: Sequence[Cell], composer: Composer) -> Iterator[Problem]:
    """Check that a key of a space exists in every cell and can be searched."""
    lacking = next((cell for cell in cells if not has_key(cell.composed, key)), None)
    if composer.is_group(key):
        yield Problem(where, f"options are swept on the command line: {key}=a,b")
    elif lacking is not None:
        yield Problem(where, f"no such key{nearest_key(key, list(leaf_keys(lacking.composed)))}")
    elif section_of(key) not in TRIAL_SECTIONS or one_for_all(key) is not None:
        yield Problem(where, "is the same for all trials of a study and cannot be searched")


def _entries(
    search: SearchConfig, cell: Cell, overrides: Overrides, mine: Collection[str], composer: Composer
) -> dict[str, _Entry]:
    """Return what is searched in one cell, by key.

    Raises:
        ConfigError: all invalid entries.
    """
    problems: list[Problem] = []
    spaces: list[tuple[str, frozenset[str], Mapping[str, Any]]] = [
        (f"search={search.name}", frozenset(), search.space),
        *_option_spaces(search, cell, overrides, problems),
    ]
    entries: dict[str, _Entry] = {}
    shapes = _shapes_taken(cell)
    for place, groups, space in spaces:
        for key, entry in space.items():
            is_unused = place != spaces[0][0] and ".negatives." in key and "tuples" not in shapes
            if key in mine or is_unused:
                continue
            where = f"{place}, {key}"
            other = entries.get(key)
            if place != spaces[0][0]:
                problems += _check_key(where, key, [cell], composer)
            if other is not None and other.place != spaces[0][0]:
                problems.append(Problem(where, f"{other.place} searches it, too: leave it out of one space"))
            with gather_problems(problems):
                axis = axis_of_entry(key, entry, _lookup(entry, cell), place)
                if place != spaces[0][0] and key.endswith(".negatives.count") and "positive_pairs" not in shapes:
                    axis = _above_zero(axis)
                entries[key] = _Entry(place, groups, axis)
    raise_problems(problems)
    return entries


def _shapes_taken(cell: Cell) -> tuple[Shape, ...]:
    """Return the shapes that the cell's loss takes, whatever its batches are."""
    loss = value_at(cell.composed, "loss")
    while isinstance(inner := value_at(loss, "inner"), Mapping):
        loss = inner
    row = LOSSES.get(str(value_at(loss, "name")))
    return () if row is None else tuple(shape for shape in row.shapes if shape not in row.only_cached)


def _above_zero(axis: Axis) -> Axis:
    """Return an axis of counts without 0, for losses that are not trained on positive pairs alone."""
    if not isinstance(axis, DiscreteAxis):
        return axis
    choices = tuple(choice for choice in axis.choices if choice != 0)
    return replace(axis, choices=choices or axis.choices)


def _option_spaces(
    search: SearchConfig, cell: Cell, overrides: Overrides, problems: list[Problem]
) -> Iterator[tuple[str, frozenset[str], Mapping[str, Any]]]:
    """Return each space of the cell's options: its name in messages, the swept groups it comes from, and its entries.

    An option inside another names its keys as if it stood by itself; ``loss.scale`` of one inside is
    ``loss.inner.scale``.
    """
    chosen = {**overrides.choices, **cell.swept}
    for place, space in cell.spaces.items():
        section = section_of(place)
        if section not in search.option_spaces:
            continue
        groups = [section, *(f"{section}@{section}{'.inner' * depth}" for depth in range(1, place.count(".") + 1))]
        name = f"{groups[-1]}={chosen.get(groups[-1], value_at(cell.composed, f'{place}.name'))}"
        if not isinstance(space, Mapping):
            problems.append(
                Problem(name, f"space must map keys to what they are searched over, but got {shown(space)}")
            )
            continue
        own = f"{section}."
        placed = {place + "." + key.removeprefix(own) if key.startswith(own) else key: space[key] for key in space}
        yield name, frozenset(groups) & cell.swept.keys(), placed


def _lookup(entry: Any, cell: Cell) -> dict[str, Any]:
    """Return the value of the key that a relative entry is relative to."""
    centre = entry.get("of") if isinstance(entry, Mapping) else None
    section = section_of(centre) if isinstance(centre, str) else ""
    if section not in cell.composed:
        return {}
    return {str(centre): value_at(resolve(cell.composed, {}, [section]), str(centre))}


def _axes_of(cells: Sequence[Cell], entries: Sequence[_Entry | None]) -> Iterator[Axis]:
    """Return a key's axes: one for all cells, or one for each combination of the options that decide its range.

    Args:
        cells: every combination of swept options.
        entries: the key's entry in each cell; None where it is not searched.
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


def read_points(
    plan: StudyPlan, points: tuple[Mapping[str, object], ...], problems: list[Problem]
) -> tuple[Mapping[str, Choice], ...]:
    """Return the points with their values as the axes have them; invalid ones are added to ``problems``.

    Args:
        plan: what is searched.
        points: the configurations to try first, each a value for some of the axes.
        problems: where problems are added.
    """
    read_points = []
    for number, point in enumerate(points, start=1):
        where = f"study.enqueue, {number}" if len(points) > 1 else "study.enqueue"
        before = len(problems)
        read = dict(_values(plan, point, where, problems))
        if len(problems) == before:
            problems += _check_whole(plan, read, where)
            read_points.append(read)
    return tuple(read_points)


def _values(
    plan: StudyPlan, point: Mapping[str, object], where: str, problems: list[Problem]
) -> Iterator[tuple[str, Choice]]:
    for key, value in point.items():
        axes = [axis for axis in plan.axes if axis.key == key]
        here = [axis for axis in axes if axis.when.items() <= point.items()]
        if not axes:
            known = ", ".join(dict.fromkeys(axis.key for axis in plan.axes))
            problems.append(
                Problem(where, f"{key} is not searched{nearest(key, known.split(', '))}; these keys are: {known}")
            )
        elif not here:
            options = " or ".join(", ".join(f"{group}={option}" for group, option in a.when.items()) for a in axes)
            problems.append(Problem(where, f"{key} is searched with {options} only: set that, or leave {key} out"))
        else:
            try:
                yield key, value_on(here[0], value)
            except ValueError:
                problems.append(Problem(where, f"{key} must be {_allowed(here[0])}, but got {shown(value)}"))


def _allowed(axis: Axis) -> str:
    if isinstance(axis, DiscreteAxis):
        return f"one of {', '.join(map(shown, axis.choices))}"
    steps = f" in steps of {axis.step:g}" if axis.step else ""
    return f"a {'whole number' if axis.integer else 'number'} from {axis.low:g} to {axis.high:g}{steps}"


def _check_whole(plan: StudyPlan, point: Mapping[str, Choice], where: str) -> Iterator[Problem]:
    """Check whether the constraints hold and, if the point sets every axis, whether its configuration is valid."""
    try:
        broken = broken_constraint(plan, point)
    except ValueError:
        return  # the constraint is reported already
    if broken is not None:
        yield Problem(where, f"breaks the constraint {broken}")
    elif all(axis.key in point for axis in active_axes(plan.axes, point)):
        try:
            cell_config(plan, point)
        except ConfigError as error:
            yield from (Problem(where, str(problem)) for problem in error.problems)


EVERY_CELL_UP_TO = 256


def check_cells(plan: StudyPlan, processes: int, refused: Collection[str] = ()) -> Iterator[Problem]:
    """Report everything wrong with the cells that keep a plan's constraints, or that no cell keeps them.

    Args:
        plan: the study's plan.
        processes: how many processes train each trial together.
        refused: keys whose override is invalid, so that their value is unknown.
    """
    pairs: list[tuple[dict[str, Choice], tuple[str, str]]] = []
    try:
        cells = probe_cells(plan)
    except ValueError as error:
        yield Problem("search.constraints", str(error))
        return
    if not cells:
        yield Problem("search.constraints", f"no trial keeps {' and '.join(plan.constraints)}: change one of them")
    for params in cells:
        try:
            config = cell_config(plan, params, refused)
            if not refused:
                pairs.append((params, scored_on(config)))
        except ConfigError as error:
            yield from error.problems
            continue
        yield from check_processes(config, processes)
    for key in dict.fromkeys(axis.key for axis in plan.axes):
        yield from _check_scored_alike(key, pairs)


def _check_scored_alike(axis: str, pairs: Sequence[tuple[Mapping[str, Choice], tuple[str, str]]]) -> Iterator[Problem]:
    """Check that cells that differ in one axis only are scored on the same pairs; ``pairs`` is of valid cells."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for params, digests in pairs:
        rest = canonical({key: value for key, value in params.items() if key != axis})
        alike.setdefault(rest, []).append(digests)
    differing = [
        split
        for index, split in enumerate(("dev", "test"))
        if any(len({digests[index] for digests in cells}) > 1 for cells in alike.values())
    ]
    if differing:
        keys = " and ".join(f"evaluation.{split}" for split in differing)
        message = (
            f"gives the cells different {' and '.join(differing)} pairs, whose scores cannot be compared: set {keys}"
        )
        yield Problem(axis, message)


DRAWS = 500
"""Random cells that are tried if none of the others satisfies the constraints."""


def sound_cells(plan: StudyPlan, candidates: Iterable[dict[str, Choice]]) -> list[dict[str, Choice]]:
    """Return the candidates that satisfy a plan's constraints, each once; without any, random cells that do.

    Raises:
        ValueError: a constraint is on a value that is not a number.
    """
    source = random.Random(plan.seed)
    for cells in (candidates, (random_cell(plan.axes, {}, source) for _ in range(DRAWS))):
        sound = {canonical(cell): cell for cell in cells if broken_constraint(plan, cell) is None}
        if sound or not plan.constraints:
            break
    return list(sound.values())


def probe_cells(plan: StudyPlan) -> list[dict[str, Choice]]:
    """Return the cells by which a plan is checked: all of its axes' probes, or if they are many all pairs of values.

    Raises:
        ValueError: a constraint is on a value that is not a number.
    """
    return sound_cells(plan, _probes(plan.axes))


def _probes(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    """Return all cells of the axes' probes if they are few; else all pairs of two axes' values."""
    probes = {axis.name: probes_of(axis) for axis in axes}
    always = [axis for axis in axes if not axis.when]
    outer = math.prod(len(probes[axis.name]) for axis in always)
    if outer <= EVERY_CELL_UP_TO:
        every = list(itertools.islice(grid(axes, probes_of), EVERY_CELL_UP_TO + 1))
        if len(every) <= EVERY_CELL_UP_TO:
            yield from every
            return
    yield from (completed(axes, {**axis.when, axis.key: value}) for axis in axes for value in probes[axis.name])
    for one, other in itertools.combinations(axes, 2):
        for left, right in itertools.product(probes[one.name], probes[other.name]):
            merged = {**one.when, **other.when, one.key: left, other.key: right}
            # Two conditions, or a condition and a value, may ask for different options of one group.
            if all(part.items() <= merged.items() for part in (one.when, other.when, {one.key: left})):
                yield completed(axes, merged)
