"""Configurations that a study tries first, as a command gives them: ``study.enqueue``.

Owns whether each lies in the search space. Knows nothing of when it is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from embedsweep.config import nearest, shown
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.cells import broken_constraint, cell_config
from embedsweep.schema import Axis, Choice, DiscreteAxis, StudyPlan
from embedsweep.search_space import active_axes, value_on


def read_points(
    plan: StudyPlan, asked: tuple[Mapping[str, object], ...], problems: list[Problem]
) -> tuple[Mapping[str, Choice], ...]:
    """The points with their values as the axes have them; what is wrong goes to ``problems``.

    Args:
        plan: what is searched.
        asked: the points, each a value for some of the axes.
        problems: where problems are added.
    """
    points = []
    for number, point in enumerate(asked, start=1):
        where = f"study.enqueue, {number}" if len(asked) > 1 else "study.enqueue"
        found = len(problems)
        read = dict(_values(plan, point, where, problems))
        if len(problems) == found:
            problems += _check_whole(plan, read, where)
            points.append(read)
    return tuple(points)


def _values(
    plan: StudyPlan, point: Mapping[str, object], where: str, problems: list[Problem]
) -> Iterator[tuple[str, Choice]]:
    for key, value in point.items():
        axes = [axis for axis in plan.axes if axis.key == key]
        here = [axis for axis in axes if axis.when.items() <= point.items()]
        if not axes:
            known = ", ".join(dict.fromkeys(axis.key for axis in plan.axes))
            problems.append(
                Problem(where, f"{key} is not searched{nearest(key, known.split(', '))}; these are: {known}")
            )
        elif not here:
            options = " or ".join(", ".join(f"{group}={option}" for group, option in a.when.items()) for a in axes)
            problems.append(Problem(where, f"{key} is searched with {options} only: give that, or leave {key} out"))
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
    """Whether the constraints hold, and, where the point leaves nothing open, whether its configuration does."""
    try:
        broken = broken_constraint(plan, point)
    except ValueError:
        return  # told of the constraint already
    if broken is not None:
        yield Problem(where, f"does not keep the constraint {broken}")
    elif all(axis.key in point for axis in active_axes(plan.axes, point)):
        try:
            cell_config(plan, point)
        except ConfigError as error:
            yield from (Problem(where, str(problem)) for problem in error.problems)
