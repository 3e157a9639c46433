"""What the answer of a study says, in sentences: the one place where its words are made.

Two questions are kept apart. How exact a score is, is an interval over the scored items; whether a recipe would win
again, is a test over seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedsweep.config.answer import Answer, Comparison, Finalist, Selection, Soup, Verdict
from embedsweep.report.tables import interval_text, score_text
from embedsweep.study.record import StudyRecord


def answer_lines(study: StudyRecord) -> list[str]:
    """Return the sentences of a study's answer: the verdict, test, the soup, and luck; none before it is complete."""
    answer = study.answer
    if answer is None:
        return []
    lines = [] if study.is_answered else ["what follows is of fewer trials than there are by now"]
    if answer.verdict is not None:
        lines += verdict_lines(answer)
    lines += look_lines(study)
    if answer.soup is not None:
        lines += soup_lines(answer.soup, study.plan.objective)
    if answer.selection is not None:
        lines.append(selection_line(answer.selection, study.plan.objective))
    return lines


def verdict_lines(answer: Answer) -> list[str]:
    """Return the sentences on the finals; none without any."""
    verdict = answer.verdict
    if verdict is None:
        return []
    return [
        *(finalist_line(verdict, each) for each in verdict.finalists),
        *_decision(verdict),
        *_missing(verdict),
        *([f"intervals over dev items are not known: {reason}"] if (reason := answer.unknown.get("items")) else []),
    ]


def finalist_line(verdict: Verdict, finalist: Finalist) -> str:
    """Return a finalist's mean: ``trial 7: mean 0.7123 ± 0.0031 over 5 seeds, 0.7090 to 0.7161 (...)``."""
    scores = [each.score for each in finalist.scores]
    mean = f"finals, trial {finalist.trial}: mean {verdict.metric} {score_text(verdict.metric, finalist.mean)}"
    if finalist.spread is None:
        return f"{mean} of one seed"
    least, most = (score_text(verdict.metric, each) for each in (min(scores), max(scores)))
    items = f"; 95 % interval over dev items {interval_text(finalist.interval)}" if finalist.interval else ""
    return f"{mean} ± {finalist.spread:.4f} over {len(scores)} seeds ({least} to {most}{items})"


def _decision(verdict: Verdict) -> Iterator[str]:
    """Yield whether there is a winner, by which tests, and what would decide it."""
    if len(verdict.finalists) == 1:
        yield "one finalist has scores: there is nothing to compare it with"
        return
    if verdict.look == 0:
        fewest = min(len(each.scores) for each in verdict.finalists)
        yield (
            f"would trial {verdict.best} win again? Not tested: {fewest} seed{'s' if fewest > 1 else ''} for each are "
            "too few, the first look is at 5: study.finals.seeds=5"
        )
        return
    others = "; ".join(_comparison(each) for each in verdict.comparisons)
    at = f"looked at with {verdict.look} seeds, each test at {verdict.level:.4f}"
    if verdict.winner is not None:
        earlier = f", and so it stays since the look at {verdict.named_at}" if verdict.named_at != verdict.look else ""
        beaten = "every other finalist" if len(verdict.comparisons) > 1 else f"trial {verdict.comparisons[0].other}"
        yield f"winner: trial {verdict.winner} differs from {beaten} over seeds, so it would win again ({at}{earlier})"
    else:
        yield f"cannot be told apart over seeds: {_trials(verdict.group)} ({at}); {_needed(verdict)}"
    yield f"trial {verdict.best} is above {others}"


def _comparison(each: Comparison) -> str:
    parts = [f"p {each.p:.3g}"]
    if each.welch is not None:
        parts.append(f"95 % interval over seeds {interval_text(each.welch)}")
    if each.items is not None:
        parts.append(f"over dev items {interval_text(each.items)}")
    return f"trial {each.other} by {each.difference:.4f} ({', '.join(parts)})"


def _needed(verdict: Verdict) -> str:
    """Return how many seeds would tell the best from the next one of its group."""
    if verdict.seeds_needed is None:
        return "at this spread not even 20 seeds would tell them"
    return f"about {verdict.seeds_needed} seeds each would: study.finals.seeds={verdict.seeds_needed}"


def _missing(verdict: Verdict) -> Iterator[str]:
    if verdict.missing:
        have = "have" if len(verdict.missing) > 1 else "has"
        yield f"{_trials(verdict.missing)} {have} no score: their trainings in the finals failed"


def selection_line(selection: Selection, metric: str) -> str:
    """Return how much of the best trial's score was luck of the draw."""
    luck = abs(selection.score - selection.corrected)
    interval = f" (95 % interval {interval_text(selection.interval)})" if selection.interval is not None else ""
    return (
        f"luck of the draw: chosen as the best of {selection.n_trials} on dev, trial {selection.trial} scores "
        f"{score_text(metric, selection.score)} there; on other items such a choice scores "
        f"{score_text(metric, selection.corrected)}{interval}, {luck:.4f} less"
    )


def look_lines(study: StudyRecord) -> list[str]:
    """Return the test scores of the finals, and how often test was looked at, where that was more than once."""
    test, looks, lines = study.finals_test, study.looks, list[str]()
    metric = study.plan.objective.replace("dev/", "test/", 1)
    if test is not None and (scores := [each[metric] for each in test.scores.values() if metric in each]):
        least, most = score_text(metric, min(scores)), score_text(metric, max(scores))
        over = f"over {len(scores)} seeds ({least} to {most})" if len(scores) > 1 else "of one seed"
        lines.append(f"{metric} of trial {test.finalist}: mean {score_text(metric, test.mean()[metric])} {over}")
    if len(looks) > 1:
        what = ", then ".join(look.what for look in looks)
        lines.append(f"test was looked at {len(looks)} times: {what}; the first look alone is free of choosing by test")
    return lines


def soup_lines(soup: Soup, metric: str) -> list[str]:
    """Return what the average of the finals' models scores: one more candidate, never preferred by itself."""
    if soup.reason is not None:
        return [f"soup: none, {soup.reason}"]
    test_metric = metric.replace("dev/", "test/", 1)
    interval = f" (95 % interval {interval_text(soup.interval)})" if soup.interval is not None else ""
    test = f", {test_metric} {score_text(test_metric, soup.test[test_metric])}" if test_metric in soup.test else ""
    return [
        f"soup of {len(soup.kept)} of {len(soup.tried)} trainings of the finals: {metric} "
        f"{score_text(metric, soup.dev[metric])}{interval}{test}; the best training alone "
        f"{score_text(metric, soup.scores[0])}; this dev score chose its members, and flatters it"
    ]


def _trials(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    listed = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    return f"trial{'s' if len(words) > 1 else ''} {listed}"
