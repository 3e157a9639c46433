"""The words of a command, sorted: options chosen, values set, axes swept.

Owns which words may be swept and whether each names something that exists. Knows nothing of values' types.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedsweep.config.axes import axis_of
from embedsweep.config.compose import Composer, Word, parse_words
from embedsweep.config.study import Axis, DiscreteAxis
from embedsweep.config.values import has_key, leaf_keys, nearest, nearest_key, set_value, shown, value_at
from embedsweep.errors import ConfigError, Problem
from embedsweep.losses.table import LOSSES
from embedsweep.validation.sections import TRIAL_SECTIONS

ONE_FOR_ALL = {
    "resume": "one run is resumed at a time",
    "trainer.device": "is the same for all trials of a command, since a process trains on one device",
    "evaluation": "is the same for all trials of a study, since their scores are compared",
}
"""Keys and sections of a trial that cannot be swept all the same."""

INNER_LOSS = re.compile(r"loss(\.inner)+")
"""The place of a loss inside another."""

STUDY_KEYS_OF_A_TRIAL = ("study.objective", "study.pruner", "study.pruning.rungs")
"""Keys of a study that decide when its trials are scored and which checkpoint is best."""

DECIDES_A_TRIAL = (*TRIAL_SECTIONS, "search", "recipe")


@dataclass
class Words:
    """What a command says.

    Attributes:
        choices: group -> option, fixed.
        values: key -> value, fixed.
        axes: what is swept, in the order of the command.
        fixed: the words themselves that decide a trial and sweep nothing.
        unknown: groups of which no option was named that exists, so that nothing is known of their keys.
        refused: keys whose word was wrong as a whole, so that it is not known what would be swept.
    """

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    axes: list[Axis] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    @property
    def keys(self) -> frozenset[str]:
        """Keys and groups that are given one value."""
        return frozenset((*self.choices, *self.values))

    @property
    def touches_trials(self) -> bool:
        """Whether anything said decides what a trial is."""
        keys = (*self.choices, *self.values, *self.unknown, *self.refused, *(axis.key for axis in self.axes))
        return any(section_of(key) in DECIDES_A_TRIAL for key in keys)


def section_of(key: str) -> str:
    """The group that a key belongs to: ``loss`` of ``loss.scale`` and of ``loss@loss.inner``."""
    return re.split(r"[.@]", key, maxsplit=1)[0]


def one_for_all(key: str) -> str | None:
    """Why a key of a trial cannot be swept all the same; None where it can."""
    return ONE_FOR_ALL.get(key) or ONE_FOR_ALL.get(section_of(key))


def sort_words(texts: Sequence[str], composer: Composer, problems: list[Problem]) -> Words:
    """Sorts the words of a command; those that are wrong go to ``problems`` and are left out."""
    said = Words()
    words = list(_parse(texts, said, problems))
    for word in words:
        if (right_key := _key_of_option(word, composer)) is not None:
            problems.append(Problem(word.key, f"is the name of the option; choose another by {right_key}=OPTION"))
            said.refused.add(word.key)
        elif word.sweeps:
            _sweep(word, said, composer, problems)
        elif composer.is_group(word.key):
            _choose(word, said, composer, problems)
        else:
            said.values[word.key] = word.value
        if not word.sweeps and (
            section_of(word.key) in (*TRIAL_SECTIONS, "recipe") or word.key in STUDY_KEYS_OF_A_TRIAL
        ):
            said.fixed.append(word.text)
    keys = [word.key for word in words]
    problems += [
        Problem(word.key, "is swept and given a second time; say it once")
        for word in words
        if word.sweeps and keys.count(word.key) > 1
    ]
    return said


def _parse(texts: Sequence[str], said: Words, problems: list[Problem]) -> Iterator[Word]:
    for text in texts:
        try:
            yield from parse_words([text])
        except ConfigError as error:
            problems.extend(error.problems)
            said.refused.add(text.partition("=")[0])


def _key_of_option(word: Word, composer: Composer) -> str | None:
    """By which key the option is chosen that the word names by another."""
    section, _, leaf = word.key.rpartition(".")
    if INNER_LOSS.fullmatch(word.key):
        return None if isinstance(word.value, dict) else f"loss@{word.key}"
    if leaf == "name" and INNER_LOSS.fullmatch(section):
        return f"loss@{section}"
    return section if leaf == "name" and section != "study" and composer.is_group(section) else None


def _sweep(word: Word, said: Words, composer: Composer, problems: list[Problem]) -> None:
    try:
        axis = axis_of(word)
    except ConfigError as error:
        problems.extend(error.problems)
        said.refused.add(word.key)
        return
    section = section_of(axis.key)
    if section in composer.groups and section not in TRIAL_SECTIONS:
        swept = ", ".join(name for name in TRIAL_SECTIONS if name not in ONE_FOR_ALL)
        problems.append(Problem(axis.key, f"is the same for all trials of a study; swept can be {swept}"))
    elif (reason := one_for_all(axis.key)) is not None:
        problems.append(Problem(axis.key, reason))
    elif not composer.is_group(axis.key):
        said.axes.append(axis)
        return
    else:
        choices = axis.choices if isinstance(axis, DiscreteAxis) else (word.text,)
        known = tuple(choice for choice in choices if _option_exists(axis.key, choice, composer, problems))
        if known:
            said.axes.append(DiscreteAxis(axis.key, known, {}))
        else:
            said.unknown.add(axis.key)
        if len(known) == len(choices):
            return
    said.refused.add(axis.key)


def _choose(word: Word, said: Words, composer: Composer, problems: list[Problem]) -> None:
    if _option_exists(word.key, word.value, composer, problems):
        said.choices[word.key] = word.value
    else:
        said.unknown.add(word.key)


def _option_exists(group: str, option: Any, composer: Composer, problems: list[Problem]) -> bool:
    options = composer.options(group)
    if option in options:
        return True
    what = (
        f"no option {shown(option)}{nearest(option, options)}"
        if isinstance(option, str) and option
        else (f"takes the name of an option, but got {shown(option) or 'nothing'}")
    )
    problems.append(Problem(group, f"{what}; there are: {', '.join(options)}"))
    return False


@dataclass(frozen=True)
class Cell:
    """One combination of options.

    Attributes:
        swept: what was swept (``loss=mnrl``).
        composed: the composed configuration, unresolved.
        spaces: the search spaces that its options bring, by their places (``loss``, ``loss.inner``).
    """

    swept: Mapping[str, str]
    composed: dict[str, Any]
    spaces: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The swept options as they would be typed; empty where none is."""
        return cell_name(self.swept)


