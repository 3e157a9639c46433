"""Sort the overrides of a command, compose the cells they span, and read each cell as its frozen configuration."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from embedsweep.config.axes import axis_of
from embedsweep.config.compose import Composer, Word, parse_words
from embedsweep.config.metrics import FAMILIES, Family, Scoring, scoring_keys
from embedsweep.config.other_names import here
from embedsweep.config.study import Axis, DiscreteAxis, StudyConfig, StudyPlan
from embedsweep.config.trial import TrialConfig, WorkersName
from embedsweep.config.values import has_key, leaf_keys, nearest_key, no_option, resolve, set_value, shown, value_at
from embedsweep.errors import ConfigError, Problem, raise_problems
from embedsweep.losses.table import LOSSES
from embedsweep.validation.reference import types_of
from embedsweep.validation.rules import check_trial
from embedsweep.validation.sections import TRIAL_SECTIONS, read_trial

ONE_FOR_ALL = {
    "resume": "only one run can be resumed at a time",
    "trainer.device": "is the same for all trials of a command, since a process trains on one device",
    "evaluation": "is the same for all trials of a study, since their scores are compared",
}
"""Keys and sections of a trial that cannot be swept, with the reason."""

INNER_LOSS = re.compile(r"loss(\.inner)+")
"""The place of a loss inside another one."""

BENCHMARK_LISTS = ("benchmarks", "watch")
"""Keys of ``evaluation`` with a list of benchmarks; ``dev`` and ``test`` take one."""

OPTION_SPACE = re.compile(r"\w+(\.inner|\.also\.\w+(\.loss)?)*\.space(\..*)?")
"""The search space of an option, or of one inside it, which ``--cfg job`` shows with the option."""

STUDY_KEYS_OF_A_TRIAL = ("study.objective", "study.pruner", "study.pruning.rungs")
"""Keys of a study that decide when its trials are evaluated and which checkpoint is best."""

DECIDES_A_TRIAL = (*TRIAL_SECTIONS, "search", "recipe")


@dataclass
class Overrides:
    """The overrides of a command, sorted.

    Attributes:
        choices: group -> the one option that the command chooses.
        values: key -> the one value that the command sets.
        axes: what is swept, in the order of the command.
        fixed: the overrides, as typed, that decide a trial and sweep nothing.
        unknown: groups whose chosen options do not exist, so that their keys are unknown.
        refused: keys whose override is invalid as a whole, so that it is unknown what it would sweep.
    """

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    axes: list[Axis] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    @property
    def keys(self) -> frozenset[str]:
        """Keys and groups that the command sets to one value."""
        return frozenset((*self.choices, *self.values))

    @property
    def unread(self) -> frozenset[str]:
        """Keys whose values are unknown: those refused, and as ``loss.*`` all of the sections of unknown options."""
        return frozenset((*self.refused, *(f"{section_of(group)}.*" for group in self.unknown)))

    @property
    def touches_trials(self) -> bool:
        """Whether any override decides what a trial is."""
        keys = (*self.choices, *self.values, *self.unknown, *self.refused, *(axis.key for axis in self.axes))
        return any(section_of(key) in DECIDES_A_TRIAL for key in keys)


def section_of(key: str) -> str:
    """Return the group of a key: ``loss`` of ``loss.scale`` and of ``loss@loss.inner``."""
    return re.split(r"[.@]", key, maxsplit=1)[0]


def is_for_studies(key: str) -> bool:
    """Return whether a key means nothing to a single run."""
    return section_of(key) == "search" or (section_of(key) == "study" and key not in STUDY_KEYS_OF_A_TRIAL)


def one_for_all(key: str) -> str | None:
    """Return why a key of a trial cannot be swept; None if it can."""
    return ONE_FOR_ALL.get(key) or ONE_FOR_ALL.get(section_of(key))


def sort_overrides(texts: Sequence[str], composer: Composer, problems: list[Problem]) -> Overrides:
    """Sort the overrides of a command; the invalid ones are left out and added to ``problems``."""
    overrides = Overrides()
    words: list[Word] = []
    for text in texts:
        try:
            words += parse_words([text])
        except ConfigError as error:
            problems += error.problems
            overrides.refused.add(text.partition("=")[0])
    for word in words:
        if (right_key := _key_of_option(word, composer)) is not None:
            problems.append(Problem(word.key, f"is the name of the option; choose another one by {right_key}=OPTION"))
            overrides.refused.add(word.key)
        elif word.sweeps:
            _sweep(word, overrides, composer, problems)
        elif not composer.is_group(word.key):
            overrides.values[word.key] = word.value
        elif _option_exists(word.key, word.value, composer, problems):
            overrides.choices[word.key] = word.value
        else:
            overrides.unknown.add(word.key)
        if not word.sweeps and (
            section_of(word.key) in (*TRIAL_SECTIONS, "recipe") or word.key in STUDY_KEYS_OF_A_TRIAL
        ):
            overrides.fixed.append(word.text)
    keys = [word.key for word in words]
    problems += [
        Problem(word.key, "is swept and set a second time; give it once")
        for word in words
        if word.sweeps and keys.count(word.key) > 1
    ]
    return overrides


def _key_of_option(word: Word, composer: Composer) -> str | None:
    """Return the key that chooses the option which the override names by another key; None if it names none."""
    section, _, leaf = word.key.rpartition(".")
    if INNER_LOSS.fullmatch(word.key):
        return None if isinstance(word.value, dict) else f"loss@{word.key}"
    if leaf == "name" and INNER_LOSS.fullmatch(section):
        return f"loss@{section}"
    return section if leaf == "name" and section != "study" and composer.is_group(section) else None


def _sweep(word: Word, overrides: Overrides, composer: Composer, problems: list[Problem]) -> None:
    try:
        axis = axis_of(word)
    except ConfigError as error:
        problems.extend(error.problems)
        overrides.refused.add(word.key)
        return
    section = section_of(axis.key)
    if section in composer.groups and section not in TRIAL_SECTIONS:
        swept = ", ".join(name for name in TRIAL_SECTIONS if name not in ONE_FOR_ALL)
        problems.append(Problem(axis.key, f"is the same for all trials of a study; what can be swept: {swept}"))
    elif (reason := one_for_all(axis.key)) is not None:
        problems.append(Problem(axis.key, reason))
    elif not composer.is_group(axis.key):
        overrides.axes.append(axis)
        return
    else:
        choices = axis.choices if isinstance(axis, DiscreteAxis) else (word.text,)
        known = tuple(choice for choice in choices if _option_exists(axis.key, choice, composer, problems))
        if known:
            overrides.axes.append(DiscreteAxis(axis.key, known, {}))
        else:
            overrides.unknown.add(axis.key)
        if len(known) == len(choices):
            return
    overrides.refused.add(axis.key)


def _option_exists(group: str, option: Any, composer: Composer, problems: list[Problem]) -> bool:
    options = composer.options(group)
    if option in options:
        return True
    if isinstance(option, list) and option and all(name in options for name in option):
        word = f"{'-m ' if len(option) > 1 else ''}{group}={','.join(option)}"
        problems.append(Problem(group, f"takes the name of an option, not a list: {word}"))
        return False
    if isinstance(option, str) and option:
        problems.append(Problem(group, no_option(group, option, options)))
        return False
    what = f"must be the name of an option, but got {shown(option) or 'nothing'}"
    problems.append(Problem(group, f"{what}; there are: {', '.join(options)}"))
    return False


@dataclass(frozen=True)
class Cell:
    """One combination of options.

    Attributes:
        swept: what was swept (``loss=mnrl``).
        composed: the composed configuration, unresolved.
        spaces: the search spaces of its options, by their places (``loss``, ``loss.inner``).
    """

    swept: Mapping[str, str]
    composed: dict[str, Any]
    spaces: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The swept options as they would be typed; empty if there are none."""
        return cell_name(self.swept)

    @property
    def trial(self) -> dict[str, Any]:
        """The sections that decide a trial, unresolved."""
        return {name: self.composed.get(name) for name in TRIAL_SECTIONS}


