"""The search space: what is swept, in Hydra's words, as axes, as Optuna's distributions, and back as values.

Owns the meaning of ``a,b``, ``choice()``, ``range()``, ``interval()`` and ``tag(log, ...)``, and of the ``space`` of a
search file. Knows nothing of studies or trials.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep, Sweep

from embedsweep.config import Word, nearest, parse_words, shown, unquote
from embedsweep.errors import ConfigError, Problem
from embedsweep.schema import Axis, Choice, DiscreteAxis, RangeAxis

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RELATIVE_KEYS = ("of", "low", "high", "log")
TAGS = ("log",)


def axis_of(word: Word) -> Axis:
    """The axis a word that sweeps stands for.

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
    raise ConfigError.single(key, f"{word.text} cannot be searched; use a,b or range() or interval()")


def _check_tags(key: str, sweep: Sweep) -> None:
    for tag in sorted(sweep.tags - set(TAGS)):
        raise ConfigError.single(key, f"no tag {tag}{nearest(tag, TAGS)}; there are: {', '.join(TAGS)}")
    if "log" in sweep.tags and not isinstance(sweep, IntervalSweep):
        raise ConfigError.single(key, "tag(log, ...) takes an interval(): what has steps is not drawn by its logarithm")


def _choices(key: str, items: Sequence[Any]) -> DiscreteAxis:
    for item in items:
        if not isinstance(item, str | int | float | bool | None):
            what = "another sweep" if isinstance(item, Sweep) else shown(item)
            raise ConfigError.single(key, f"a choice must be a number, a word, true, false or null, but got {what}")
    if len({(type(item), item) for item in items}) < len(items):
        raise ConfigError.single(key, f"the choices {', '.join(map(shown, items))} name one value twice")
    return DiscreteAxis(key, tuple(items))


def _stepped(key: str, sweep: RangeSweep) -> RangeAxis:
    start, stop, step = float(sweep.start or 0), float(sweep.stop or 0), float(sweep.step)
    if sweep.shuffle or step <= 0 or stop <= start:
        raise ConfigError.single(key, f"range({start:g},{stop:g},{step:g}) must go up, by a step above 0, unshuffled")
    count = math.ceil(round((stop - start) / step, 9))
    integer = all(isinstance(bound, int) for bound in (sweep.start or 0, sweep.stop or 0, sweep.step))
    if count == 1 and not integer:
        raise ConfigError.single(
            key, f"range({start:g},{stop:g},{step:g}) is one value; make its third, the step, less"
        )
    return RangeAxis(key, start, _round(start + (count - 1) * step), log=False, step=step, integer=integer)


def _interval(key: str, sweep: IntervalSweep) -> RangeAxis:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not low < high:
        raise ConfigError.single(key, f"interval({low},{high}) must have its lower end first")
    log = "log" in sweep.tags
    if log and low <= 0:
        raise ConfigError.single(key, f"a log interval must begin above 0, but got {low}")
    integer = isinstance(low, int) and isinstance(high, int)
    return RangeAxis(key, float(low), float(high), log=log, step=None, integer=integer)


def _round(value: float) -> float:
    """Takes the last digits of binary noise off a bound (0.30000000000000004)."""
    return float(f"{value:.12g}")


def axes_of_space(space: Mapping[str, Any], lookup: Mapping[str, Any], where: str) -> list[Axis]:
    """The axes of a search file's ``space``.

    An entry is a sweep in the command line's words, or relative to another key:
    ``{of: model.lr, low: 0.1, high: 10, log: true}`` is an interval from a tenth to ten times that key's value.

    Args:
        space: key -> entry.
        lookup: values of the keys that relative entries name.
        where: the search's name, for messages.

    Raises:
        ConfigError: all entries that are wrong, at once.
    """
    axes: list[Axis] = []
    problems: list[Problem] = []
    for key, entry in space.items():
        try:
            axes.append(_axis_of_entry(key, entry, lookup, where))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return axes


def _axis_of_entry(key: str, entry: Any, lookup: Mapping[str, Any], where: str) -> Axis:
    if isinstance(entry, list):
        return _choices(key, entry)
    if isinstance(entry, Mapping):
        return _relative(key, entry, lookup, where)
    (word,) = parse_words([f"{key}={shown(entry)}"])
    if not word.sweeps:
        raise ConfigError.single(
            f"search={where}, {key}", f"{shown(entry)} sweeps nothing; use choice(), range() or interval()"
        )
    return axis_of(word)


def _relative(key: str, entry: Mapping[str, Any], lookup: Mapping[str, Any], where: str) -> RangeAxis:
    place = f"search={where}, {key}"
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
    low, high = _round(centre * entry["low"]), _round(centre * entry["high"])
    if not 0 < low < high:
        raise ConfigError.single(place, f"low must be below high and both above 0, but got {low:g} and {high:g}")
    return RangeAxis(key, low, high, log=bool(entry.get("log", False)), step=None, integer=False)


def is_discrete(axis: Axis) -> bool:
    """Whether the axis has finitely many values by itself (``a,b`` and ``range()``; not ``interval()``)."""
    return isinstance(axis, DiscreteAxis) or axis.step is not None


def values_of(axis: Axis) -> list[Choice]:
    """All values of a discrete axis, in order."""
    if isinstance(axis, DiscreteAxis):
        return list(axis.choices)
    if axis.step is None:
        raise ValueError(f"{axis.key} is continuous")
    count = round((axis.high - axis.low) / axis.step) + 1
    values = [_round(axis.low + index * axis.step) for index in range(count)]
    return [int(value) for value in values] if axis.integer else list(values)


def probes_of(axis: Axis) -> list[Choice]:
    """The values that show whether an axis is right: all of a discrete one, both ends of an interval."""
    if is_discrete(axis):
        return values_of(axis)
    assert isinstance(axis, RangeAxis)
    return [int(axis.low), int(axis.high)] if axis.integer else [axis.low, axis.high]


def grid(axes: Sequence[Axis]) -> Iterator[dict[str, Choice]]:
    """Every cell of discrete axes once, the last axis changing fastest."""
    for values in itertools.product(*(values_of(axis) for axis in axes)):
        yield dict(zip((axis.key for axis in axes), values, strict=True))


def grid_size(axes: Sequence[Axis]) -> int:
    """How many cells the grid of discrete axes has."""
    return math.prod(len(values_of(axis)) for axis in axes)


def distributions(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    """The axes as Optuna's distributions, by key."""
    return {axis.key: _distribution(axis) for axis in axes}


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, DiscreteAxis):
        return CategoricalDistribution(axis.choices)
    if axis.integer:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
