"""The sections that are no part of a trial: ``study``, ``workers``, ``tracking``, ``emissions``, ``search``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from embedsweep.config.reader import Reader
from embedsweep.config.study import (
    EmissionsConfig,
    PruningConfig,
    SearchConfig,
    StudyConfig,
    TrackingConfig,
    WorkersConfig,
)
from embedsweep.config.trial import (
    DEV_METRICS,
    DIRECTIONS,
    Duplicates,
    KeepModels,
    PrunerName,
    SamplerName,
    WorkersName,
)
from embedsweep.config.values import nearest, shown
from embedsweep.errors import Problem


def read_study(section: object, problems: list[Problem]) -> StudyConfig:
    """The ``study`` section."""
    reader = Reader(section, "study", problems)
    config = StudyConfig(
        name=reader.optional_text("name"),
        n_trials=reader.optional_integer("n_trials", at_least=1),
        timeout=reader.optional_real("timeout", above=0),
        objectives=_objectives(reader),
        sampler=reader.one_of("sampler", get_args(SamplerName)),
        pruner=reader.one_of("pruner", get_args(PrunerName)),
        pruning=_pruning(reader.section("pruning")),
        seed=reader.integer("seed", at_least=0),
        storage=reader.optional_text("storage"),
        keep_models=reader.one_of("keep_models", get_args(KeepModels)),
        duplicates=reader.one_of("duplicates", get_args(Duplicates)),
        max_retries=reader.integer("max_retries", at_least=0),
        retry_failed=reader.boolean("retry_failed"),
        enqueue=_points(reader, "enqueue"),
        warm_start=reader.optional_text("warm_start"),
        dry_run=reader.boolean("dry_run"),
    )
    reader.finish()
    return config


def _objectives(reader: Reader) -> tuple[str, ...]:
    known = len(reader.problems)
    objectives = reader.texts("objective")
    for name in objectives:
        if name not in DIRECTIONS:
            reader.problem(
                "objective", f"no metric {name}{nearest(name, DIRECTIONS)}; there are: {', '.join(DIRECTIONS)}"
            )
    if len(set(objectives)) < len(objectives):
        reader.problem("objective", f"names a metric twice: {', '.join(objectives)}")
    if len(reader.problems) == known and not any(name in DEV_METRICS for name in objectives):
        reader.problem(
            "objective", f"must have a dev metric, which chooses a trial's best checkpoint: {', '.join(DEV_METRICS)}"
        )
    return objectives if len(reader.problems) == known else DEV_METRICS[:1]


def _pruning(reader: Reader) -> PruningConfig:
    rungs = reader.reals("rungs", above=0, below=1)
    if list(rungs) != sorted(set(rungs)):
        reader.problem("rungs", f"must rise, as [0.25,0.5], but got {shown(rungs)}")
    config = PruningConfig(
        rungs=rungs,
        reduction_factor=reader.integer("reduction_factor", at_least=2),
        n_startup_trials=reader.integer("n_startup_trials", at_least=0),
        patience=reader.integer("patience", at_least=0),
        min_delta=reader.real("min_delta", at_least=0),
        p_threshold=reader.real("p_threshold", above=0, at_most=1),
    )
    reader.finish()
    return config


def _points(reader: Reader, key: str) -> tuple[Mapping[str, object], ...]:
    """A list of configurations; one counts as a list of one, null as none."""
    value = reader.raw(key)
    points = [value] if isinstance(value, Mapping) else value or []
    if isinstance(points, list) and all(isinstance(point, Mapping) and point for point in points):
        return tuple(points)
    reader.problem(
        key, f"must be a list of configurations, as [{{optimizer.lr:2e-5,loss:mnrl}}], but got {shown(value)}"
    )
    return ()


def read_workers(section: object, problems: list[Problem]) -> WorkersConfig:
    """The ``workers`` section."""
    reader = Reader(section, "workers", problems)
    config = WorkersConfig(
        name=reader.one_of("name", get_args(WorkersName)),
        count=reader.optional_integer("count", at_least=1),
        per_device=reader.integer_or_auto("per_device", at_least=1),
        processes_per_trial=reader.integer("processes_per_trial", at_least=1),
        max_restarts=reader.integer("max_restarts", at_least=0),
        silence=reader.optional_real("silence", above=0),
        mps=reader.switch("mps"),
    )
    reader.finish()
    return config


def read_tracking(section: object, problems: list[Problem]) -> TrackingConfig:
    """The ``tracking`` section."""
    reader = Reader(section, "tracking", problems)
    config = TrackingConfig(name=reader.text("name"), uri=reader.text("uri"), spool=reader.boolean("spool"))
    reader.finish()
    return config


def read_emissions(section: object, problems: list[Problem]) -> EmissionsConfig:
    """The ``emissions`` section."""
    reader = Reader(section, "emissions", problems)
    config = EmissionsConfig(name=reader.text("name"), country_iso_code=reader.optional_text("country_iso_code"))
    reader.finish()
    return config


def read_search(section: object, problems: list[Problem]) -> SearchConfig:
    """The ``search`` section; how many trials are run is read through ``study.n_trials``."""
    reader = Reader(section, "search", problems)
    name, space = reader.text("name"), reader.raw("space")
    if not isinstance(space, Mapping):
        reader.problem("space", f"must map keys to what they are searched over, but got {shown(space)}")
        space = {}
    config = SearchConfig(
        name=name,
        n_trials=reader.optional_integer("n_trials", at_least=1),
        space=space,
        option_spaces=reader.texts("option_spaces"),
        constraints=reader.texts("constraints"),
    )
    reader.finish()
    return config
