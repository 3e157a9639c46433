"""The frozen plan of a study: written, read back, named and compared.

Owns the plan's form as plain containers, which lies in Optuna's storage and in ``study.yaml``. Knows neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from embedsweep.config import canonical, digest, shown
from embedsweep.schema import (
    Axis,
    Choice,
    DiscreteAxis,
    PruningConfig,
    RangeAxis,
    StudyPlan,
    with_later_keys,
    without_later_keys,
)


def plan_tree(plan: StudyPlan) -> dict[str, Any]:
    """The plan as plain containers."""
    tree = asdict(plan)
    return {**tree, "axes": [_axis_tree(axis) for axis in plan.axes], "groups": list(plan.groups)}


def _axis_tree(axis: Axis) -> dict[str, Any]:
    tree = asdict(axis)
    return {**tree, "choices": list(axis.choices)} if isinstance(axis, DiscreteAxis) else tree


def _frozen(value: Any) -> Choice:
    """A value as it was before JSON made lists of tuples."""
    return tuple(value) if isinstance(value, list) else value


def plan_of(tree: Mapping[str, Any]) -> StudyPlan:
    """The plan that :func:`plan_tree` wrote."""
    axes = tuple(_axis_of(axis) for axis in tree["axes"])
    pruning = PruningConfig(**{**tree["pruning"], "rungs": tuple(tree["pruning"]["rungs"])})
    lists = {key: tuple(tree[key]) for key in ("groups", "objectives", "constraints")}
    enqueue = tuple({key: _frozen(value) for key, value in point.items()} for point in tree["enqueue"])
    cells = {name: with_later_keys(cell) for name, cell in tree["cells"].items()}
    return StudyPlan(**{**tree, **lists, "axes": axes, "pruning": pruning, "enqueue": enqueue, "cells": cells})


def _axis_of(tree: Mapping[str, Any]) -> Axis:
    if "choices" in tree:
        return DiscreteAxis(tree["key"], tuple(map(_frozen, tree["choices"])), tree["when"])
    return RangeAxis(**tree)


def study_name(plan: StudyPlan) -> str:
    """A name for a study that was given none: what it sweeps and a hash of all that decides its results."""
    words = "-".join([key.rsplit(".", 1)[-1] for key in dict.fromkeys(axis.key for axis in plan.axes)][:3])
    cells = {name: without_later_keys(cell) for name, cell in plan.cells.items()}
    return f"{words}-{digest(plan_tree(replace(plan, cells=cells)))[:8]}"


def plan_differences(frozen: StudyPlan, asked: StudyPlan) -> list[str]:
    """In words, where what is asked differs from what was frozen; empty where it does not."""
    # A combination of options that only one of them has is told by the axes; the others are compared key by key.
    common = frozen.cells.keys() & asked.cells.keys()
    old, new = (
        dict(_flat({**plan_tree(plan), "cells": {cell: plan.cells[cell] for cell in sorted(common)}}))
        for plan in (frozen, asked)
    )
    # Every cell repeats what is fixed, so a difference is told once, by its key within a cell.
    found: dict[str, str] = {}
    for key in (*old, *(key for key in new if key not in old)):
        before, after = old.get(key, "absent"), new.get(key, "absent")
        if canonical(before) != canonical(after):
            name = key.split("/")[-1]
            found.setdefault(name, f"{name} was {shown(before)} and is now {shown(after)}")
    return list(found.values())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if key == "axes":
            yield from ((f"sweep of {_axis_of(axis).name}", _axis_words(axis)) for axis in value)
        elif key == "cells":
            for cell, sections in value.items():
                yield from _flat(sections, f"{cell}/")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "groups":
            yield f"{prefix}{key}", value


def axis_words(axis: Axis) -> str:
    """What an axis draws from, in words: its choices or its range."""
    return _axis_words(_axis_tree(axis))


def _axis_words(tree: Mapping[str, Any]) -> str:
    if "choices" in tree:
        return ",".join(map(shown, tree["choices"]))
    kind = "log " if tree["log"] else ""
    return f"{kind}{tree['low']:g} to {tree['high']:g}" + (f" by {tree['step']:g}" if tree["step"] else "")
