"""What MLflow's pages say of a study: the description of its run and of its experiment, and its ranking as a table."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from embedsweep.card.text import table
from embedsweep.config.metrics import direction_of
from embedsweep.config.study import axis_words
from embedsweep.config.values import shown
from embedsweep.console import short_params
from embedsweep.report.answer import answer
from embedsweep.report.ranking import rerun_command
from embedsweep.report.results import StudyResults, TrialRow, final_rows
from embedsweep.report.status import study_status
from embedsweep.report.tables import FIGURES, interval_text, option_tables, score_text
from embedsweep.report.verdict import answer_lines, of_finals, what_is_left
from embedsweep.secrets import redact
from embedsweep.tracking.tables import Table
from embedsweep.tracking.view import run_path, view_path

LONGEST_OF_RUN, LONGEST_OF_EXPERIMENT = 7_900, 19_900
"""Characters: MLflow cuts a run's description after 8,000, and refuses an experiment's of more than 20,000."""

_SHOWN = 10
_MARKUP = re.compile(r"[\\`*_\[\]{}|~$#!]")


def description(
    results: StudyResults, program: str, experiment_id: str | None, longest: int, *, with_answer: bool
) -> str:
    """Return a study's description in Markdown; MLflow shows its first line where it is folded.

    Args:
        results: the study's results.
        program: how this program is started, for the commands in it.
        experiment_id: MLflow's id of the study's experiment, for links; None leaves them out.
        longest: characters that it may have; what comes last is left out first.
        with_answer: whether to compare single trials with the best one, which takes seconds.
    """
    study, chosen = results.study, results.chosen
    resume = f"{program} -m study.name={study.name}"
    searched = [f"- {escaped(axis.name)}: {escaped(axis_words(axis))}" for axis in study.plan.axes]
    parts = [
        _headline(results),
        _links(results, experiment_id),
        "\n".join(f"- {escaped(line)}" for line in (*answer(results), *answer_lines(study))) if with_answer else "",
        "\n".join(["```", *option_tables(results)[1:], "```"]) if option_tables(results) else "",
        _ranking(results, experiment_id),
        f"Trains the best configuration again: {_command(rerun_command(program, study.fixed, chosen.values))}"
        if chosen is not None
        else "",
        f"Resumes the study, or extends it with `study.n_trials=N`: {_command(resume)}",
        "\n".join([_question(results), "", *searched]),
        f"The same for all trials: {escaped(' '.join(study.fixed)) or 'the defaults'}",
    ]
    return _shortened([part for part in parts if part], longest)


def _question(results: StudyResults) -> str:
    goals = [f"the {_DEGREES[direction_of(name)]} {escaped(name)}" for name in results.study.plan.objectives]
    return f"Which of these gives {' and '.join(goals)}?"


_DEGREES = {"maximize": "highest", "minimize": "lowest"}


def _headline(results: StudyResults) -> str:
    study, best = results.study, results.best
    count = study_status(study).finished_text
    if best is None:
        why = study.why_no_best if study.complete_trials else "no trial is complete yet"
        return f"{why[0].upper()}{escaped(why[1:])}; {count}."
    left = what_is_left(study)
    so_far = "" if left is None else " so far"
    scores = ", ".join(f"{escaped(name)} {score_text(name, value)}" for name, value in best.objectives.items())
    name = study.plan.objective.replace("dev", "test", 1)
    test = f", {escaped(name)} {best.test[name]:.4f}" if name in best.test else ""
    finals = f"; {of_finals(study.answer.verdict)}" if study.answer is not None and study.answer.verdict else ""
    values = escaped(short_params(best.values))
    return f"**Best{so_far}: trial {best.number}, {scores}**{test} ({values}){finals}; {count}."


def _links(results: StudyResults, experiment_id: str | None) -> str:
    if experiment_id is None:
        return ""
    view, best = view_path(experiment_id), results.best
    links = [f"[All trials, the best first]({view})", f"[Charts]({view}&compareRunsMode=CHART)"]
    if best is not None and best.run_id is not None:
        links.append(f"[Run of the best trial]({run_path(experiment_id, best.run_id)})")
    return " · ".join(links)


def _ranking(results: StudyResults, experiment_id: str | None) -> str:
    objectives = results.study.plan.objectives
    ranked = results.ranked[:_SHOWN]
    if not ranked:
        return ""
    head = ["trial", "values", *map(escaped, objectives), "95 % interval", *(figure.header for figure in FIGURES)]
    rows = [
        [
            _trial(row, experiment_id),
            escaped(" ".join(filter(None, (short_params(row.values), row.reason and f"({row.reason})")))),
            *(score_text(name, row.objectives[name]) for name in objectives),
            interval_text(row.interval),
            *("-" if (value := figure.read(row.cost)) is None else figure.text(value) for figure in FIGURES),
        ]
        for row in ranked
    ]
    known = [index for index in range(len(head)) if any(row[index] != "-" for row in rows)]
    kept = [[row[index] for index in known] for row in (head, *rows)]
    more = len(results.ranked) - len(ranked)
    return table(kept[0], kept[1:], 2) + (f"\n\nand {more} more" if more else "")


def _trial(row: TrialRow, experiment_id: str | None) -> str:
    if experiment_id is None or row.run_id is None:
        return str(row.number)
    return f"[{row.number}]({run_path(experiment_id, row.run_id)})"


def _command(command: str) -> str:
    """Return a command as code in a line: MLflow's pages fold it, and cut a block's lines."""
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence} {command} {fence}"


def _shortened(parts: Sequence[str], longest: int) -> str:
    """Join paragraphs, without the last ones if all are too long, and cut the first where it alone is."""
    kept = list(parts)
    while len(text := "\n\n".join(kept)) > longest and len(kept) > 1:
        kept.pop()
    return f"{text}\n" if len(text) < longest else f"{text[: longest - 4]}..."


def escaped(text: str) -> str:
    """Return a text without secrets and without any meaning in Markdown or HTML, on one line."""
    plain = html.escape(" ".join(redact(text).split()), quote=False)  # an escaped secret would not be recognised
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", plain)


def best_tags(results: StudyResults, program: str) -> dict[str, str]:
    """Return tags of the study's run that name its best trial; none without a complete one."""
    best = results.best
    if best is None:
        return {}
    answer, chosen = results.study.answer, results.chosen or best
    verdict = answer.verdict if answer is not None else None
    # A winner may be none any more, once further configurations are in the finals.
    winner = {"embedsweep.winner": _number(verdict.winner)} if verdict is not None else {}
    return winner | {
        "embedsweep.best_trial": str(best.number),
        "embedsweep.best_run": best.run_id or "",
        "embedsweep.best_command": rerun_command(program, results.study.fixed, chosen.values),
    }


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def trials_table(results: StudyResults) -> Table:
    """Return all trials, the ranked ones first, with their values and figures."""
    others = [row for row in results.rows if row.state != "COMPLETE"]
    rows = [*results.ranked, *others]
    keys = list(dict.fromkeys(key for row in rows for key in row.values))
    columns: dict[str, list[object]] = {
        "rank": [*range(1, len(results.ranked) + 1), *(None for _ in others)],
        "trial": [row.number for row in rows],
        "state": [row.state for row in rows],
    }
    for name in results.study.plan.objectives:
        columns[name] = [row.objectives.get(name) for row in rows]
    for index, name in enumerate(("interval_low", "interval_high")):
        columns[name] = [row.interval[index] if row.interval is not None else None for row in rows]
    columns |= {key: [_cell(row.values, key) for row in rows] for key in keys}
    columns |= {"steps": [row.steps for row in rows]}
    for figure in FIGURES:
        columns[figure.metric] = [figure.read(row.cost) for row in rows]
    return columns | {"reason": [row.reason for row in rows], "run_id": [row.run_id for row in rows]}


def finals_table(results: StudyResults) -> Table:
    """Return the trials of the finals with finalist, seed and scores, by number."""
    finals, rows = results.study.finals, final_rows(results.study)
    points = [finals.point_of(finals.trials[row.number]) for row in rows] if finals is not None else []
    metric = results.study.plan.objective
    tests = dict.fromkeys(name for row in rows for name in row.test)
    return {
        "final": [row.number for row in rows],
        "finalist": [point.finalist if point is not None else None for point in points],
        "seed": [point.seed if point is not None else None for point in points],
        "state": [row.state for row in rows],
        metric: [row.objectives.get(metric) for row in rows],
        **{name: [row.test.get(name) for row in rows] for name in tests},
        "reason": [row.reason for row in rows],
        "run_id": [row.run_id for row in rows],
    }


def _cell(values: Mapping[str, object], key: str) -> object:
    value = values.get(key)
    return value if isinstance(value, int | float | None) else redact(shown(value))
