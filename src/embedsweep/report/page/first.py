"""The first screen: the answer in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from embedsweep.config.answer import Verdict
from embedsweep.config.result import Interval
from embedsweep.console import short_params
from embedsweep.files import MODEL
from embedsweep.report.answer import answer
from embedsweep.report.costs import study_costs, total_cost
from embedsweep.report.page.account import progress
from embedsweep.report.ranking import rerun_command
from embedsweep.report.results import StudyResults, TrialRow
from embedsweep.report.tables import interval_text, score_text


@dataclass(frozen=True)
class FirstScreen:
    """What stands before the sections.

    Attributes:
        headline: the answer in one sentence.
        command: trains the best configuration again; None without one.
        facts: name -> what is known, each a list of sentences.
    """

    headline: str
    command: str | None
    facts: Mapping[str, Sequence[str]]


def first_screen(results: StudyResults, program: str) -> FirstScreen:
    """Return the first screen.

    Args:
        results: the study's results.
        program: how this program is started, for the command.
    """
    study = results.study
    verdict = study.answer.verdict if study.answer is not None else None
    row = results.rows[verdict.best] if verdict is not None else results.best
    if row is None:
        facts = {"Trials": [progress(results)], "Cost": [total_cost(study_costs(results))]}
        return FirstScreen(f"No best configuration yet: {study.why_no_best}.", None, facts)
    facts = {
        "Dev": _dev(results, row, verdict),
        "Test": list(_test(results, row)),
        "Compared": list(_compared(results, verdict)),
        "Trials": [progress(results)],
        "Cost": [total_cost(study_costs(results))],
        "Model": [_model(row)],
    }
    so_far = "" if study.is_complete else " so far"
    headline = f"Best{so_far}: trial {row.number}, {short_params(row.values) or 'the defaults'}"
    return FirstScreen(headline, rerun_command(program, study.fixed, row.values), facts)


def _dev(results: StudyResults, row: TrialRow, verdict: Verdict | None) -> list[str]:
    metric = results.study.plan.objective
    finalist = (
        next((each for each in verdict.finalists if each.trial == row.number), None) if verdict is not None else None
    )
    sentences = [
        f"{name} {score_text(name, value)}{_interval(row.interval) if name == metric else ''}, with one seed"
        for name, value in row.objectives.items()
    ]
    if finalist is None:
        return [
            f"{each}: the interval is of the choice of dev items, not of the seed" for each in sentences[:1]
        ] + sentences[1:]
    spread = f" ± {finalist.spread:.4f}" if finalist.spread is not None else ""
    over = f"over {len(finalist.scores)} other seeds{_interval(finalist.interval)}"
    return [f"{metric} {finalist.mean:.4f}{spread} {over}", *(f"In the search: {each}" for each in sentences)]


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" (95 % interval {interval_text(interval)})"


def _test(results: StudyResults, row: TrialRow) -> Iterator[str]:
    looks, metric = len(results.study.looks), results.study.plan.objective.replace("dev", "test", 1)
    if metric in row.test:
        yield f"{metric} {row.test[metric]:.4f}; test was looked at {looks} time{'' if looks == 1 else 's'}"
    else:
        yield "not scored: dev selects, and test is scored once the study is complete"


def _compared(results: StudyResults, verdict: Verdict | None) -> Iterator[str]:
    if verdict is not None:
        yield from verdict_sentences(verdict)
    yield from answer(results, compared=results.kept_differences is not None)


def _model(row: TrialRow) -> str:
    folder = row.folder / MODEL
    return (
        str(folder)
        if folder.is_dir()
        else "not on this machine: it was not kept, or is elsewhere; the command above trains it"
    )


def verdict_sentences(verdict: Verdict) -> Iterator[str]:
    """Yield the verdict of the finals in words."""
    others = ", ".join(str(trial) for trial in verdict.group[1:])
    if verdict.winner is not None:
        decided = f"decided with {verdict.named_at} seeds each"
        yield f"Winner: trial {verdict.winner} differs from every other finalist, {decided}"
    elif not verdict.look:
        yield f"Nothing is decided yet: {verdict.seeds} seeds each are too few"
    else:
        needed = f"; about {verdict.seeds_needed} seeds would tell" if verdict.seeds_needed is not None else ""
        yield f"Cannot be told apart: trial {verdict.best} and {others}, with {verdict.look} seeds each{needed}"
