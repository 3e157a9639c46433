"""The sections that are no part of a trial: ``study``, ``tracking``, ``emissions``, ``search``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from embedsweep.config import shown
from embedsweep.errors import Problem
from embedsweep.gate.reader import Reader
from embedsweep.schema import DEV_METRICS, EmissionsConfig, KeepModels, SamplerName, StudyConfig, TrackingConfig


def read_study(section: object, problems: list[Problem]) -> StudyConfig:
    """The ``study`` section."""
    reader = Reader(section, "study", problems)
    config = StudyConfig(
        name=reader.optional_text("name"),
        n_trials=reader.optional_integer("n_trials", at_least=1),
        timeout=reader.optional_real("timeout", above=0),
        objective=reader.one_of("objective", DEV_METRICS),
        sampler=reader.one_of("sampler", get_args(SamplerName)),
        seed=reader.integer("seed", at_least=0),
        storage=reader.optional_text("storage"),
        keep_models=reader.one_of("keep_models", get_args(KeepModels)),
    )
    reader.finish()
    return config


def read_tracking(section: object, problems: list[Problem]) -> TrackingConfig:
    """The ``tracking`` section."""
    reader = Reader(section, "tracking", problems)
    config = TrackingConfig(name=reader.text("name"), uri=reader.text("uri"))
    reader.finish()
    return config


def read_emissions(section: object, problems: list[Problem]) -> EmissionsConfig:
    """The ``emissions`` section."""
    reader = Reader(section, "emissions", problems)
    config = EmissionsConfig(name=reader.text("name"), country_iso_code=reader.optional_text("country_iso_code"))
    reader.finish()
    return config


def read_search(section: object, problems: list[Problem]) -> tuple[str, Mapping[str, Any]]:
    """The ``search`` section: its name and its space; ``n_trials`` is read through ``study.n_trials``."""
    reader = Reader(section, "search", problems)
    name, space = reader.text("name"), reader.raw("space")
    reader.optional_integer("n_trials", at_least=1)
    if not isinstance(space, Mapping):
        reader.problem("space", f"must map keys to what they are searched over, but got {shown(space)}")
        space = {}
    reader.finish()
    return name, space
