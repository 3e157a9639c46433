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
from embedsweep.validation.resume import Resumed, read_resumed, refuse_changes, resumed_name, services_said
from embedsweep.validation.rules.training import check_processes
from embedsweep.validation.sections import read_section
from embedsweep.validation.services import Services, check_tracking, read_services
from embedsweep.validation.words import STUDY_KEYS_OF_A_TRIAL, Cell, Words, compose_cells, section_of, sort_words


@dataclass(frozen=True)
class SingleRun:
    """A command for one run, past the gate.

    Attributes:
        config: what is run.
        tracking: where it is recorded.
        emissions: whose electricity is used.
        resumed: the earlier run that it goes on with; None starts anew.
        services_said: the words on tracking and emissions, which the run does not keep.
        processes: how many train it together.
    """

    config: TrialConfig
    tracking: TrackingConfig
    emissions: EmissionsConfig
    resumed: Resumed | None
    services_said: tuple[str, ...]
    processes: int


def pass_single(words: Sequence[str]) -> SingleRun:
    """Passes the words of a command for one run.

    Raises:
        ConfigError: all that is wrong, at once.
    """
    problems: list[Problem] = []
    services: Services | None = None
    config: TrialConfig | None = None
    resumed: Resumed | None = None
    with open_composer() as composer:
        said = sort_words(words, composer, problems)
        problems += _only_for_studies(said)
        said.axes.clear()
        if resumes := said.values.get("resume") is not None:
            problems += refuse_changes(said)
        (cell,) = compose_cells(said, composer, problems)
        try:
            services = read_services(cell)
        except ConfigError as error:
            problems += error.problems
        try:
            # The objective of services that are wrong does not matter: the command is refused.
            if resumes:
                config, resumed = read_resumed(resumed_name(words, said), said, cell)
            else:
                config = _read_config(cell, services)
        except ConfigError as error:
            problems += error.problems
    processes = services.workers.processes_per_trial if services is not None else 1
    if config is not None:
        problems += check_processes(config, processes)
    if problems or services is None or config is None:
        raise ConfigError(problems)
    return SingleRun(config, services.tracking, services.emissions, resumed, services_said(words), processes)


def _read_config(cell: Cell, services: Services | None) -> TrialConfig:
    if services is None:
        return read_cell(trial_sections(cell), {}, "")
    study = services.study
    # Nothing prunes a single run, but scored at its study's rungs it is the very same trial.
    rungs = study.pruning.rungs if study.pruner != "none" else ()
    return read_cell(trial_sections(cell), {}, study.objective, rungs)


def _only_for_studies(said: Words) -> Iterator[Problem]:
    for axis in said.axes:
        yield Problem(axis.key, "several values make a study: add -m")
    if said.choices.get("search", "none") != "none":
        yield Problem("search", f"search={said.choices['search']} makes a study: add -m")
    if said.choices.get("workers", "inline") != "inline":
        yield Problem("workers", f"workers={said.choices['workers']} runs the trials of a study: add -m")
    for key in said.values:
        if section_of(key) == "search" or (section_of(key) == "study" and key not in STUDY_KEYS_OF_A_TRIAL):
            yield Problem(key, "is a study's, and this is one run: add -m, or leave it out")


def read_store(words: Sequence[str]) -> TrackingConfig:
    """Return the store that overrides of the group ``tracking`` name; without any, the default one.

    Raises:
        ConfigError: all that is wrong, at once.
    """
    known = [word for word in words if word.startswith(("tracking.", "tracking="))]
    problems = [
        Problem(word, "unexpected argument; the store is --tracking-uri URI") for word in words if word not in known
    ]
    with open_composer() as composer:
        overrides = sort_words(known, composer, problems)
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
    """A command for an audit, past the gate.

    Attributes:
        data: what is trained on.
        evaluation: what selects and reports.
        model: whose tokens are counted.
    """

    data: DataConfig
    evaluation: EvaluationConfig
    model: ModelConfig


def pass_audit(words: Sequence[str]) -> AuditRequest:
    """Passes the words of ``embedsweep audit``; every word of a single run is understood.

    The data itself is not read here.

    Raises:
        ConfigError: all that is wrong, at once.
    """
    problems: list[Problem] = []
    request: AuditRequest | None = None
    with open_composer() as composer:
        said = sort_words(words, composer, problems)
        problems += [Problem(axis.key, "data is audited as one run has it: give one value") for axis in said.axes]
        said.axes.clear()
        (cell,) = compose_cells(said, composer, problems)
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
