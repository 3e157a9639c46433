"""The answer of a study: computed once from its storage and its trials' folders, and then kept."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.answer import Answer, Comparison, Finalist, SeedScore, Selection, Verdict
from embedsweep.config.metrics import direction_of
from embedsweep.config.result import Interval
from embedsweep.evaluation.intervals import RESAMPLES_OF_FINALS, Floats, interval_of
from embedsweep.evaluation.scores import ItemScores, read_scores
from embedsweep.study.duplicates import is_reused
from embedsweep.study.keep import is_kept
from embedsweep.study.record import StudyRecord
from embedsweep.study.sampling import POINT
from embedsweep.study.seeds import LEVEL, decide, seeds_needed, welch
from embedsweep.study.selection import TRIALS_IN_FULL, expected_best, resamples_for, score_elsewhere
from embedsweep.validation.plan_cells import count_cells

Trainings = Mapping[int, Mapping[int, FrozenTrial]]
"""Finalist -> seed -> its training, of those that have a score."""


def make_answer(study: StudyRecord, say: Callable[[str], None]) -> Answer:
    """Return what is known of a study and of its finals, without a soup.

    Args:
        study: the study, which is complete.
        say: is told what takes seconds.
    """
    unknown: dict[str, str] = {}
    finals = study.finals
    return Answer(
        verdict=_verdict(finals, unknown) if finals is not None else None,
        selection=_selection(study, unknown, say),
        expected_best=_expected_best(study, unknown),
        unknown=unknown,
    )


NOT_HERE = "are not on"
"""Stands in what says that scores were on another machine than the one that looked for them."""


def lacks_items(answer: Answer) -> bool:
    """Return whether something is not known because scores of single items were on another machine."""
    return any(NOT_HERE in answer.unknown.get(what, "") for what in ("selection", "items"))


class MissingItemsError(Exception):
    """The scores of a trial's items are not on this machine, or are of other items; the text says which and where."""


def interval_on_test(finals: StudyRecord, trials: Sequence[FrozenTrial]) -> Interval | None:
    """Return the 95 % interval of the mean test score of some trainings over the test items, the seeds as they are.

    None where scores of single items are not on this machine. All are scored on the same resamples.

    Args:
        finals: the finals.
        trials: the trainings, at least one.
    """
    metric = finals.plan.objective
    try:
        found = [read().resampled(metric, RESAMPLES_OF_FINALS) for read in _items(finals, trials, "test")]
    except MissingItemsError:
        return None
    return interval_of(np.mean(found, axis=0))


def _items(
    record: StudyRecord, trials: Sequence[FrozenTrial], split: Literal["dev", "test"] = "dev"
) -> list[Callable[[], ItemScores]]:
    """Return for each trial what reads the scores of its items, which are those of the first trial.

    Raises:
        MissingItemsError: when one is read.
    """
    first: ItemScores | None = None

    def read(trial: FrozenTrial) -> ItemScores:
        nonlocal first
        scores = read_scores(record.trial_folder(trial.number), split)
        if scores is None:
            # It is read on other machines, too.
            where = f"{NOT_HERE} {socket.gethostname()}"
            raise MissingItemsError(f"the scores of the {split} items of trial {trial.number} {where}")
        first = first or scores
        if not scores.is_of_same_items(first):
            raise MissingItemsError(
                f"trial {trial.number} was scored on other {split} items than trial {trials[0].number}"
            )
        return scores

    return [partial(read, trial) for trial in trials]


def _sign(metric: str) -> float:
    return 1.0 if direction_of(metric) == "maximize" else -1.0


def _verdict(finals: StudyRecord, unknown: dict[str, str]) -> Verdict | None:
    if not finals.is_complete:  # a comparison now would be one more look
        unknown["verdict"] = "not all of their trainings are finished"
        return None
    metric, sign = finals.plan.objective, _sign(finals.plan.objective)
    index = finals.plan.objectives.index(metric)
    trainings = _trainings(finals)
    order = tuple(dict.fromkeys(point.seed for point in finals.points))
    scores = np.full((len(trainings), len(order)), np.nan)
    for row, by_seed in enumerate(trainings.values()):
        for column, seed in enumerate(order):
            if seed in by_seed:
                scores[row, column] = sign * by_seed[seed].values[index]
    decision = decide(scores)
    if decision is None:
        unknown["verdict"] = "no training of the finals that counts has a score"
        return None
    counting = order[: decision.look or None]
    counted = {
        number: {seed: by_seed[seed] for seed in counting if seed in by_seed} for number, by_seed in trainings.items()
    }
    items = _resampled_means(finals, counted, metric, unknown)
    finalists = [_finalist(finals, number, by_seed, index, items) for number, by_seed in counted.items() if by_seed]
    numbers = list(trainings)
    best = numbers[decision.best]
    finalists.sort(key=lambda each: (each.trial != best, -sign * each.mean))
    group = {numbers[row] for row in decision.group}
    return Verdict(
        metric=metric,
        seeds=len(order),
        look=decision.look,
        level=LEVEL,
        best=best,
        winner=None if decision.winner is None else numbers[decision.winner],
        named_at=decision.named_at,
        group=tuple(each.trial for each in finalists if each.trial in group),
        seeds_needed=seeds_needed(scores, decision),
        finalists=tuple(finalists),
        comparisons=tuple(
            _comparison(finalists[0], other, decision.p[numbers.index(other.trial)], sign, items)
            for other in finalists[1:]
        ),
        missing=tuple(each for each in _numbers(finals) if not counted.get(each)),
    )


