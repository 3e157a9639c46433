"""The gate: the one place where a command becomes a frozen configuration, or a list of all that is wrong with it.

Owns the passage: nothing below it reads a default, a ``DictConfig`` or YAML. Checks the whole grid against the schema,
the data, the losses and this machine, without torch, so that a mistake shows within two seconds.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedsweep.config import Composer, canonical, is_group, nearest, open_composer, resolve, to_plain
from embedsweep.emissions import country_problem
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.rules import check_trial
from embedsweep.gate.sections import (
    TRIAL_SECTIONS,
    read_emissions,
    read_search,
    read_study,
    read_tracking,
    read_trial,
)
from embedsweep.gate.words import Cell, Words, cell_name, compose_cells, sort_words
from embedsweep.schema import (
    Axis,
    Choice,
    DiscreteAxis,
    EmissionsConfig,
    StudyConfig,
    StudyPlan,
    TrackingConfig,
    TrialConfig,
)
from embedsweep.search_space import axes_of_space, grid_size, is_discrete, probes_of

EVERY_CELL_UP_TO = 256
SINGLE = "single"
DEFAULT_PORT = 5000
NUMERIC_SAMPLERS = ("cmaes", "qmc")


@dataclass(frozen=True)
class SingleRun:
    """A command for one run, past the gate."""

    config: TrialConfig
    tracking: TrackingConfig
    emissions: EmissionsConfig


@dataclass(frozen=True)
class Sweep:
    """A command for a study, past the gate.

    Attributes:
        plan: what a new study freezes; None where the command only names a study that exists.
        study: what this command asks of it.
        n_trials: how many trials it asks for in total; None leaves the number as it was.
        tracking: where its runs are recorded.
        emissions: whose electricity is used.
        fixed: the words that decide a trial and are the same for all.
    """

    plan: StudyPlan | None
    study: StudyConfig
    n_trials: int | None
    tracking: TrackingConfig
    emissions: EmissionsConfig
    fixed: tuple[str, ...]


def pass_single(words: Sequence[str]) -> SingleRun:
    """Passes the words of a command for one run.

    Raises:
        ConfigError: all that is wrong, at once.
    """
    problems: list[Problem] = []
    with open_composer() as composer:
        said = sort_words(words, composer, problems)
        problems += [Problem(axis.key, "several values make a study: add -m") for axis in said.axes]
        said.axes.clear()
        (cell,) = compose_cells(said, composer, problems)
        study, tracking, emissions = _read_services(cell, problems)
        config = _read_cell(trial_sections(cell), {}, study.objective, problems)
    if problems:
        raise ConfigError(problems)
    return SingleRun(config, tracking, emissions)


def pass_sweep(words: Sequence[str]) -> Sweep:
    """Passes the words of a command for a study.

    Raises:
        ConfigError: all that is wrong with any cell, at once.
    """
    problems: list[Problem] = []
    with open_composer() as composer:
        said = sort_words(words, composer, problems)
        cells = compose_cells(said, composer, problems)
        study, tracking, emissions = _read_services(cells[0], problems)
        if study.name is not None and not said.touches_trials:
            if problems:
                raise ConfigError(problems)
            return Sweep(None, study, study.n_trials, tracking, emissions, ())
        searched = _searched_axes(cells, said, problems)
        problems += _check_axes_exist(searched, cells, composer)
        axes = (*said.axes, *searched)
        if not axes and not problems:
            message = (
                "nothing is swept; give several values (loss=mnrl,cosent), a search (search=lr), or only study.name"
            )
            problems.append(Problem("-m", message))
        sampled = bool(searched) or not all(is_discrete(axis) for axis in axes)
        plan = StudyPlan(
            axes=axes,
            cells={cell.name: trial_sections(cell) for cell in cells},
            groups=tuple(axis.key for axis in axes if is_group(composer, axis.key)),
            sampler=study.sampler if sampled else "grid",
            seed=study.seed,
            objective=study.objective,
        )
    n_trials = _count_trials(plan, study, problems)
    if not problems:
        _check_cells(plan, problems)
    else:
        _check_first_cells(plan, problems)
    if problems:
        raise ConfigError(problems)
    return Sweep(plan, study, n_trials, tracking, emissions, tuple(said.fixed))


def pass_ui(words: Sequence[str]) -> tuple[TrackingConfig, int]:
    """Passes the words of ``embedsweep ui``: options of ``tracking``, and ``port=5000``.

    Raises:
        ConfigError: all that is wrong, at once.
    """
    problems: list[Problem] = []
    ports = [word.removeprefix("port=") for word in words if word.startswith("port=")]
    port = ports[-1] if ports else str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536:
        problems.append(Problem("port", f"must be a number from 1 to 65535, but got {port}"))
    rest = [word for word in words if not word.startswith("port=")]
    problems += [
        Problem(word, "ui takes port= and tracking.uri= only") for word in rest if not word.startswith("tracking")
    ]
    with open_composer() as composer:
        said = sort_words([word for word in rest if word.startswith("tracking")], composer, problems)
        (cell,) = compose_cells(said, composer, problems)
        tracking = read_tracking(_resolve(to_plain(cell.composed), {}, problems).get("tracking"), problems)
    if problems:
        raise ConfigError(problems)
    return tracking, int(port)


def cell_config(plan: StudyPlan, params: Mapping[str, Choice]) -> TrialConfig:
    """The configuration of one cell of a study: its frozen options with the drawn values in place.

    Raises:
        ConfigError: all that is wrong with it.
    """
    problems: list[Problem] = []
    cell = plan.cells[cell_name({group: params[group] for group in plan.groups})]
    values = {key: value for key, value in params.items() if key not in plan.groups}
    config = _read_cell(cell, values, plan.objective, problems)
    if problems:
        raise ConfigError(problems)
    return config


def trial_sections(cell: Cell) -> dict[str, Any]:
    """The sections of a composed configuration that decide a trial, unresolved."""
    plain = to_plain(cell.composed)
    return {name: plain.get(name) for name in TRIAL_SECTIONS}


def _read_services(cell: Cell, problems: list[Problem]) -> tuple[StudyConfig, TrackingConfig, EmissionsConfig]:
    """What every trial of a command shares."""
    tree = _resolve(to_plain(cell.composed), {}, problems)
    study = read_study(tree.get("study"), problems)
    tracking = read_tracking(tree.get("tracking"), problems)
    emissions = read_emissions(tree.get("emissions"), problems)
    problems += _check_study(study)
    country = emissions.country_iso_code
    if country is not None and (message := country_problem(country)) is not None:
        problems.append(Problem("emissions.country_iso_code", message))
    problems += [
        Problem(name, f"cannot be written in the working directory {Path.cwd()}; start from a folder of your own")
        for name in ("sweeps", "mlruns")
        if not os.access(Path(name) if Path(name).exists() else Path.cwd(), os.W_OK)
    ]
    return study, tracking, emissions


def _resolve(plain: Mapping[str, Any], values: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    try:
        return resolve(plain, values)
    except ConfigError as error:
        problems.extend(error.problems)
        return dict(plain)


def _check_study(study: StudyConfig) -> Iterator[Problem]:
    name = study.name
    if name is not None and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == SINGLE):
        yield Problem("study.name", f"must be letters, digits, '.', '_' and '-', and not '{SINGLE}', but got {name!r}")
    if study.storage is None:
        return
    scheme = re.match(r"([a-z0-9]+)(\+[a-z0-9]+)?://", study.storage)
    if scheme is None:
        yield Problem("study.storage", "must be an Optuna storage URL, such as postgresql://host/database")
    elif scheme[1] == "postgresql" and find_spec((scheme[2] or "+psycopg")[1:]) is None:
        driver = (scheme[2] or "+psycopg")[1:]
        yield Problem("study.storage", f"needs the driver {driver}: pip install 'embedsweep[postgresql]'")


def _searched_axes(cells: Sequence[Cell], said: Words, problems: list[Problem]) -> list[Axis]:
    """The axes of the search file, less those the command itself sweeps or fixes."""
    trees = [_resolve(to_plain(cell.composed), {}, problems) for cell in cells]
    name, space = read_search(trees[0].get("search"), problems)
    mine = {axis.key for axis in said.axes} | set(said.values) | set(said.choices)
    space = {key: entry for key, entry in space.items() if key not in mine}
    lookups = []
    for tree in trees:
        centres = {entry["of"]: _select(tree, entry["of"]) for entry in space.values() if _is_relative(entry)}
        lookups.append(centres)
    if any(lookup != lookups[0] for lookup in lookups):
        keys = ", ".join(key for key, entry in space.items() if _is_relative(entry))
        message = (
            f"search={name} looks around a value that differs between the swept options; give {keys} a range of its own"
        )
        problems.append(Problem("search", message))
        return []
    try:
        return axes_of_space(space, lookups[0], name)
    except ConfigError as error:
        problems.extend(error.problems)
        return []


def _is_relative(entry: object) -> bool:
    return isinstance(entry, Mapping) and "of" in entry


def _select(tree: Mapping[str, Any], key: str) -> Any:
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _check_axes_exist(axes: Sequence[Axis], cells: Sequence[Cell], composer: Composer) -> Iterator[Problem]:
    for axis in axes:
        if is_group(composer, axis.key):
            yield Problem(f"search, {axis.key}", f"sweep options on the command line: {axis.key}=a,b")
        for cell in cells:
            known = to_plain(cell.composed)
            if _section_missing(known, axis.key):
                yield Problem(f"search, {axis.key}", f"no such key{nearest(axis.key, _leaves(known))}")


def _section_missing(tree: Mapping[str, Any], key: str) -> bool:
    head, _, leaf = key.rpartition(".")
    node = _select(tree, head) if head else tree
    return not isinstance(node, Mapping) or leaf not in node


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _count_trials(plan: StudyPlan, study: StudyConfig, problems: list[Problem]) -> int | None:
    """How many trials the command asks for; None where that cannot be said, which is noted."""
    if plan.sampler == "grid":
        size = grid_size(plan.axes)
        if study.n_trials is not None and study.n_trials > size:
            problems.append(
                Problem("study.n_trials", f"the grid has {size} cells, each run once, but got {study.n_trials}")
            )
        return study.n_trials or size
    if study.n_trials is None:
        drawn = ", ".join(axis.key for axis in plan.axes if not is_discrete(axis)) or "the search"
        problems.append(Problem("study.n_trials", f"{drawn} is sampled: say how many trials, as study.n_trials=20"))
    categorical = [axis.key for axis in plan.axes if isinstance(axis, DiscreteAxis)]
    if plan.sampler in NUMERIC_SAMPLERS and categorical:
        message = f"{plan.sampler} takes ranges only, and {', '.join(categorical)} is a list of choices; use tpe or gp"
        problems.append(Problem("study.sampler", message))
    return study.n_trials


def _check_cells(plan: StudyPlan, problems: list[Problem]) -> None:
    seen: set[str] = set()
    for params in _probe_cells(plan):
        key = canonical(params)
        if key not in seen:
            seen.add(key)
            _collect(plan, params, problems)


def _check_first_cells(plan: StudyPlan, problems: list[Problem]) -> None:
    """Beside errors in the words themselves, what else is wrong with each combination of options."""
    axes = [axis for axis in plan.axes if axis.key in plan.groups]
    for options in itertools.product(*(probes_of(axis) for axis in axes)):
        _collect(plan, dict(zip((axis.key for axis in axes), options, strict=True)), problems)


def _collect(plan: StudyPlan, params: Mapping[str, Choice], problems: list[Problem]) -> None:
    try:
        cell_config(plan, params)
    except ConfigError as error:
        problems.extend(error.problems)


def _probe_cells(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    """Cells that show whether a plan is right: all of a small grid; of a large one, all pairs of two axes' values."""
    keys = [axis.key for axis in plan.axes]
    probes = [probes_of(axis) for axis in plan.axes]
    total = 1
    for values in probes:
        total *= len(values)
    if total <= EVERY_CELL_UP_TO:
        for cell in itertools.product(*probes):
            yield dict(zip(keys, cell, strict=True))
        return
    first = dict(zip(keys, (values[0] for values in probes), strict=True))
    for one, other in itertools.combinations(range(len(keys)), 2):
        for left, right in itertools.product(probes[one], probes[other]):
            yield {**first, keys[one]: left, keys[other]: right}


def _read_cell(
    cell: Mapping[str, Any], values: Mapping[str, Any], objective: str, problems: list[Problem]
) -> TrialConfig:
    """A cell as its frozen type; rules are asked only of sections that are right by themselves."""
    found: list[Problem] = []
    config = read_trial(_resolve(cell, values, found), objective, found)
    if not found:
        found += check_trial(config)
    problems += found
    return config
