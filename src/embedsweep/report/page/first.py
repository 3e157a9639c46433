"""The first screen: the answer in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from embedsweep.report.verdict import finalist_line, look_lines, verdict_lines, what_is_left
from embedsweep.study.finals import expects_finals


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
    row = results.chosen
    if row is None:
        facts = {"Trials": [progress(results)], "Cost": [total_cost(study_costs(results))]}
        return FirstScreen(f"No best configuration yet: {study.why_no_best}.", None, facts)
    facts = {
        "Dev": _dev(results, row, verdict),
        "Test": _test(results, row),
        "Would it win again": _verdict(results),
        "Compared": answer(results, compared=results.kept_differences is not None),
        "Trials": [progress(results)],
        "Cost": [total_cost(study_costs(results))],
        "Model": [_model(results)],
    }
    so_far = "" if what_is_left(study) is None else " so far"
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
    seeds = len(finalist.scores)
    over = f"over {seeds} other seed{'s' if seeds > 1 else ''}{_interval(finalist.interval)}"
    return [f"{metric} {finalist.mean:.4f}{spread} {over}", *(f"In the search: {each}" for each in sentences)]


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" (95 % interval {interval_text(interval)})"


def _test(results: StudyResults, row: TrialRow) -> list[str]:
    study, metric = results.study, results.study.plan.objective.replace("dev", "test", 1)
    if study.finals_test is not None:
        return look_lines(study)
    if metric not in row.test:
        waits = not study.is_complete or expects_finals(study)
        return ["not scored yet: test waits for the study and its finals to be complete" if waits else "not scored"]
    interval = results.test_scores.interval if results.test_scores is not None else None
    return [f"{metric} {row.test[metric]:.4f}{_interval(interval)}, with one seed", *look_lines(study)]


def _verdict(results: StudyResults) -> list[str]:
    """Return what the finals decided; how each finalist did is in their own section."""
    study = results.study
    lines = verdict_lines(study.answer) if study.answer is not None else []
    if study.answer is None or not lines:
        is_over = study.finals is not None and study.finals.is_complete
        left = "are not compared yet" if is_over else "are not complete"
        state = left if expects_finals(study) else "were not held"
        return [f"not known: other seeds might decide otherwise, and finals {state}"]
    verdict = study.answer.verdict
    means = [finalist_line(verdict, each) for each in verdict.finalists] if verdict is not None else []
    older = [] if study.is_answered else ["the verdict is of fewer trials than there are by now"]
    return [*(line for line in lines if line not in means), *older]


def _model(results: StudyResults) -> str:
    folder = results.study.chosen_folder / MODEL
    return (
        str(folder) if folder.is_dir() else "not on this machine: not kept, or elsewhere; the command above trains it"
    )
