"""A study is created, opened again, or refused.

Owns what is frozen with a study and what later commands may change. Knows nothing of its trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage

from embedsweep.config.axes import config_params, value_on
from embedsweep.config.identity import canonical
from embedsweep.config.study import (
    Choice,
    StudyConfig,
    StudyPlan,
    StudyServices,
    plan_differences,
    plan_of,
    plan_tree,
    study_name,
)
from embedsweep.config.values import nearest, shown
from embedsweep.errors import ConfigError, Problem, StudyError
from embedsweep.files import SWEEPS, write_atomically
from embedsweep.secrets import MASK, redact
from embedsweep.study.pruning import make_pruner
from embedsweep.study.record import FIXED, N_TRIALS, WARM_START, directions_of
from embedsweep.study.storage import existing_storage, open_storage, study_lock
from embedsweep.study.study import Study
from embedsweep.validation.cells import broken_constraint, count_cells
from embedsweep.validation.sweep import Sweep

KEY = "study.warm_start"


def first_point(
    plan: StudyPlan, sweeps: Path, storage: BaseStorage, url: str | None, plan_attribute: str
) -> dict[str, Any] | None:
    """The trial and the values that a study takes from the one it is to start from; None where it names none.

    Args:
        plan: the new study's.
        sweeps: where studies' folders are.
        storage: the new study's.
        url: what it was opened by; None is a journal of its own.
        plan_attribute: under which name a study keeps its plan.

    Raises:
        ConfigError: there is no such study, it has no complete trial, or nothing of it fits.
    """
    if plan.warm_start is None:
        return None
    other = _load(plan.warm_start, sweeps, storage, url)
    written = other.user_attrs.get(plan_attribute)
    if written is None:
        raise ConfigError.single(KEY, f"the study {plan.warm_start} was not made by embedsweep")
    complete = other.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = [(trial.values[0], -trial.number, trial) for trial in complete]
    if not values:
        raise ConfigError.single(KEY, f"the study {plan.warm_start} has no complete trial yet")
    best = max(values, key=lambda entry: entry[:2])[2]
    params = config_params(plan_of(json.loads(written)).axes, best.params)
    point = _fitting(plan, params)
    told = f"trial {best.number}, the best of study {plan.warm_start},"
    if not point:
        here = ", ".join(dict.fromkeys(axis.key for axis in plan.axes))
        there = ", ".join(f"{key}={value}" for key, value in params.items())
        raise ConfigError.single(KEY, f"{told} has {there}: none of it lies in what is searched here, {here}")
    if (broken := broken_constraint(plan, point)) is not None:
        raise ConfigError.single(KEY, f"{told} does not keep the constraint {broken}")
    return {"trial": best.number, "params": point}


def _load(name: str, sweeps: Path, storage: BaseStorage, url: str | None) -> optuna.Study:
    known = {found.study_name for found in storage.get_all_studies()} if url is not None else set()
    local = {path.parent.name for path in sweeps.glob("*/study.yaml")}
    if name in known:
        return optuna.load_study(study_name=name, storage=storage)
    if name in local:
        kept = yaml.safe_load((sweeps / name / "study.yaml").read_text(encoding="utf-8"))["storage"]
        if kept is not None:
            raise ConfigError.single(KEY, f"the study {name} lies in {kept}: give this study.storage as well")
        return optuna.load_study(study_name=name, storage=open_storage(None, sweeps / name))
    names = sorted(known | local)
    there = ", ".join(names) or f"none in {sweeps.resolve()}"
    raise ConfigError.single(KEY, f"no study {name}{nearest(name, names)}; there are: {there}")


def _fitting(plan: StudyPlan, params: Mapping[str, Choice]) -> dict[str, Choice]:
    """The values that lie on the plan's axes; those of conditional axes only where their options do."""
    point: dict[str, Choice] = {}
    for axis in sorted(plan.axes, key=lambda axis: bool(axis.when)):
        if axis.key in params and axis.when.items() <= point.items():
            try:
                point[axis.key] = value_on(axis, params[axis.key])
            except ValueError:
                continue  # searched here, but not as far as that
    return point


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
    _quieten_optuna()
    asked = sweep.plan
    name, folder, url = _place(sweep)
    if asked is None and url is None and not (folder / STUDY_FILE).is_file():
        raise _no_such_study(name, [])
    with study_lock(url, folder, name):
        storage = open_storage(url, folder)
        try:
            study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
        except KeyError:
            if asked is None:
                raise _no_such_study(name, [found.study_name for found in storage.get_all_studies()]) from None
            study = _create(name, storage, asked)
        if asked is not None and _is_unmade(study, asked):
            first = first_point(asked, SWEEPS, storage, url, PLAN)  # it may be refused, and nothing is frozen then
            _freeze(study, asked, sweep, first)
        opened = _agree(study, name, url, sweep)
        if study.user_attrs.get(N_TRIALS) != opened.n_trials:
            study.set_user_attr(N_TRIALS, opened.n_trials)
        _write_study_file(folder, opened.plan, url)
    return opened


