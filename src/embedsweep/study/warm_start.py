"""What a new study takes from another: its best configuration, as far as both search the same keys.

Owns which of its values fit. It is asked once, when a study is made: what comes of it is frozen with the new study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import BaseStorage

from embedsweep.config import nearest
from embedsweep.errors import ConfigError
from embedsweep.gate import broken_constraint
from embedsweep.plan import plan_of
from embedsweep.schema import Choice, StudyPlan
from embedsweep.search_space import config_params, value_on
from embedsweep.study.storage import open_storage

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
