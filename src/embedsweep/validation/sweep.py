"""Validate a command for a study: one plan, with every cell of it checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from embedsweep.config.axes import grid_size, is_discrete
from embedsweep.config.compose import Composer, open_composer
from embedsweep.config.constraints import parse_constraint
from embedsweep.config.finals import FinalsConfig
from embedsweep.config.study import (
    Axis,
    DiscreteAxis,
    PruningConfig,
    SearchConfig,
    StudyConfig,
    StudyPlan,
)
from embedsweep.config.values import has_key, leaf_keys, listed, nearest, nearest_key, shown, value_at
from embedsweep.errors import ConfigError, Problem, gather_problems
from embedsweep.validation.cells import ONE_FOR_ALL, Cell, Overrides, compose_cells, section_of, sort_overrides
from embedsweep.validation.plan_cells import count_cells
from embedsweep.validation.search import check_cells, read_points, searched_axes
from embedsweep.validation.sections import TRIAL_SECTIONS, read_sections
from embedsweep.validation.services import (
    Services,
    check_reach,
    check_shares,
    evaluation_of,
    read_services,
)
from embedsweep.validation.strictest import set_strictest

NUMERIC_SAMPLERS = ("cmaes", "qmc")
COUNTED_UP_TO = 100_000
"""The most cells of a grid that are checked one by one to count those that keep the constraints: about ten seconds."""
NO_PRUNING = PruningConfig((), 2, 0, 0, 0.0, 1.0)


@dataclass(frozen=True)
class Sweep(Services):
    """A validated command for a study.

    Attributes:
        plan: what a new study freezes; None if the command only names an existing study.
        n_trials: the requested number of trials, in total; None leaves the number as it was.
        words: the command's overrides; empty if it only names an existing study.
        fixed: the overrides that decide a trial and are the same for all.
        overridden: keys and groups that the command sets to one value.
    """

    plan: StudyPlan | None
    n_trials: int | None
    words: tuple[str, ...]
    fixed: tuple[str, ...]
    overridden: frozenset[str]


def pass_sweep(words: Sequence[str]) -> Sweep:
    """Validate a command for a study.

    Args:
        words: the command's overrides (``loss=mnrl,cosent``).

    Raises:
        ConfigError: everything wrong with any cell.
    """
    problems: list[Problem] = []
    services: Services | None = None
    with open_composer() as composer:
        overrides = sort_overrides(words, composer, problems)
        if overrides.values.get("resume") is not None:
            problems.append(Problem("resume", "is for a single run: repeat a study's own -m command to resume it"))
        cells = compose_cells(overrides, composer, problems)
        is_named = "study.name" in overrides.values or value_at(cells[0].composed, "study.name") is not None
        names_study = is_named and not overrides.touches_trials
        with gather_problems(problems):
            is_own = not names_study and "evaluation" not in overrides.unknown
            services = read_services(cells[0], has_own_evaluation=is_own)
        if names_study:
            if problems or services is None:
                raise ConfigError(problems)
            n_trials = services.study.n_trials
            return Sweep(**vars(services), plan=None, n_trials=n_trials, words=(), fixed=(), overridden=overrides.keys)
        if services is not None:
            problems += _check_keep(services.study, cells[0], composer)
        search = _read_search(cells[0], overrides, problems)
        searched = searched_axes(search, cells, overrides, composer, problems)
        problems += _check_search(search, searched, overrides)
        set_strictest(cells, (*overrides.axes, *searched), overrides, problems)
        groups = tuple(axis.key for axis in overrides.axes if composer.is_group(axis.key))
    constraints = tuple(_sound_constraints(search, cells, problems))
    plan = _plan(overrides, searched, cells, groups, constraints, services.study if services is not None else None)
    n_trials = None
    if services is not None:
        study = services.study
        if plan.axes:
            plan = replace(plan, enqueue=read_points(plan, study.enqueue, problems))
        n_trials = _count_trials(plan, study, search, overrides, problems)
        if n_trials is not None:
            problems += check_n_trials(plan, study, n_trials)
        problems += check_finals_keys(study.finals, overrides.keys)
        if study.patience is None and "study.min_delta" in overrides.keys:
            message = "is for study.patience, which is not set: add study.patience=20, a number of trials"
            problems.append(Problem("study.min_delta", message))
        problems += check_reach(study.storage, services.tracking)
        problems += check_shares(services.workers, shown(value_at(cells[0].composed, "trainer.device")))
    problems += _check_device(cells)
    processes = services.workers.processes_per_trial if services is not None else 1
    problems += check_cells(plan, processes, overrides.unread)
    if problems or services is None:
        raise ConfigError(problems)
    fixed = tuple(overrides.fixed)
    given = tuple(words)
    return Sweep(**vars(services), plan=plan, n_trials=n_trials, words=given, fixed=fixed, overridden=overrides.keys)


def check_n_trials(plan: StudyPlan, study: StudyConfig, n_trials: int) -> Iterator[Problem]:
    """Check whether a new study has trials for all that it asks for.

    Args:
        plan: its plan.
        study: its section.
        n_trials: how many trials it will have: as requested, or as ``study.budget_hours`` buys.
    """
    hours = study.budget_hours
    if (count := len(plan.enqueue)) > n_trials:
        most = f"study.n_trials={n_trials}" if hours is None else f"the {n_trials} of study.budget_hours={hours:g}"
        yield Problem("study.enqueue", f"has {count} configurations, more than {most}: try fewer, or raise it")
    if study.patience is not None and study.patience >= n_trials:
        message = f"{study.patience} is never reached in a study of {n_trials} trials: set less, or leave it out"
        yield Problem("study.patience", message)


def check_finals_keys(finals: FinalsConfig, overridden: Collection[str]) -> Iterator[Problem]:
    """Report keys of finals that a command sets and that change nothing, as no finals are asked for."""
    for key in ("seeds", "soup"):
        if finals.top is None and f"study.finals.{key}" in overridden:
            message = "is for finals, and none are asked for: add study.finals.top=3, the number of configurations"
            yield Problem(f"study.finals.{key}", message)


def _plan(
    overrides: Overrides,
    searched: Sequence[Axis],
    cells: Sequence[Cell],
    groups: tuple[str, ...],
    constraints: tuple[str, ...],
    study: StudyConfig | None,
) -> StudyPlan:
    """Return the plan without points; with stand-ins if the ``study`` section is invalid."""
    axes = (*overrides.axes, *searched)
    is_sampled = bool(searched) or not all(is_discrete(axis) for axis in axes)
    return StudyPlan(
        axes=axes,
        cells={cell.name: cell.trial for cell in cells},
        groups=groups,
        sampler=study.sampler if study is not None and is_sampled else "exhaustive",
        seed=study.seed if study is not None else 0,
        objectives=study.objectives if study is not None else (),
        pruner=study.pruner if study is not None else "none",
        pruning=study.pruning if study is not None else NO_PRUNING,
        duplicates=study.duplicates if study is not None else "reuse",
        enqueue=(),
        warm_start=study.warm_start if study is not None else None,
        constraints=constraints,
        keep=study.keep if study is not None else (),
    )


def _read_search(cell: Cell, overrides: Overrides, problems: list[Problem]) -> SearchConfig:
    wrong: list[Problem] = []
    search = SearchConfig("", None, {}, (), ())
    with gather_problems(wrong):
        search = read_sections(cell.composed, {"search": SearchConfig}, wrong)["search"]
    if wrong:
        overrides.refused.add("search")
        problems += wrong
    return search


def _check_search(search: SearchConfig, searched: Sequence[object], overrides: Overrides) -> Iterator[Problem]:
    """Check whether the command sweeps or searches anything."""
    if searched or overrides.axes or overrides.refused:
        return
    if search.space:
        fixed = ", ".join(search.space)
        yield Problem("search", f"search={search.name} searches {fixed}, and this command fixes it; leave one out")
    elif search.option_spaces:
        sections = " and ".join(search.option_spaces)
        message = f"search={search.name} searches what options of {sections} bring: these bring none, or it is fixed"
        yield Problem("search", message)
    elif not overrides.unknown:
        message = "nothing is swept; give several values (loss=mnrl,cosent), a search (search=lr), or only study.name"
        if "study.name" in overrides.values:
            frozen = ", ".join(key for key in sorted(overrides.keys) if section_of(key) in TRIAL_SECTIONS)
            name = overrides.values["study.name"]
            message = f"nothing is swept; to resume study {name} leave out {frozen}, which is frozen"
        yield Problem("-m", message)


def _check_keep(study: StudyConfig, cell: Cell, composer: Composer) -> Iterator[Problem]:
    """Check that what must not be forgotten is watched, and that the untrained model is scored."""
    evaluation, keep = evaluation_of(cell), study.keep
    if evaluation is None or not keep:
        return
    watched = {each.name: (each.scoring or evaluation).metrics for each in evaluation.watch}
    for kept in keep:
        known = watched.get(kept.benchmark)
        if known is None:
            yield Problem("study.keep", _why_not_watched(kept.benchmark, list(watched), composer))
        elif kept.metric not in known:
            message = f"{kept.benchmark} has no metric {kept.metric}{nearest(kept.metric, known)}; there are: "
            yield Problem("study.keep", message + listed(known))
    names = [kept.name for kept in keep]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Problem("study.keep", f"names {name.replace('/', ' ')} twice")
    if not evaluation.before:
        yield Problem("study.keep", "compares with the untrained model, which evaluation.before=false leaves out")


def _why_not_watched(benchmark: str, watched: Sequence[str], composer: Composer) -> str:
    """Return why a benchmark cannot be kept, and what to do."""
    try:
        split = composer.benchmark(benchmark)["split"]
    except ConfigError as error:
        return str(error)
    if split == "test":
        return f"{benchmark} is a test benchmark, and dev selects: keep a dev benchmark, which evaluation.watch names"
    watching = ",".join([*watched, benchmark])
    return f"{benchmark} is not watched: add it to evaluation.watch: 'evaluation.watch=[{watching}]'"


def _sound_constraints(search: SearchConfig, cells: Sequence[Cell], problems: list[Problem]) -> Iterator[str]:
    """Return the constraints that can be parsed and name keys that exist."""
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
    plan: StudyPlan, study: StudyConfig, search: SearchConfig, overrides: Overrides, problems: list[Problem]
) -> int | None:
    """Return how many trials the command requests; None where that is unknown, which is noted."""
    has_budget = study.budget_hours is not None
    if has_budget and "study.n_trials" in overrides.values:
        message = "decides the number of trials, and study.n_trials does so, too: leave one of them out"
        problems.append(Problem("study.budget_hours", message))
    if overrides.refused or not plan.axes:
        return study.n_trials
    if plan.sampler == "exhaustive":
        return _count_cells(plan, study, search, overrides, problems)
    if study.n_trials is None and not has_budget:
        drawn = ", ".join(axis.key for axis in plan.axes if not is_discrete(axis)) or "the search"
        problems.append(Problem("study.n_trials", f"{drawn} is sampled: set a number of trials, as study.n_trials=20"))
    categorical = [axis.key for axis in plan.axes if isinstance(axis, DiscreteAxis)]
    if plan.sampler in NUMERIC_SAMPLERS and categorical:
        message = f"{plan.sampler} takes ranges only, and {', '.join(categorical)} is a list of choices; use tpe or gp"
        problems.append(Problem("study.sampler", message))
    return study.n_trials if not has_budget else None


def _count_cells(
    plan: StudyPlan, study: StudyConfig, search: SearchConfig, overrides: Overrides, problems: list[Problem]
) -> int | None:
    """Return the requested number of a grid's cells: all, unless the command sets another."""
    if continuous := ", ".join(dict.fromkeys(axis.key for axis in plan.axes if not is_discrete(axis))):
        message = f"exhaustive runs every cell once, and {continuous} is an interval: give it values, or use tpe"
        problems.append(Problem("study.sampler", message))
        return study.n_trials
    if plan.constraints and (size := grid_size(plan.axes)) > COUNTED_UP_TO:
        message = f"exhaustive checks each of the {size} cells: sweep fewer values, or use tpe"
        problems.append(Problem("study.sampler", message))
        return study.n_trials
    try:
        size = count_cells(plan)
    except ValueError:
        return study.n_trials  # reported with the cells
    is_set = bool({"study.n_trials", "search.n_trials"} & set(overrides.values)) or study.n_trials != search.n_trials
    if study.n_trials is None or study.budget_hours is not None or not is_set or size == 0:
        return size
    if study.n_trials > size:
        cells = f"{size} cell{'s' if size > 1 else ''}, each run once"
        problems.append(Problem("study.n_trials", f"the grid has {cells}, but got {study.n_trials}"))
    return study.n_trials


def _check_device(cells: Sequence[Cell]) -> Iterator[Problem]:
    devices = dict.fromkeys(shown(value_at(cell.composed, "trainer.device")) for cell in cells)
    if len(devices) > 1:
        yield Problem("trainer.device", f"{ONE_FOR_ALL['trainer.device']}; the swept options have {', '.join(devices)}")
