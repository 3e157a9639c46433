"""What the results of a study say, in sentences: which trial and which option is best, by how much, how certain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedsweep.config.result import Interval
from embedsweep.evaluation.scores import scores_path
from embedsweep.report.results import GroupRow, StudyResults, TrialRow, paired_differences
from embedsweep.report.tables import how_certain
from embedsweep.study.keep import keep_text


def answer(results: StudyResults, *, compared: bool = True) -> list[str]:
    """Return the sentences; none without a complete trial.

    Args:
        results: the study's results.
        compared: whether to say how certain differences are, which takes seconds unless they are kept.
    """
    best = results.best
    if best is None:
        return []
    metric = results.study.plan.objective
    return [
        *_above_untrained(results, best.objectives[metric]),
        *(
            line
            for group, options in results.groups.items()
            for line in _winning_option(results, group, options, compared=compared)
        ),
        *_forgetting(results, best),
        *(_compared_trials(results, best) if compared else _not_compared(results)),
        *_best_mean(results, best),
        *_stop(results, compared=compared),
        *_seeds(results, compared=compared),
    ]


def _above_untrained(results: StudyResults, value: float) -> Iterator[str]:
    if results.before is None:
        return
    metric, rise = results.study.plan.objective, value - results.before
    if rise > 0:
        yield f"untrained model: {metric} {results.before:.4f}; the best trial is {rise:.4f} above it"
    else:
        change = f"{metric} was {results.before:.4f} before training and is {value:.4f}"
        yield f"the best trial is not better than the untrained model: {change}"


def _winning_option(results: StudyResults, group: str, options: Sequence[GroupRow], *, compared: bool) -> Iterator[str]:
    """Yield which option of a group has the best trial, and how far that of the next option is behind."""
    scored = [option for option in options if option.best_trial is not None]
    if not scored:
        return
    first, *others = scored
    yield_of = f"best {group}: {first.option}"
    if not others:
        yield "; ".join([yield_of, *_unscored(options[1:])])
        return
    second = others[0]
    assert first.best is not None
    assert second.best is not None
    assert second.best_trial is not None
    gap = f"the best trial of {second.option}, {second.best_trial}, is {first.best - second.best:.4f} below it"
    certainty = how_certain(results.differences.get(second.best_trial)) if compared else ""
    yield f"{yield_of}; {gap}{certainty}"


def _unscored(options: Sequence[GroupRow]) -> Iterator[str]:
    """Yield which options have no best trial, by why they have none."""
    forgetting = [option.option for option in options if option.complete]
    lacking = [option.option for option in options if not option.complete]
    if forgetting:
        yield f"{_listed(forgetting)} {_have(forgetting)} no trial that may be the best (study.keep)"
    if lacking:
        yield f"{_listed(lacking)} {_have(lacking)} no complete trial"


def _forgetting(results: StudyResults, best: TrialRow) -> Iterator[str]:
    """Yield which trials cannot be the best, as they forget too much, and whether one of them has a better score."""
    forgetting = [row for row in results.ranked if row.forgets]
    if not forgetting:
        return
    metric = results.study.plan.objective
    one = len(forgetting) == 1
    first = max(forgetting, key=lambda row: (row.objectives[metric], -row.number))
    above = first.objectives[metric] - best.objectives[metric]
    rival = f"; {'it' if one else f'trial {first.number}'} is {above:.4f} above the best trial" if above > 0 else ""
    what = keep_text(results.study.plan.keep)
    numbers = _trials([row.number for row in forgetting])
    yield f"{numbers} {'forgets' if one else 'forget'} {what} and cannot be the best (study.keep){rival}"


def _compared_trials(results: StudyResults, best: TrialRow) -> Iterator[str]:
    differences = results.differences
    known = results.study.answer
    of_search = (
        "in the search, " if known is not None and known.verdict is not None else ""
    )  # the finals have their own
    close = results.undecided
    behind = [number for number, interval in differences.items() if interval is not None and interval[0] > 0]
    unknown = [number for number, interval in differences.items() if interval is None]
    if close:
        yield (
            f"{of_search}cannot be told apart from trial {best.number}: {_trials(close)}; on other dev items one of "
            "them might be the best (the 95 % interval of the difference contains 0)"
        )
    elif behind:
        better = f"{of_search}trial {best.number} is better than {_trials(behind)} on other dev items, too"
        yield f"{better}, as far as these ones show"
    if unknown and not scores_path(best.folder, "dev").is_file():
        why = "the scores of its single items are not here"
        yield f"trial {best.number} is not compared with {_trials(unknown)}: {why}"
    elif unknown:
        yield f"not compared with trial {best.number}: {_trials(unknown)}, whose scores of single items are not here"


def _not_compared(results: StudyResults) -> Iterator[str]:
    if len(results.ranked) > 1:
        yield f"how certain these differences are: embedsweep show {results.study.name}"


def _best_mean(results: StudyResults, best: TrialRow) -> Iterator[str]:
    """Yield the configuration with the best mean over seeds, where the best trial is of another one."""
    rivals = (each for each in results.configurations if not any(row.forgets for row in each.rows))
    first = next(rivals, None) if len(results.study.plan.objectives) == 1 else None
    if first is not None and best not in first.rows:
        metric = results.study.plan.objective
        numbers = [row.number for row in first.rows]
        spread = f" ± {first.spread[metric]:.4f} over {first.n} seeds" if first.spread else ""
        yield f"best mean over seeds: {_trials(numbers)}, {first.mean[metric]:.4f}{spread}"


def _stop(results: StudyResults, *, compared: bool) -> Iterator[str]:
    """Yield why no further trial is started, and whether the last improvement is certain; nothing while some are."""
    study = results.study
    if not study.is_stopped or (rule := study.patience) is None:
        return
    more = f" of more than {rule.min_delta:g}" if rule.min_delta else ""
    said = f"stopped by study.patience={rule.patience}: as many finished trials brought no improvement{more}"
    if (last := study.last_improvement) is None:
        yield said
        return
    metric, (best, before) = study.plan.objective, (results.rows[number] for number in last)
    gap = best.objectives[metric] - before.objectives[metric]
    certainty = how_certain(_of_improvement(results, best, before)) if compared else ""
    yield f"{said}; the last was trial {best.number}, {gap:.4f} above trial {before.number}{certainty}"


def _of_improvement(results: StudyResults, best: TrialRow, before: TrialRow) -> Interval | None:
    """Return the interval of the difference, which is among the others where the last improvement is the best trial."""
    if (best == results.best and before.number in results.differences) or not results.computes:
        return results.differences.get(before.number)
    return paired_differences(best, [before], results.study.plan.objective)[before.number]


def _seeds(results: StudyResults, *, compared: bool) -> Iterator[str]:
    if any(row.n > 1 for row in results.configurations):
        yield "±: sample standard deviation over the seeds of a configuration"
    elif compared and results.differences and results.study.finals is None:
        ask = f"study.finals.top={results.worth_finals}"
        yield f"another seed moves scores, too: {ask} trains the best again with others to show how much"


def _trials(numbers: Sequence[int]) -> str:
    return f"trial{'s' if len(numbers) > 1 else ''} {_listed([str(number) for number in sorted(numbers)])}"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _have(words: Sequence[str]) -> str:
    return "have" if len(words) > 1 else "has"
