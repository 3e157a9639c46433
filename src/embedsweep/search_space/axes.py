"""What is swept, in Hydra's words and in a ``space``, as axes.

Owns the meaning of ``a,b``, ``choice()``, ``range()``, ``interval()`` and ``tag(log, ...)``, and of an entry of the
``space`` of a search or of an option. Knows nothing of what is made of an axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep, Sweep

from embedsweep.config import Word, nearest, parse_words, shown, unquote
from embedsweep.errors import ConfigError
from embedsweep.schema import Axis, Choice, DiscreteAxis, RangeAxis

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
    choices = tuple(_choice(key, item) for item in items)
    # Optuna tells choices apart by ==, which holds of 1, 1.0 and true, and a list is stored as its text.
    if any(choice in choices[:index] for index, choice in enumerate(choices)) or len(set(map(shown, choices))) < len(
        choices
    ):
        raise ConfigError.single(key, f"the choices {', '.join(map(shown, items))} name one value twice")
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
        raise ConfigError.single(key, f"range({start:g},{stop:g},{step:g}) must go up, by a step above 0, unshuffled")
    count = math.ceil(round((stop - start) / step, 9))
    integer = all(isinstance(bound, int) for bound in (sweep.start or 0, sweep.stop or 0, sweep.step))
    if count == 1 and not integer:
        raise ConfigError.single(
            key, f"range({start:g},{stop:g},{step:g}) is one value; make its third, the step, less"
        )
    return RangeAxis(key, start, rounded(start + (count - 1) * step), log=False, step=step, integer=integer, when={})


def _interval(key: str, sweep: IntervalSweep) -> RangeAxis:
    low, high = sweep.start, sweep.end
    if low is None or high is None or not low < high:
        raise ConfigError.single(key, f"interval({low},{high}) must have its lower end first")
    log = "log" in sweep.tags
    if log and low <= 0:
        raise ConfigError.single(key, f"a log interval must begin above 0, but got {low}")
    integer = isinstance(low, int) and isinstance(high, int)
    return RangeAxis(key, float(low), float(high), log=log, step=None, integer=integer, when={})


def rounded(value: float) -> float:
    """Takes the last digits of binary noise off a bound (0.30000000000000004)."""
    return float(f"{value:.12g}")


def axis_of_entry(key: str, entry: Any, lookup: Mapping[str, Any], place: str) -> Axis:
    """The axis of an entry of a ``space``.

    An entry is a sweep in the command line's words, a list, or relative to another key:
    ``{of: model.lr, low: 0.1, high: 10, log: true}`` is an interval from a tenth to ten times that key's value.

    Args:
        key: what is searched.
        entry: over what.
        lookup: values of the keys that relative entries name.
        place: whose space it is (``search=lr``, ``loss=mnrl``), for messages.

    Raises:
        ConfigError: the entry is wrong.
    """
    if isinstance(entry, list):
        return _choices(key, entry)
    if isinstance(entry, Mapping):
        return _relative(key, entry, lookup, place)
    (word,) = parse_words([f"{key}={shown(entry)}"])
    if not word.sweeps:
        raise ConfigError.single(
            f"{place}, {key}", f"{shown(entry)} sweeps nothing; use choice(), range() or interval()"
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
