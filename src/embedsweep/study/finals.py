"""The finals of a complete study: its best configurations, trained again with the same other seeds each.

They are a study of their own in the same storage, ``NAME/finals``, so that leases, retries, workers and resuming are
those of any study, and their trials never count as trials of the study.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import config_params
from embedsweep.config.finals import MOST_SEEDS, SEED, FinalPoint, FinalsConfig, without_seed
from embedsweep.config.identity import config_hash
from embedsweep.config.metrics import direction_of
from embedsweep.config.study import Choice, DiscreteAxis, StudyPlan, plan_of
from embedsweep.files import FINALS
from embedsweep.study.comparison import check_nothing_lost, complete_files
from embedsweep.study.duplicates import is_reused, trained_config
from embedsweep.study.keep import is_kept
from embedsweep.study.kept_answer import POINTS
from embedsweep.study.objectives import better, directions_of
from embedsweep.study.opening import name_metrics
from embedsweep.study.record import DATA, FIXED, N_TRIALS, WARNINGS, StudyRecord
from embedsweep.study.services import SERVICES
from embedsweep.study.storage import open_storage, study_lock
from embedsweep.study.study import Study
from embedsweep.study.study_file import PLAN, write_study_file

SEEDS_FROM, SEEDS_TO = 1000, 10_000
"""Seeds of finals have four digits, so that names of runs can show them."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that may be a finalist: the trials of a study that differ in their seeds only.

    Attributes:
        trials: its complete trials, the best first.
        mean: the mean of the study's first dev metric over them.
    """

    trials: tuple[FrozenTrial, ...]
    mean: float


def candidates(study: StudyRecord) -> list[Candidate]:
    """Return the configurations that may be finalists, the best mean first.

    Trials that reuse the scores of another, and configurations of which a trial forgets more than ``study.keep``
    allows, are left out.
    """
    objectives, metric = study.plan.objectives, study.plan.objective
    first = objectives.index(metric)
    together: dict[str, list[FrozenTrial]] = {}
    for trial in sorted(study.complete_trials, key=better(objectives, first)):
        if not is_reused(trial):
            together.setdefault(json.dumps(without_seed(study.params_of(trial))), []).append(trial)
    found = [
        Candidate(tuple(trials), statistics.fmean(trial.values[first] for trial in trials))
        for trials in together.values()
        if all(map(is_kept, trials))
    ]
    sign = -1 if direction_of(metric) == "maximize" else 1
    return sorted(found, key=lambda each: (sign * each.mean, each.trials[0].number))


def expects_finals(study: StudyRecord) -> bool:
    """Return whether a study asks for finals and can have some: a complete one may have no configuration for them."""
    if study.finals_config is None:
        return False
    return study.finals is not None or not study.is_complete or bool(candidates(study))


def finalists(study: StudyRecord, top: int) -> list[Candidate]:
    """Return the finalists: those that the finals have, then whoever else is among the best by now.

    Configurations that differ in what decides no result are one.

    Args:
        study: a complete study.
        top: ``study.finals.top``.
    """
    found, finals = candidates(study), study.finals
    began = list(dict.fromkeys(point.finalist for point in finals.points)) if finals is not None else []
    by_trial = {trial.number: each for each in found for trial in each.trials}
    chosen = {_identity(study.plan, each): each for each in (by_trial[n] for n in began if n in by_trial)}
    best = set[str]()
    for each in found:
        if len(best) == top:
            break
        identity = _identity(study.plan, each)
        best.add(identity)
        chosen.setdefault(identity, each)
    return list(chosen.values())


def _identity(plan: StudyPlan, candidate: Candidate) -> str:
    """Return the hash of a configuration without its seed."""
    config = trained_config(plan, candidate.trials[0])
    return config_hash(replace(config, trainer=replace(config.trainer, seed=0)))


def open_finals(study: Study) -> Study | None:
    """Open the finals of a study, and create them, or add what is missing, if the study is complete and asks for them.

    Returns:
        The finals; None where there are none yet, or none are asked for.

    Raises:
        StudyError: their storage cannot be opened.
    """
    asked = study.finals_config
    if asked is None or asked.top is None or not study.is_complete:
        return None
    with study.lock():
        chosen = finalists(study, asked.top)
        if not chosen:
            return None
        return _open(study, chosen, asked)


def _open(study: Study, chosen: Sequence[Candidate], asked: FinalsConfig) -> Study:
    """Open the finals with a point for each finalist and seed; the caller holds the lock of the study."""
    name = f"{study.name}/{FINALS}"
    folder = study.sweeps / name
    with study_lock(study.url, folder, name):
        storage = study._storage if study.url else open_storage(None, folder)
        try:
            finals = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
        except KeyError:
            check_nothing_lost(name, folder, None)
            directions = directions_of(study.plan.objectives)
            finals = optuna.create_study(study_name=name, storage=storage, directions=directions, pruner=NopPruner())
        check_nothing_lost(name, folder, finals)
        kept = study._study.user_attrs
        if PLAN not in finals.user_attrs:
            seeds = _seeds(study)
            for attribute in (SERVICES, FIXED, WARNINGS):
                if attribute in kept:
                    finals.set_user_attr(attribute, kept[attribute])
            finals.set_user_attr(PLAN, json.dumps(asdict(_plan(study.plan, seeds))))
        plan = plan_of(json.loads(finals.user_attrs[PLAN]))
        points = _points(study, plan, chosen, asked.seeds, finals.user_attrs.get(POINTS, []))
        for attribute, value in ((DATA, kept.get(DATA)), (POINTS, points), (N_TRIALS, len(points))):
            if value is not None and finals.user_attrs.get(attribute) != value:
                finals.set_user_attr(attribute, value)
        name_metrics(finals, plan.objectives)
        write_study_file(folder, finals, study.url)
        complete_files(folder, finals)
    return Study(name, plan, len(points), study.url, finals, study.services, sweeps=study.sweeps)


def _seeds(study: StudyRecord) -> tuple[int, ...]:
    """Return the seeds of a study's finals: the same whoever asks, and other ones than those of its trials."""
    trained = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    taken = {trained_config(study.plan, trial).trainer.seed for trial in trained}
    source = random.Random(f"finals of {study.name}")
    drawn = source.sample(range(SEEDS_FROM, SEEDS_TO), MOST_SEEDS + len(taken))
    return tuple(seed for seed in drawn if seed not in taken)[:MOST_SEEDS]


