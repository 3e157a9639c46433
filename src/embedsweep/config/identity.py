"""The identity of a configuration: a hash of everything that decides a trial's result."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from embedsweep.config.negatives import NONE, without_unused
from embedsweep.config.reader import Reader
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Problem, raise_problems

LATER_KEYS: Mapping[str, Mapping[str, object]] = {
    "trainer": {"merge_columns": False, "cuda_graphs": "auto"},
    "model": {"prompt_rule": "columns", "save_dtype": None},
    "evaluation": {"watch": []},
    "study": {
        "budget_hours": None,
        "patience": None,
        "min_delta": 0.0,
        "keep": [],
        "finals": {"top": None, "seeds": 5, "soup": False},
        "checkpoints": None,
    },
}
"""Section -> key -> what it is taken to be where it is missing: what such trials and studies did. Without
``cuda_graphs`` they captured nothing; ``auto`` may, on a GPU, which is the same up to rounding and what dropout draws.
Of the study, only options have a section."""

CHANGED_RULES: Mapping[str, Mapping[str, object]] = {"model": {"prompt_rule": "roles", "save_dtype": "float32"}}
"""Section -> later key -> its default, where that is not what its absence means. Neither is part of an identity: the
same command names the same study before and after the change, and the study's own plan says which rule it has."""

LATER_DATA_KEYS: Mapping[str, object] = {"quoting": "auto", "languages": None, "titles": False, "negatives": NONE}
"""The same for every data configuration, also inside benchmarks and as a further dataset."""

LATER_BENCHMARK_KEYS: Mapping[str, object] = {"family": "sts", "scoring": None}
"""The same for every benchmark."""

CARD_KEYS = ("languages",)
"""Keys of data configurations that only the model card has: no part of an identity, and free to change."""


def with_later_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's tree, whichever version wrote it, with the keys of this one in the sections that it has."""
    later = {
        name: _completed(tree[name], LATER_KEYS[name]) for name in LATER_KEYS if isinstance(tree.get(name), Mapping)
    }
    changed: dict[str, Any] = _change_data({**tree, **later}, lambda data: _completed(data, LATER_DATA_KEYS))
    with_keys: dict[str, Any] = _change_benchmarks(changed, lambda one: _completed(one, LATER_BENCHMARK_KEYS))
    return with_keys


def _completed(section: Mapping[str, Any], later: Mapping[str, object]) -> dict[str, Any]:
    """Return a section with the later keys that it lacks at its end."""
    return {**section, **{key: value for key, value in later.items() if key not in section}}


def with_later_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return composed options; where a user's own were written for an earlier version, with the keys they lack."""
    changed = {
        name: _completed(options[name], CHANGED_RULES[name])
        for name in CHANGED_RULES
        if isinstance(options.get(name), Mapping)
    }
    return copy.deepcopy(with_later_keys({**options, **changed}))


def without_later_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's tree as the oldest version that could do the same wrote it: equal trials keep one identity."""
    without = {
        name: {key: value for key, value in section.items() if not is_as_before(f"{name}.{key}", value)}
        if isinstance(section, Mapping)
        else section
        for name, section in tree.items()
    }
    changed: dict[str, Any] = _change_data(without, _without_later_data_keys)
    without_keys: dict[str, Any] = _change_benchmarks(changed, _without_later_benchmark_keys)
    return without_keys


def is_as_before(key: str, value: object) -> bool:
    """Return whether a later key has the value that its absence or its default means, which is no part of an identity.

    Args:
        key: with its section, as ``trainer.merge_columns``.
        value: its value.
    """
    section, _, name = key.partition(".")
    later = LATER_KEYS.get(section, {})
    if name not in later:
        return False
    before = (later[name], CHANGED_RULES.get(section, {}).get(name, later[name]))
    return canonical(value) in map(canonical, before)  # YAML and JSON have lists for tuples


def _without_later_data_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in data.items()
        if key not in CARD_KEYS and (key not in LATER_DATA_KEYS or value != LATER_DATA_KEYS[key])
    }


def _without_later_benchmark_keys(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    later = LATER_BENCHMARK_KEYS
    return {key: value for key, value in benchmark.items() if key not in later or value != later[key]}


def without_card_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's tree without the keys that only the model card has."""
    changed: dict[str, Any] = _change_data(
        tree, lambda data: {key: value for key, value in data.items() if key not in CARD_KEYS}
    )
    return changed


Change = Callable[[dict[str, Any]], dict[str, Any]]


def _change_data(node: Any, change: Change) -> Any:
    """Return a tree with every data configuration in it changed; only they have a ``score_range``."""
    return _changed(node, "score_range", change)


def _change_benchmarks(node: Any, change: Change) -> Any:
    """Return a tree with every benchmark in it changed; only they have a ``folder``."""
    return _changed(node, "folder", change)


def _changed(node: Any, mark: str, change: Change) -> Any:
    """Return a tree with every mapping in it changed that has the key ``mark``."""
    if isinstance(node, list | tuple):
        return type(node)(_changed(item, mark, change) for item in node)
    if not isinstance(node, Mapping):
        return node
    changed = {key: _changed(value, mark, change) for key, value in node.items()}
    return change(changed) if mark in changed else changed


def config_hash(config: TrialConfig) -> str:
    """Return the identity of a trial: 12 hexadecimal digits of a hash over all that decides its result."""
    tree = without_later_keys(_change_data(asdict(config), _without_unused_negatives))
    tree["evaluation"].pop("watch", None)
    return digest(tree)


def _without_unused_negatives(data: dict[str, Any]) -> dict[str, Any]:
    """Return data whose settings of negatives are the default where they decide nothing."""
    return {**data, "negatives": without_unused(data["negatives"])}


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
