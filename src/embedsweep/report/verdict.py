"""What the answer of a study says, in sentences: the one place where its words are made.

Two questions are kept apart. How exact a score is, is an interval over the scored items; whether a recipe would win
again, is a test over seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedsweep.config.answer import Answer, Comparison, Finalist, Selection, Soup, Verdict
from embedsweep.config.metrics import direction_of
from embedsweep.evaluation.intervals import RESAMPLES
from embedsweep.report.tables import interval_text, score_text
from embedsweep.study.finals import expects_finals
from embedsweep.study.record import StudyRecord, count_trials
from embedsweep.study.seeds import LOOKS, smallest_p


def answer_lines(study: StudyRecord) -> list[str]:
    """Return the sentences of a study's answer: the verdict, test, the soup, and luck; none before it is complete."""
    answer = study.answer
    if answer is None:
        return []
    lines: list[str] = []
    if not study.is_answered:
        lines.append("what follows is of fewer trials than there are by now")
    elif (left := what_is_left(study)) is not None:
        lines.append(f"what follows may change: {left}")
    lines += verdict_lines(answer)
    lines += look_lines(study)
    if answer.soup is not None:
        lines += soup_lines(answer.soup, study.plan.objective)
    if answer.selection is not None:
        lines += [selection_line(answer.selection, study.plan.objective), *seed_lines(answer)]
    elif (reason := answer.unknown.get("selection")) is not None:
        lines.append(f"luck of the draw is not known: {reason}")
    return lines


def what_is_left(study: StudyRecord) -> str | None:
    """Return what may still change a study's answer, in words; None if nothing is left."""
    left = max(0, study.n_expected - count_trials(study.trials)) + len(study.unfinished)
    if left:
        return f"{left} trial{'s' if left > 1 else ''} of the study not finished"
    finals = study.finals
    if expects_finals(study) and (finals is None or not finals.is_complete or not study.is_answered):
        return "its finals are not over"
    return None


def unscored(study: StudyRecord) -> str | None:
    """Return that test scores and model are not those of the best finalist; None if they are, or without finals.

    A command may have been killed before it scored them, or their models are on another machine.
    """
    answer, test = study.answer, study.finals_test
    verdict = answer.verdict if answer is not None else None
    if verdict is None or (test is not None and test.finalist == verdict.best):
        return None
    return f"no training of trial {verdict.best}, the best of its finals, was scored on test"


def verdict_lines(answer: Answer) -> list[str]:
    """Return the sentences on the finals; none without any."""
    verdict = answer.verdict
    if verdict is None:
        return [f"finals: {reason}"] if (reason := answer.unknown.get("verdict")) else []
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


def of_finals(verdict: Verdict) -> str:
    """Return what the finals found in a few words."""
    if verdict.winner is not None:
        return f"finals: winner trial {verdict.winner}"
    return f"finals: no winner, the best mean is that of trial {verdict.best}"


def _decision(verdict: Verdict) -> Iterator[str]:
    """Yield whether there is a winner, by which tests, and what would decide it."""
    if len(verdict.finalists) == 1:
        yield "one finalist has scores: there is nothing to compare it with"
        return
    if verdict.look == 0:
        yield _too_few(verdict)
        return
    at = f"looked at with {verdict.look} seeds each, each test at {verdict.level:.4f}"
    if verdict.winner is None:
        yield f"cannot be told apart over seeds: {_trials(verdict.group)} ({at}); {_needed(verdict)}"
    else:
        beaten = "every other finalist" if len(verdict.comparisons) > 1 else f"trial {verdict.comparisons[0].other}"
        yield f"winner: trial {verdict.winner} differs from {beaten} over seeds ({at}{_earlier_look(verdict)})"
    yield f"trial {verdict.best} is above {'; '.join(_comparison(each) for each in verdict.comparisons)}"
    near = [each.other for each in verdict.comparisons if each.items is not None and each.items[0] <= 0]
    if verdict.winner is not None and near:
        better = "one of them might" if len(near) > 1 else "it might"
        yield f"not certain over dev items: {_trials(near)}; on others {better} be better (the interval contains 0)"
    constant = [each.trial for each in verdict.finalists if each.spread == 0]
    if constant:
        have = "have" if len(constant) > 1 else "has"
        yield f"{_trials(constant)} {have} the same score with every seed: seeds do not show how lucky such a score is"
    if verdict.seeds > verdict.look:
        following = next(look for look in LOOKS if look > verdict.seeds)
        yield f"of {verdict.seeds} seeds the first {verdict.look} count; the next look is at {following}"


def _too_few(verdict: Verdict) -> str:
    fewest = min(len(each.scores) for each in verdict.finalists)
    each = "one seed each reaches" if fewest == 1 else f"{fewest} seeds each reach"
    return (
        f"would trial {verdict.best} win again? Not tested: {each} p {smallest_p(fewest, fewest):.3g} at best, and "
        f"{verdict.level:.4f} is needed; the first look is at {LOOKS[0]}: study.finals.seeds={LOOKS[0]}"
    )


def _earlier_look(verdict: Verdict) -> str:
    """Return at which look the winner was named, if not at the last one, and whether the last one would name it."""
    if verdict.named_at == verdict.look:
        return ""
    now = any(each.p > verdict.level for each in verdict.comparisons)
    return f"; named at {verdict.named_at}, it stays{', although not every p is that small now' if now else ''}"


