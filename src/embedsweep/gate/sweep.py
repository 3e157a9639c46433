"""The words of a command for a study, past the gate: one plan, and every cell of it checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedsweep.config import (
    Composer,
    canonical,
    has_key,
    is_group,
    leaf_keys,
    nearest_key,
    open_composer,
    resolve,
    shown,
    value_at,
)
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.cells import cell_config, trial_sections
from embedsweep.gate.rules.data import scored_on
from embedsweep.gate.rules.processes import check_processes
from embedsweep.gate.sections import TRIAL_SECTIONS, read_search
from embedsweep.gate.services import Services, read_services
from embedsweep.gate.words import ONE_FOR_ALL, Cell, Words, compose_cells, one_for_all, section_of, sort_words
from embedsweep.schema import (
    DEV_METRICS,
    Axis,
    Choice,
    DiscreteAxis,
    EmissionsConfig,
    PruningConfig,
    StudyConfig,
    StudyPlan,
    TrackingConfig,
    WorkersConfig,
)
from embedsweep.search_space import axes_of_space, grid_size, is_discrete, probes_of

EVERY_CELL_UP_TO = 256
NUMERIC_SAMPLERS = ("cmaes", "qmc")
NO_PRUNING = PruningConfig((), 2, 0, 0, 0.0, 1.0)


@dataclass(frozen=True)
class Sweep:
    """A command for a study, past the gate.

    Attributes:
        plan: what a new study freezes; None where the command only names a study that exists.
        study: what this command asks of it.
        n_trials: how many trials it asks for in total; None leaves the number as it was.
        tracking: where its runs are recorded.
        emissions: whose electricity is used.
        workers: who runs its trials on this machine.
        fixed: the words that decide a trial and are the same for all.
        said: keys and groups that the command names.
    """

    plan: StudyPlan | None
    study: StudyConfig
    n_trials: int | None
    tracking: TrackingConfig
    emissions: EmissionsConfig
    workers: WorkersConfig
    fixed: tuple[str, ...]
    said: frozenset[str]


def pass_sweep(words: Sequence[str]) -> Sweep:
    """Passes the words of a command for a study.

    Raises:
        ConfigError: all that is wrong with any cell, at once.
    """
    problems: list[Problem] = []
    services: Services | None = None
    with open_composer() as composer:
        said = sort_words(words, composer, problems)
        if said.values.get("resume") is not None:
            problems.append(Problem("resume", "is for a run by itself: a study goes on by its own -m command"))
        cells = compose_cells(said, composer, problems)
        try:
            services = read_services(cells[0])
        except ConfigError as error:
            problems += error.problems
        names_study = "study.name" in said.values or (services is not None and services.study.name is not None)
        if names_study and not said.touches_trials:
            if problems or services is None:
                raise ConfigError(problems)
            return _resumed(services, said)
        searched = _searched_axes(cells, said, composer, problems)
        groups = tuple(axis.key for axis in said.axes if is_group(composer, axis.key))
    axes = (*said.axes, *searched)
    sampled = bool(searched) or not all(is_discrete(axis) for axis in axes)
    study = services.study if services is not None else None
    plan = StudyPlan(
        axes=axes,
        cells={cell.name: trial_sections(cell) for cell in cells},
        groups=groups,
        sampler=study.sampler if study is not None and sampled else "grid",
        seed=study.seed if study is not None else 0,
        objectives=study.objectives if study is not None else DEV_METRICS[:1],
        pruner=study.pruner if study is not None else "none",
        pruning=study.pruning if study is not None else NO_PRUNING,
        duplicates=study.duplicates if study is not None else "reuse",
        enqueue=study.enqueue if study is not None else (),
        warm_start=study.warm_start if study is not None else None,
    )
    n_trials = _count_trials(plan, study, said, problems) if study is not None else None
    problems += _check_device(cells)
    problems += check_cells(plan, services.workers.processes_per_trial if services is not None else 1)
    if problems or services is None:
        raise ConfigError(problems)
    fixed = tuple(said.fixed)
    return Sweep(
        plan, services.study, n_trials, services.tracking, services.emissions, services.workers, fixed, said.keys
    )


def _resumed(services: Services, said: Words) -> Sweep:
    study = services.study
    return Sweep(None, study, study.n_trials, services.tracking, services.emissions, services.workers, (), said.keys)


def _searched_axes(cells: Sequence[Cell], said: Words, composer: Composer, problems: list[Problem]) -> list[Axis]:
    """The axes of the search file, less those the command itself sweeps or fixes."""
    found: list[Problem] = []
    axes: list[Axis] = []
    try:
        name, space = read_search(resolve(cells[0].composed, {}, ("search",))["search"], found)
        mine = {axis.key for axis in said.axes} | said.refused | set(said.values) | set(said.choices)
        rest = {key: entry for key, entry in space.items() if key not in mine}
        if space and not rest and not said.axes and not said.refused:
            fixed = ", ".join(space)
            found.append(Problem("search", f"search={name} searches {fixed}, and this command fixes it; leave one out"))
        found += _check_keys_of_space(rest, name, cells, composer)
        if not found:
            axes = _axes_of(rest, name, cells)
    except ConfigError as error:
        found += error.problems
    if found:
        said.refused.add("search")
        problems += found
    elif not axes and not said.axes and not said.refused and not said.unknown:
        message = "nothing is swept; give several values (loss=mnrl,cosent), a search (search=lr), or only study.name"
        if "study.name" in said.values:
            frozen = ", ".join(key for key in sorted(said.keys) if section_of(key) in TRIAL_SECTIONS)
            message = (
                f"nothing is swept; to go on with study {said.values['study.name']} leave out {frozen}: it is frozen"
            )
        problems.append(Problem("-m", message))
    return axes


def _axes_of(space: Mapping[str, Any], name: str, cells: Sequence[Cell]) -> list[Axis]:
    centres = {key: str(entry["of"]) for key, entry in space.items() if isinstance(entry, Mapping) and "of" in entry}
    sections = {section_of(centre) for centre in centres.values()}
    lookups = []
    for cell in cells:
        tree = resolve(cell.composed, {}, [section for section in sections if section in cell.composed])
        lookups.append({centre: value_at(tree, centre) for centre in centres.values()})
    if any(lookup != lookups[0] for lookup in lookups):
        keys = ", ".join(centres)
        values = ", ".join(dict.fromkeys(shown(value) for lookup in lookups for value in lookup.values()))
        message = (
            f"search={name} looks around {', '.join(dict.fromkeys(centres.values()))}, which differs between the "
            f"swept options ({values}); sweep {keys} on the command line instead"
        )
        raise ConfigError.single("search", message)
    return axes_of_space(space, lookups[0], name)


def _check_keys_of_space(
    space: Mapping[str, Any], name: str, cells: Sequence[Cell], composer: Composer
) -> Iterator[Problem]:
    for key in space:
        where = f"search={name}, {key}"
        lacking = next((cell for cell in cells if not has_key(cell.composed, key)), None)
        if is_group(composer, key):
            yield Problem(where, f"options are swept on the command line: {key}=a,b")
        elif lacking is not None:
            yield Problem(where, f"no such key{nearest_key(key, list(leaf_keys(lacking.composed)))}")
        elif section_of(key) not in TRIAL_SECTIONS or one_for_all(key) is not None:
            yield Problem(where, "is the same for all trials of a study and cannot be searched")


def _count_trials(plan: StudyPlan, study: StudyConfig, said: Words, problems: list[Problem]) -> int | None:
    """How many trials the command asks for; None where that cannot be said, which is noted."""
    if said.refused or not plan.axes:
        return study.n_trials
    if plan.sampler == "grid":
        size = grid_size(plan.axes)
        if study.n_trials is None or study.n_trials <= size:
            return study.n_trials or size
        if {"study.n_trials", "search.n_trials"} & set(said.values):
            cells = f"{size} cell{'s' if size > 1 else ''}, each run once"
            problems.append(Problem("study.n_trials", f"the grid has {cells}, but got {study.n_trials}"))
        return size
    if study.n_trials is None:
        drawn = ", ".join(axis.key for axis in plan.axes if not is_discrete(axis)) or "the search"
        problems.append(Problem("study.n_trials", f"{drawn} is sampled: say how many trials, as study.n_trials=20"))
    categorical = [axis.key for axis in plan.axes if isinstance(axis, DiscreteAxis)]
    if plan.sampler in NUMERIC_SAMPLERS and categorical:
        message = f"{plan.sampler} takes ranges only, and {', '.join(categorical)} is a list of choices; use tpe or gp"
        problems.append(Problem("study.sampler", message))
    return study.n_trials


def _check_device(cells: Sequence[Cell]) -> Iterator[Problem]:
    devices = dict.fromkeys(shown(value_at(cell.composed, "trainer.device")) for cell in cells)
    if len(devices) > 1:
        yield Problem("trainer.device", f"{ONE_FOR_ALL['trainer.device']}; the swept options say {', '.join(devices)}")


def check_cells(plan: StudyPlan, processes: int) -> Iterator[Problem]:
    """What is wrong with any cell of a plan, on this machine and at this moment.

    Args:
        plan: the study's.
        processes: how many train each trial together.
    """
    seen: set[str] = set()
    pairs: list[tuple[dict[str, Choice], tuple[str, str]]] = []
    for params in _probe_cells(plan):
        key = canonical(params)
        if key in seen:
            continue
        seen.add(key)
        try:
            config = cell_config(plan, params)
            pairs.append((params, scored_on(config)))
        except ConfigError as error:
            yield from error.problems
            continue
        yield from check_processes(config, processes)
    for axis in plan.axes:
        yield from _check_scored_alike(axis.key, pairs)


def _check_scored_alike(axis: str, pairs: Sequence[tuple[Mapping[str, Choice], tuple[str, str]]]) -> Iterator[Problem]:
    """Whether cells that differ in one axis only are scored on the same pairs; ``pairs`` has those of sound cells."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for params, digests in pairs:
        rest = canonical({key: value for key, value in params.items() if key != axis})
        alike.setdefault(rest, []).append(digests)
    differing = [
        split
        for index, split in enumerate(("dev", "test"))
        if any(len({digests[index] for digests in cells}) > 1 for cells in alike.values())
    ]
    if differing:
        mend = " and ".join(f"evaluation.{split}" for split in differing)
        message = (
            f"gives the cells different {' and '.join(differing)} pairs, whose scores cannot be compared: set {mend}"
        )
        yield Problem(axis, message)


def _probe_cells(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    """Cells that show whether a plan is right: all of a small grid; of a large one, all pairs of two axes' values."""
    keys = [axis.key for axis in plan.axes]
    probes = [probes_of(axis) for axis in plan.axes]
    if math.prod(map(len, probes)) <= EVERY_CELL_UP_TO:
        for cell in itertools.product(*probes):
            yield dict(zip(keys, cell, strict=True))
        return
    first = dict(zip(keys, (values[0] for values in probes), strict=True))
    yield from ({**first, keys[0]: value} for value in probes[0])
    for one, other in itertools.combinations(range(len(keys)), 2):
        for left, right in itertools.product(probes[one], probes[other]):
            yield {**first, keys[one]: left, keys[other]: right}