def cell_name(swept: Mapping[str, Any]) -> str:
    """Return swept options in one line (``loss=mnrl,model=tiny``)."""
    return ",".join(f"{group}={option}" for group, option in swept.items())


def compose_cells(overrides: Overrides, composer: Composer, problems: list[Problem]) -> list[Cell]:
    """Compose every combination of swept options, with the fixed options and values in place.

    A fixed or swept key is valid if every combination has it. Axes of invalid keys are taken out of ``overrides.axes``.
    """
    group_axes = [axis for axis in overrides.axes if isinstance(axis, DiscreteAxis) and composer.is_group(axis.key)]
    cells = []
    for options in itertools.product(*(axis.choices for axis in group_axes)):
        swept = {axis.key: str(option) for axis, option in zip(group_axes, options, strict=True)}
        placed = _placed({**overrides.choices, **swept}, overrides, composer, problems)
        cells.append(Cell(swept, composer.compose(placed), composer.option_spaces(placed)))
    groups = {axis.key for axis in group_axes}
    for key in [*overrides.values, *(axis.key for axis in overrides.axes if axis.key not in groups)]:
        if section_of(key) not in overrides.unknown:
            problems += _key_problems(key, cells, overrides, composer)
    for cell in cells:
        for key, value in overrides.values.items():
            if has_key(cell.composed, key):
                set_value(cell.composed, key, value)
        before = len(problems)
        expand_benchmarks(cell.composed, composer, problems)
        overrides.refused |= {problem.where for problem in problems[before:]}
    wrong = {
        axis.key
        for axis in overrides.axes
        if axis.key not in groups and not all(has_key(cell.composed, axis.key) for cell in cells)
    }
    overrides.axes[:] = [axis for axis in overrides.axes if axis.key not in wrong]
    overrides.refused |= wrong
    return cells


