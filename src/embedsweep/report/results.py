"""The results of a study as frozen rows, read from its storage and its trials' folders: also while it is running."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.finals import without_seed
from embedsweep.config.metrics import direction_of
from embedsweep.config.result import Curve, Interval, TrialResult
from embedsweep.config.study import Choice
from embedsweep.evaluation.intervals import interval_of
from embedsweep.evaluation.scores import read_scores
from embedsweep.study.duplicates import Duplicate, trained_params
from embedsweep.study.keep import forgets_text, forgotten
from embedsweep.study.objectives import best_of, better
from embedsweep.study.pruning import PRUNED
from embedsweep.study.record import EMISSIONS_KG, ENERGY_KWH, FAILURE, GPU_H, RUN_ID, StudyRecord
from embedsweep.study.test_scores import TestScores

COMPARED = 10
"""How many of the best trials are compared with the best one."""


@dataclass(frozen=True)
class Cost:
    """What a trial cost, over all its attempts; None where it is not known.

    Attributes:
        co2eq_kg: kilograms of CO2 equivalent.
        energy_kwh: kilowatt-hours.
        gpu_h: hours of GPUs, each counted by itself.
        duration_s: seconds.
    """

    co2eq_kg: float | None
    energy_kwh: float | None
    gpu_h: float | None
    duration_s: float | None


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    Attributes:
        number: its number.
        state: Optuna's word for its state (``COMPLETE``).
        options: swept group -> option.
        values: swept key -> value, the swept groups among them; the seed of a replicate, too.
        objectives: metric -> value; of a pruned trial the one it ended with, empty without any.
        interval: 95 % interval of the study's first dev metric, over the dev items; None where it is not known.
        steps: optimizer steps trained; None where they are not known.
        test: scores on test and benchmarks, of the trial that was scored there; else empty.
        cost: what it cost.
        run_id: the id of its MLflow run; None before it has one.
        reason: why it failed, where and why it was pruned, or what a complete one forgets that ``study.keep`` keeps;
            None of other trials.
        forgets: how far scores fell that ``study.keep`` keeps, by name; a trial with any is never the best.
        duplicate: which trial it repeats; None if it repeats none.
        folder: its folder.
        result: its whole result; None of a failed or unfinished trial.
    """

    number: int
    state: str
    options: Mapping[str, str]
    values: Mapping[str, Choice]
    objectives: Mapping[str, float]
    interval: Interval | None
    steps: int | None
    test: Mapping[str, float]
    cost: Cost
    run_id: str | None
    reason: str | None
    forgets: Mapping[str, float]
    duplicate: Duplicate | None
    folder: Path
    result: TrialResult | None

    @property
    def is_reused(self) -> bool:
        """Whether it has the scores of another trial and was not trained."""
        return self.duplicate is not None and self.duplicate.replicate is None


@dataclass(frozen=True)
class GroupRow:
    """The trials of an option of a swept group. Its figures are those of complete trials that were trained.

    Attributes:
        option: the option.
        trials: how many there are.
        complete: how many are complete.
        pruned: how many were pruned.
        failed: how many failed.
        best: the best value of the study's first dev metric, of trials that may be the best; None without one.
        best_trial: the number of the trial that has it.
        median: the median value of all; None without a complete trial, as the others.
        steps: mean optimizer steps.
        co2eq_kg: mean kilograms of CO2 equivalent.
    """

    option: str
    trials: int
    complete: int
    pruned: int
    failed: int
    best: float | None
    best_trial: int | None
    median: float | None
    steps: float | None
    co2eq_kg: float | None


@dataclass(frozen=True)
class ConfigurationRow:
    """The complete trials of one configuration, whatever their seeds.

    Attributes:
        rows: its trials that were trained, the best first.
        reused: numbers of the trials that reuse the scores of one of them.
        mean: metric -> the mean over the trials.
        spread: metric -> the sample standard deviation over the trials; empty of a single trial.
    """

    rows: tuple[TrialRow, ...]
    reused: tuple[int, ...]
    mean: Mapping[str, float]
    spread: Mapping[str, float]

    @property
    def n(self) -> int:
        """How many trials were trained."""
        return len(self.rows)

    @property
    def values(self) -> dict[str, Choice]:
        """The values that its trials share."""
        values = self.rows[0].values
        return dict(values) if self.n == 1 else without_seed(values)