def _plan(plan: StudyPlan, seeds: tuple[int, ...]) -> StudyPlan:
    """Return the plan of the finals of a study with this plan: all its values are given."""
    axes = [axis for axis in plan.axes if axis.key != SEED]
    return replace(
        plan,
        axes=(*axes, DiscreteAxis(SEED, seeds, {})),
        sampler="random",
        pruner="none",
        duplicates="reuse",
        enqueue=(),
        warm_start=None,
    )


def _points(
    study: StudyRecord, plan: StudyPlan, chosen: Sequence[Candidate], n_seeds: int, before: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what the finals train, as user attribute: what they have, then what is missing, seed by seed."""
    (axis,) = (axis for axis in plan.axes if axis.key == SEED)
    assert isinstance(axis, DiscreteAxis)
    earlier = {point["finalist"] for point in before}
    points = [dict(point) for point in before]
    known = {(point["finalist"], point["seed"]) for point in before}
    for seed in axis.choices[:n_seeds]:
        for each in chosen:
            named = next((trial for trial in each.trials if trial.number in earlier), each.trials[0])
            if (named.number, seed) not in known:
                values: dict[str, Choice] = {**config_params(study.plan.axes, named.params), SEED: seed}
                point = FinalPoint(named.number, int(str(seed)), values)
                points.append(json.loads(json.dumps(asdict(point))))
    return points
