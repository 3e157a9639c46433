"""Create a study or open an existing one, after checking that the request agrees with what was frozen with it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage

from embedsweep.config.axes import config_params, value_on
from embedsweep.config.finals import FinalsConfig
from embedsweep.config.study import (
    Choice,
    StudyPlan,
    plan_differences,
    plan_of,
    study_name,
)
from embedsweep.config.values import nearest
from embedsweep.errors import ConfigError, Problem, StudyError, raise_problems
from embedsweep.files import STUDY_FILE, SWEEPS, access_problems, study_names
from embedsweep.secrets import MASK, redact
from embedsweep.study.comparison import check_nothing_lost, complete_files
from embedsweep.study.kept_answer import FINALS_CONFIG
from embedsweep.study.objectives import best_of, directions_of
from embedsweep.study.patience import Patience
from embedsweep.study.pruning import make_pruner
from embedsweep.study.record import N_TRIALS, PATIENCE, QUOTE, WARM_START
from embedsweep.study.services import CHECKPOINTS, agree_on_services, frozen_attributes
from embedsweep.study.storage import JOURNAL, existing_storage, open_storage, study_lock, tried_twice, without_finals
from embedsweep.study.study import Study
from embedsweep.study.study_file import PLAN, read_study_file, write_study_file
from embedsweep.validation.plan_cells import broken_constraint, count_cells
from embedsweep.validation.sweep import Sweep, check_finals_keys

NAME_KEY, WARM_START_KEY = "study.name", "study.warm_start"


@tried_twice
def open_study(sweep: Sweep, quote: Mapping[str, Any] | None = None) -> Study:
    """Open the study that a command requests, and create it if it does not exist.

    Args:
        sweep: the validated command.
        quote: what a new study is expected to cost, and the number of trials that ``study.budget_hours`` became.

    Raises:
        ConfigError: there is no study of that name, or the request differs from what was frozen.
        StudyError: its storage cannot be opened.
    """
    quiet_optuna()
    plan = sweep.plan
    name, folder, url = place(sweep)
    if plan is None and url is None and not (folder / STUDY_FILE).is_file():
        raise _no_such_study(NAME_KEY, name, [])
    with study_lock(url, folder, name):
        storage = open_storage(url, folder)
        try:
            study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
        except KeyError:
            check_nothing_lost(name, folder, None)
            if plan is None:
                raise _no_such_study(NAME_KEY, name, _names(storage)) from None
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                directions=directions_of(plan.objectives),
                pruner=NopPruner(),  # Optuna's default prunes by the median; the plan's own is set later
            )
        check_nothing_lost(name, folder, study)
        if plan is not None and _is_new(study, plan):
            first = _first_point(plan, storage, url)  # may be refused; nothing is frozen then
            _freeze(study, plan, sweep, first, quote)
        opened = _agree(study, name, url, sweep)
        patience = agreed_patience(opened.patience, sweep)
        kept_at = opened.services.checkpoints
        settings = {
            N_TRIALS: opened.n_trials,
            PATIENCE: asdict(patience) if patience else None,
            FINALS_CONFIG: agreed_finals(study.user_attrs.get(FINALS_CONFIG), sweep),
            CHECKPOINTS: asdict(kept_at) if kept_at is not None else None,
        }
        for attribute, value in settings.items():
            if study.user_attrs.get(attribute) != value:
                study.set_user_attr(attribute, value)
        name_metrics(study, opened.plan.objectives)
        write_study_file(folder, study, url)
        complete_files(folder, study)
    return opened


@tried_twice
def find_study(sweep: Sweep) -> Study | None:
    """Open the study that a command requests and change nothing; return None if the command would create it.

    Raises:
        ConfigError: there is no study of that name, or the request differs from what was frozen.
        StudyError: its storage cannot be opened.
    """
    quiet_optuna()
    name, folder, url = place(sweep)
    storage = existing_storage(url, folder)
    names = _names(storage) if storage is not None else []
    study = None
    if storage is not None and name in names:
        study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
    if study is None or (sweep.plan is not None and _is_new(study, sweep.plan)):
        if sweep.plan is None:
            raise _no_such_study(NAME_KEY, name, names)
        _first_point(sweep.plan, storage, url)  # may be refused
        return None
    return _agree(study, name, url, sweep)


def name_metrics(study: optuna.Study, objectives: Sequence[str]) -> None:
    """Name the values of a study's trials for Optuna's own tables and charts, unless an earlier command has done so."""
    if study.metric_names != list(objectives):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(objectives))


def quiet_optuna() -> None:
    """Let Optuna's log records go where all others go, and not to the terminal."""
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()


def place(sweep: Sweep) -> tuple[str, Path, str | None]:
    """Return the study's name, its folder and its storage's URL."""
    name = sweep.study.name
    if name is None:
        assert sweep.plan is not None, "a sweep has a plan or names a study"
        name = study_name(sweep.plan)
    folder = SWEEPS / name
    raise_problems([*access_problems([folder])] or [*access_problems([folder / "trials"])])
    return name, folder, _agree_on_storage(folder, sweep.study.storage)