@dataclass(frozen=True, eq=False)
class StudyResults:
    """The results of a study as they were at one moment.

    Attributes:
        study: the study.
        rows: all trials, by number.
        ranked: the complete trials, the best by the first objective first; those that reuse scores among them.
        best: the best trial, by the first dev metric, which has a model; None where no complete trial may be.
        before: the first dev metric of the model that ``best`` started from, untrained; None where it was not scored.
        groups: swept group -> its options, the best first.
        configurations: the complete trials with seeds and replicates of a configuration as one, the best mean first.
        test_scores: of the best trial; None before the best trial was scored.
        computes: whether differences that no command kept are computed from the scores of the items, where asked for.
    """

    study: StudyRecord
    rows: tuple[TrialRow, ...]
    ranked: tuple[TrialRow, ...]
    best: TrialRow | None
    before: float | None
    groups: Mapping[str, tuple[GroupRow, ...]]
    configurations: tuple[ConfigurationRow, ...]
    test_scores: TestScores | None
    computes: bool = True

    @property
    def worth_finals(self) -> int:
        """How many configurations are proposed for finals, which nobody has asked for: the best three, if there are."""
        return min(3, len(self.configurations))

    @property
    def chosen(self) -> TrialRow | None:
        """The trial whose configuration is the answer: the best finalist's, else that of the best trial."""
        number = self.study.chosen
        return self.rows[number] if number is not None else None

    @cached_property
    def differences(self) -> Mapping[int, Interval | None]:
        """Number -> 95 % interval of how far the best trial's score is above that trial's.

        Of the next best trials, and of the best trial of each option of a swept group.

        Those that a command kept at its end; what it did not know, as the items are on this machine only, and all where
        none did, are computed: see `paired_differences`, which takes about a quarter of a second for each trial and
        1,500 items.
        """
        kept, metric = self.kept_differences, self.study.plan.objective
        if self.best is None or not self.computes:
            return kept or {}
        if kept is not None:
            unknown = [self.rows[number] for number, interval in kept.items() if interval is None]
            return {**kept, **paired_differences(self.best, unknown, metric)}
        others = [row for row in self.ranked if not (row.is_reused or row.forgets or row.number == self.best.number)]
        others = sorted(others, key=lambda row: (-row.objectives[metric], row.number))
        winners = {option.best_trial for options in self.groups.values() for option in options}
        if (last := self.study.last_improvement) is not None:
            winners.add(last[1])
        others = others[: COMPARED - 1] + [row for row in others[COMPARED - 1 :] if row.number in winners]
        return paired_differences(self.best, others, metric)

    @property
    def kept_differences(self) -> Mapping[int, Interval | None] | None:
        """The differences that a command kept when the study had the trials that it has now; None if none did."""
        kept, best = self.study.differences, self.best
        if kept is None or best is None or (kept["best"], kept["complete"]) != (best.number, len(self.ranked)):
            return None
        return {int(number): interval and (interval[0], interval[1]) for number, interval in kept["intervals"].items()}

    def curve(self, row: TrialRow) -> Curve:
        """Return what was measured while a trial trained; of an unfinished one its dev objective so far.

        With a pruner that is not known: what is reported then has a rung in the place of its step.
        """
        if row.result is not None and row.result.curve:
            return row.result.curve
        reported = self.study.trials[row.number].intermediate_values if self.study.plan.pruner == "none" else {}
        return {self.study.plan.objective: sorted(reported.items())} if reported else {}

    @property
    def undecided(self) -> tuple[int, ...]:
        """Numbers of the next best trials that the dev items do not tell apart from the best one, best first.

        The interval of the difference contains 0.
        """
        return tuple(
            number for number, interval in self.differences.items() if interval is not None and interval[0] <= 0
        )


def paired_differences(row: TrialRow, others: Sequence[TrialRow], metric: str) -> dict[int, Interval | None]:
    """Return the 95 % interval of how far a trial's score is above each of the others', by their numbers.

    Both scores are computed on the same resamples of the dev items. None where the scores of the items are not on this
    machine, or are of other items.

    Args:
        row: the trial.
        others: trials to compare it with.
        metric: the dev metric (``dev/spearman_cosine``).
    """
    differences: dict[int, Interval | None] = {other.number: None for other in others}
    scores = read_scores(row.folder) if others else None
    if scores is None:
        return differences
    resampled = scores.resampled(metric)
    for other in others:
        theirs = read_scores(other.folder)
        if theirs is not None and scores.is_of_same_items(theirs):
            differences[other.number] = interval_of(resampled - theirs.resampled(metric))
    return differences


def study_results(study: StudyRecord) -> StudyResults:
    """Read the results of a study, which may be running or interrupted; nothing is written."""
    plan, trials, test_scores = study.plan, study.trials, study.test_scores
    rows = tuple(_row(study, trial, test_scores) for trial in trials)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    ranked = tuple(rows[trial.number] for trial in sorted(complete, key=better(plan.objectives, 0)))
    best = best_of(trials, plan.objectives)
    result = rows[best.number].result if best is not None else None
    return StudyResults(
        study=study,
        rows=rows,
        ranked=ranked,
        best=rows[best.number] if best is not None else None,
        before=result.before.get(plan.objective) if result is not None else None,
        groups={group: _options(group, rows, plan.objective) for group in plan.groups},
        configurations=_configurations(ranked, plan.objectives),
        test_scores=test_scores,
    )


