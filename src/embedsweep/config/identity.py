"""The identity of a configuration: a hash of what decides a trial's result.

Owns when two configurations are equal. Knows nothing of how they came about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from embedsweep.config.trial import TrialConfig

LATER_KEYS: Mapping[str, Mapping[str, object]] = {"trainer": {"merge_columns": False, "cuda_graphs": "auto"}}
"""Section -> key -> what it is taken to be where it is missing: what such trials did. Without ``cuda_graphs`` they
captured nothing; ``auto`` may, on a GPU, which is the same up to rounding and what dropout draws."""


def with_later_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's tree, whichever version wrote it, with the keys of this one in the sections that it has."""
    later = {name: {**LATER_KEYS[name], **tree[name]} for name in LATER_KEYS if isinstance(tree.get(name), Mapping)}
    return {**tree, **later}


def without_later_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's tree as the oldest version that could do the same wrote it: equal trials keep one identity."""
    return {name: _without(section, LATER_KEYS.get(name, {})) for name, section in tree.items()}


def _without(section: Any, later: Mapping[str, object]) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if key not in later or value != later[key]}


def config_hash(config: TrialConfig) -> str:
    """The identity of a trial: 12 hexadecimal digits of a hash over all that decides its result."""
    return digest(without_later_keys(asdict(config)))


def digest(value: object) -> str:
    """12 hexadecimal digits of a hash over a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def canonical(value: object) -> str:
    """JSON with sorted keys: equal for equal configurations, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def trial_config_of(tree: object) -> TrialConfig:
    """The configuration whose ``asdict`` form is ``tree``, with lists or tuples for tuples.

    Raises:
        TypeError: a key is missing, unknown or of another type; which one.
    """
    known = with_later_keys(tree) if isinstance(tree, Mapping) else tree
    return cast("TrialConfig", _read(TrialConfig, known, "the configuration"))


def _read(kind: Any, value: object, where: str) -> Any:
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    match get_origin(kind):
        case None:
            return _plain(kind, value, where)
        case origin if origin is tuple:
            return _tuple(get_args(kind), value, where)
        case origin if origin is Mapping:
            tree = _mapping(value, where)
            return {name: _read(get_args(kind)[1], item, f"{where}.{name}") for name, item in tree.items()}
        case origin if origin is Literal:
            if value not in get_args(kind):
                raise TypeError(f"{where} is {value!r}, which is none of {get_args(kind)}")
            return value
        case origin if origin in (Union, UnionType):
            return _one_of(get_args(kind), value, where)
    raise NotImplementedError(f"no reader for {kind}")


def _dataclass(kind: Any, value: object, where: str) -> Any:
    tree, hints = _mapping(value, where), get_type_hints(kind)
    if different := sorted(tree.keys() ^ hints.keys()):
        raise TypeError(f"{where} has other keys: {', '.join(different)}")
    return kind(**{name: _read(hint, tree[name], f"{where}.{name}") for name, hint in hints.items()})


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{where} is {value!r} and no section")
    return value


def _tuple(kinds: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{where} is {value!r} and no list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise TypeError(f"{where} has {len(value)} values and not {len(kinds)}")
    return tuple(_read(kind, item, where) for kind, item in zip(kinds, value, strict=True))


def _one_of(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    told = []
    for kind in kinds:
        try:
            return _read(kind, value, where)
        except TypeError as error:
            told.append(str(error))
    # Of an optional section, what is wrong inside tells more than that it is not None.
    raise TypeError(max(told, key=len))


def _plain(kind: Any, value: object, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} is {value!r} and no {'null' if kind is NoneType else kind.__name__}")
    return value
