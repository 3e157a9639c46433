"""Validate the overrides of a command for one run, of ``audit``, and of the store of ``ui`` and ``sync``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from embedsweep.config.compose import Composer, as_text_word, open_composer
from embedsweep.config.study import Choice, DiscreteAxis, TrackingConfig
from embedsweep.config.trial import DataConfig, EvaluationConfig, ModelConfig, TrialConfig
from embedsweep.config.values import chosen_options
from embedsweep.errors import ConfigError, Problem, gather_problems, raise_problems
from embedsweep.validation.cells import (
    DECIDES_A_TRIAL,
    Cell,
    Overrides,
    compose_cells,
    is_for_studies,
    read_cell,
    section_of,
    sort_overrides,
)
from embedsweep.validation.resume import Resumed, read_resumed, refuse_changes, resumed_name, service_overrides
from embedsweep.validation.rules.training import check_processes
from embedsweep.validation.sections import read_sections
from embedsweep.validation.services import Services, check_tracking, read_services

TEXT_KEYS = (".path", ".files", ".name")
"""Ends of keys whose text may well have a comma in it."""


@dataclass(frozen=True)
class SingleRun(Services):
    """A validated command for one run.

    Attributes:
        config: what is run.
        options: the options that the command chooses, by group.
        changed: key -> value, of what the command sets beside options.
        resumed: the earlier run that it resumes; None starts a new one.
        service_overrides: the overrides of tracking, emissions and workers, as typed, which the run does not keep.
    """

    config: TrialConfig
    options: Mapping[str, str]
    changed: Mapping[str, Choice]
    resumed: Resumed | None
    service_overrides: tuple[str, ...]

    @property
    def processes(self) -> int:
        """How many processes train it together."""
        return self.workers.processes_per_trial


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
        if resumes := overrides.values.get("resume") is not None:
            problems += refuse_changes(overrides)
        cell = _compose_one(overrides, composer, "several values need a study: add -m", problems)
        with gather_problems(problems):
            services = read_services(cell, has_own_evaluation=not resumes and "evaluation" not in overrides.unknown)
        with gather_problems(problems):
            if resumes:
                config, resumed = read_resumed(resumed_name(words, overrides), overrides, cell)
            else:
                # Nothing prunes a single run, but evaluated at its study's rungs it is the same trial.
                config = read_cell(cell.trial, {}, services.study if services is not None else None, overrides.unread)
    if config is not None and services is not None:
        problems += check_processes(config, services.workers.processes_per_trial)
    if problems or services is None or config is None:
        raise ConfigError(problems)
    return SingleRun(
        **vars(services),
        config=config,
        options=chosen_options(overrides.fixed),
        changed={key: value for key, value in overrides.values.items() if section_of(key) in DECIDES_A_TRIAL},
        resumed=resumed,
        service_overrides=service_overrides(words),
    )


def _compose_one(overrides: Overrides, composer: Composer, message: str, problems: list[Problem]) -> Cell:
    """Return the only cell of a command that sweeps nothing; what is swept is reported with ``message``."""
    for axis in overrides.axes:
        hint = ""
        if isinstance(axis, DiscreteAxis) and axis.key.endswith(TEXT_KEYS):
            word = as_text_word(axis.key, ",".join(map(str, axis.choices)))
            hint = f"; a text with a comma is written in quotes: {word}"
        problems.append(Problem(axis.key, message + hint))
        overrides.refused.add(axis.key)
    overrides.axes.clear()
    (cell,) = compose_cells(overrides, composer, problems)
    return cell


def _only_for_studies(overrides: Overrides) -> Iterator[Problem]:
    if overrides.choices.get("search", "none") != "none":
        yield Problem("search", f"search={overrides.choices['search']} needs a study: add -m")
    if overrides.choices.get("workers", "inline") != "inline":
        yield Problem("workers", f"workers={overrides.choices['workers']} runs the trials of a study: add -m")
    for key in overrides.values:
        if is_for_studies(key):
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
        cell = _compose_one(sort_overrides(known, composer, problems), composer, "takes one store", problems)
        with gather_problems(problems):
            tracking: TrackingConfig = read_sections(cell.composed, {"tracking": TrackingConfig}, problems)["tracking"]
            problems += check_tracking(tracking)
    raise_problems(problems)
    return tracking


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
        cell = _compose_one(overrides, composer, "data is audited as one run has it: give one value", problems)
        with gather_problems(problems):
            kinds = {"data": DataConfig, "evaluation": EvaluationConfig, "model": ModelConfig}
            request = AuditRequest(**read_sections(cell.composed, kinds, problems))
    if problems or request is None:
        raise ConfigError(problems)
    return request