def find_study(sweep: Sweep) -> Study | None:
    """Opens the study a command asks for as it is, and changes nothing; None where the command would create it.

    Raises:
        ConfigError: there is no study of that name, or what is asked differs from what was frozen.
        StudyError: its storage cannot be opened.
    """
    _quieten_optuna()
    name, folder, url = _place(sweep)
    storage = existing_storage(url, folder)
    there = {found.study_name for found in storage.get_all_studies()} if storage is not None else set()
    study = None
    if storage is not None and name in there:
        study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
    if study is None or (sweep.plan is not None and _is_unmade(study, sweep.plan)):
        if sweep.plan is None:
            raise _no_such_study(name, sorted(there))
        return None
    return _agree(study, name, url, sweep)


def _quieten_optuna() -> None:
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()


def _place(sweep: Sweep) -> tuple[str, Path, str | None]:
    """The study's name, its folder and its storage."""
    if sweep.plan is None and sweep.study.name is None:
        raise ValueError("a sweep has a plan or names a study")
    name = sweep.study.name or study_name(sweep.plan)  # type: ignore[arg-type]  # one of both is given
    folder = SWEEPS / name
    return name, folder, _agree_on_storage(folder, sweep.study.storage)


def _agree(study: optuna.Study, name: str, url: str | None, sweep: Sweep) -> Study:
    """The study, if what is asked may be asked of it."""
    asked = sweep.plan
    plan = _frozen_plan(study, name, url)
    if asked is not None and (different := plan_differences(plan, asked)):
        message = f"exists and was asked something else: {'; '.join(different)}. Give another study.name, or only it"
        raise ConfigError.single(f"study {name}", message)
    n_trials = _agree_on_n_trials(study, plan, sweep.n_trials)
    services = _agree_on_services(study, plan, sweep)
    study.pruner = make_pruner(plan)
    return Study(name, plan, services, n_trials, url, study)


def _create(name: str, storage: BaseStorage, plan: StudyPlan) -> optuna.Study:
    return optuna.create_study(
        study_name=name,
        storage=storage,
        directions=directions_of(plan.objectives),
        pruner=NopPruner(),  # Optuna's default prunes by the median; the plan's own is made once that is known
    )


def _is_unmade(study: optuna.Study, plan: StudyPlan) -> bool:
    """Whether the study is new, or whoever made it was killed before its plan was written."""
    return PLAN not in study.user_attrs and not study.trials and study.directions == directions_of(plan.objectives)


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
    return int(n_trials)


def _agree_on_services(study: optuna.Study, plan: StudyPlan, asked: Sweep) -> StudyServices:
    """What all trials share: as the first command said it, which later ones need not say and cannot change.

    Only where runs are recorded and how often a trial is retried may change.
    """
    kept: Mapping[str, Any] = study.user_attrs[SERVICES]
    given: dict[str, Any] = {KEEP_MODELS: asked.study.keep_models, COUNTRY: asked.emissions.country_iso_code}
    if asked.plan is None:  # with one, all the rest was compared as part of it
        given |= _frozen_keys(asked.study)
        given = {key: value for key, value in given.items() if key in asked.overridden}
    frozen = {**kept, **_frozen_keys(plan)}
    problems = [
        Problem(key, f"is {shown(frozen[key])} in this study and cannot be changed to {shown(value)}; leave it out")
        for key, value in given.items()
        if canonical(value) != canonical(frozen[key])
    ]
    if problems:
        raise ConfigError(problems)
    tracking = asked.tracking
    if asked.plan is None and not {TRACKING, "tracking"} & asked.overridden and MASK not in kept[TRACKING]:
        tracking = replace(tracking, uri=kept[TRACKING])
    emissions = replace(asked.emissions, country_iso_code=kept[COUNTRY])
    return StudyServices(kept[KEEP_MODELS], emissions, tracking, asked.study.max_retries)


def _frozen_keys(study: StudyConfig | StudyPlan) -> dict[str, Any]:
    """What a study's plan holds beside its trials, by the keys that say it."""
    return {
        "study.sampler": study.sampler,
        "study.seed": study.seed,
        "study.objective": study.objectives,
        "study.pruner": study.pruner,
        **{f"study.pruning.{key}": value for key, value in asdict(study.pruning).items()},
        "study.duplicates": study.duplicates,
        "study.enqueue": study.enqueue,
        "study.warm_start": study.warm_start,
    }


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
    write_atomically(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def _no_such_study(name: str, stored: Sequence[str]) -> ConfigError:
    known = sorted({*stored, *(path.parent.name for path in SWEEPS.glob(f"*/{STUDY_FILE}"))})
    there = ", ".join(known) if known else f"none in {SWEEPS.resolve()}"
    return ConfigError([Problem("study.name", f"no study {name}; there are: {there}")])
