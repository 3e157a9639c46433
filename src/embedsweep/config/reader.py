"""Reads typed values out of a composed configuration and notes every one that is wrong.

Owns the wording of type, range and name errors. Knows no particular key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from embedsweep.config.trial import Switch
from embedsweep.config.values import nearest, shown
from embedsweep.errors import Problem

T = TypeVar("T", bound=str)

MISSING = "???"


class Reader:
    """One section of a configuration.

    Every method returns a value of the right type whatever the section holds; what was wrong is added to ``problems``,
    so that all errors are found in one pass. Call :meth:`finish` last: it names the keys nobody asked for.

    Args:
        section: key -> value.
        where: dotted name of the section, empty for the root.
        problems: where problems are added.
    """

    def __init__(self, section: object, where: str, problems: list[Problem]) -> None:
        self.problems = problems
        self.where = where
        self._section: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
        self._asked: set[str] = set()
        self._broken = not isinstance(section, Mapping)
        if self._broken:
            problems.append(Problem(where, f"must be a section with keys of its own, but got {shown(section)}"))

    def problem(self, key: str, message: str) -> None:
        """Notes that ``key`` of this section is wrong; of a section that is none, that was said already."""
        if not self._broken:
            self.problems.append(Problem(f"{self.where}.{key}" if self.where else key, message))

    def section(self, key: str) -> Reader:
        """The section ``key`` inside this one."""
        # Of a broken section the sections inside cannot be read either; all of it is one problem.
        problems = [] if self._broken else self.problems
        return Reader(self.raw(key), f"{self.where}.{key}" if self.where else key, problems)

    def raw(self, key: str) -> Any:
        """The value of ``key`` as it stands; None where it is missing, which is noted."""
        self._asked.add(key)
        if self._broken:
            return None
        if key not in self._section:
            self.problem(key, "is missing from this option's YAML file")
            return None
        value = self._section[key]
        if value == MISSING:
            self.problem(key, f"must be given: {self.where}.{key}=VALUE")
            return None
        return value

    def rest(self) -> dict[str, Any]:
        """All keys not asked for so far, which then count as asked for."""
        rest = {key: value for key, value in self._section.items() if key not in self._asked}
        self._asked |= set(rest)
        return rest

    def text(self, key: str) -> str:
        """A text that is not empty."""
        return self.optional_text(key, required=True) or ""

    def optional_text(self, key: str, *, required: bool = False) -> str | None:
        """A text, or None."""
        before = len(self.problems)
        value = self.raw(key)
        if value is None and not required:
            return None
        if isinstance(value, str) and value.strip():
            return value
        if len(self.problems) == before:
            self.problem(key, f"must be a text, but got {_told(value)}")
        return None

    def one_of(self, key: str, allowed: Sequence[T]) -> T:
        """One of the words ``allowed``."""
        return self.optional_one_of(key, allowed, required=True) or allowed[0]

    def optional_one_of(self, key: str, allowed: Sequence[T], *, required: bool = False) -> T | None:
        """One of the words ``allowed``, or None."""
        before = len(self.problems)
        value = self.raw(key)
        if value is None and not required:
            return None
        if value in allowed:
            return cast("T", value)
        if len(self.problems) == before:
            words = ", ".join(allowed) + ("" if required else ", null")
            self.problem(key, f"must be one of {words}, but got {_told(value)}{nearest(str(value), allowed)}")
        return None

    def boolean(self, key: str) -> bool:
        """True or false."""
        before = len(self.problems)
        value = self.raw(key)
        if not isinstance(value, bool) and len(self.problems) == before:
            self.problem(key, f"must be true or false, but got {_told(value)}")
        return bool(value)

    def switch(self, key: str) -> Switch:
        """True, false, or the word auto."""
        before = len(self.problems)
        value = self.raw(key)
        if isinstance(value, bool) or value == "auto":
            return cast("Switch", value)
        if len(self.problems) == before:
            self.problem(key, f"must be auto, true or false, but got {_told(value)}")
        return False

    def integer(self, key: str, at_least: int) -> int:
        """A whole number from ``at_least`` up."""
        value = self.optional_integer(key, at_least, required=True)
        return at_least if value is None else value

    def optional_integer(self, key: str, at_least: int, *, required: bool = False) -> int | None:
        """A whole number from ``at_least`` up, or None."""
        before = len(self.problems)
        value = self.raw(key)
        if value is None and not required:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= at_least:
            return value
        if len(self.problems) == before:
            hint = ""
            if isinstance(value, float) and value.is_integer():
                hint = f"; write {value:.0f}, and int(interval(...)) where it is swept"
            self.problem(key, f"must be a whole number of at least {at_least}, but got {_told(value)}{hint}")
        return None

    def integer_or_auto(self, key: str, at_least: int) -> int | Literal["auto"]:
        """A whole number from ``at_least`` up, or the word auto."""
        before = len(self.problems)
        value = self.raw(key)
        if isinstance(value, int) and not isinstance(value, bool) and value >= at_least:
            return value
        if value == "auto":
            return "auto"
        if len(self.problems) == before:
            self.problem(key, f"must be auto or a whole number of at least {at_least}, but got {_told(value)}")
        return at_least

    def real(
        self, key: str, *, at_least: float = -math.inf, above: float = -math.inf, at_most: float = math.inf
    ) -> float:
        """A finite number within the bounds; a bound not given does not bind."""
        before = len(self.problems)
        value = self.raw(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
            if at_least <= value <= at_most and value > above:
                return float(value)
            self.problem(key, f"must be {_bounds(at_least, above, at_most)}, but got {value:g}")
        elif len(self.problems) == before:
            self.problem(key, f"must be a number, but got {_told(value)}")
        return 1.0

    def optional_real(self, key: str, *, above: float) -> float | None:
        """A finite number above ``above``, or None."""
        if self._section.get(key, MISSING) is None:
            self._asked.add(key)
            return None
        return self.real(key, above=above)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, possibly empty; one text counts as a list of one, null as an empty one."""
        value = self.raw(key)
        items = [value] if isinstance(value, str) else value or []
        if isinstance(items, list | tuple) and all(isinstance(item, str) and item.strip() for item in items):
            return tuple(items)
        self.problem(key, f"must be a list of texts, as [a,b], but got {_told(value)}")
        return ()

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts with at least one in it, or None."""
        return self.texts(key) or None

    def integers(self, key: str, at_least: int) -> tuple[int, ...]:
        """A list of whole numbers from ``at_least`` up, possibly empty; null counts as empty."""
        value = self.raw(key)
        items = [] if value is None else value
        if isinstance(items, list | tuple) and all(
            isinstance(item, int) and not isinstance(item, bool) and item >= at_least for item in items
        ):
            return tuple(items)
        self.problem(key, f"must be a list of whole numbers of at least {at_least}, as [64,32], but got {_told(value)}")
        return ()

    def reals(self, key: str, *, above: float, below: float) -> tuple[float, ...]:
        """A list of numbers between the bounds, possibly empty; null counts as empty."""
        value = self.raw(key)
        items = [] if value is None else value
        if isinstance(items, list | tuple) and all(
            isinstance(item, int | float) and not isinstance(item, bool) and above < item < below for item in items
        ):
            return tuple(map(float, items))
        self.problem(key, f"must be a list of numbers above {above:g} and below {below:g}, but got {_told(value)}")
        return ()

    def mapping(self, key: str) -> dict[str, Any]:
        """Names with a value each, possibly none; null counts as none."""
        value = self.raw(key)
        if value is None:
            return {}
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return dict(value)
        self.problem(key, f"must map names to values, as {{a:1}}, but got {_told(value)}")
        return {}

    def finish(self) -> None:
        """Notes every key that nobody asked for, with the nearest that exists."""
        for key in sorted(set(self._section) - self._asked):
            self.problem(key, f"no such key{nearest(key, self._asked)}; there are: {', '.join(sorted(self._asked))}")


def _told(value: object) -> str:
    """A wrong value: as it is typed, but texts in quotes, since "20" for 20 may be what is wrong."""
    return repr(value) if isinstance(value, str) else shown(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def _bounds(at_least: float, above: float, at_most: float) -> str:
    lower = f"above {above:g}" if above > at_least else f"at least {at_least:g}" if at_least > -math.inf else ""
    upper = f"at most {at_most:g}" if at_most < math.inf else ""
    return " and ".join(part for part in (lower, upper) if part)