def cell_name(swept: Mapping[str, Any]) -> str:
    """Swept options in one line (``loss=mnrl,model=tiny``)."""
    return ",".join(f"{group}={option}" for group, option in swept.items())


def compose_cells(said: Words, composer: Composer, problems: list[Problem]) -> list[Cell]:
    """Composes every combination of swept options, with the fixed options and values in place.

    A fixed or swept key is right if every combination has it. Axes of keys that are not right are taken out of
    ``said.axes``.
    """
    group_axes = [axis for axis in said.axes if isinstance(axis, DiscreteAxis) and composer.is_group(axis.key)]
    cells = []
    for options in itertools.product(*(axis.choices for axis in group_axes)):
        swept = {axis.key: str(option) for axis, option in zip(group_axes, options, strict=True)}
        placed = _placed({**said.choices, **swept}, said, composer, problems)
        cells.append(Cell(swept, composer.compose(placed), composer.option_spaces(placed)))
    groups = {axis.key for axis in group_axes}
    for key in [*said.values, *(axis.key for axis in said.axes if axis.key not in groups)]:
        if section_of(key) not in said.unknown:
            problems += _key_problems(key, cells, said, composer)
    for cell in cells:
        for key, value in said.values.items():
            if has_key(cell.composed, key):
                set_value(cell.composed, key, value)
        expand_benchmarks(cell.composed, composer, problems)
    wrong = {
        axis.key
        for axis in said.axes
        if axis.key not in groups and not all(has_key(cell.composed, axis.key) for cell in cells)
    }
    said.axes[:] = [axis for axis in said.axes if axis.key not in wrong]
    said.refused |= wrong
    return cells


