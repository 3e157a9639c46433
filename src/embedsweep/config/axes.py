"""Axes of a search space, from Hydra's sweep syntax and from a ``space``.

The meaning of ``a,b``, ``choice()``, ``range()``, ``interval()`` and ``tag(log, ...)``, and of the entries of the
``space`` of a search or of an option; the values of axes, and axes as Optuna's distributions.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep, Sweep

from embedsweep.config.compose import Word, parse_words, unquote
from embedsweep.config.study import Axis, Choice, DiscreteAxis, RangeAxis, Scalar
from embedsweep.config.values import nearest, shown
from embedsweep.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RELATIVE_KEYS = ("of", "low", "high", "log")
TAGS = ("log",)


def axis_of(word: Word) -> Axis:
    """Return the axis of an override that sweeps.

    ``range(start, stop, step)`` leaves ``stop`` out, as in Hydra; ``int(interval(1, 8))`` draws whole numbers,
    both ends included, as in Hydra's Optuna plugin.

    Raises:
        ConfigError: a sweep that has no order or no choices (``glob``, ``shuffle``), a tag that means nothing here, or
            an empty or backward range.
    """
    key, sweep = word.key, word.value
    if isinstance(sweep, Sweep):
        _check_tags(key, sweep)
    if isinstance(sweep, ChoiceSweep) and not sweep.shuffle:
        return _choices(key, [unquote(item) for item in sweep.list])
    if isinstance(sweep, RangeSweep):
        return _stepped(key, sweep)
    if isinstance(sweep, IntervalSweep):
        return _interval(key, sweep)
    raise ConfigError.single(key, f"{word.text} cannot be searched; use a,b, range() or interval()")


def _check_tags(key: str, sweep: Sweep) -> None:
    for tag in sorted(sweep.tags - set(TAGS)):
        raise ConfigError.single(key, f"no tag {tag}{nearest(tag, TAGS)}; there are: {', '.join(TAGS)}")
    if "log" in sweep.tags and not isinstance(sweep, IntervalSweep):
        raise ConfigError.single(key, "tag(log, ...) takes an interval(): values with steps have no logarithmic scale")


def _choices(key: str, items: Sequence[Any]) -> DiscreteAxis:
    choices = tuple(_choice(key, item) for item in items)
    # Optuna tells choices apart by ==, which holds of 1, 1.0 and true, and a list is stored as its text.
    if any(choice in choices[:index] for index, choice in enumerate(choices)) or len(set(map(shown, choices))) < len(
        choices
    ):
        raise ConfigError.single(key, f"the choices {', '.join(map(shown, items))} contain a value twice")
    return DiscreteAxis(key, choices, {})


def _choice(key: str, item: Any) -> Choice:
    if isinstance(item, str | int | float | bool | None):
        return item
    if isinstance(item, list | tuple) and all(isinstance(part, str | int | float | bool | None) for part in item):
        return tuple(item)
    what = "another sweep" if isinstance(item, Sweep) else shown(item)
    raise ConfigError.single(
        key, f"a choice must be a number, a word, true, false, null or a list of such, but got {what}"
    )


def _stepped(key: str, sweep: RangeSweep) -> RangeAxis:
    start, stop, step = float(sweep.start or 0), float(sweep.stop or 0), float(sweep.step)
    if sweep.shuffle or step <= 0 or stop <= start:
        raise ConfigError.single(key, f"range({start:g},{stop:g},{step:g}) must rise, by a step above 0, unshuffled")
    count = math.ceil(round((stop - start) / step, 9))
    integer = all(isinstance(bound, int) for bound in (sweep.start or 0, sweep.stop or 0, sweep.step))
    if count == 1 and not integer:
        raise ConfigError.single(
            key, f"range({start:g},{stop:g},{step:g}) is a single value; make the step, its third number, smaller"
        )
    return RangeAxis(key, start, rounded(start + (count - 1) * step), log=False, step=step, integer=integer, when={})


def _interval(key: str, sweep: IntervalSweep) -> RangeAxis:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not low < high:
        raise ConfigError.single(key, f"interval({low},{high}) must have its lower bound first")
    log = "log" in sweep.tags
    if log and low <= 0:
        raise ConfigError.single(key, f"the lower bound of a log interval must be above 0, but got {low}")
    integer = isinstance(low, int) and isinstance(high, int)
    return RangeAxis(key, float(low), float(high), log=log, step=None, integer=integer, when={})


def rounded(value: float) -> float:
    """Round the binary noise off a bound (0.30000000000000004)."""
    return float(f"{value:.12g}")


def axis_of_entry(key: str, entry: Any, lookup: Mapping[str, Any], place: str) -> Axis:
    """Return the axis of an entry of a ``space``.

    An entry is a sweep in the command line's words, a list, or relative to another key:
    ``{of: model.lr, low: 0.1, high: 10, log: true}`` is an interval from a tenth to ten times that key's value.

    Args:
        key: the searched key.
        entry: what it is searched over.
        lookup: values of the keys that relative entries name.
        place: whose space it is (``search=lr``, ``loss=mnrl``), for messages.

    Raises:
        ConfigError: the entry is invalid.
    """
    if isinstance(entry, list):
        return _choices(key, entry)
    if isinstance(entry, Mapping):
        return _relative(key, entry, lookup, place)
    (word,) = parse_words([f"{key}={shown(entry)}"])
    if not word.sweeps:
        raise ConfigError.single(
            f"{place}, {key}", f"{shown(entry)} is a single value; use choice(), range() or interval()"
        )
    return axis_of(word)


def _relative(key: str, entry: Mapping[str, Any], lookup: Mapping[str, Any], place: str) -> RangeAxis:
    place = f"{place}, {key}"
    if unknown := set(entry) - set(RELATIVE_KEYS):
        word = min(unknown)
        raise ConfigError.single(
            place, f"no such key: {word}{nearest(word, RELATIVE_KEYS)}; it takes of, low, high, log"
        )
    if missing := {"of", "low", "high"} - set(entry):
        raise ConfigError.single(place, f"lacks {', '.join(sorted(missing))}")
    centre = lookup.get(entry["of"])
    if not isinstance(centre, int | float) or centre <= 0:
        raise ConfigError.single(
            place, f"is relative to {entry['of']}, which must be a number above 0, but is {shown(centre)}"
        )
    for bound in ("low", "high"):
        if not isinstance(entry[bound], int | float):
            raise ConfigError.single(place, f"{bound} must be a number, but got {shown(entry[bound])}")
    low, high = rounded(centre * entry["low"]), rounded(centre * entry["high"])
    if not 0 < low < high:
        raise ConfigError.single(place, f"low must be below high and both above 0, but got {low:g} and {high:g}")
    return RangeAxis(key, low, high, log=bool(entry.get("log", False)), step=None, integer=False, when={})


def is_discrete(axis: Axis) -> bool:
    """Return whether the axis has finitely many values by itself (``a,b`` and ``range()``; not ``interval()``)."""
    return isinstance(axis, DiscreteAxis) or axis.step is not None


def values_of(axis: Axis) -> list[Choice]:
    """Return all values of a discrete axis, in order."""
    if isinstance(axis, DiscreteAxis):
        return list(axis.choices)
    if axis.step is None:
        raise ValueError(f"{axis.key} is continuous")
    count = round((axis.high - axis.low) / axis.step) + 1
    values = [rounded(axis.low + index * axis.step) for index in range(count)]
    return [int(value) for value in values] if axis.integer else list(values)


def probes_of(axis: Axis) -> list[Choice]:
    """Return the values that show whether an axis is valid: all of a discrete one, both ends of an interval."""
    if is_discrete(axis):
        return values_of(axis)
    assert isinstance(axis, RangeAxis)
    return [int(axis.low), int(axis.high)] if axis.integer else [axis.low, axis.high]


def value_on(axis: Axis, value: object) -> Choice:
    """Return a value as the axis has it: ``2`` is 2.0 on an axis of real numbers.

    Raises:
        ValueError: it is not on the axis.
    """
    plain = tuple(value) if isinstance(value, list | tuple) else value
    if isinstance(axis, DiscreteAxis):
        for choice in axis.choices:
            if choice == plain and isinstance(choice, bool) == isinstance(plain, bool):
                return choice
        raise ValueError(f"{value} is not one of the choices")
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not axis.low <= plain <= axis.high:
        raise ValueError(f"{value} is not between {axis.low:g} and {axis.high:g}")
    if axis.step is not None:
        near = rounded(axis.low + round((plain - axis.low) / axis.step) * axis.step)
        if not math.isclose(near, plain, rel_tol=1e-9, abs_tol=1e-9 * axis.step):
            raise ValueError(f"{value} is not on a step")
        return int(near) if axis.integer else near
    if axis.integer and plain != int(plain):
        raise ValueError(f"{value} is not a whole number")
    return int(plain) if axis.integer else float(plain)


def active_axes(axes: Sequence[Axis], cell: Mapping[str, Choice]) -> list[Axis]:
    """Return the axes that are searched with these options, the unconditional ones first.

    Args:
        axes: the search space.
        cell: key -> value, the options of swept groups among them; those of conditional axes may be missing.
    """
    always = [axis for axis in axes if not axis.when]
    return always + [axis for axis in axes if axis.when and axis.when.items() <= cell.items()]


def completed(axes: Sequence[Axis], cell: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return the cell with the first value of every axis that it lacks, the conditional ones among them."""
    values = dict(cell)
    for axis in sorted(axes, key=lambda axis: bool(axis.when)):
        if axis.when.items() <= values.items():
            values.setdefault(axis.key, probes_of(axis)[0])
    return {axis.key: values[axis.key] for axis in active_axes(axes, values)}


