"""Read the sections of a configuration into its dataclasses, and note every problem.

Types say what a key may hold (:mod:`embedsweep.config.types`). A key whose value needs more than its type, such as
``data.columns``, has a reader of its own, which the caller hands in.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from embedsweep.config.types import (
    Bounds,
    HasVariants,
    MayBeEmpty,
    NotEmpty,
    allowed_words_of,
    alternatives,
    annotations_of,
    bounds_of,
    describe,
    fields_of,
    is_optional,
    plain_type,
)
from embedsweep.config.values import nearest, shown
from embedsweep.errors import Problem

T = TypeVar("T")

MISSING = "???"

KeyReaders = Mapping[tuple[type, str], Callable[["Reader"], Any]]
"""Dataclass and field -> what reads the field from its section, in place of its type alone."""


class Reader:
    """One section of a configuration.

    Every method returns a value of the right type whatever the section holds; what was wrong is added to ``problems``,
    so that one pass finds all errors. Call :meth:`finish` last, which names the unknown keys; :meth:`read` does it.

    Args:
        section: key -> value.
        where: dotted name of the section, empty for the root.
        problems: where problems are added.
        key_readers: readers of the keys whose type does not say all.
        missing: what is said of a missing key.
    """

    def __init__(
        self,
        section: object,
        where: str,
        problems: list[Problem],
        key_readers: KeyReaders | None = None,
        missing: str = "is missing from this option's YAML file",
    ) -> None:
        self.problems = problems
        self.where = where
        self._key_readers = key_readers or {}
        self._missing = missing
        self._section: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
        self._known: set[str] = set()
        self._is_broken = not isinstance(section, Mapping)
        if self._is_broken:
            problems.append(Problem(where, f"must be a section with keys of its own, but got {shown(section)}"))

    def problem(self, key: str, message: str) -> None:
        """Note that ``key`` of this section is wrong, unless the section itself was reported."""
        if not self._is_broken:
            self.problems.append(Problem(f"{self.where}.{key}" if self.where else key, message))

    def section(self, key: str) -> Reader:
        """Return a reader of the section ``key`` inside this one."""
        # The sections inside a broken one cannot be read either: all of it is one problem.
        problems = [] if self._is_broken else self.problems
        return Reader(self.raw(key), f"{self.where}.{key}" if self.where else key, problems, self._key_readers)

    def raw(self, key: str) -> Any:
        """Return the value of ``key`` as it stands; None if it is missing, which is noted."""
        self._known.add(key)
        if self._is_broken:
            return None
        if key not in self._section:
            self.problem(key, self._missing)
            return None
        value = self._section[key]
        if isinstance(value, str) and value == MISSING:
            self.problem(key, f"must be given: {self.where}.{key}=VALUE")
            return None
        return value

    def peek(self, key: str) -> Any:
        """Return the value of ``key`` as it stands, or None, and note nothing."""
        return self._section.get(key)

    def rest(self) -> dict[str, Any]:
        """Return all keys not read so far, which then count as known."""
        rest = {key: value for key, value in self._section.items() if key not in self._known}
        self._known |= set(rest)
        return rest

    def read(self, kind: type[T]) -> T:
        """Return the whole section as a dataclass, of the variant that its name says; unknown keys are problems."""
        section: type = kind.variant(self.peek("name")) if issubclass(kind, HasVariants) else kind
        values = {}
        for name, (key, hint) in fields_of(section).items():
            own = [self._key_readers[each, name] for each in section.__mro__ if (each, name) in self._key_readers]
            values[name] = own[0](self) if own else self.value(key, hint)
        self.finish()
        whole: T = section(**values)
        return whole

    def value(self, key: str, hint: Any) -> Any:
        """Return the value of ``key`` as a type says; where it is wrong, a stand-in of that type."""
        kinds = [kind for kind in alternatives(hint) if kind is not NoneType]
        kind = plain_type(kinds[0])
        if is_dataclass(kind):
            is_null = is_optional(hint) and self.raw(key) is None
            return None if is_null else self.section(key).read(kind)  # type: ignore[arg-type]  # a class
        if get_origin(kind) is tuple and is_dataclass(plain_type(get_args(kind)[0])):
            return self._sections(key, plain_type(get_args(kind)[0]))
        if get_origin(kind) is Mapping:
            return self._mapping(key, kinds[0])
        before = len(self.problems)
        value = self.raw(key)
        if len(self.problems) > before or self._is_broken:
            return _stand_in(hint)
        try:
            return parse(value, hint)
        except ValueError as error:
            is_text = str in map(plain_type, kinds) and isinstance(value, list | Mapping)
            advice = f"; a text with such a character is written in quotes: '{self.where}.{key}=\"...\"'"
            self.problem(key, f"{error}{advice if is_text else ''}")
            return _stand_in(hint)

    def _sections(self, key: str, kind: type[T]) -> tuple[T, ...]:
        """Return a list of sections, possibly empty."""
        value = self.raw(key)
        if value is not None and not isinstance(value, list | tuple):
            self.problem(key, f"must be a list of sections, but got {as_typed(value)}")
            return ()
        where = f"{self.where}.{key}"
        section: type = kind
        keys = ", ".join(key for key, _ in fields_of(section).values())
        missing = f"is missing: each has {keys}"
        readers = [
            Reader(item, f"{where}.{i}", self.problems, self._key_readers, missing)
            for i, item in enumerate(value or ())
        ]
        return tuple(reader.read(kind) for reader in readers)

    def _mapping(self, key: str, hint: Any) -> dict[str, Any]:
        """Return names with a value each; null counts as none. A mapping whose names the type lists is a section."""
        names, item = get_args(plain_type(hint))
        if get_origin(names) is Literal:
            section = self.section(key)
            values = {name: section.value(name, item) for name in get_args(names)}
            section.finish()
            return values
        value = self.raw(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            self.problem(key, f"must be {describe(hint)}, but got {as_typed(value)}")
            return {}
        inside = Reader(value, f"{self.where}.{key}", self.problems, self._key_readers)
        return {name: inside.value(name, item) for name in value} if item is not object else dict(value)

    def finish(self) -> None:
        """Note every unknown key, with the nearest known one."""
        for key in sorted(str(name) for name in set(self._section) - self._known):
            self.problem(key, f"no such key{nearest(key, self._known)}; there are: {', '.join(sorted(self._known))}")


def parse(value: object, hint: Any) -> Any:
    """Return a plain value as a type says: a whole number as ``float``, a list as a tuple.

    Raises:
        ValueError: it is of another type, out of bounds or none of the allowed words; says what is allowed.
    """
    if value is None and is_optional(hint):
        return None
    kinds = [kind for kind in alternatives(hint) if kind is not NoneType]
    for kind in kinds:
        fits, parsed = _fits(value, kind)
        if fits:
            return None if parsed == () and is_optional(hint) else parsed
    message = f"must be {describe(hint)}, but got {as_typed(value)}"
    plain = plain_type(kinds[0])
    if isinstance(value, str):
        message += nearest(value, [word for word in allowed_words_of(kinds[0]) if plain is not bool])
    if plain is int and isinstance(value, float) and value.is_integer():
        message += f"; write {value:.0f}, and int(interval(...)) where it is swept"
    raise ValueError(message)


def _fits(value: Any, hint: Any) -> tuple[bool, Any]:
    """Return whether a value fits one type, and the value as that type."""
    kind = plain_type(hint)
    if len(kinds := alternatives(hint)) > 1:
        return next((fit for each in kinds if (fit := _fits(value, each))[0]), (False, value))
    if get_origin(kind) is Literal:
        return any(value == word and type(value) is type(word) for word in get_args(kind)), value
    if kind is str:
        allowed = allowed_words_of(hint)
        may_be_empty = any(isinstance(note, MayBeEmpty) for note in annotations_of(hint))
        fits = isinstance(value, str) and (may_be_empty or bool(value.strip()))
        return fits and (not allowed or value in allowed), value
    if get_origin(kind) is tuple:
        fits, items = _fits_list(value, get_args(kind))
        return fits and (bool(items) or not any(isinstance(note, NotEmpty) for note in annotations_of(hint))), items
    if kind is bool:
        return isinstance(value, bool), value
    return _fits_number(value, kind, bounds_of(hint))


def _fits_number(value: Any, kind: Any, bounds: Bounds) -> tuple[bool, Any]:
    if kind not in (int, float):
        raise TypeError(f"a field of type {kind} needs a reader of its own, in key_readers")
    is_number = isinstance(value, int | (float if kind is float else int)) and not isinstance(value, bool)
    # An int beyond every float is as little a float as infinity.
    fits = is_number and (kind is int or abs(value) <= sys.float_info.max) and bounds.hold(value)
    return fits, float(value) if fits and kind is float else value


def _fits_list(value: Any, kinds: tuple[Any, ...]) -> tuple[bool, Any]:
    items = [] if value is None else [value] if isinstance(value, str) and plain_type(kinds[0]) is str else value
    if not isinstance(items, list | tuple):
        return False, value
    kinds = kinds if kinds[-1] is not Ellipsis else (kinds[0],) * len(items)
    if len(kinds) != len(items):
        return False, value
    parts = [_fits(part, kind) for part, kind in zip(items, kinds, strict=True)]
    return all(fits for fits, _ in parts), tuple(part for _, part in parts)


def _stand_in(hint: Any) -> Any:
    """Return a value of the type in place of a wrong one, which lets the other keys be checked."""
    kind = next(kind for kind in alternatives(hint))
    plain = plain_type(kind)
    if is_optional(hint):
        return None
    if get_origin(plain) is Literal:
        return False if False in get_args(plain) else get_args(plain)[0]
    if plain is int:
        return max(1, int(bounds.at_least)) if math.isfinite((bounds := bounds_of(kind)).at_least) else 1
    return {str: "", bool: False, float: 1.0}.get(plain, ())


def as_typed(value: object) -> str:
    """Return a wrong value as it is typed, but a text in quotes, since "20" for 20 may be what is wrong."""
    return repr(value) if isinstance(value, str) else shown(value)