def _placed(
    choices: Mapping[str, str], overrides: Overrides, composer: Composer, problems: list[Problem]
) -> dict[str, str]:
    """Return the choices, without those that would go inside an option that has no place for them."""
    placed = {group: option for group, option in choices.items() if "@" not in group}
    for key in sorted(choices.keys() - placed.keys(), key=len):
        if section_of(key) in overrides.unknown:
            continue
        candidate = {**placed, key: choices[key]}
        composed = composer.compose(placed)
        has_place = isinstance(value_at(composed, key.partition("@")[2]), Mapping)
        if has_place and _composes(candidate, composer):
            placed = candidate
        else:
            problems.append(_no_place(key, composed))
    return placed


def _composes(choices: Mapping[str, str], composer: Composer) -> bool:
    """Return whether every place takes an option, and not just keys; raises any other error."""
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
        return Problem(key, f"loss={outer} wraps no other loss; the losses that do: {around}")
    return Problem(key, f"there is no section {place} for an option of {group}; {group}=OPTION chooses its own")


def expand_benchmarks(composed: dict[str, Any], composer: Composer, problems: list[Problem]) -> None:
    """Replace the names of benchmarks by their own options, so that a configuration holds everything it needs."""
    evaluation = composed["evaluation"]
    family = Scoring.variant(evaluation.get("name")).family
    for key in ("dev", "test", *BENCHMARK_LISTS):
        value = evaluation.get(key)
        names = value if isinstance(value, list) else [value]
        try:
            options = [benchmark_option(name, family, composer) if isinstance(name, str) else name for name in names]
        except ConfigError as error:
            message = error.problems[0].message
            problems.append(Problem(f"evaluation.{key}", f"{error.problems[0].where}: {message}"))
            options = [None]
        evaluation[key] = options if key in BENCHMARK_LISTS and options != [None] else options[0]


