"""Validate the overrides of a command for one run, of ``audit``, and of the store of ``ui`` and ``sync``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedsweep.config.compose import open_composer
from embedsweep.config.study import EmissionsConfig, TrackingConfig
from embedsweep.config.trial import DataConfig, EvaluationConfig, ModelConfig, TrialConfig
from embedsweep.config.values import resolve
from embedsweep.errors import ConfigError, Problem
from embedsweep.validation.cells import read_cell, trial_sections
from embedsweep.validation.overrides import (
    STUDY_KEYS_OF_A_TRIAL,
    Cell,
    Overrides,
    compose_cells,
    section_of,
    sort_overrides,
)
from embedsweep.validation.resume import Resumed, read_resumed, refuse_changes, resumed_name, service_overrides
from embedsweep.validation.rules.training import check_processes
from embedsweep.validation.sections import read_section
from embedsweep.validation.services import Services, check_tracking, read_services


@dataclass(frozen=True)
class SingleRun:
    """A validated command for one run.

    Attributes:
        config: what is run.
        tracking: where it is recorded.
        emissions: whose electricity is used.
        resumed: the earlier run that it resumes; None starts a new one.
        service_overrides: the overrides of tracking, emissions and workers, as typed, which the run does not keep.
        processes: how many processes train it together.
    """

    config: TrialConfig
    tracking: TrackingConfig
    emissions: EmissionsConfig
    resumed: Resumed | None
    service_overrides: tuple[str, ...]
    processes: int


def pass_single(words: Sequence[str]) -> SingleRun:
    """Validate a command for one run.

    Raises:
        ConfigError: everything wrong with it.
    """
    problems: list[Problem] = []
    services: Services | None = None
    config: TrialConfig | None = None
    resumed: Resumed | None = None
    with open_composer() as composer:
        overrides = sort_overrides(words, composer, problems)
        problems += _only_for_studies(overrides)
        overrides.axes.clear()
        if resumes := overrides.values.get("resume") is not None:
            problems += refuse_changes(overrides)
        (cell,) = compose_cells(overrides, composer, problems)
        try:
            services = read_services(cell)
        except ConfigError as error:
            problems += error.problems
        try:
            # With invalid services the objective does not matter: the command is refused.
            if resumes:
                config, resumed = read_resumed(resumed_name(words, overrides), overrides, cell)
            else:
                config = _read_config(cell, services)
        except ConfigError as error:
            problems += error.problems
    processes = services.workers.processes_per_trial if services is not None else 1
    if config is not None:
        problems += check_processes(config, processes)
    if problems or services is None or config is None:
        raise ConfigError(problems)
    return SingleRun(config, services.tracking, services.emissions, resumed, service_overrides(words), processes)


def _read_config(cell: Cell, services: Services | None) -> TrialConfig:
    if services is None:
        return read_cell(trial_sections(cell), {}, "")
    study = services.study
    # Nothing prunes a single run, but evaluated at its study's rungs it is the same trial.
    rungs = study.pruning.rungs if study.pruner != "none" else ()
    return read_cell(trial_sections(cell), {}, study.objective, rungs)


def _only_for_studies(overrides: Overrides) -> Iterator[Problem]:
    for axis in overrides.axes:
        yield Problem(axis.key, "several values need a study: add -m")
    if overrides.choices.get("search", "none") != "none":
        yield Problem("search", f"search={overrides.choices['search']} needs a study: add -m")
    if overrides.choices.get("workers", "inline") != "inline":
        yield Problem("workers", f"workers={overrides.choices['workers']} runs the trials of a study: add -m")
    for key in overrides.values:
        if section_of(key) == "search" or (section_of(key) == "study" and key not in STUDY_KEYS_OF_A_TRIAL):
            yield Problem(key, "is for studies, and this is one run: add -m, or leave it out")


def read_store(words: Sequence[str]) -> TrackingConfig:
    """Return the store that overrides of the group ``tracking`` name; without any, the default one.

    Raises:
        ConfigError: everything wrong with it.
    """
    known = [word for word in words if word.startswith(("tracking.", "tracking="))]
    problems = [
        Problem(word, "unexpected argument; the store is --tracking-uri URI") for word in words if word not in known
    ]
    with open_composer() as composer:
        overrides = sort_overrides(known, composer, problems)
        problems += [Problem(axis.key, "takes one store") for axis in overrides.axes]
        overrides.axes.clear()
        (cell,) = compose_cells(overrides, composer, problems)
        try:
            tracking = read_section(
                TrackingConfig, "tracking", resolve(cell.composed, {}, ("tracking",))["tracking"], problems
            )
            problems += check_tracking(tracking)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tracking


SECTIONS = ("data", "evaluation", "model")


@dataclass(frozen=True)
class AuditRequest:
    """A validated command for an audit.

    Attributes:
        data: what is trained on.
        evaluation: what selects and reports.
        model: whose tokens are counted.
    """

    data: DataConfig
    evaluation: EvaluationConfig
    model: ModelConfig


def pass_audit(words: Sequence[str]) -> AuditRequest:
    """Validate the words of ``embedsweep audit``; every word of a single run is understood.

    The data itself is not read here.

    Raises:
        ConfigError: everything wrong with it.
    """
    problems: list[Problem] = []
    request: AuditRequest | None = None
    with open_composer() as composer:
        overrides = sort_overrides(words, composer, problems)
        problems += [Problem(axis.key, "data is audited as one run has it: give one value") for axis in overrides.axes]
        overrides.axes.clear()
        (cell,) = compose_cells(overrides, composer, problems)
        try:
            tree = resolve(cell.composed, {}, SECTIONS)
            request = AuditRequest(
                data=read_section(DataConfig, "data", tree["data"], problems),
                evaluation=read_section(EvaluationConfig, "evaluation", tree["evaluation"], problems),
                model=read_section(ModelConfig, "model", tree["model"], problems),
            )
        except ConfigError as error:
            problems += error.problems
    if problems or request is None:
        raise ConfigError(problems)
    return request
