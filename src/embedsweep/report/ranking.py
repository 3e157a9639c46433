"""Ranking and summary, printed when a command ends: the best trials, what they cost, and where models and logs are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from embedsweep.config.axes import completed
from embedsweep.config.compose import as_text_word
from embedsweep.config.result import TrialResult
from embedsweep.config.study import Choice, axis_words, study_name
from embedsweep.config.trial import EvaluationConfig, TrialConfig
from embedsweep.config.values import shown
from embedsweep.console import say
from embedsweep.data.negatives import counts_in
from embedsweep.files import MODEL, SWEEPS
from embedsweep.report.answer import answer
from embedsweep.report.costs import costs, energy_note
from embedsweep.report.results import StudyResults
from embedsweep.report.tables import (
    INTERRUPTED,
    interval_text,
    option_tables,
    ranking_table,
    score_text,
    shown_states,
    unranked_table,
)
from embedsweep.report.verdict import answer_lines
from embedsweep.study.frozen_data import check_data
from embedsweep.study.keep import keep_text
from embedsweep.study.opening import agreed_finals, agreed_patience, find_study
from embedsweep.study.record import RETRY_OF, StudyRecord
from embedsweep.validation.plan_cells import broken_constraint
from embedsweep.validation.sweep import Sweep

SHOWN = 10
LISTED_FAILURES = 3
SPECIAL = re.compile(r"[^\w./:@+ -]", re.ASCII)
"""Characters of a text that Hydra may read only in quotes."""


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


def print_ranking(console: Console, results: StudyResults, most: int | None = SHOWN) -> None:
    """Print a study's results: swept options, the ranking, how many trials were pruned where, what failed.

    Args:
        console: where they are printed.
        results: the results, also of a running study.
        most: how many configurations and failed trials are listed; None lists every trial, the pruned ones, too.
    """
    study = results.study
    ranking = ranking_table(results, most, console.width)
    lines = ["", f"study {study.name}: {_counts(results)}", *option_tables(results)]
    lines += ["", *ranking] if ranking else []
    if most is not None and (rest := len(results.configurations) - most) > 0:
        lines.append(f"and {rest} more: embedsweep show {study.name} --all")
    if len(study.plan.objectives) > 1 and ranking:
        lines.append("* on the Pareto front: no other trial is better in one objective and as good in the others")
    if pruned := study.pruned_at:
        lines.append(f"pruned: {', '.join(f'{count} at rung {rung:g}' for rung, count in pruned.items())}")
    lines += unranked_table(results, console.width) if most is None else _failures(study, results)
    for line in lines:
        say(console, line)


def _failures(study: StudyRecord, results: StudyResults) -> list[str]:
    """Return why the first trials that failed did so, and where their logs are."""
    retried = {trial.user_attrs.get(RETRY_OF): trial.number for trial in study.trials}
    failed = [row for row in results.rows if row.state == "FAIL"]
    lines = []
    for row in failed[:LISTED_FAILURES]:
        by = f"; retried as trial {retried[row.number]}" if row.number in retried else ""
        lines.append(f"trial {row.number} failed: {row.reason or 'for an unknown reason'}{by}")
        lines.append(f"  log: {row.folder / 'train.log'}")
    if (rest := len(failed) - LISTED_FAILURES) > 0:
        lines.append(f"and {rest} more failed: embedsweep show {study.name} --all")
    return lines


def _counts(results: StudyResults) -> str:
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
    words |= {INTERRUPTED: INTERRUPTED}
    states = shown_states(results)
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
    return counts or "no trials"


def print_best(console: Console, results: StudyResults, program: str) -> None:
    """Print the best trial, what the results say, how to train it again, where its model is, and what all trials cost.

    Args:
        console: where it is printed.
        results: the study's results.
        program: how this program is started, for the printed command.
    """
    study, best = results.study, results.best
    if best is None:
        say(console, study.why_no_best)
        if results.ranked:
            for line in costs(results):
                say(console, line, fold=True)
        return
    objective = study.plan.objective
    scores = {name: f"{name} {score_text(name, value)}" for name, value in best.objectives.items()}
    if best.interval is not None:
        scores[objective] += f" (95 % interval over dev items {interval_text(best.interval)}, one seed)"
    words = [f"trial {best.number}", *scores.values()]
    if (test := objective.replace("dev/", "test/")) in best.test:
        words.append(f"{test} {best.test[test]:.4f}")
    say(console, f"\nbest: {', '.join(words)}", fold=True)
    for line in (*answer(results), *answer_lines(study)):
        say(console, line, fold=True)
    chosen = results.chosen or best
    of = f" (trial {chosen.number})" if chosen.number != best.number else ""
    say(console, f"run it again{of}: {rerun_command(program, study.fixed, chosen.values)}")
    if (model := study.chosen_folder / MODEL).is_dir():
        say(console, f"model: {model}")
    for line in costs(results):
        say(console, line, fold=True)


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


def print_single(console: Console, result: TrialResult, folder: Path, config: TrialConfig) -> None:
    """Print the result of a single run."""
    objective, evaluation = config.objective, config.evaluation
    say(console, "")
    for name in evaluation.headlines:
        say(console, f"{name}: dev {_change(result, 'dev', name)}, test {_change(result, 'test', name)}")
    if result.interval is not None:
        say(console, f"{objective}: 95 % interval over dev items {interval_text(result.interval)}, one seed")
    main = evaluation.main_metric
    for dim in (key.partition("/")[0].partition("-")[2] for key in result.dev if re.match(rf"dev-\d+/{main}$", key)):
        dev, test = (_change(result, f"{split}-{dim}", main) for split in ("dev", "test"))
        say(console, f"{main} of {dim} dimensions: dev {dev}, test {test}")
    _print_benchmarks(console, result, evaluation)
    if (counts := counts_in(result.conversion or "")) is not None:
        say(console, f"negatives: {counts}")
    untrained = result.before.get(objective)
    if untrained is not None and result.objective <= untrained:
        change = f"{objective} was {untrained:.4f} before training and is {result.objective:.4f}"
        say(console, f"the model is not better than the untrained model: {change}", fold=True)
    emissions = result.emissions
    gpu_h = f", {emissions.gpu_h:.3g} GPU h" if emissions.gpu_h is not None else ""
    say(
        console,
        f"emissions: {1000 * emissions.co2eq_kg:.3g} g CO2eq, {1000 * emissions.energy_kwh:.3g} Wh{gpu_h}"
        f" ({energy_note([emissions])})",
    )
    say(console, f"model: {folder / 'model'}")
    say(console, f"log: {folder / 'train.log'}")


def _print_benchmarks(console: Console, result: TrialResult, evaluation: EvaluationConfig) -> None:
    """Print the main metric of each benchmark that is watched, and of each other one that is scored with test."""
    places = {benchmark.name: (f"dev/{benchmark.name}", benchmark) for benchmark in evaluation.watch}
    for benchmark in evaluation.benchmarks:
        places.setdefault(benchmark.name, (benchmark.name, benchmark))
    for place, benchmark in places.values():
        main = (benchmark.scoring or evaluation).main_metric
        say(console, f"{main} on {benchmark.name}: {_change(result, place, main)}")


def _change(result: TrialResult, scored: str, metric: str) -> str:
    """Return a score as text, with the score before training if that is known."""
    name = f"{scored}/{metric}"
    after = {**result.dev, **result.test, **result.benchmarks}[name]
    return f"{result.before[name]:.4f} -> {after:.4f}" if name in result.before else f"{after:.4f}"


def print_preview(console: Console, request: Sweep, program: str) -> StudyRecord | None:
    """Print the study that a command requests: name, number of trials, axes, first points, progress, an example.

    Returns:
        The study; None if the command would create it.

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
    count = f"{n_trials} trials" if study is not None or request.study.budget_hours is None else _bought(request)
    say(console, f"study {name}: {count} ({plan.sampler}) of {of}; {progress}, in {SWEEPS / name}")
    for axis in plan.axes:
        say(console, f"  {axis.name}: {axis_words(axis)}")
    say(console, f"  the same for all: {' '.join(fixed) or 'the defaults'}")
    patience = agreed_patience(study.patience if study is not None else None, request)
    stop = f"; patience: {patience.patience} trials" if patience is not None else ""
    say(console, f"  pruner: {plan.pruner}; duplicates: {plan.duplicates}{stop}")
    if (finals := finals_text(request, study)) is not None:
        say(console, f"  finals: {finals}")
    if plan.keep:
        say(console, f"  not the best: what forgets {keep_text(plan.keep)}")
    for constraint in plan.constraints:
        say(console, f"  constraint: {constraint}")
    for point in plan.enqueue:
        say(console, f"  tried first: {' '.join(f'{key}={shown(value)}' for key, value in point.items())}")
    if plan.warm_start is not None:
        say(console, f"  tried first: the best of study {plan.warm_start}")
    example = completed(plan.axes, {})
    if broken_constraint(plan, example) is None:
        say(console, f"example, as a single run: {rerun_command(program, fixed, example)}")
    return study


def finals_text(request: Sweep, study: StudyRecord | None) -> str | None:
    """Return what finals a study has once it is complete, in words; None if it has none."""
    kept = study.finals_config if study is not None else None
    asked = agreed_finals(asdict(kept) if kept is not None else None, request)
    if asked is None or asked["top"] is None:
        return None
    soup = "; their weights are averaged" if asked["soup"] else ""
    return f"the best {asked['top']} configurations again with {asked['seeds']} other seeds each{soup}"


def _bought(request: Sweep) -> str:
    most = f", of {request.n_trials}," if request.n_trials is not None else ""
    return f"as many trials{most} as fit into {request.study.budget_hours:g} hours"


def _progress(study: StudyRecord, request: Sweep) -> str:
    finished = sum(trial.state.is_finished() for trial in study.trials)
    failed = [trial.number for trial in study.failed_trials]
    words = [f"exists, {finished} finished"]
    if study.unfinished:
        words.append(f"{len(study.unfinished)} unfinished")
    if failed and request.study.retry_failed:
        words.append(f"{len(failed)} failed and would be retried")
    return ", ".join(words)