def _agree(study: optuna.Study, name: str, url: str | None, sweep: Sweep) -> Study:
    """Return the study if the request agrees with what was frozen with it."""
    written = study.user_attrs.get(PLAN)
    if written is None:
        where = redact(url) if url else str(SWEEPS / name)
        raise StudyError(f"the study {name} in {where} was not made by embedsweep; give another study.name")
    plan = plan_of(json.loads(written))
    if sweep.plan is not None and (different := plan_differences(plan, sweep.plan)):
        message = f"exists with a different plan: {'; '.join(different)}. Give another study.name, or study.name alone"
        raise ConfigError.single(f"study {name}", message)
    if len(plan.objectives) > 1 and sweep.study.patience is not None:
        message = f"is for one objective, and this study has {' and '.join(plan.objectives)}: leave it out"
        raise ConfigError.single("study.patience", message)
    n_trials = _agree_on_n_trials(study, plan, sweep)
    services = agree_on_services(study, plan, sweep)
    study.pruner = make_pruner(plan)
    opened = Study(name, plan, n_trials, url, study, services)
    raise_problems([*_check_kept_finals(opened, sweep)])
    return opened


def _is_new(study: optuna.Study, plan: StudyPlan) -> bool:
    """Return whether the study is new, or its creator was killed before the plan was written."""
    return PLAN not in study.user_attrs and not study.trials and study.directions == directions_of(plan.objectives)


def _freeze(
    study: optuna.Study,
    plan: StudyPlan,
    request: Sweep,
    first: Mapping[str, Any] | None,
    quote: Mapping[str, Any] | None,
) -> None:
    """Write the plan into an empty study; it comes last, so that a study with a plan is complete."""
    quoted = {QUOTE: quote, N_TRIALS: quote["n_trials"]} if quote is not None else {}
    written = {**frozen_attributes(request), WARM_START: first, **quoted, PLAN: json.dumps(asdict(plan))}
    for name, value in written.items():
        study.set_user_attr(name, value)


def _agree_on_n_trials(study: optuna.Study, plan: StudyPlan, request: Sweep) -> int:
    """Return how many trials the study has in total: as this command requests, else as the last one did.

    Hours are turned into trials once, by the command that begins the study.
    """
    requested, hours = request.n_trials, request.study.budget_hours
    if hours is not None:
        quote, requested = study.user_attrs.get(QUOTE), None
        if quote is None or quote["budget_hours"] != hours:
            was = f"was {quote['budget_hours']:g}" if quote is not None else "was not set"
            message = f"{was} when this study was begun, and cannot be {hours:g} now: set study.n_trials instead"
            raise ConfigError.single("study.budget_hours", message)
    n_trials = requested if requested is not None else study.user_attrs.get(N_TRIALS)
    if n_trials is None:
        raise ConfigError.single("study.n_trials", "was never set for this study: add study.n_trials=20")
    if plan.sampler == "exhaustive" and n_trials > (size := count_cells(plan)):
        raise ConfigError.single("study.n_trials", f"the grid has {size} cells, each run once, but got {n_trials}")
    return int(n_trials)


def agreed_patience(kept: Patience | None, request: Sweep) -> Patience | None:
    """Return when a study stops: as this command has it, else, if it only names the study, as the last one had it.

    Args:
        kept: as the last command had it.
        request: this command.
    """
    asked = {"patience": request.study.patience, "min_delta": request.study.min_delta}
    if request.plan is None and kept is not None and "study" not in request.overridden:
        asked |= {key: value for key, value in asdict(kept).items() if f"study.{key}" not in request.overridden}
    patience, min_delta = asked["patience"], asked["min_delta"]
    return Patience(int(patience), float(min_delta or 0)) if patience is not None else None


def agreed_finals(kept: Mapping[str, Any] | None, request: Sweep) -> dict[str, Any] | None:
    """Return a study's ``study.finals``: the keys that this command sets, the others as the last one had them.

    Args:
        kept: as the last command had it; None if none has asked for finals.
        request: this command.
    """
    asked = asdict(request.study.finals)
    if kept is not None and not {"study", "study.finals"} & request.overridden:
        asked |= {key: value for key, value in kept.items() if f"study.finals.{key}" not in request.overridden}
    if request.plan is None:
        raise_problems([*check_finals_keys(FinalsConfig(**asked), request.overridden)])
    return asked if kept is not None or asked["top"] is not None else None


