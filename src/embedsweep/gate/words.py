"""The words of a command, sorted: options chosen, values set, axes swept.

Owns which words may be swept and whether each names something that exists. Knows nothing of values' types.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from embedsweep.config import Composer, all_keys, has_key, is_group, nearest, parse_overrides, plain_value, to_plain
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.sections import TRIAL_SECTIONS
from embedsweep.schema import Axis, DiscreteAxis
from embedsweep.search_space import axis_of


@dataclass
class Words:
    """What a command says.

    Attributes:
        choices: group -> option, fixed.
        values: key -> value, fixed.
        axes: what is swept, in the order of the command.
        fixed: the words themselves that decide a trial and sweep nothing.
    """

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    axes: list[Axis] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)

    @property
    def touches_trials(self) -> bool:
        """Whether anything said decides what a trial is."""
        return any(_section(key) in (*TRIAL_SECTIONS, "search") for key in (*self.choices, *self.values)) or bool(
            self.axes
        )


def sort_words(words: Sequence[str], composer: Composer, problems: list[Problem]) -> Words:
    """Sorts the words of a command; those that are wrong go to ``problems`` and are left out."""
    said = Words()
    for override in _parse(words, problems):
        name = override.key_or_group
        try:
            if override.is_sweep_override():
                axis = axis_of(override)
                if _may_be_swept(axis, composer, problems):
                    said.axes.append(axis)
                continue
            if _section(name) in TRIAL_SECTIONS:
                said.fixed.append(override.input_line or "")
            if is_group(composer, name):
                _choose(name, plain_value(override), said, composer, problems)
            else:
                said.values[name] = plain_value(override)
        except ConfigError as error:
            problems.extend(error.problems)
    return said


def _parse(words: Sequence[str], problems: list[Problem]) -> Iterator[Override]:
    for word in words:
        try:
            yield from parse_overrides([word])
        except ConfigError as error:
            problems.extend(error.problems)


def _section(key: str) -> str:
    return key.split(".", 1)[0]


def _may_be_swept(axis: Axis, composer: Composer, problems: list[Problem]) -> bool:
    if _section(axis.key) in composer.groups and _section(axis.key) not in TRIAL_SECTIONS:
        problems.append(
            Problem(axis.key, f"is the same for all trials of a study; swept can be {', '.join(TRIAL_SECTIONS)}")
        )
        return False
    if not is_group(composer, axis.key):
        return True
    before = len(problems)
    choices = axis.choices if isinstance(axis, DiscreteAxis) else (None,)
    for choice in choices:
        _option_exists(axis.key, choice, composer, problems)
    return len(problems) == before


def _choose(group: str, option: Any, said: Words, composer: Composer, problems: list[Problem]) -> None:
    if _option_exists(group, option, composer, problems):
        said.choices[group] = option


def _option_exists(group: str, option: Any, composer: Composer, problems: list[Problem]) -> bool:
    options = composer.options(group)
    if option in options:
        return True
    problems.append(
        Problem(group, f"no option {option}{nearest(str(option), options)}; there are: {', '.join(options)}")
    )
    return False


@dataclass(frozen=True)
class Cell:
    """One combination of options: what was swept (``loss=mnrl``) and the composed configuration."""

    swept: Mapping[str, str]
    composed: DictConfig

    @property
    def name(self) -> str:
        """The swept options as they would be typed; empty where none is."""
        return cell_name(self.swept)


def cell_name(swept: Mapping[str, Any]) -> str:
    """Swept options in one line (``loss=mnrl,model=tiny``)."""
    return ",".join(f"{group}={option}" for group, option in swept.items())


def compose_cells(said: Words, composer: Composer, problems: list[Problem]) -> list[Cell]:
    """Composes every combination of swept options, with the fixed options and values in place.

    A fixed or swept key is right if every combination has it.
    """
    group_axes = [axis for axis in said.axes if isinstance(axis, DiscreteAxis) and is_group(composer, axis.key)]
    cells = []
    for options in itertools.product(*(axis.choices for axis in group_axes)):
        swept = {axis.key: str(option) for axis, option in zip(group_axes, options, strict=True)}
        composed = composer.compose({**said.choices, **swept})
        _check_keys(said, swept, composed, composer, problems)
        for key, value in said.values.items():
            if has_key(composed, key):
                OmegaConf.update(composed, key, value, merge=False)
        cells.append(Cell(swept, composed))
    return cells


def _check_keys(
    said: Words, swept: Mapping[str, str], composed: DictConfig, composer: Composer, problems: list[Problem]
) -> None:
    keys = [*said.values, *(axis.key for axis in said.axes if axis.key not in swept)]
    for key in keys:
        if has_key(composed, key):
            continue
        known = list(all_keys(to_plain(composed)))
        section = _section(key)
        option = swept.get(section, said.choices.get(section))
        owner = f"{section}={option} has no such key" if option and "." in key else "no such key"
        siblings = sorted(name for name in known if _section(name) == section and name != section)
        has = f"; it has: {', '.join(siblings)}" if siblings else f"; there are: {', '.join(composer.groups)}"
        problems.append(Problem(key, owner + nearest(key, known) + has))
