"""The section on single items: what the best model gains and loses on against the untrained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsweep.evaluation.scores import ItemScores, read_scores, scores_path
from embedsweep.report.page.content import Chart, DataTable, Section
from embedsweep.report.page.figures import axis, figure
from embedsweep.report.results import StudyResults, TrialRow, final_rows

SHOWN = 10
"""Items in each table."""
LONGEST = 160
"""Characters of a text that are shown."""
TITLE = "Items that the best model gains and loses"


@dataclass(frozen=True, eq=False)
class Change:
    """How much better each item is scored by the best model than by the untrained one.

    Attributes:
        model: which one it is: ``trial 7``, or ``final 3``.
        texts: what each item is, in words.
        before: how well the untrained model does on each, ``(items,)``; more is better.
        after: the same of the best model.
        what: what these numbers are.
    """

    model: str
    texts: Sequence[str]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    what: str

    @property
    def gain(self) -> NDArray[np.float64]:
        """How much better each item is scored."""
        return self.after - self.before


def change_of(results: StudyResults) -> Change | str:
    """Return how the items of dev changed, or why that is not known."""
    found = _kept(results)
    if found is None:
        return results.study.why_no_best
    model, row = found
    metric = results.study.plan.objective
    after, before = read_scores(row.folder), before_scores(results, row)
    if after is None:
        return f"the scores of single items of {model} are not on this machine"
    if before is None:
        why = "an earlier version trained them, or evaluation.before=false"
        return f"no trial here has scores of single items of the untrained model: {why}"
    if not after.is_of_same_items(before):
        return "the untrained model was scored on other items"
    (values, what), (old, _) = (scores.goodness(metric) for scores in (after, before))
    return Change(model, _texts(after), old, values, what)


def _kept(results: StudyResults) -> tuple[str, TrialRow] | None:
    """Return the training whose model is the answer, and what it is called; None without one."""
    test = results.study.finals_test
    if test is not None and len(finals := final_rows(results.study)) > test.kept:
        return f"final {test.kept}", finals[test.kept]
    return (f"trial {results.best.number}", results.best) if results.best is not None else None


def before_scores(results: StudyResults, row: TrialRow) -> ItemScores | None:
    """Return the scores of the untrained model that a trial started from; None where no trial here has them.

    A worker scores a model once, so they may be in the folder of another trial. Those that give the trial's own score
    of the untrained model are the ones.
    """
    metric = results.study.plan.objective
    score = row.result.before.get(metric) if row.result is not None else None
    if score is None:
        return None
    others = (*results.rows, *final_rows(results.study))
    for folder in dict.fromkeys((row.folder, *(other.folder for other in others))):
        scores = read_scores(folder, "before") if scores_path(folder, "before").is_file() else None
        if scores is not None and np.isclose(scores.statistic(metric)(np.ones((1, len(scores))))[0], score, atol=1e-6):
            return scores
    return None


def _texts(scores: ItemScores) -> list[str]:
    names = [
        name for name in ("query", "anchor", "sentence1", "positive", "sentence2", "negative") if name in scores.columns
    ]
    columns = [scores.columns[name] for name in names]
    return [" | ".join(_short(str(text)) for text in texts) for texts in zip(*columns, strict=True)]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def items(results: StudyResults) -> Section:
    """Return the section."""
    change = change_of(results)
    if isinstance(change, str):
        return Section("items", TITLE, [f"Not known: {change}."])
    gain = change.gain
    order = np.argsort(-gain, kind="stable")
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    text = (
        f"{change.model.capitalize()} does better than the untrained model on {better} of {len(gain)} items, worse on "
        f"{worse} and the same on {len(gain) - better - worse}. Measured by {change.what}."
    )
    sentences = [text]
    tables = [
        _table("gains most on", change, [int(index) for index in order[:SHOWN] if gain[index] > 0]),
        _table("loses most on", change, [int(index) for index in order[::-1][:SHOWN] if gain[index] < 0]),
    ]
    return Section("items", TITLE, sentences, [_histogram(change, text)], [table for table in tables if table.rows])


def _table(what: str, change: Change, places: Sequence[int]) -> DataTable:
    rows = [
        (
            str(place),
            change.texts[place],
            f"{change.before[place]:.4f}",
            f"{change.after[place]:.4f}",
            f"{change.gain[place]:+.4f}",
        )
        for place in places
    ]
    header = ("item", "texts", "untrained", change.model, "change")
    return DataTable(f"Items that it {what}", header, rows, frozenset({1}))


def _histogram(change: Change, text: str) -> Chart:
    counts, edges = np.histogram(change.gain, bins=40)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    bars = {
        "type": "bar",
        "x": middles,
        "y": counts.tolist(),
        "width": [float(edges[1] - edges[0])] * len(middles),
        "hovertemplate": "%{y} items change by about %{x:.3f}<extra></extra>",
        "meta": {"color": 0},
    }
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 1, "dash": "dash"}}
    drawn = figure([bars], axis("change"), axis("items"), shapes=[zero])
    return Chart("Change of every dev item", text, drawn)