def _check_kept_finals(study: Study, request: Sweep) -> Iterator[Problem]:
    """Yield a problem where a command asks for fewer finalists or seeds than the finals have, which began with more."""
    kept, finals = study._study.user_attrs.get(FINALS_CONFIG), study.finals
    asked = agreed_finals(kept, request)
    if kept is None or asked is None or finals is None:
        return
    for key, name in (("top", "finalist"), ("seeds", "seed")):
        count = len({getattr(point, name) for point in finals.points})
        if None not in (kept[key], asked[key]) and asked[key] < min(count, kept[key]):
            message = f"is {count} in the finals that this study began and cannot become {asked[key]}"
            yield Problem(f"study.finals.{key}", f"{message}: leave it out, or raise it")


def _agree_on_storage(folder: Path, requested: str | None) -> str | None:
    """Return a study's storage: that of the first command, which a later one need not repeat and cannot change.

    Trials' folders belong to the trials of one storage. A URL with a password is not kept and has to be given again.
    """
    file = read_study_file(folder)
    if file is None or (file.storage is None and file.plan is None):  # the file was cut
        path = folder / STUDY_FILE
        if path.is_file() and requested is None and not (folder / JOURNAL).is_file():
            raise ConfigError.single(
                "study.storage",
                f"{path} cannot be read and there is no {JOURNAL}: give the study.storage of this study; if it had "
                f"none, its plan is lost, and moving {folder} away starts anew",
            )
        return requested
    kept = file.storage
    if requested is None and kept is not None and MASK in kept:
        message = f"this study is stored in {kept}, whose password is not kept: give study.storage again"
        raise ConfigError.single("study.storage", message)
    if requested is not None and redact(requested) != kept:
        where = kept or f"the journal in {folder}"
        message = f"study {folder.name} is stored in {where}, but got {redact(requested)}; give another study.name"
        raise ConfigError.single("study.storage", message)
    return requested or kept


def _names(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def _no_such_study(key: str, name: str, stored: Iterable[str]) -> ConfigError:
    """Return the error about a key that names a study which neither the storage nor this folder has."""
    known = sorted(without_finals({*stored, *study_names()}))
    there = ", ".join(known) or f"none in {SWEEPS.resolve()}"
    return ConfigError.single(key, f"no study {name}{nearest(name, known)}; there are: {there}")


def _first_point(plan: StudyPlan, storage: BaseStorage | None, url: str | None) -> dict[str, Any] | None:
    """Return the best trial's number and values of the study in ``study.warm_start``; None if that is not set.

    Args:
        plan: the new study's plan.
        storage: the new study's storage; None if there is none yet.
        url: the storage's URL; None is a journal of its own.

    Raises:
        ConfigError: there is no such study, it has no complete trial that may be the best, or no value of use.
    """
    if plan.warm_start is None:
        return None
    other = _load(plan.warm_start, storage, url)
    written = other.user_attrs.get(PLAN)
    if written is None:
        raise ConfigError.single(WARM_START_KEY, f"the study {plan.warm_start} was not made by embedsweep")
    complete = other.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        raise ConfigError.single(WARM_START_KEY, f"the study {plan.warm_start} has no complete trial yet")
    of_other = plan_of(json.loads(written))
    if (best := best_of(complete, of_other.objectives)) is None:
        message = f"each trial of the study {plan.warm_start} forgets more than its study.keep allows"
        raise ConfigError.single(WARM_START_KEY, message)
    params = config_params(of_other.axes, best.params)
    point = _fitting(plan, params)
    source = f"trial {best.number}, the best of study {plan.warm_start},"
    if not point:
        here = ", ".join(dict.fromkeys(axis.key for axis in plan.axes))
        there = ", ".join(f"{key}={value}" for key, value in params.items())
        raise ConfigError.single(
            WARM_START_KEY, f"{source} has {there}: none of it is in what is searched here, {here}"
        )
    if (broken := broken_constraint(plan, point)) is not None:
        raise ConfigError.single(WARM_START_KEY, f"{source} does not satisfy the constraint {broken}")
    return {"trial": best.number, "params": point}


def _load(name: str, storage: BaseStorage | None, url: str | None) -> optuna.Study:
    stored = _names(storage) if url is not None and storage is not None else []
    if storage is not None and name in stored:
        return optuna.load_study(study_name=name, storage=storage)
    if name in study_names():
        file = read_study_file(SWEEPS / name)
        if file is not None and file.storage is not None:
            raise ConfigError.single(
                WARM_START_KEY, f"the study {name} is stored in {file.storage}: give this study.storage as well"
            )
        return optuna.load_study(study_name=name, storage=open_storage(None, SWEEPS / name))
    raise _no_such_study(WARM_START_KEY, name, stored)


def _fitting(plan: StudyPlan, params: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return the values that are on the plan's axes; those of conditional axes only if their options are."""
    point: dict[str, Choice] = {}
    for axis in sorted(plan.axes, key=lambda axis: bool(axis.when)):
        if axis.key in params and axis.when.items() <= point.items():
            try:
                point[axis.key] = value_on(axis, params[axis.key])
            except ValueError:
                continue  # searched here, but not at this value
    return point
