"""Ranking and summary, printed when a command ends: the best trials, what they cost, and where models and logs are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from embedsweep.config.axes import completed
from embedsweep.config.compose import as_text_word
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import Choice, axis_words, study_name
from embedsweep.config.trial import DEV_METRICS
from embedsweep.config.values import shown
from embedsweep.console import duration, plain_table, say, short_params
from embedsweep.emissions.tracker import is_cpu_estimated
from embedsweep.files import SWEEPS
from embedsweep.study.duplicates import Duplicate, trained_params
from embedsweep.study.frozen_data import check_data
from embedsweep.study.opening import find_study
from embedsweep.study.record import (
    EMISSIONS_KG,
    ENERGY_KWH,
    FAILURE,
    GPU_H,
    RETRY_OF,
    StudyRecord,
    better,
    cost_attributes,
)
from embedsweep.training.folder import read_result
from embedsweep.validation.plan_cells import broken_constraint
from embedsweep.validation.sweep import Sweep

SHOWN = 10
SPECIAL = re.compile(r"[^\w./:@+ -]", re.ASCII)
"""Characters of a text that Hydra may read only in quotes."""

COSTS = {"g CO2eq": (EMISSIONS_KG, 1000), "Wh": (ENERGY_KWH, 1000), "GPU h": (GPU_H, 1)}
"""Unit -> the trial's user attribute, and the factor from that attribute to the unit."""


def rerun_command(program: str, fixed: Sequence[str], params: Mapping[str, Choice]) -> str:
    """Return the command that trains one configuration of a study again as a single run."""
    exact = {key: repr(value) if isinstance(value, float) else shown(value) for key, value in params.items()}
    swept = (
        as_text_word(key, text)
        if isinstance(params[key], str) and SPECIAL.search(text)
        else shlex.quote(f"{key}={text}")
        for key, text in exact.items()
    )
    return " ".join([program, *map(shlex.quote, fixed), *swept])


def print_ranking(console: Console, study: StudyRecord) -> None:
    """Print the complete trials, best first by the first objective, how many were pruned where, and what failed."""
    by_state = {state: [trial for trial in study.trials if trial.state is state] for state in TrialState}
    objectives = study.plan.objectives
    complete = sorted(by_state[TrialState.COMPLETE], key=better(objectives, 0))
    front = study.front if len(objectives) > 1 else frozenset()
    costs = _known_costs(study.trials)
    rows: list[tuple[str, ...]] = []
    for rank, trial in enumerate(complete[:SHOWN], start=1):
        position = f"{rank}{'*' if trial.number in front else ''}"
        params = short_params(study.params_of(trial)) + _repeat_note(trial)
        spent = (_cost(trial, unit) for unit in costs)
        rows.append((position, str(trial.number), *_values(trial, objectives), *spent, params))
    console.print()
    columns = ("", "trial", *objectives, *costs, "values")
    console.print(plain_table(columns, rows, title=f"study {study.name}: {_counts(by_state)}"))
    if len(complete) > SHOWN:
        say(console, f"and {len(complete) - SHOWN} more")
    if front:
        say(console, "* on the Pareto front: no other trial is better in one objective and as good in the others")
    if pruned := study.pruned_at:
        say(console, f"pruned: {', '.join(f'{count} at rung {rung:g}' for rung, count in pruned.items())}")
    retried = {trial.user_attrs.get(RETRY_OF): trial.number for trial in study.trials}
    for trial in by_state[TrialState.FAIL]:
        by = f"; retried as trial {retried[trial.number]}" if trial.number in retried else ""
        say(console, f"trial {trial.number} failed: {trial.user_attrs.get(FAILURE, 'for an unknown reason')}{by}")
        say(console, f"  log: {study.trial_folder(trial.number) / 'train.log'}")


def _values(trial: FrozenTrial, objectives: Sequence[str]) -> list[str]:
    """Return a complete trial's value of each objective as text; costs may be very small."""
    pairs = zip(objectives, trial.values, strict=True)
    return [f"{value:.4f}" if name in DEV_METRICS else f"{value:.4g}" for name, value in pairs]


def _known_costs(trials: Iterable[FrozenTrial]) -> list[str]:
    """Return the units of `COSTS` that trials recorded: no GPU hours on a CPU, grams only from older versions."""
    known = {name for trial in trials for name in trial.user_attrs}
    return [unit for unit, (name, _) in COSTS.items() if name in known or name == EMISSIONS_KG]


