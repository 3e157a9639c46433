"""What all trials of a study share beside its plan: set by its first command, and agreed on with each later one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import optuna

from embedsweep.config.checkpoints import KEY as CHECKPOINTS_KEY
from embedsweep.config.checkpoints import CheckpointPlace
from embedsweep.config.identity import canonical
from embedsweep.config.study import StudyConfig, StudyPlan, StudyServices
from embedsweep.config.values import shown
from embedsweep.errors import Problem, raise_problems
from embedsweep.secrets import MASK, redact
from embedsweep.study.record import FIXED, OF_A_PLACE, WARM_START, WORDS
from embedsweep.validation.sweep import Sweep

SERVICES = "embedsweep.services"
CHECKPOINTS = "embedsweep.checkpoints"
"""User attribute of a study: the `CheckpointPlace` of its last command; null, or absent, if none has named one."""
KEEP_MODELS, COUNTRY, TRACKING = "study.keep_models", "emissions.country_iso_code", "tracking.uri"


def frozen_attributes(request: Sweep) -> dict[str, Any]:
    """Return what a study keeps of the command that creates it, beside the plan, as user attributes."""
    services = {
        KEEP_MODELS: request.study.keep_models,
        COUNTRY: request.emissions.country_iso_code,
        TRACKING: redact(request.tracking.uri),
    }
    searched = [word for word in request.words if not word.startswith(OF_A_PLACE)]
    words = {key: [redact(word) for word in each] for key, each in ((WORDS, searched), (FIXED, request.fixed))}
    return {WARM_START: None, **words, SERVICES: services}


def agree_on_services(study: optuna.Study, plan: StudyPlan, request: Sweep) -> StudyServices:
    """Return what all trials share, as the first command set it; later ones need not repeat it and cannot change it.

    Only ``tracking.uri``, ``study.max_retries``, ``study.max_deaths`` and ``study.checkpoints`` may change.

    Raises:
        ConfigError: a later command asks for something else.
    """
    kept: Mapping[str, Any] = study.user_attrs[SERVICES]
    requested: dict[str, Any] = {KEEP_MODELS: request.study.keep_models, COUNTRY: request.emissions.country_iso_code}
    if request.plan is None:  # else the other keys were compared as part of the plan
        requested |= _frozen_keys(request.study)
        requested = {key: value for key, value in requested.items() if key in request.overridden}
    frozen = {**kept, **_frozen_keys(plan)}
    problems = [
        Problem(key, f"is {shown(frozen[key])} in this study and cannot be changed to {shown(value)}; leave it out")
        for key, value in requested.items()
        if canonical(value) != canonical(frozen[key])
    ]
    raise_problems(problems)
    tracking = request.tracking
    if request.plan is None and not {TRACKING, "tracking"} & request.overridden and MASK not in kept[TRACKING]:
        tracking = replace(tracking, uri=kept[TRACKING])
    emissions = replace(request.emissions, country_iso_code=kept[COUNTRY])
    return StudyServices(
        kept[KEEP_MODELS],
        emissions,
        tracking,
        request.study.max_retries,
        request.study.max_deaths,
        _agreed_checkpoints(study.user_attrs.get(CHECKPOINTS), request),
    )


def _agreed_checkpoints(kept: Mapping[str, Any] | None, request: Sweep) -> CheckpointPlace | None:
    """Return where checkpoints are kept for other machines: as this command says, else as the last one did."""
    url = request.study.checkpoints
    if request.plan is None and kept is not None and not {CHECKPOINTS_KEY, "study"} & request.overridden:
        url = kept["url"]
    if kept is None and url is None:
        return None
    return CheckpointPlace(url, kept["own"] if kept is not None else uuid.uuid4().hex[:8])


def _frozen_keys(study: StudyConfig | StudyPlan) -> dict[str, Any]:
    """Return what a plan holds beside the trials' values, by configuration key."""
    return {
        "study.sampler": study.sampler,
        "study.seed": study.seed,
        "study.objective": study.objectives,
        "study.keep": [asdict(kept) for kept in study.keep],
        "study.pruner": study.pruner,
        **{f"study.pruning.{key}": value for key, value in asdict(study.pruning).items()},
        "study.duplicates": study.duplicates,
        "study.enqueue": study.enqueue,
        "study.warm_start": study.warm_start,
    }
