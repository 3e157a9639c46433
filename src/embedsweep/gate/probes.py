"""Whether a plan's cells are right, on this machine and at this moment: as many are tried as show it.

Owns which cells are tried. Knows nothing of the words they came from.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from embedsweep.config import canonical
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.cells import broken_constraint, cell_config
from embedsweep.gate.rules.data import scored_on
from embedsweep.gate.rules.processes import check_processes
from embedsweep.schema import Axis, Choice, StudyPlan
from embedsweep.search_space import active_axes, completed, probes_of, random_cell

EVERY_CELL_UP_TO = 256
DRAWS = 500
"""Random cells that are tried where none of the others keeps the constraints."""


def check_cells(plan: StudyPlan, processes: int) -> Iterator[Problem]:
    """What is wrong with any cell of a plan that keeps its constraints, or that there is none.

    Args:
        plan: the study's.
        processes: how many train each trial together.
    """
    pairs: list[tuple[dict[str, Choice], tuple[str, str]]] = []
    try:
        cells = _probe_cells(plan)
    except ValueError as error:
        yield Problem("search.constraints", str(error))
        return
    if not cells:
        yield Problem("search.constraints", f"no trial keeps {' and '.join(plan.constraints)}: change one of them")
    for params in cells:
        try:
            config = cell_config(plan, params)
            pairs.append((params, scored_on(config)))
        except ConfigError as error:
            yield from error.problems
            continue
        yield from check_processes(config, processes)
    for key in dict.fromkeys(axis.key for axis in plan.axes):
        yield from _check_scored_alike(key, pairs)


def _check_scored_alike(axis: str, pairs: Sequence[tuple[Mapping[str, Choice], tuple[str, str]]]) -> Iterator[Problem]:
    """Whether cells that differ in one axis only are scored on the same pairs; ``pairs`` has those of sound cells."""
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
        mend = " and ".join(f"evaluation.{split}" for split in differing)
        message = (
            f"gives the cells different {' and '.join(differing)} pairs, whose scores cannot be compared: set {mend}"
        )
        yield Problem(axis, message)


def _probe_cells(plan: StudyPlan) -> list[dict[str, Choice]]:
    """Cells that show whether a plan is right, each once: those that are run, so that no other is complained of."""
    source = random.Random(plan.seed)
    for candidates in (_probes(plan.axes), (random_cell(plan.axes, {}, source) for _ in range(DRAWS))):
        cells = {canonical(cell): cell for cell in candidates if broken_constraint(plan, cell) is None}
        if cells or not plan.constraints:
            break
    return list(cells.values())


def _probes(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    """All cells of the axes' probes where they are few; where they are many, all pairs of two axes' values."""
    probes = {axis.name: probes_of(axis) for axis in axes}
    always = [axis for axis in axes if not axis.when]
    outer = math.prod(len(probes[axis.name]) for axis in always)
    if outer <= EVERY_CELL_UP_TO:
        every = list(itertools.islice(_every_cell(axes), EVERY_CELL_UP_TO + 1))
        if len(every) <= EVERY_CELL_UP_TO:
            yield from every
            return
    yield from (completed(axes, {**axis.when, axis.key: value}) for axis in axes for value in probes[axis.name])
    for one, other in itertools.combinations(axes, 2):
        for left, right in itertools.product(probes[one.name], probes[other.name]):
            parts = ({**one.when}, {**other.when}, {one.key: left}, {other.key: right})
            if _agree(parts):
                yield completed(axes, {key: value for part in parts for key, value in part.items()})


def _every_cell(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    always = [axis for axis in axes if not axis.when]
    for outer in itertools.product(*map(probes_of, always)):
        cell = dict(zip((axis.key for axis in always), outer, strict=True))
        inside = active_axes(axes, cell)[len(always) :]
        for inner in itertools.product(*map(probes_of, inside)):
            yield {**cell, **dict(zip((axis.key for axis in inside), inner, strict=True))}


def _agree(parts: Sequence[Mapping[str, Choice]]) -> bool:
    """Whether no key is given two values."""
    values: dict[str, Choice] = {}
    return all(values.setdefault(key, value) == value for part in parts for key, value in part.items())