def _cost(trial: FrozenTrial, unit: str) -> str:
    """Return a trial's cost in a unit as text; a dash if it was not recorded."""
    name, factor = COSTS[unit]
    return f"{factor * trial.user_attrs[name]:.3g}" if name in trial.user_attrs else "-"


def _total_costs(trials: Iterable[FrozenTrial], scoring: Mapping[str, float]) -> str:
    """Return the sum of the trials' costs in each unit, and of how many if an older version did not record some.

    Args:
        trials: all trials.
        scoring: what it cost to score the best one on test, by user attribute; empty if unknown.
    """
    counted = [trial for trial in trials if EMISSIONS_KG in trial.user_attrs]
    with_energy = [trial for trial in counted if ENERGY_KWH in trial.user_attrs]
    words = []
    for unit in _known_costs(counted):
        name, factor = COSTS[unit]
        of = (
            ""
            if name == EMISSIONS_KG or len(with_energy) == len(counted)
            else f" ({len(with_energy)} of {len(counted)} trials)"
        )
        total = scoring.get(name, 0.0) + sum(trial.user_attrs.get(name, 0.0) for trial in counted)
        words.append(f"{factor * total:.3g} {unit}{of}")
    return ", ".join(words)


def _repeat_note(trial: FrozenTrial) -> str:
    """Return which trial this one repeats, in words; empty if it repeats none."""
    duplicate = Duplicate.of(trial)
    if duplicate is None:
        return ""
    return f" ({'reused from' if duplicate.replicate is None else 'replicate of'} trial {duplicate.original})"


def _counts(by_state: Mapping[TrialState, Sequence[FrozenTrial]]) -> str:
    words = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
    }
    return ", ".join(f"{len(by_state[state])} {word}" for state, word in words.items() if by_state[state])


def print_best(console: Console, study: StudyRecord, program: str, test: Mapping[str, float] | None) -> None:
    """Print the best trial: its scores, how to train it again, where its model is, and what all trials cost."""
    best = study.best
    if best is None:
        say(console, "no trial is complete")
        return
    objective = study.plan.objective
    test_score = (
        f", {objective.replace('dev/', 'test/')} {test[objective.replace('dev/', 'test/')]:.4f}" if test else ""
    )
    values = zip(study.plan.objectives, _values(best, study.plan.objectives), strict=True)
    say(console, f"\nbest: trial {best.number}, {', '.join(map(' '.join, values))}{test_score}")
    say(console, f"run it again: {rerun_command(program, study.fixed, trained_params(study.plan, best))}")
    model = study.trial_folder(best.number) / "model"
    if model.is_dir():
        say(console, f"model: {model}")
    result = read_result(study.trial_folder(best.number))
    if result is not None:
        _print_unimproved(console, result, objective, "the best trial")
    note = _energy_note(result.emissions) if result is not None else ""
    scoring = study.finals.cost if study.finals is not None else None
    also = f" and of scoring test ({duration(scoring.duration_s)})" if scoring is not None else ""
    total = _total_costs(study.trials, cost_attributes(scoring) if scoring is not None else {})
    say(console, f"emissions of all trials{also}: {total}{f' ({note})' if note else ''}")


def _print_unimproved(console: Console, result: TrialResult, objective: str, what: str) -> None:
    """Print so if ``what`` has no better objective than the model had before it was trained."""
    before = result.before.get(objective)
    if before is not None and result.objective <= before:
        change = f"{objective} was {before:.4f} before training and is {result.objective:.4f}"
        say(console, f"{what} is not better than the untrained model: {change}")


def _energy_note(cost: Emissions) -> str:
    """Return a note on how energy was obtained; empty if it was measured."""
    return "CPU power estimated" if is_cpu_estimated(cost.unmeasured) else ""


def print_ui(console: Console, hint: str, program: str) -> None:
    """Print the command that compares runs; in a checkout, where `embedsweep` may not be on the path, by ``make``.

    Args:
        console: where to print.
        hint: the command that shows the runs of this store, or the address where a server shows them.
        program: how this program was started.
    """
    words = shlex.split(hint)
    if program.startswith("python") and words[:2] == ["embedsweep", "ui"] and "--tracking-uri" not in words:
        hint = shlex.join(["make", "ui", *(f"STUDY={study}" for study in words[2:])])
    say(console, f"compare: {hint}")