def grid(axes: Sequence[Axis], values: Callable[[Axis], Sequence[Choice]] = values_of) -> Iterator[dict[str, Choice]]:
    """Return every cell of the axes' values once; the last axis changes fastest, conditional ones inside the others.

    Args:
        axes: the axes, discrete unless ``values`` can do without.
        values: returns the values of an axis.
    """
    always = [axis for axis in axes if not axis.when]
    for outer in itertools.product(*map(values, always)):
        cell = dict(zip((axis.key for axis in always), outer, strict=True))
        inside = active_axes(axes, cell)[len(always) :]
        for inner in itertools.product(*map(values, inside)):
            yield {**cell, **dict(zip((axis.key for axis in inside), inner, strict=True))}


def grid_size(axes: Sequence[Axis]) -> int:
    """Return how many cells the grid of discrete axes has."""
    return sum(
        math.prod(len(values_of(axis)) for axis in active_axes(axes, options) if axis.key not in options)
        for options in _options(axes)
    )


def _options(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    """Return every combination of the options that conditions look at."""
    groups = {group for axis in axes for group in axis.when}
    chosen = [axis for axis in axes if axis.key in groups]
    for values in itertools.product(*(values_of(axis) for axis in chosen)):
        yield dict(zip((axis.key for axis in chosen), values, strict=True))


def random_cell(axes: Sequence[Axis], fixed: Mapping[str, Choice], source: random.Random) -> dict[str, Choice]:
    """Return a cell drawn uniformly, but for the values of ``fixed``."""
    cell = dict(fixed)
    for axis in (axis for axis in axes if not axis.when):
        cell.setdefault(axis.key, _random_value(axis, source))
    for axis in active_axes(axes, cell):
        cell.setdefault(axis.key, _random_value(axis, source))
    return {axis.key: cell[axis.key] for axis in active_axes(axes, cell)}


def _random_value(axis: Axis, source: random.Random) -> Choice:
    if is_discrete(axis):
        return source.choice(values_of(axis))
    assert isinstance(axis, RangeAxis)
    if axis.integer and not axis.log:
        return source.randint(int(axis.low), int(axis.high))
    if not axis.log:
        return source.uniform(axis.low, axis.high)
    # Whole numbers count from half below the lowest to half above the highest, as Optuna draws them.
    half = 0.5 if axis.integer else 0.0
    drawn = math.exp(source.uniform(math.log(axis.low - half), math.log(axis.high + half)))
    value = min(max(drawn, axis.low), axis.high)
    return round(value) if axis.integer else value


def distributions(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    """Return the axes as Optuna's distributions, by name."""
    return {axis.name: _distribution(axis) for axis in axes}


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, DiscreteAxis):
        return CategoricalDistribution([_stored(choice) for choice in axis.choices])
    if axis.integer:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def _stored(value: Choice) -> Scalar:
    return shown(value) if isinstance(value, tuple) else value


def optuna_params(axes: Sequence[Axis], cell: Mapping[str, Choice]) -> dict[str, Scalar]:
    """Return a cell's values as Optuna parameters, by the names of the axes; other keys are left out."""
    return {axis.name: _stored(cell[axis.key]) for axis in active_axes(axes, cell) if axis.key in cell}


def config_params(axes: Sequence[Axis], params: Mapping[str, Any]) -> dict[str, Choice]:
    """Return a trial's Optuna parameters as values by their keys, in the order of the axes; some may be missing.

    Values of axes whose condition does not hold are left out.
    """
    known = {axis.name: axis for axis in axes if axis.name in params}
    cell = {axis.key: _value(axis, params[axis.name]) for axis in known.values() if not axis.when}
    searched = [axis for axis in axes if axis.name in known and axis.when.items() <= cell.items()]
    return {axis.key: _value(axis, params[axis.name]) for axis in searched}


def _value(axis: Axis, stored: Any) -> Choice:
    if isinstance(axis, DiscreteAxis) and isinstance(stored, str):
        return next((choice for choice in axis.choices if _stored(choice) == stored), stored)
    value: Choice = stored
    return value
