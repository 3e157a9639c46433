"""How a study found its answer, as the section of the card that is added when the model is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from embedsweep.card.text import code, table, without_folders, without_paths
from embedsweep.config.study import Axis, DiscreteAxis, axis_words
from embedsweep.config.values import shown
from embedsweep.report.costs import study_costs, total_cost
from embedsweep.report.page.importance import EVALUATOR, SAFE, importances
from embedsweep.report.results import StudyResults
from embedsweep.report.tables import interval_text, score_text
from embedsweep.report.verdict import answer_lines, what_is_left
from embedsweep.secrets import redact
from embedsweep.study.finals import expects_finals
from embedsweep.study.keep import keep_text

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
"""Optuna's word for a trial's state -> ours."""


def found_section(results: StudyResults) -> str:
    """Return the section in Markdown: space, trials, selection, finals, importance, cost and looks at test."""
    parts = [
        "### How it was found",
        _trials(results),
        _space(results),
        *_selection(results),
        *_finals(results),
        *_importance(results),
        *_cost(results),
        *_looks(results),
    ]
    return redact("\n\n".join(parts))


def _trials(results: StudyResults) -> str:
    plan = results.study.plan
    counts = Counter(row.state for row in results.rows)
    states = ", ".join(f"{counts[state]} {word}" for state, word in _STATES.items() if counts[state])
    several = "s" if len(results.rows) != 1 else ""
    pruner = f" and pruner `{plan.pruner}`" if plan.pruner != "none" else ""
    return (
        f"embedsweep searched for it in a study of {len(results.rows)} trial{several} ({states}) of "
        f"{' and '.join(f'`{name}`' for name in plan.objectives)}, with sampler `{plan.sampler}`{pruner}. "
        "All trials had the other values of this model's configuration, below, in common. What was searched:"
    )


def _space(results: StudyResults) -> str:
    rows = [[code(redact(axis.name)), code(redact(_values(axis)))] for axis in results.study.plan.axes]
    return table(["key", "values"], rows, texts=2)


def _values(axis: Axis) -> str:
    if isinstance(axis, DiscreteAxis):
        return ", ".join(without_folders(shown(choice)) for choice in axis.choices)
    return axis_words(axis)


def _selection(results: StudyResults) -> Iterator[str]:
    """Yield which trial is the best on dev, and how exact its score is."""
    best, metric = results.best, results.study.plan.objective
    if best is None:
        return
    interval = ""
    if best.interval is not None:
        interval = f" (95 % interval over dev items {interval_text(best.interval)}; it says nothing about other seeds)"
    keep = results.study.plan.keep
    kept = f" A trial that forgot {keep_text(keep)} could not be the best." if keep else ""
    yield (
        f"Dev selected: trial {best.number} has the best `{metric}`, {score_text(metric, best.objectives[metric])} "
        f"with one seed{interval}.{kept}"
    )


def _finals(results: StudyResults) -> Iterator[str]:
    """Yield what is known beyond the best score: each finalist over its seeds, the verdict, luck, the soup."""
    study = results.study
    answer = study.answer
    if answer is not None and answer.verdict is not None:
        yield "The finals: the best configurations were trained again, each with the same other seeds."
    elif not expects_finals(study):
        yield "No finals were held: whether it would win again with other seeds is not known."
    elif what_is_left(study) is not None:
        yield "Its finals, with other seeds, are not over: whether it would win again is not known yet."
    if lines := answer_lines(study):
        yield "\n".join(f"- {_sentence(without_paths(line))}" for line in lines)


def _sentence(line: str) -> str:
    """Return a line as a sentence; a metric's name at its beginning stays as it is."""
    return f"{line}." if "/" in line.partition(" ")[0] else f"{line[:1].upper()}{line[1:]}."


def _importance(results: StudyResults) -> Iterator[str]:
    known = [each for each in importances(results) if each.shares]
    if not known:
        return
    rows = [
        [code(each.name), str(each.n_trials), code(redact(key)), f"{share:.3f}"]
        for each in known
        for key, share in each.shares.items()
    ]
    rough = f" Of fewer than {SAFE} trials it is rough." if any(each.n_trials < SAFE for each in known) else ""
    yield (
        f"Importance of what was searched, by {EVALUATOR} of Optuna, under each combination of options by itself (of "
        f"its complete trials; shares add up to 1).{rough}"
    )
    yield table(["options", "trials", "key", "share"], rows, texts=1)


def _cost(results: StudyResults) -> Iterator[str]:
    spent = study_costs(results)
    own, kept = "", results.study.kept
    result = kept[0].result_of(kept[1]) if kept is not None else None
    if result is not None and (cost := result.emissions).energy_kwh > 0:
        own = f" Of that, training this model took {1000 * cost.co2eq_kg:.3g} g CO2eq, {1000 * cost.energy_kwh:.3g} Wh."
    yield f"{_sentence(total_cost(spent))}{own}"


def _looks(results: StudyResults) -> Iterator[str]:
    looks = results.study.looks
    if not looks:
        yield "Test was not looked at in this study."
        return
    once = "once" if len(looks) == 1 else f"{len(looks)} times"
    yield f"Test was looked at {once}: {', then '.join(look.what for look in looks)}."
