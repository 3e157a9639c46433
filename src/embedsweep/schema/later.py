"""Keys of a trial that older versions did not write: studies and runs of theirs go on, under their names.

Owns what such a key is taken to be. That is no default: it never changes, while those of ``conf/`` may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
