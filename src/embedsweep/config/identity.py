"""The identity of a configuration: a hash of everything that decides a trial's result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from embedsweep.config.reader import Reader
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Problem, raise_problems

LATER_KEYS: Mapping[str, Mapping[str, object]] = {"trainer": {"merge_columns": False, "cuda_graphs": "auto"}}
"""Section -> key -> what it is taken to be where it is missing: what such trials did. Without ``cuda_graphs`` they
captured nothing; ``auto`` may, on a GPU, which is the same up to rounding and what dropout draws."""


LATER_DATA_KEYS: Mapping[str, object] = {"quoting": "auto"}
"""The same for every data configuration, also inside benchmarks and as a further dataset."""


def with_later_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's tree, whichever version wrote it, with the keys of this one in the sections that it has."""
    later = {name: {**LATER_KEYS[name], **tree[name]} for name in LATER_KEYS if isinstance(tree.get(name), Mapping)}
    changed: dict[str, Any] = _change_data({**tree, **later}, lambda data: {**LATER_DATA_KEYS, **data})
    return changed


def without_later_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's tree as the oldest version that could do the same wrote it: equal trials keep one identity."""
    without = {name: _without(section, LATER_KEYS.get(name, {})) for name, section in tree.items()}
    changed: dict[str, Any] = _change_data(without, lambda data: _without(data, LATER_DATA_KEYS))
    return changed


def _without(section: Any, later: Mapping[str, object]) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if key not in later or value != later[key]}


def _change_data(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return a tree with every data configuration in it changed; only they have a ``score_range``."""
    if isinstance(node, list | tuple):
        return type(node)(_change_data(item, change) for item in node)
    if not isinstance(node, Mapping):
        return node
    changed = {key: _change_data(value, change) for key, value in node.items()}
    return change(changed) if "score_range" in changed else changed


def config_hash(config: TrialConfig) -> str:
    """Return the identity of a trial: 12 hexadecimal digits of a hash over all that decides its result."""
    return digest(without_later_keys(asdict(config)))


def digest(value: object) -> str:
    """12 hexadecimal digits of a hash over a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def canonical(value: object) -> str:
    """JSON with sorted keys: equal for equal configurations, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def trial_config_of(tree: object) -> TrialConfig:
    """Return the configuration whose ``asdict`` form is ``tree``, with lists or tuples for tuples.

    Raises:
        ConfigError: keys are missing, unknown or of another type; names each.
    """
    problems: list[Problem] = []
    config = Reader(with_later_keys(tree) if isinstance(tree, Mapping) else tree, "", problems).read(TrialConfig)
    raise_problems(problems)
    return config