def _comparison(each: Comparison) -> str:
    parts = [f"p {each.p:.3g}"]
    if each.welch is not None:
        parts.append(f"95 % interval over seeds {interval_text(each.welch)}")
    if each.items is not None:
        parts.append(f"over dev items {interval_text(each.items)}")
    return f"trial {each.other} by {each.difference:.4f} ({', '.join(parts)})"


def _needed(verdict: Verdict) -> str:
    """Return how many seeds would name the best one."""
    if verdict.seeds_needed is None:
        return f"at these means and spreads not even {LOOKS[-1]} seeds would tell them"
    return f"about {verdict.seeds_needed} seeds each would: study.finals.seeds={verdict.seeds_needed}"


def _missing(verdict: Verdict) -> Iterator[str]:
    if verdict.missing:
        are = "are" if len(verdict.missing) > 1 else "is"
        why = "the trainings in the finals failed, or one forgets more than study.keep allows"
        yield f"{_trials(verdict.missing)} {are} not compared: {why}"


def selection_line(selection: Selection, metric: str) -> str:
    """Return how much of the best trial's score was luck of the draw."""
    sign = 1 if direction_of(metric) == "maximize" else -1
    luck = sign * (selection.score - selection.corrected)
    rough = f", roughly: of {selection.resamples} resamples" if _is_rough(selection) else ""
    interval = f" (95 % interval {interval_text(selection.interval)}{rough})" if selection.interval is not None else ""
    return (
        f"luck of the draw: chosen as the best of {selection.n_trials} on dev, trial {selection.trial} scores "
        f"{score_text(metric, selection.score)} there; on other items such a choice scores "
        f"{score_text(metric, selection.corrected)} on average{interval}, "
        f"{f'{luck:.4f} worse' if luck > 0 else 'which is no worse'}"
    )


def seed_lines(answer: Answer) -> list[str]:
    """Return how much of the best trial's score was luck with its seed; empty if the finals did not train it again."""
    selection, verdict = answer.selection, answer.verdict
    if selection is None or verdict is None:
        return []
    metric, sign = verdict.metric, 1 if direction_of(verdict.metric) == "maximize" else -1
    found = (each for each in verdict.finalists if each.trial == selection.trial and len(each.scores) > 1)
    return [
        f"luck of the seed: trial {selection.trial} scored {score_text(metric, selection.score)} with the seed of the "
        f"search; with {len(each.scores)} others it scores {score_text(metric, each.mean)} on average, "
        f"{f'{luck:.4f} worse' if (luck := sign * (selection.score - each.mean)) > 0 else 'which is no worse'}"
        for each in found
    ]


def _is_rough(selection: Selection) -> bool:
    return selection.resamples is not None and selection.resamples < RESAMPLES


def look_lines(study: StudyRecord) -> list[str]:
    """Return the test scores of the finals, and how often test was looked at, where that was more than once."""
    test, looks, lines = study.finals_test, study.looks, list[str]()
    metric = study.plan.objective.replace("dev/", "test/", 1)
    if test is not None and (scores := [each[metric] for each in test.scores.values() if metric in each]):
        least, most = score_text(metric, min(scores)), score_text(metric, max(scores))
        items = f"95 % interval over test items {interval_text(test.interval)}" if test.interval is not None else ""
        if len(scores) > 1:
            over = f"over {len(scores)} seeds ({least} to {most}{f'; {items}' if items else ''})"
        else:
            over = f"of one seed{f' ({items})' if items else ''}"
        lines.append(f"{metric} of trial {test.finalist}: mean {score_text(metric, test.mean()[metric])} {over}")
    if (untested := unscored(study)) is not None:
        kept = f"a training of trial {test.finalist}, the best before" if test is not None else "that of the best trial"
        lines.append(f"{untested}; the model that is kept is {kept}")
    if len(looks) > 1:
        what = ", then ".join(look.what for look in looks)
        lines.append(f"test was looked at {len(looks)} times: {what}; the first look alone is free of choosing by test")
    return lines


def soup_lines(soup: Soup, metric: str) -> list[str]:
    """Return what the average of the finals' models scores: one more candidate, never preferred by itself."""
    left_out = [
        f"left out of the soup: {_listed('final', [n for n, why in soup.left_out.items() if why == reason])}, {reason}"
        for reason in dict.fromkeys(soup.left_out.values())
    ]
    if soup.reason is not None:
        return [f"soup: none, {soup.reason}", *left_out]
    test_metric = metric.replace("dev/", "test/", 1)
    interval = f" (95 % interval {interval_text(soup.interval)})" if soup.interval is not None else ""
    test = f", {test_metric} {score_text(test_metric, soup.test[test_metric])}" if test_metric in soup.test else ""
    return [
        f"soup of {len(soup.kept)} of {len(soup.tried)} trainings of the finals: {metric} "
        f"{score_text(metric, soup.dev[metric])}{interval}{test}; the best training alone "
        f"{score_text(metric, soup.scores[0])}; this dev score chose its members, and flatters it",
        *left_out,
    ]


def _trials(numbers: Sequence[int]) -> str:
    return _listed("trial", numbers)


def _listed(unit: str, numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    listed = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    return f"{unit}{'s' if len(words) > 1 else ''} {listed}"
