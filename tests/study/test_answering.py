"""The answer of made-up studies: verdict, intervals over items, luck of the selection, and what is unknown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import gethostname

import numpy as np
import pytest
from scipy.stats import spearmanr

from embedsweep.config.answer import Answer
from embedsweep.evaluation.intervals import SEED
from embedsweep.evaluation.scores import ItemScores, read_scores, write_scores
from embedsweep.study.answering import interval_on_test, make_answer
from embedsweep.study.finals import open_finals
from embedsweep.study.opening import open_study
from embedsweep.study.reading import read_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import Outcome, finish, keep_scores, result, scored_items, study_of

LOW, HIGH = [0.70, 0.71, 0.72, 0.73, 0.74], [0.75, 0.76, 0.77, 0.78, 0.79]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def with_finals(*finalists: Sequence[Outcome]) -> Study:
    """A study of as many trials whose finals ended so, finalist by finalist; the last trial was the best."""
    n, seeds = len(finalists), len(finalists[0])
    words = (f"study.finals.top={n}", f"study.finals.seeds={seeds}")
    study = study_of(*(0.5 + row / 100 for row in range(n)), rates=n, words=words)
    finals = open_finals(study)
    assert finals is not None
    finish(finals, [finalists[row][seed] for seed in range(seeds) for row in reversed(range(n))])
    return study


def answer_of(study: Study) -> Answer:
    answer = make_answer(read_study(study.name), lambda _: None)
    assert Answer.of(json.loads(json.dumps(answer.tree()))) == answer  # as it is kept
    return answer


def test_a_winner_differs_from_every_other_finalist() -> None:
    verdict = answer_of(with_finals(HIGH, LOW)).verdict
    assert verdict is not None
    assert (verdict.seeds, verdict.look, verdict.named_at, verdict.seeds_needed) == (5, 5, 5, None)
    assert (verdict.best, verdict.winner, verdict.group, verdict.missing) == (0, 0, (0,), ())
    assert verdict.level == pytest.approx(0.05 / 3)
    best, other = verdict.finalists
    assert ([each.score for each in best.scores], best.mean) == (HIGH, statistics.fmean(HIGH))
    assert best.spread == statistics.stdev(HIGH)
    assert [each.seed for each in best.scores] == [each.seed for each in other.scores]
    (comparison,) = verdict.comparisons
    assert comparison.other == 1
    assert comparison.p == pytest.approx(2 / 252)
    assert comparison.difference == pytest.approx(0.05)
    assert comparison.welch is not None
    assert 0.02 < comparison.welch[0] < 0.05 < comparison.welch[1] < 0.08


def test_finalists_that_cannot_be_told_apart_are_a_group_and_failed_trainings_are_left_out() -> None:
    close: list[Outcome] = [0.71, 0.72, "out of memory", 0.74, 0.75]
    verdict = answer_of(with_finals([0.1, 0.2, 0.1, 0.2, 0.1], LOW, close)).verdict
    assert verdict is not None
    assert (verdict.best, verdict.winner, verdict.group, verdict.named_at) == (2, None, (2, 1), None)
    assert [each.trial for each in verdict.finalists] == [2, 1, 0]
    assert [each.score for each in verdict.finalists[0].scores] == [0.71, 0.72, 0.74, 0.75]
    assert [each.other for each in verdict.comparisons] == [1, 0]
    assert verdict.comparisons[0].p > verdict.level > verdict.comparisons[1].p


def test_seeds_after_a_look_do_not_count_before_the_next_one_and_too_few_decide_nothing() -> None:
    seven = answer_of(with_finals([*LOW, 0.1, 0.1], [*HIGH, 0.1, 0.1])).verdict
    assert seven is not None
    assert (seven.seeds, seven.look, seven.winner) == (7, 5, 1)
    assert [len(each.scores) for each in seven.finalists] == [5, 5]


def test_with_fewer_seeds_than_the_first_look_all_count_and_none_is_the_winner() -> None:
    verdict = answer_of(with_finals(LOW[:3], HIGH[:3])).verdict
    assert verdict is not None
    assert (verdict.look, verdict.winner, verdict.best, verdict.group) == (0, None, 1, (1, 0))
    assert verdict.comparisons[0].p == pytest.approx(0.1)
    assert [len(each.scores) for each in verdict.finalists] == [3, 3]


def test_a_finalist_whose_trainings_all_failed_is_missing() -> None:
    study = with_finals(LOW, HIGH, ["killed"] * 5)
    verdict = answer_of(study).verdict
    assert verdict is not None
    assert (verdict.winner, verdict.missing) == (1, (2,))
    nothing = answer_of(with_nothing())
    assert nothing.verdict is None
    assert nothing.unknown["verdict"] == "no training of the finals that counts has a score"


def test_finals_of_which_trainings_are_left_are_not_compared() -> None:
    study = study_of(0.4, 0.5, rates=2, words=("study.finals.top=2", "study.finals.seeds=5"))
    finals = open_finals(study)
    assert finals is not None
    running = finish(finals, [0.7, 0.1] * 4).ask()
    finish(finals, [0.1])
    assert running is not None
    study.set_answer(answer_of(study))
    assert study.answer is not None
    assert (study.answer.verdict, study.answer.unknown["verdict"]) == (None, "not all of their trainings are finished")
    finals.complete(running, result(0.7))
    assert not study.is_answered
    assert answer_of(study).verdict is not None


def with_nothing() -> Study:
    study = study_of(0.4, 0.5, rates=2, name="nothing", words=("study.finals.top=2", "study.finals.seeds=2"))
    finals = open_finals(study)
    assert finals is not None
    finish(finals, ["killed"] * 4)
    return study


def spearman(scores: ItemScores, items: np.ndarray) -> float:
    return float(
        spearmanr(np.asarray(scores.columns["gold"])[items], np.asarray(scores.columns["predicted_cosine"])[items])[0]
    )


def test_intervals_over_items_are_of_the_mean_over_seeds_on_the_same_resamples() -> None:
    study = with_finals([result(0.70, interval=(0.6, 0.8)), *LOW[1:]], HIGH)
    finals = study.finals
    assert finals is not None
    folders: dict[int, list[Path]] = {0: [], 1: []}
    for trial in finals.trials:
        point = finals.point_of(trial)
        assert point is not None
        folder = finals.trial_folder(trial.number)
        write_scores(folder, scored_items(0.3 if point.finalist else 0.4, n_items=60, seed=trial.number))
        folders[point.finalist].append(folder)
    verdict = answer_of(study).verdict
    assert verdict is not None
    resamples = np.random.default_rng(SEED).integers(60, size=(9999, 60))[::99]
    means = {}
    for finalist, each in folders.items():
        scores = [read_scores(folder) for folder in each]
        means[finalist] = np.array([[spearman(one, items) for items in resamples] for one in scores if one]).mean(
            axis=0
        )
    best, other = verdict.finalists
    assert (best.trial, other.trial) == (1, 0)
    # A hundredth of the resamples: the ends of the intervals agree roughly.
    for found, expected in (
        (best.interval, means[1]),
        (other.interval, means[0]),
        (verdict.comparisons[0].items, means[1] - means[0]),
    ):
        assert found == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])), abs=0.02)
    assert other.scores[0].interval == (0.6, 0.8)  # as it was trained
    assert best.scores[0].interval is None


def test_the_interval_on_test_is_of_the_mean_over_seeds_on_the_same_resamples() -> None:
    finals = with_finals([0.7, 0.8], [0.6, 0.5]).finals
    assert finals is not None
    pair = finals.trials[:2]
    for trial, noise in zip(pair, (0.2, 0.4), strict=True):
        assert interval_on_test(finals, pair) is None
        write_scores(finals.trial_folder(trial.number), scored_items(noise, n_items=80, seed=trial.number), "test")
    drawn = np.random.default_rng(SEED).integers(80, size=(9999, 80))[::99]
    items = [scored_items(noise, n_items=80, seed=trial.number) for trial, noise in zip(pair, (0.2, 0.4), strict=True)]
    means = [statistics.fmean(spearman(each, rows) for each in items) for rows in drawn]
    assert interval_on_test(finals, pair) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.02)


def test_items_that_are_not_here_or_are_others_leave_the_verdict_and_say_so() -> None:
    study = with_finals(LOW, HIGH)
    finals = study.finals
    assert finals is not None
    answer = answer_of(study)
    assert (
        answer.unknown["items"] == f"of the finals, the scores of the dev items of trial 0 are not on {gethostname()}"
    )
    keep_scores(finals, [0.2] * 10)  # type: ignore[arg-type]
    write_scores(finals.trial_folder(6), scored_items(0.2, n_items=199))
    answer = answer_of(study)
    assert answer.unknown["items"] == "of the finals, trial 6 was scored on other dev items than trial 0"
    assert answer.verdict is not None
    assert (answer.verdict.winner, answer.verdict.finalists[0].interval) == (1, None)
    assert answer.verdict.comparisons[0].items is None


def test_the_luck_of_the_best_trial_is_of_all_complete_trials_items() -> None:
    study = study_of(0.1, 0.5, "out of memory", 0.4, rates=4)
    keep_scores(study, [0.9, 0.2, None, 0.3])
    selection = answer_of(study).selection
    assert selection is not None
    assert (selection.trial, selection.score, selection.n_trials) == (1, 0.5, 3)
    assert selection.interval is not None
    best = scored_items(0.2)
    assert selection.corrected == pytest.approx(spearman(best, np.arange(200)), abs=0.01)
    assert selection.interval[0] < selection.corrected < selection.interval[1]
    (study.trial_folder(3) / "scores" / "dev.parquet").unlink()
    answer = answer_of(study)
    assert answer.selection is None
    assert answer.unknown["selection"] == f"the scores of the dev items of trial 3 are not on {gethostname()}"
    one = answer_of(study_of(0.5, name="one"))
    assert one.selection is None  # nothing was selected
    assert "selection" not in one.unknown


def drawn(*outcomes: Outcome, sampler: str = "random", name: str = "drawn", words: tuple[str, ...] = ()) -> Study:
    """A study of an interval of rates whose trials ended so."""
    rate, number = "optimizer.lr=interval(1e-5,1e-3)", f"study.n_trials={len(outcomes)}"
    return finish(
        open_study(pass_sweep((f"study.name={name}", rate, number, f"study.sampler={sampler}", *words))), outcomes
    )


def test_the_expected_best_is_of_grids_and_random_draws_only() -> None:
    grid = answer_of(study_of(0.1, 0.5, 0.3, rates=3))
    assert grid.expected_best == pytest.approx({1: 0.3, 2: (0.5 + 0.5 + 0.3) / 3, 3: 0.5})
    assert answer_of(drawn(0.1, 0.5, 0.3)).expected_best == grid.expected_best
    enqueued = drawn(0.9, 0.1, 0.5, 0.3, name="enqueued", words=("study.enqueue=[{optimizer.lr:4e-4}]",))
    assert answer_of(enqueued).expected_best == grid.expected_best  # what was given was not drawn


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: drawn(0.1, 0.3, sampler="tpe"), "the trials that tpe proposes depend on each other"),
        (lambda: study_of(0.1, 0.3), "only the first cells of the grid were trained, in order"),
        (lambda: drawn(0.1, "out of memory"), "there are not two trials that were drawn"),
        (lambda: drawn(0.1, "pruned", 0.3, words=("study.pruner=median",)), "pruned trials have no final score"),
    ],
)
def test_why_the_expected_best_is_not_known(make: Callable[[], Study], reason: str) -> None:
    answer = answer_of(make())
    assert answer.expected_best is None
    assert answer.unknown["expected_best"] == reason
    assert answer.verdict is None
    assert "verdict" not in answer.unknown
