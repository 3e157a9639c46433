"""The words of a command for a study, past the gate: one plan, and every cell of it checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from embedsweep.config.axes import grid_size, is_discrete
from embedsweep.config.compose import open_composer
from embedsweep.config.constraints import parse_constraint
from embedsweep.config.study import (
    DiscreteAxis,
    EmissionsConfig,
    PruningConfig,
    SearchConfig,
    StudyConfig,
    StudyPlan,
    TrackingConfig,
    WorkersConfig,
)
from embedsweep.config.trial import DEV_METRICS
from embedsweep.config.values import has_key, leaf_keys, nearest_key, resolve, shown, value_at
from embedsweep.errors import ConfigError, Problem
from embedsweep.validation.cells import count_cells, trial_sections
from embedsweep.validation.search import check_cells, read_points, searched_axes
from embedsweep.validation.sections import TRIAL_SECTIONS, read_section
from embedsweep.validation.services import Services, check_reach, check_shares, read_services
from embedsweep.validation.words import ONE_FOR_ALL, Cell, Words, compose_cells, section_of, sort_words

NUMERIC_SAMPLERS = ("cmaes", "qmc")
COUNTED_UP_TO = 100_000
"""Cells of a grid that are looked at one by one to count those that keep the constraints; some ten seconds."""
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
        search = _read_search(cells[0], said, problems)
        searched = searched_axes(search, cells, said, composer, problems)
        problems += _check_search(search, searched, said)
        groups = tuple(axis.key for axis in said.axes if composer.is_group(axis.key))
    axes = (*said.axes, *searched)
    sampled = bool(searched) or not all(is_discrete(axis) for axis in axes)
    study = services.study if services is not None else None
    asked = study.sampler if study is not None else "exhaustive"
    plan = StudyPlan(
        axes=axes,
        cells={cell.name: trial_sections(cell) for cell in cells},
        groups=groups,
        sampler=asked if sampled else "exhaustive",
        seed=study.seed if study is not None else 0,
        objectives=study.objectives if study is not None else DEV_METRICS[:1],
        pruner=study.pruner if study is not None else "none",
        pruning=study.pruning if study is not None else NO_PRUNING,
        duplicates=study.duplicates if study is not None else "reuse",
        enqueue=(),
        warm_start=study.warm_start if study is not None else None,
        constraints=tuple(_sound_constraints(search, cells, problems)),
    )
    if study is not None and axes:
        plan = replace(plan, enqueue=read_points(plan, study.enqueue, problems))
    n_trials = _count_trials(plan, study, search, said, problems) if study is not None else None
    if n_trials is not None and len(plan.enqueue) > n_trials:
        message = (
            f"has {len(plan.enqueue)} configurations, and study.n_trials={n_trials} is less: try fewer, or say more"
        )
        problems.append(Problem("study.enqueue", message))
    problems += _check_device(cells)
    if services is not None:
        problems += check_reach(services.study.storage, services.tracking)
        problems += check_shares(services.workers, shown(value_at(cells[0].composed, "trainer.device")))
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


def _read_search(cell: Cell, said: Words, problems: list[Problem]) -> SearchConfig:
    found: list[Problem] = []
    search = SearchConfig("", None, {}, (), ())
    try:
        search = read_section(SearchConfig, "search", resolve(cell.composed, {}, ("search",))["search"], found)
    except ConfigError as error:
        found += error.problems
    if found:
        said.refused.add("search")
        problems += found
    return search


def _check_search(search: SearchConfig, searched: Sequence[object], said: Words) -> Iterator[Problem]:
    """Whether the command sweeps or searches anything."""
    if searched or said.axes or said.refused:
        return
    if search.space:
        fixed = ", ".join(search.space)
        yield Problem("search", f"search={search.name} searches {fixed}, and this command fixes it; leave one out")
    elif search.option_spaces:
        sections = " and ".join(search.option_spaces)
        message = f"search={search.name} searches what options of {sections} bring: these bring none, or it is fixed"
        yield Problem("search", message)
    elif not said.unknown:
        message = "nothing is swept; give several values (loss=mnrl,cosent), a search (search=lr), or only study.name"
        if "study.name" in said.values:
            frozen = ", ".join(key for key in sorted(said.keys) if section_of(key) in TRIAL_SECTIONS)
            message = (
                f"nothing is swept; to go on with study {said.values['study.name']} leave out {frozen}: it is frozen"
            )
        yield Problem("-m", message)


def _sound_constraints(search: SearchConfig, cells: Sequence[Cell], problems: list[Problem]) -> Iterator[str]:
    """The constraints that can be read and name keys that there are."""
    for text in search.constraints:
        try:
            constraint = parse_constraint(text)
        except ValueError as error:
            problems.append(Problem("search.constraints", f"'{text}': {error}"))
            continue
        unknown = [key for key in constraint.keys if not any(has_key(cell.composed, key) for cell in cells)]
        for key in unknown:
            suggestion = nearest_key(key, list(leaf_keys(cells[0].composed)))
            problems.append(Problem("search.constraints", f"'{text}': no such key: {key}{suggestion}"))
        if not unknown:
            yield text


def _count_trials(
    plan: StudyPlan, study: StudyConfig, search: SearchConfig, said: Words, problems: list[Problem]
) -> int | None:
    """How many trials the command asks for; None where that cannot be said, which is noted."""
    if said.refused or not plan.axes:
        return study.n_trials
    if plan.sampler == "exhaustive":
        return _count_cells(plan, study, search, said, problems)
    if study.n_trials is None:
        drawn = ", ".join(axis.key for axis in plan.axes if not is_discrete(axis)) or "the search"
        problems.append(Problem("study.n_trials", f"{drawn} is sampled: say how many trials, as study.n_trials=20"))
    categorical = [axis.key for axis in plan.axes if isinstance(axis, DiscreteAxis)]
    if plan.sampler in NUMERIC_SAMPLERS and categorical:
        message = f"{plan.sampler} takes ranges only, and {', '.join(categorical)} is a list of choices; use tpe or gp"
        problems.append(Problem("study.sampler", message))
    return study.n_trials


def _count_cells(
    plan: StudyPlan, study: StudyConfig, search: SearchConfig, said: Words, problems: list[Problem]
) -> int | None:
    """How many of a grid's cells the command asks for: all, where it does not say itself."""
    if continuous := ", ".join(dict.fromkeys(axis.key for axis in plan.axes if not is_discrete(axis))):
        message = f"exhaustive runs every cell once, and {continuous} is an interval: give it values, or use tpe"
        problems.append(Problem("study.sampler", message))
        return study.n_trials
    if plan.constraints and (size := grid_size(plan.axes)) > COUNTED_UP_TO:
        message = f"exhaustive looks at each cell, and there are {size}: sweep fewer values, or use tpe"
        problems.append(Problem("study.sampler", message))
        return study.n_trials
    try:
        size = count_cells(plan)
    except ValueError:
        return study.n_trials  # told with the cells
    is_said = bool({"study.n_trials", "search.n_trials"} & set(said.values)) or study.n_trials != search.n_trials
    if study.n_trials is None or not is_said or size == 0:
        return size
    if study.n_trials > size:
        cells = f"{size} cell{'s' if size > 1 else ''}, each run once"
        problems.append(Problem("study.n_trials", f"the grid has {cells}, but got {study.n_trials}"))
    return study.n_trials


def _check_device(cells: Sequence[Cell]) -> Iterator[Problem]:
    devices = dict.fromkeys(shown(value_at(cell.composed, "trainer.device")) for cell in cells)
    if len(devices) > 1:
        yield Problem("trainer.device", f"{ONE_FOR_ALL['trainer.device']}; the swept options say {', '.join(devices)}")
