"""The luck of a selection on simulated trials, and the expected best of n trials beside all subsets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr

from embedsweep.evaluation.intervals import SEED
from embedsweep.evaluation.scores import ItemScores
from embedsweep.study.selection import expected_best, resamples_for, score_elsewhere

METRIC = "dev/spearman_cosine"


def readers(scores: list[ItemScores]) -> list[Callable[[], ItemScores]]:
    def one(index: int) -> ItemScores:
        return scores[index]

    return [partial(one, index) for index in range(len(scores))]


def pairs(gold: np.ndarray, predicted: np.ndarray) -> ItemScores:
    return ItemScores({"gold": gold, "predicted_cosine": predicted})


def queries(values: np.ndarray, metric: str = "ndcg_at_10_cosine") -> ItemScores:
    return ItemScores({"relevant": [["d"]] * len(values), metric: values})


def test_the_selection_of_each_resample_is_scored_on_the_items_that_it_lacks() -> None:
    draws = np.random.default_rng(8)
    n_items, resamples = 40, 60
    gold = draws.integers(0, 6, n_items).astype(float)
    predicted = [gold + draws.normal(0, noise, n_items) for noise in (1.5, 1.5, 1.4, 4.0)]
    elsewhere = []
    for items in np.random.default_rng(SEED).integers(n_items, size=(resamples, n_items)):
        selected = max(predicted, key=lambda each: float(spearmanr(gold[items], each[items])[0]))
        lacking = np.setdiff1d(np.arange(n_items), items)
        elsewhere.append(spearmanr(gold[lacking], selected[lacking])[0])
    corrected, interval = score_elsewhere(readers([pairs(gold, each) for each in predicted]), METRIC, resamples)
    assert corrected == pytest.approx(np.mean(elsewhere), abs=1e-9)
    assert interval == pytest.approx(tuple(np.quantile(elsewhere, [0.025, 0.975])), abs=1e-9)


def simulated(n_trials: int, better: float) -> tuple[float, float]:
    """How far the best dev score, and the corrected one, are above the true score of the best trial, on average.

    Trials answer 200 queries, each independently and well with probability 0.7; the first with more by ``better``.
    """
    draws = np.random.default_rng(21)
    errors = []
    for _ in range(60):
        right = draws.random((n_trials, 200)) < 0.7
        right[0] = draws.random(200) < 0.7 + better
        best = int(right.mean(axis=1).argmax())
        truth = 0.7 + (better if best == 0 else 0.0)
        corrected, _ = score_elsewhere(
            readers([queries(each.astype(float)) for each in right]), "dev/ndcg_at_10_cosine", 300
        )
        errors.append((right[best].mean() - truth, corrected - truth))
    optimism, left = np.mean(errors, axis=0)
    return float(optimism), float(left)


def test_the_luck_of_equal_trials_is_taken_away() -> None:
    optimism, left = simulated(20, 0.0)
    # The largest of 20 normal draws is 1.87 standard deviations above their mean.
    assert optimism == pytest.approx(1.87 * np.sqrt(0.7 * 0.3 / 200), rel=0.1)
    assert abs(left) < 0.15 * optimism


def test_a_trial_that_is_truly_better_keeps_its_score() -> None:
    optimism, left = simulated(5, 0.2)
    assert abs(optimism) < 0.01
    assert abs(left) < 0.01


def test_less_is_better_of_a_cost_and_the_smallest_is_selected() -> None:
    draws = np.random.default_rng(4)
    trials = [queries(draws.normal(mean, 0.1, 100), "co2eq_kg") for mean in (5.0, 1.0, 9.0)]
    corrected, _ = score_elsewhere(readers(trials), "emissions/co2eq_kg", 200)
    assert corrected == pytest.approx(1.0, abs=0.05)


def test_a_metric_that_no_resample_defines_is_an_error_and_not_a_score() -> None:
    constant = pairs(np.ones(9), np.arange(9.0))
    with pytest.raises(ValueError, match="not defined on any resample"):
        score_elsewhere(readers([constant, constant]), METRIC, 50)


@pytest.mark.parametrize(
    ("n_trials", "resamples"), [(2, 1999), (100, 1999), (200, 999), (500, 399), (1000, 199), (9000, 199)]
)
def test_the_selection_among_many_trials_is_repeated_less_often(n_trials: int, resamples: int) -> None:
    assert resamples_for(n_trials) == resamples


@pytest.mark.parametrize("larger_is_better", [True, False])
@pytest.mark.parametrize("scores", [[0.7, 0.3, 0.5, 0.9, 0.1, 0.4, 0.8], [0.5, 0.5, 0.2, 0.2, 0.9], [0.4]])
def test_the_expected_best_is_the_mean_over_all_subsets(scores: list[float], larger_is_better: bool) -> None:
    best = max if larger_is_better else min
    found = expected_best(np.array(scores), larger_is_better=larger_is_better)
    assert list(found) == list(range(1, len(scores) + 1))
    for n, value in found.items():
        assert value == pytest.approx(np.mean([best(each) for each in itertools.combinations(scores, n)]), abs=1e-12)


def test_the_expected_best_of_many_trials_is_given_for_some_numbers_up_to_all() -> None:
    scores = np.random.default_rng(2).random(1000)
    found = expected_best(scores, larger_is_better=True)
    assert len(found) <= 50
    assert (min(found), max(found)) == (1, 1000)
    assert found[1] == pytest.approx(scores.mean())
    assert found[1000] == pytest.approx(scores.max())
    assert list(found.values()) == sorted(found.values())
    # The best of n uniform draws is n / (n + 1) on average.
    assert all(value == pytest.approx(n / (n + 1), abs=0.02) for n, value in found.items())