def final_rows(study: StudyRecord) -> list[TrialRow]:
    """Return the trials of a study's finals, by number, with their test scores; none before they began."""
    finals, test = study.finals, study.finals_test
    if finals is None:
        return []
    scores = test.scores if test is not None else {}
    rows = [_row(finals, trial, None) for trial in finals.trials]
    return [replace(row, test=dict(scores.get(row.number, {}))) for row in rows]


def _row(study: StudyRecord, trial: FrozenTrial, test_scores: TestScores | None) -> TrialRow:
    attributes, plan = trial.user_attrs, study.plan
    values = trained_params(plan, trial)
    result = study.result_of(trial) if trial.state.is_finished() else None
    scores = trial.values if trial.state is TrialState.COMPLETE else None
    if trial.state is TrialState.PRUNED and trial.value is not None:
        scores = [trial.value]
    forgets = forgotten(plan.keep, trial.constraints)
    reasons = {TrialState.FAIL: attributes.get(FAILURE), TrialState.PRUNED: attributes.get(PRUNED)}
    return TrialRow(
        number=trial.number,
        state=trial.state.name,
        options={group: str(values[group]) for group in plan.groups if group in values},
        values=values,
        objectives=dict(zip(plan.objectives, scores or (), strict=False)),
        interval=result.interval if result is not None else None,
        steps=result.steps if result is not None else None,
        test=test_scores.scores if test_scores is not None and test_scores.number == trial.number else {},
        cost=Cost(
            attributes.get(EMISSIONS_KG),
            attributes.get(ENERGY_KWH),
            attributes.get(GPU_H),
            result.emissions.duration_s if result is not None else None,
        ),
        run_id=attributes.get(RUN_ID),
        reason=reasons.get(trial.state, forgets_text(forgets) or None),
        forgets=forgets,
        duplicate=Duplicate.of(trial),
        folder=study.trial_folder(trial.number),
        result=result,
    )


def _options(group: str, rows: Sequence[TrialRow], metric: str) -> tuple[GroupRow, ...]:
    """Return a group's options, the one with the best trial first and those without a complete trial last."""
    options = dict.fromkeys(row.options[group] for row in rows if group in row.options)
    table = [
        _group_row(option, [row for row in rows if row.options.get(group) == option], metric) for option in options
    ]
    # Of two options with the same best score, the one of the study's best trial is first.
    return tuple(sorted(table, key=lambda each: (each.best is None, -(each.best or 0.0), each.best_trial or 0)))


def _group_row(option: str, rows: Sequence[TrialRow], metric: str) -> GroupRow:
    trained = [row for row in rows if row.state == "COMPLETE" and not row.is_reused]
    values = {row.number: row.objectives[metric] for row in trained}
    rivals = [row.number for row in trained if not row.forgets]
    best = max(rivals, key=lambda number: values[number], default=None)
    states = [row.state for row in rows]
    return GroupRow(
        option=option,
        trials=len(rows),
        complete=states.count("COMPLETE"),
        pruned=states.count("PRUNED"),
        failed=states.count("FAIL"),
        best=values[best] if best is not None else None,
        best_trial=best,
        median=_known(statistics.median, values.values()),
        steps=_known(statistics.fmean, (row.steps for row in trained)),
        co2eq_kg=_known(statistics.fmean, (row.cost.co2eq_kg for row in trained)),
    )


def _known(statistic: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """Return a statistic of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return statistic(known) if known else None


def _configurations(ranked: Sequence[TrialRow], objectives: Sequence[str]) -> tuple[ConfigurationRow, ...]:
    trained = [row for row in ranked if not row.is_reused]
    together: dict[tuple[tuple[str, Choice], ...], list[TrialRow]] = {}
    for row in trained:
        together.setdefault(tuple(without_seed(row.values).items()), []).append(row)
    configurations = [_configuration(rows, ranked, objectives) for rows in together.values()]
    signs = {metric: -1 if direction_of(metric) == "maximize" else 1 for metric in objectives}
    return tuple(sorted(configurations, key=lambda each: [sign * each.mean[metric] for metric, sign in signs.items()]))


def _configuration(rows: Sequence[TrialRow], ranked: Sequence[TrialRow], objectives: Sequence[str]) -> ConfigurationRow:
    numbers = {row.number for row in rows}
    reused = [row.number for row in ranked if row.is_reused and row.duplicate and row.duplicate.original in numbers]
    values = {metric: [row.objectives[metric] for row in rows] for metric in objectives}
    return ConfigurationRow(
        rows=tuple(rows),
        reused=tuple(sorted(reused)),
        mean={metric: statistics.fmean(each) for metric, each in values.items()},
        spread={metric: statistics.stdev(each) for metric, each in values.items()} if len(rows) > 1 else {},
    )
