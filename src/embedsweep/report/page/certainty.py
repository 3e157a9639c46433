"""Sections on how sure the answer is: finals with every seed, the luck of the draw, the soup, looks at test."""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.config.answer import Finalist, Verdict
from embedsweep.console import short_params
from embedsweep.report.page.content import Chart, DataTable, Section
from embedsweep.report.page.figures import SYMBOLS, axis, error_bars, figure, markers, plain
from embedsweep.report.results import StudyResults
from embedsweep.report.status import study_status
from embedsweep.report.tables import interval_text
from embedsweep.report.verdict import look_lines, seed_lines, selection_line, soup_lines, verdict_lines
from embedsweep.study.finals import expects_finals


def finals(results: StudyResults) -> Section:
    """Return the section on the finals: every training of every finalist, and the comparisons of the best one."""
    study, answer = results.study, results.study.answer
    verdict = answer.verdict if answer is not None else None
    if answer is not None and verdict is not None:
        tables = [_finalists(results, verdict), *([_comparisons(verdict)] if verdict.comparisons else [])]
        return Section("finals", "Finals", verdict_lines(answer), [_seeds(verdict)], tables)
    if answer is not None and (lines := verdict_lines(answer)):
        return Section("finals", "Finals", lines)
    asked = study.finals_config
    if study.finals is None and asked is not None and expects_finals(study):
        planned = f"the best {asked.top} configurations are trained again with {asked.seeds} other seeds each"
        return Section("finals", "Finals", [f"Once all trials are finished, {planned}."])
    if study.finals is None and asked is not None:
        why = "of each configuration a trial forgets more than study.keep allows"
        return Section("finals", "Finals", [f"No finals: {study.why_no_best if study.best is None else why}."])
    if study.finals is None:
        top = results.worth_finals
        ask = f"embedsweep train -m study.name={study.name} study.finals.top={top}"
        best = f"the best {top} configurations" if top > 1 else "the configuration"
        none = "The study has no finals: whether the best configuration would win again with other seeds is not known."
        return Section("finals", "Finals", [none], commands={f"Trains {best} again with other seeds": ask})
    return Section("finals", "Finals", [f"Not decided yet: {study_status(study.finals).finished_text}."])


def _seeds(verdict: Verdict) -> Chart:
    finalists = verdict.finalists
    places = {each.trial: len(finalists) - index for index, each in enumerate(finalists)}
    hover = f"%{{customdata}}: {plain(verdict.metric)} %{{x:.4f}}"
    traces = []
    for index, each in enumerate(finalists):
        scores = [score.score for score in each.scores]
        custom = [f"trial {each.trial}, seed {score.seed}" for score in each.scores]
        symbol, name = SYMBOLS[index % len(SYMBOLS)], f"trial {each.trial}, every seed"
        place = [places[each.trial]] * len(scores)
        traces.append(markers(name, scores, place, hover, color=index, symbol=f"{symbol}-open", size=9, custom=custom))
    means = [each.mean for each in finalists]
    ends = [each.interval or (None, None) for each in finalists]
    trace = markers("mean", means, list(places.values()), "mean %{x:.4f}", color="text", symbol="line-ns-open", size=18)
    trace["error_x"] = error_bars([low for low, _ in ends], [high for _, high in ends], means)
    ticks = {"tickvals": list(places.values()), "ticktext": [f"trial {trial}" for trial in places]}
    y = axis("", range=[0.4, len(finalists) + 0.6], **ticks)
    drawn = figure([*traces, trace], axis(verdict.metric), y, height=170 + 60 * len(finalists))
    text = "; ".join(f"trial {each.trial}: mean {each.mean:.4f} of {len(each.scores)} seeds" for each in finalists)
    return Chart(
        "Every training of the finalists; bars: 95 % interval of the mean over the dev items", f"{text}.", drawn
    )


def _finalists(results: StudyResults, verdict: Verdict) -> DataTable:
    rows = [
        (
            f"trial {each.trial}",
            f"{each.mean:.4f}",
            "-" if each.spread is None else f"{each.spread:.4f}",
            interval_text(each.interval),
            ", ".join(f"{score.score:.4f}" for score in each.scores),
            _values_of(results, each),
        )
        for each in verdict.finalists
    ]
    header = ("finalist", "mean", "±", "95 % interval", "every seed", "values")
    return DataTable(f"{verdict.metric} of the finalists, the best first", header, rows, frozenset({0, 5}))


def _values_of(results: StudyResults, finalist: Finalist) -> str:
    return short_params(results.rows[finalist.trial].values) if finalist.trial < len(results.rows) else "unknown"


def _comparisons(verdict: Verdict) -> DataTable:
    rows = [
        (
            f"trial {each.other}",
            f"{each.difference:.4f}",
            f"{each.p:.3g}",
            interval_text(each.welch),
            interval_text(each.items),
        )
        for each in verdict.comparisons
    ]
    header = ("other", "difference", "p", "Welch, over seeds", "over dev items")
    caption = (
        f"Trial {verdict.best} above each other one; it differs where p, of the exact permutation test, is at most "
    )
    return DataTable(f"{caption}{verdict.level:.4f}; the intervals decide nothing", header, rows, frozenset({0}))


def luck(results: StudyResults) -> Section:
    """Return the section on how much of the best score was luck of the draw, on the soup and on looks at test."""
    looks = results.study.looks
    sentences = [*_luck(results), *look_lines(results.study)]
    rows = [
        (
            str(number),
            look.what,
            *("-" if count is None else str(count) for count in (look.after_trials, look.after_finals)),
        )
        for number, look in enumerate(looks, start=1)
    ]
    table = DataTable("Looks at test", ("look", "scored", "trials", "trainings of finals"), rows, frozenset({1}))
    if not rows:
        sentences.append("No look at test is recorded.")
    return Section("luck", "Luck, soup and looks at test", sentences, [], [table] if rows else [])


def _luck(results: StudyResults) -> Iterator[str]:
    answer, metric = results.study.answer, results.study.plan.objective
    if answer is None:
        yield "How much of the best score was luck of the draw is not known: it is computed once the study is complete."
        return
    if answer.selection is not None:
        yield selection_line(answer.selection, metric)
        yield from seed_lines(answer)
    if answer.soup is not None:
        yield from soup_lines(answer.soup, metric)
    parts = {"selection": "luck of the draw", "expected_best": "the expected best score after fewer trials"}
    yield from (
        f"{what} is not known: {answer.unknown[name]}" for name, what in parts.items() if name in answer.unknown
    )