def print_single(console: Console, result: TrialResult, folder: Path, objective: str) -> None:
    """Print the result of a single run, whose best checkpoint was chosen by ``objective``."""
    say(console, "")
    for name in ("pearson_cosine", "spearman_cosine", "spearman_max"):
        say(console, f"{name}: dev {_change(result, 'dev', name)}, test {_change(result, 'test', name)}")
    for dim in (
        key.partition("/")[0].partition("-")[2] for key in result.dev if re.match(r"dev-\d+/spearman_cosine", key)
    ):
        dev, test = (_change(result, f"{split}-{dim}", "spearman_cosine") for split in ("dev", "test"))
        say(console, f"spearman_cosine of {dim} dimensions: dev {dev}, test {test}")
    for key, value in result.benchmarks.items():
        if key.endswith("/spearman_cosine"):
            before = f"{result.before[key]:.4f} -> " if key in result.before else ""
            say(console, f"spearman_cosine on {key.partition('/')[0]}: {before}{value:.4f}")
    _print_unimproved(console, result, objective, "the model")
    emissions = result.emissions
    gpu_h = f", {emissions.gpu_h:.3g} GPU h" if emissions.gpu_h is not None else ""
    say(
        console,
        f"emissions: {1000 * emissions.co2eq_kg:.3g} g CO2eq, {1000 * emissions.energy_kwh:.3g} Wh{gpu_h}"
        f" ({'; '.join(filter(None, (f'electricity: {emissions.country}', _energy_note(emissions))))})",
    )
    say(console, f"model: {folder / 'model'}")
    say(console, f"log: {folder / 'train.log'}")


def _change(result: TrialResult, split: str, metric: str) -> str:
    """Return a score as text, with the score before training if that is known."""
    name = f"{split}/{metric}"
    after = {**result.dev, **result.test}[name]
    return f"{result.before[name]:.4f} -> {after:.4f}" if name in result.before else f"{after:.4f}"


def print_preview(console: Console, request: Sweep, program: str) -> None:
    """Print the study that a command requests: name, number of trials, axes, first points, progress, an example.

    Raises:
        ConfigError: the existing study does not agree with the request.
        StudyError: its storage cannot be opened.
    """
    study = find_study(request)
    if study is not None:
        check_data(study)
    plan = study.plan if study is not None else request.plan
    assert plan is not None, "a command without a plan names an existing study"
    name = study.name if study is not None else request.study.name or study_name(plan)
    n_trials = study.n_trials if study is not None else request.n_trials
    fixed = study.fixed if study is not None else request.fixed
    progress = _progress(study, request) if study is not None else "would be created"
    of = " and ".join(plan.objectives)
    say(console, f"study {name}: {n_trials} trials ({plan.sampler}) of {of}; {progress}, in {SWEEPS / name}")
    for axis in plan.axes:
        say(console, f"  {axis.name}: {axis_words(axis)}")
    say(console, f"  the same for all: {' '.join(fixed) or 'the defaults'}")
    say(console, f"  pruner: {plan.pruner}; duplicates: {plan.duplicates}")
    for constraint in plan.constraints:
        say(console, f"  constraint: {constraint}")
    for point in plan.enqueue:
        say(console, f"  tried first: {' '.join(f'{key}={shown(value)}' for key, value in point.items())}")
    if plan.warm_start is not None:
        say(console, f"  tried first: the best of study {plan.warm_start}")
    example = completed(plan.axes, {})
    if broken_constraint(plan, example) is None:
        say(console, f"example, as a single run: {rerun_command(program, fixed, example)}")
    say(console, "study.dry_run: nothing was created or trained")


def _progress(study: StudyRecord, request: Sweep) -> str:
    finished = sum(trial.state.is_finished() for trial in study.trials)
    failed = [trial.number for trial in study.failed_trials]
    words = [f"exists, {finished} finished"]
    if study.unfinished:
        words.append(f"{len(study.unfinished)} unfinished")
    if failed and request.study.retry_failed:
        words.append(f"{len(failed)} failed and would be retried")
    return ", ".join(words)