def _placed(choices: Mapping[str, str], said: Words, composer: Composer, problems: list[Problem]) -> dict[str, str]:
    """The choices without those that go inside of an option which has no place for them."""
    placed = {group: option for group, option in choices.items() if "@" not in group}
    for key in sorted(choices.keys() - placed.keys(), key=len):
        if section_of(key) in said.unknown:
            continue
        candidate = {**placed, key: choices[key]}
        if _is_place(key, composed := composer.compose(placed)) and _composes(candidate, composer):
            placed = candidate
        else:
            problems.append(_no_place(key, composed))
    return placed


def _is_place(key: str, composed: Mapping[str, Any]) -> bool:
    return isinstance(value_at(composed, key.partition("@")[2]), Mapping)


def _composes(choices: Mapping[str, str], composer: Composer) -> bool:
    """Whether every place is one of an option, and not just of keys; other errors than that are raised."""
    try:
        composer.compose(choices)
    except ConfigError as error:
        if "Could not override" in str(error):
            return False
        raise
    return True


def _no_place(key: str, composed: Mapping[str, Any]) -> Problem:
    group, _, place = key.partition("@")
    outer = value_at(composed, f"{place.rpartition('.')[0]}.name")
    if group == "loss" and INNER_LOSS.fullmatch(place) and outer in LOSSES:
        around = ", ".join(name for name, loss in LOSSES.items() if loss.wraps)
        return Problem(key, f"loss={outer} is around no other loss; those around one are: {around}")
    return Problem(key, f"there is no section {place} for an option of {group}; its own section's is {group}=OPTION")


def expand_benchmarks(composed: dict[str, Any], composer: Composer, problems: list[Problem]) -> None:
    """Puts the benchmarks' own options in the place of their names, so that a configuration holds all that it needs."""
    evaluation = composed["evaluation"]
    for key in ("dev", "test", "benchmarks"):
        value = evaluation.get(key)
        names = value if isinstance(value, list) else [value]
        try:
            options = [composer.benchmark(name) if isinstance(name, str) else name for name in names]
        except ConfigError as error:
            message = error.problems[0].message
            problems.append(Problem(f"evaluation.{key}", f"{error.problems[0].where}: {message}"))
            options = [None]
        evaluation[key] = options if key == "benchmarks" and options != [None] else options[0]


def _key_problems(key: str, cells: Sequence[Cell], said: Words, composer: Composer) -> Iterator[Problem]:
    """Why a key cannot be set: no option has it, or only some of the swept ones have."""
    lacking = [cell for cell in cells if not has_key(cell.composed, key)]
    if not lacking:
        return
    section = section_of(key)
    known = [name for name in leaf_keys(lacking[0].composed) if not _is_option_name(name)]
    if "." not in key:
        known = composer.groups
    suggestion = nearest_key(key, known) or nearest_key(key, list(leaf_keys(lacking[0].composed)))
    if section in composer.groups:
        siblings = [name for name in known if section_of(name) == section]
        there = f"it has: {', '.join(siblings)}" if siblings else "it has no keys of its own"
    else:
        there = f"there are: {', '.join(composer.groups)}"
    if len(lacking) == len(cells) > 1 or section not in {**said.choices, **lacking[0].swept}:
        yield Problem(key, f"no such key{suggestion}; {there}")
        return
    for option in dict.fromkeys({**said.choices, **cell.swept}[section] for cell in lacking):
        yield Problem(key, f"{section}={option} has no such key{suggestion}; {there}")


def _is_option_name(key: str) -> bool:
    group, _, leaf = key.rpartition(".")
    return leaf == "name" and group != "study"
