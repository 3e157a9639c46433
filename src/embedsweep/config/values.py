"""Plain configurations: nested mappings with dotted keys and interpolations; values as text; the nearest name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from embedsweep.config.other_names import ENGINES, word_here
from embedsweep.errors import Problem, raise_problems

_MANY = 12
"""Names up to which a list has each in full."""


def has_key(composed: Mapping[str, Any], key: str) -> bool:
    """Return whether ``key`` (dotted) exists in a plain configuration, whatever its value, ``???`` included."""
    head, _, leaf = key.rpartition(".")
    section = value_at(composed, head) if head else composed
    return isinstance(section, Mapping) and leaf in section


def value_at(composed: Mapping[str, Any], key: str) -> Any:
    """Return the value of ``key`` (dotted) in a plain configuration; None if it does not exist."""
    node: Any = composed
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def set_value(composed: dict[str, Any], key: str, value: Any) -> None:
    """Set a key (dotted) that a plain configuration has."""
    head, _, leaf = key.rpartition(".")
    node = value_at(composed, head) if head else composed
    node[leaf] = value


def leaf_keys(composed: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Return every dotted key of nested mappings that can be set; an empty mapping counts as a value."""
    for name, value in composed.items():
        if isinstance(value, Mapping) and value:
            yield from leaf_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def resolve(plain: Mapping[str, Any], values: Mapping[str, Any], sections: Collection[str]) -> dict[str, Any]:
    """Set ``values`` (by dotted key) in a plain configuration and resolves the interpolations of some sections.

    Raises:
        ConfigError: interpolations that cannot be resolved; one for each section.
    """
    resolved: dict[str, Any] = {}
    problems: list[Problem] = []
    tree = OmegaConf.create(dict(plain))
    for key, value in values.items():
        OmegaConf.update(tree, key, value, merge=False)
    for name in sections:
        try:
            node = tree[name]
            resolved[name] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        except OmegaConfBaseException as error:
            message = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
            problems.append(Problem(str(error.full_key or name), message))
    raise_problems(problems)
    return resolved


def shown(value: object) -> str:
    """Return a value as it is typed: ``null``, ``true``, ``[0,5]``, ``{a:1}``."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    return str(value)


def chosen_options(words: Iterable[str]) -> dict[str, str]:
    """Return the options that overrides choose, by group: ``loss=sharp`` chooses one, ``loss.scale=20`` does not."""
    pairs = (word.partition("=") for word in words)
    return {group: option.strip("'\"") for group, _, option in pairs if "." not in group.partition("@")[0]}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` with the known word most like ``word``, or the empty string."""
    known = list(known)
    if (elsewhere := word_here(word, known)) is not None:
        return f" (did you mean {elsewhere}?)"
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


def no_option(group: str, option: str, options: Collection[str]) -> str:
    """Return that a group has no such option, what may be meant, and what there is."""
    engine = ENGINES.get(option.lower()) if group == "workers" else None
    meant = f" (did you mean {engine}?)" if engine else nearest(option, options)
    return f"no option {shown(option)}{meant}; there are: {', '.join(options)}"


def listed(names: Collection[str]) -> str:
    """Return names with commas between them; more than a dozen in the braces of a shell: ``ndcg_at_{1,10}_cosine``."""
    forms: list[tuple[str, ...]] = [tuple(re.split("([/_-])", name)) for name in names]
    for position in reversed(range(max(map(len, forms)) if len(forms) > _MANY else 0)):
        choices: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}  # before and after it -> what is there
        for form in forms:
            choices.setdefault((form[:position], form[position + 1 :]), []).extend(form[position : position + 1])
        forms = [
            (*before, f"{{{','.join(of)}}}" if len(of) > 1 else "".join(of), *after)
            for (before, after), of in choices.items()
        ]
    return ", ".join("".join(form) for form in forms)


def nearest_key(key: str, known: Collection[str]) -> str:
    """Return `` (did you mean ...?)`` with the keys most like ``key``: beside it, else of that name elsewhere."""
    head, _, leaf = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == head]
    for names, cutoff in ((beside, 0.6), (known, 0.8)):
        leaves = [name.rpartition(".")[2] for name in names]
        match = difflib.get_close_matches(leaf, leaves, n=1, cutoff=cutoff)
        if match:
            meant = (name for name, known_leaf in zip(names, leaves, strict=True) if known_leaf == match[0])
            return f" (did you mean {' or '.join(meant)}?)"
    return ""
