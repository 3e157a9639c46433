"""A study is created, opened again, or refused.

Owns what is frozen with a study and what later commands may change. Knows nothing of its trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from embedsweep.config import shown
from embedsweep.errors import ConfigError, Problem, StudyError
from embedsweep.gate import Sweep, count_cells
from embedsweep.plan import plan_differences, plan_of, plan_tree, study_name
from embedsweep.schema import StudyPlan, StudyServices
from embedsweep.secrets import MASK, redact
from embedsweep.study.storage import open_storage, study_lock
from embedsweep.study.study import FIXED, N_TRIALS, SWEEPS, WARM_START, Study
from embedsweep.study.warm_start import first_point

PLAN = "embedsweep.plan"
STUDY_FILE = "study.yaml"
SERVICES = "embedsweep.services"
KEEP_MODELS, COUNTRY, TRACKING = "study.keep_models", "emissions.country_iso_code", "tracking.uri"


def open_study(sweep: Sweep) -> Study:
    """Creates the study a command asks for, or opens it if it exists.

    Raises:
        ConfigError: there is no study of that name, or what is asked differs from what was frozen.
        StudyError: its storage cannot be opened.
    """
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    asked = sweep.plan
    if asked is None and sweep.study.name is None:
        raise ValueError("a sweep has a plan or names a study")
    name = sweep.study.name or study_name(asked)  # type: ignore[arg-type]  # one of both is given
    folder = SWEEPS / name
    url = _agree_on_storage(folder, sweep.study.storage)
    if asked is None and url is None and not (folder / STUDY_FILE).is_file():
        raise _no_such_study(name, [])
    with study_lock(url, folder, name):
        storage = open_storage(url, folder)
        try:
            study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
        except KeyError:
            if asked is None:
                raise _no_such_study(name, [found.study_name for found in storage.get_all_studies()]) from None
            study = _create(name, storage)
        if asked is not None and _is_unmade(study):
            first = first_point(asked, SWEEPS, storage, url, PLAN)  # it may be refused, and nothing is frozen then
            _freeze(study, asked, sweep, first)
        plan = _frozen_plan(study, name, url)
        if asked is not None and (different := plan_differences(plan, asked)):
            message = (
                f"exists and was asked something else: {'; '.join(different)}. Give another study.name, or only it"
            )
            raise ConfigError.single(f"study {name}", message)
        n_trials = _agree_on_n_trials(study, plan, sweep.n_trials)
        _write_study_file(folder, plan, url)
        services = _agree_on_services(study, plan, sweep)
    return Study(name, plan, services, n_trials, url, study)


def _create(name: str, storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(
        study_name=name,
        storage=storage,
        directions=[StudyDirection.MAXIMIZE],
        pruner=NopPruner(),  # Optuna's default prunes by the median
    )


def _is_unmade(study: optuna.Study) -> bool:
    """Whether the study is new, or whoever made it was killed before its plan was written."""
    return PLAN not in study.user_attrs and not study.trials and study.direction is StudyDirection.MAXIMIZE


def _freeze(study: optuna.Study, plan: StudyPlan, asked: Sweep, first: Mapping[str, Any] | None) -> None:
    """Writes the plan into an empty study; it comes last, so that a study that has it is whole."""
    study.set_user_attr(WARM_START, first)
    study.set_user_attr(FIXED, [redact(word) for word in asked.fixed])
    services = {
        KEEP_MODELS: asked.study.keep_models,
        COUNTRY: asked.emissions.country_iso_code,
        TRACKING: redact(asked.tracking.uri),
    }
    study.set_user_attr(SERVICES, services)
    study.set_user_attr(PLAN, json.dumps(plan_tree(plan)))


def _frozen_plan(study: optuna.Study, name: str, url: str | None) -> StudyPlan:
    written = study.user_attrs.get(PLAN)
    if written is None:
        where = redact(url) if url else str(SWEEPS / name)
        raise StudyError(f"the study {name} in {where} was not made by embedsweep; give another study.name")
    return plan_of(json.loads(written))


def _agree_on_n_trials(study: optuna.Study, plan: StudyPlan, asked: int | None) -> int:
    """How many trials the study has in total: what this command says, else what the last one said."""
    n_trials = asked if asked is not None else study.user_attrs.get(N_TRIALS)
    if n_trials is None:
        raise ConfigError.single("study.n_trials", "was never said for this study: add study.n_trials=20")
    if plan.sampler == "exhaustive" and n_trials > (size := count_cells(plan)):
        raise ConfigError.single("study.n_trials", f"the grid has {size} cells, each run once, but got {n_trials}")
    if study.user_attrs.get(N_TRIALS) != n_trials:
        study.set_user_attr(N_TRIALS, n_trials)
    return int(n_trials)


def _agree_on_services(study: optuna.Study, plan: StudyPlan, asked: Sweep) -> StudyServices:
    """What all trials share: as the first command said it, which later ones need not say and cannot change.

    Only where runs are recorded may change.
    """
    kept: Mapping[str, Any] = study.user_attrs[SERVICES]
    given: dict[str, Any] = {KEEP_MODELS: asked.study.keep_models, COUNTRY: asked.emissions.country_iso_code}
    given |= {
        "study.sampler": asked.study.sampler,
        "study.seed": asked.study.seed,
        "study.objective": shown(plan.objectives),
        "study.enqueue": shown(asked.study.enqueue),
        "study.warm_start": asked.study.warm_start,
    }
    frozen = {**kept, "study.sampler": plan.sampler, "study.seed": plan.seed, "study.objective": shown(plan.objectives)}
    frozen |= {"study.enqueue": shown(plan.enqueue), "study.warm_start": plan.warm_start}
    if asked.plan is None:
        given["study.objective"] = shown(asked.study.objectives)
        given = {key: value for key, value in given.items() if key in asked.said}
    else:
        given = {key: given[key] for key in (KEEP_MODELS, COUNTRY)}
    problems = [
        Problem(key, f"is {frozen[key]} in this study and cannot be changed to {value}; leave it out")
        for key, value in given.items()
        if value != frozen[key]
    ]
    if problems:
        raise ConfigError(problems)
    tracking = asked.tracking
    if asked.plan is None and not {TRACKING, "tracking"} & asked.said and MASK not in kept[TRACKING]:
        tracking = replace(tracking, uri=kept[TRACKING])
    emissions = replace(asked.emissions, country_iso_code=kept[COUNTRY])
    return StudyServices(kept[KEEP_MODELS], emissions, tracking)


def _agree_on_storage(folder: Path, asked: str | None) -> str | None:
    """The storage of a study: what this command says, which must be what the first one said, or what that said.

    Trials' folders belong to the trials of one storage. A URL with a password is not kept and has to be given again.
    """
    path = folder / STUDY_FILE
    if not path.is_file():
        return asked
    kept = yaml.safe_load(path.read_text(encoding="utf-8"))["storage"]
    if asked is None and kept is not None and MASK in kept:
        message = f"this study lies in {kept}, whose password is not kept: give study.storage again"
        raise ConfigError.single("study.storage", message)
    if asked is not None and redact(asked) != kept:
        where = kept or f"the journal in {folder}"
        message = f"study {folder.name} lies in {where}, but got {redact(asked)}; give another study.name"
        raise ConfigError.single("study.storage", message)
    return asked or kept


def _write_study_file(folder: Path, plan: StudyPlan, url: str | None) -> None:
    path = folder / STUDY_FILE
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    tree = {"storage": redact(url) if url else None, "plan": json.loads(json.dumps(plan_tree(plan)))}
    temporary = path.with_suffix(".part")
    temporary.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    temporary.replace(path)


def _no_such_study(name: str, stored: Sequence[str]) -> ConfigError:
    known = sorted({*stored, *(path.parent.name for path in SWEEPS.glob(f"*/{STUDY_FILE}"))})
    there = ", ".join(known) if known else f"none in {SWEEPS.resolve()}"
    return ConfigError([Problem("study.name", f"no study {name}; there are: {there}")])