def benchmark_option(name: str, family: Family | None, composer: Composer) -> dict[str, Any]:
    """Return the option of a benchmark; where the evaluation is of another family, or none, with the keys of its own.

    Raises:
        ConfigError: there is no benchmark of that name, or it cannot be read.
    """
    benchmark = composer.benchmark(name)
    if (own := benchmark["family"]) != family and own in FAMILIES:
        option = composer.evaluation(own)
        benchmark["scoring"] = {key: option[key] for key in ("name", *scoring_keys(own)) if key in option}
    return benchmark


def _owners(key: str) -> list[str]:
    """Return the evaluations or workers that have a key, each as it is chosen."""
    section = section_of(key)
    options = {"evaluation": FAMILIES, "workers": get_args(WorkersName)}.get(section, ())
    inner = {option: " ".join(f"{known}." for known in types_of(section, option)) for option in options}
    return [f"{section}={option}" for option, known in inner.items() if f" {key}." in f" {known}"]


def _key_problems(key: str, cells: Sequence[Cell], overrides: Overrides, composer: Composer) -> Iterator[Problem]:
    """Return why a key cannot be set: no option has it, or only some of the swept options have it."""
    lacking = [cell for cell in cells if not has_key(cell.composed, key)]
    if not lacking:
        return
    section = section_of(key)
    if section in TRIAL_SECTIONS and OPTION_SPACE.fullmatch(key):
        yield Problem(
            key,
            "is what search=full searches where the option is chosen: sweep the keys themselves, or edit "
            "space: in the option's file",
        )
        return
    if owners := _owners(key):
        here_is = f"{section}={cells[0].composed[section].get('name')}"
        yield Problem(key, f"{here_is} has no such key; choose {' or '.join(owners)} for it")
        return
    if len(lacking) == len(cells) and (name := here(key)) is not None:
        yield Problem(key, f"no such key; here it is {name}")
        return
    leaves = list(leaf_keys(lacking[0].composed))
    # The name of an option is no key to set, except a study's.
    known = [name for name in leaves if not name.endswith(".name") or name == "study.name"]
    if "." not in key:
        known = composer.groups
    suggestion = nearest_key(key, known) or nearest_key(key, leaves)
    if section in composer.groups:
        siblings = [name for name in known if section_of(name) == section]
        there = f"it has: {', '.join(siblings)}" if siblings else "it has no keys of its own"
    else:
        there = f"there are: {', '.join(composer.groups)}"
    if len(lacking) == len(cells) > 1 or section not in {**overrides.choices, **lacking[0].swept}:
        yield Problem(key, f"no such key{suggestion}; {there}")
        return
    for option in dict.fromkeys({**overrides.choices, **cell.swept}[section] for cell in lacking):
        yield Problem(key, f"{section}={option} has no such key{suggestion}; {there}")


def read_cell(
    cell: Mapping[str, Any],
    values: Mapping[str, Any],
    study: StudyConfig | StudyPlan | None,
    refused: Collection[str] = (),
) -> TrialConfig:
    """Return a cell as its frozen type.

    Args:
        cell: its sections, unresolved.
        values: key -> what is set in them.
        study: whose objective chooses the best checkpoint, and at whose rungs it is evaluated; None if unknown.
        refused: keys whose value is unknown, because their override is invalid; nothing more is said about them.
            ``loss.*`` is a whole section.

    Raises:
        ConfigError: everything wrong with it.
    """
    problems: list[Problem] = []
    config = typed_cell(cell, values, study, problems)
    problems[:] = [problem for problem in problems if problem.where not in refused]
    problems += check_trial(config, broken={*refused, *(problem.where for problem in problems)})
    raise_problems(problems)
    return config


def typed_cell(
    cell: Mapping[str, Any],
    values: Mapping[str, Any],
    study: StudyConfig | StudyPlan | None,
    problems: list[Problem],
) -> TrialConfig:
    """Return a cell as its frozen type; only the types and bounds of values are checked.

    For ``cell``, ``values`` and ``study`` see `read_cell`; what is wrong is added to ``problems``.
    """
    objective = study.objective if study is not None else ""
    rungs = study.pruning.rungs if study is not None and study.pruner != "none" else ()
    return read_trial(resolve(cell, values, TRIAL_SECTIONS), objective, rungs, problems)