def _numbers(finals: StudyRecord) -> tuple[int, ...]:
    return tuple(dict.fromkeys(point.finalist for point in finals.points))


def _trainings(finals: StudyRecord) -> Trainings:
    """Return the trainings of all finalists but those that forget too much: as in the study, they cannot be best."""
    trainings: dict[int, dict[int, FrozenTrial]] = {number: {} for number in _numbers(finals)}
    for trial in finals.complete_trials:
        if (point := finals.point_of(trial)) is not None:
            trainings[point.finalist][point.seed] = trial
    return {number: by_seed for number, by_seed in trainings.items() if all(map(is_kept, by_seed.values()))}


def _resampled_means(
    finals: StudyRecord, trainings: Trainings, metric: str, unknown: dict[str, str]
) -> Mapping[int, Floats]:
    """Return for each finalist the mean score of its trainings on each resample of the items; empty if not known.

    All trainings are scored on the same resamples.
    """
    trials = [(number, trial) for number, by_seed in trainings.items() for trial in by_seed.values()]
    sums: dict[int, Floats] = {}
    try:
        for (number, _), read in zip(trials, _items(finals, [trial for _, trial in trials]), strict=True):
            found = read().resampled(metric, RESAMPLES_OF_FINALS)
            sums[number] = sums[number] + found if number in sums else found
    except MissingItemsError as why:
        unknown["items"] = f"of the finals, {why}"
        return {}
    return {number: each / len(trainings[number]) for number, each in sums.items()}


def _finalist(
    finals: StudyRecord, number: int, trainings: Mapping[int, FrozenTrial], index: int, items: Mapping[int, Floats]
) -> Finalist:
    results = {seed: finals.result_of(trial) for seed, trial in trainings.items()}
    scores = tuple(
        SeedScore(trial.number, seed, trial.values[index], result.interval if (result := results[seed]) else None)
        for seed, trial in trainings.items()
    )
    values = [each.score for each in scores]
    return Finalist(
        trial=number,
        scores=scores,
        mean=statistics.fmean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        interval=interval_of(items[number]) if items else None,
    )


def _comparison(best: Finalist, other: Finalist, p: float, sign: float, items: Mapping[int, Floats]) -> Comparison:
    first, second = (sign * np.array([each.score for each in finalist.scores]) for finalist in (best, other))
    return Comparison(
        other=other.trial,
        difference=sign * (best.mean - other.mean),
        p=p,
        welch=welch(first, second),
        items=interval_of(sign * (items[best.trial] - items[other.trial])) if items else None,
    )


def _selection(study: StudyRecord, unknown: dict[str, str], say: Callable[[str], None]) -> Selection | None:
    best, metric = study.best, study.plan.objective
    candidates = [trial for trial in study.complete_trials if not is_reused(trial) and is_kept(trial)]
    if best is None or len(candidates) < 2:  # nothing was selected
        return None
    resamples = resamples_for(len(candidates))
    if len(candidates) >= TRIALS_IN_FULL:
        say(f"luck of the draw: choosing the best of {len(candidates)} trials again on {resamples} resamples of dev")
    try:
        corrected, interval = score_elsewhere(_items(study, candidates), metric, resamples)
    except (MissingItemsError, ValueError) as why:
        unknown["selection"] = str(why)
        return None
    score = best.values[study.plan.objectives.index(metric)]
    return Selection(best.number, score, corrected, interval, len(candidates), resamples)


def _expected_best(study: StudyRecord, unknown: dict[str, str]) -> Mapping[int, float] | None:
    trials, plan = study.trials, study.plan
    drawn = [trial for trial in trials if plan.sampler == "exhaustive" or POINT not in trial.user_attrs]
    scored = [trial for trial in drawn if trial.state is TrialState.COMPLETE]
    reasons = {
        f"the trials that {plan.sampler} proposes depend on each other": plan.sampler not in ("random", "exhaustive"),
        "pruned trials have no final score": any(trial.state is TrialState.PRUNED for trial in drawn),
        "trials that forget too much cannot be the best": not all(map(is_kept, scored)),
        "the study ended because its scores no longer improved": study.is_stopped,
        "there are not two trials that were drawn": len(scored) < 2,
    }
    if reason := next((text for text, holds in reasons.items() if holds), None):
        unknown["expected_best"] = reason
        return None
    if plan.sampler == "exhaustive" and study.n_trials < count_cells(plan):
        unknown["expected_best"] = "only the first cells of the grid were trained, in order"
        return None
    metric = plan.objective
    values = np.array([trial.values[plan.objectives.index(metric)] for trial in scored])
    return expected_best(values, larger_is_better=_sign(metric) > 0)
