"""Bootstrap intervals and paired differences beside scipy's and beside direct loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, spearmanr

from embedsweep.evaluation.intervals import RESAMPLES, SEED, correlation, interval_of, left_out, mean, resampled
from embedsweep.evaluation.scores import ItemScores, read_scores, write_scores

N = 150
_draws = np.random.default_rng(5)
GOLD = np.round(4 * _draws.random(N)) / 4  # five values: many ties, as in gold scores
PREDICTED: dict[str, np.ndarray] = {
    "cosine": (GOLD + _draws.normal(0, 0.4, N)).astype(np.float32),
    "dot": np.round(GOLD + _draws.normal(0, 0.5, N), 1),
}
LIBRARY = {"spearman": spearmanr, "pearson": pearsonr}
NAMES = ("spearman_cosine", "spearman_dot", "pearson_cosine", "pearson_dot")


def drawn_items(n_items: int) -> np.ndarray:
    """The resamples, drawn at once: (RESAMPLES, n_items) numbers of items."""
    return np.random.default_rng(SEED).integers(n_items, size=(RESAMPLES, n_items))


def by_loop(name: str, gold: np.ndarray, predicted: dict[str, np.ndarray]) -> np.ndarray:
    kind, similarity = name.split("_")
    return np.array([LIBRARY[kind](gold[items], predicted[similarity][items])[0] for items in drawn_items(len(gold))])


@pytest.mark.parametrize("name", NAMES)
def test_the_statistic_of_each_resample_is_scipys_of_the_drawn_items(name: str) -> None:
    found = resampled(correlation(name, GOLD, PREDICTED), N)
    np.testing.assert_allclose(found, by_loop(name, GOLD, PREDICTED), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_interval_is_scipys_percentile_interval_within_monte_carlo_error(name: str) -> None:
    kind, similarity = name.split("_")
    theirs = bootstrap(
        (GOLD, PREDICTED[similarity]),
        lambda x, y: LIBRARY[kind](x, y)[0],
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(11),
    ).confidence_interval
    ours = interval_of(resampled(correlation(name, GOLD, PREDICTED), N))
    assert ours is not None
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.012)  # widths are about 0.2
    assert 0.1 < ours[1] - ours[0] < 0.3


def test_the_largest_correlation_is_taken_in_every_resample() -> None:
    found = resampled(correlation("spearman_max", GOLD, PREDICTED), N)
    each = [resampled(correlation(f"spearman_{name}", GOLD, PREDICTED), N) for name in PREDICTED]
    assert np.array_equal(found, np.maximum(*each))
    assert not np.array_equal(found, each[0])


def test_resamples_are_the_same_whatever_part_of_them_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = resampled(correlation("spearman_dot", GOLD, PREDICTED), N)
    monkeypatch.setattr("embedsweep.evaluation.intervals.MOST_CELLS", 7 * N)
    assert np.array_equal(resampled(correlation("spearman_dot", GOLD, PREDICTED), N), at_once)


@pytest.mark.parametrize("kind", LIBRARY)
def test_resamples_without_a_correlation_are_left_out_and_most_of_them_make_no_interval(kind: str) -> None:
    gold, predicted = np.array([0.1, 0.1, 0.1, 0.7]), {"cosine": np.array([0.3, 0.2, 0.1, 0.4])}
    found = resampled(correlation(f"{kind}_cosine", gold, predicted), 4)
    items = drawn_items(4)
    constant = np.array([len(set(gold[each])) == 1 for each in items])
    assert np.array_equal(np.isnan(found), constant)
    assert 0 < constant.sum() < RESAMPLES / 2
    low, high = np.quantile(found[~constant], [0.025, 0.975])
    assert interval_of(found) == (low, high)
    assert interval_of(resampled(correlation(f"{kind}_cosine", np.full(4, 0.1), predicted), 4)) is None


def scores(predicted: np.ndarray, *, first: str = "0") -> ItemScores:
    texts = {"sentence1": [first, *map(str, range(1, N))], "sentence2": ["b"] * N}
    return ItemScores({**texts, "gold": GOLD, "predicted_cosine": predicted, "predicted_dot": PREDICTED["dot"]})


def cosine(scores: ItemScores) -> dict[str, np.ndarray]:
    return {"cosine": np.asarray(scores.columns["predicted_cosine"])}


def test_a_difference_is_of_both_scores_on_the_same_resamples() -> None:
    worse = scores((PREDICTED["cosine"] + np.linspace(-0.3, 0.3, N)).astype(np.float32))
    best = scores(PREDICTED["cosine"])
    differences = by_loop("spearman_cosine", GOLD, cosine(best)) - by_loop("spearman_cosine", GOLD, cosine(worse))
    found = interval_of(best.resampled("dev/spearman_cosine") - worse.resampled("dev/spearman_cosine"))
    assert found == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-9)


def test_scores_of_other_items_are_not_of_the_same(tmp_path: Path) -> None:
    written = scores(PREDICTED["cosine"])
    assert not written.is_of_same_items(scores(PREDICTED["cosine"], first="another"))
    assert not written.is_of_same_items(ItemScores({**written.columns, "gold": 1 - GOLD}))
    assert read_scores(tmp_path) is None
    write_scores(tmp_path, written)
    read = read_scores(tmp_path)
    assert read is not None
    assert read.is_of_same_items(written)
    assert read.interval("dev/pearson_cosine") == written.interval("dev/pearson_cosine")
    (tmp_path / "scores" / "dev.parquet").write_bytes(b"PAR1 broken")
    assert read_scores(tmp_path) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_items_that_a_resample_lacks_have_the_statistic_that_scipy_computes_of_them(name: str) -> None:
    kind, similarity = name.split("_")
    which = np.arange(RESAMPLES) % 200 == 7
    found = left_out(correlation(name, GOLD, PREDICTED), N, which)
    lacking = [np.setdiff1d(np.arange(N), items) for items in drawn_items(N)[which]]
    expected = [LIBRARY[kind](GOLD[items], PREDICTED[similarity][items])[0] for items in lacking]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_resample_that_lacks_no_item_has_no_statistic_of_those_it_lacks() -> None:
    items = drawn_items(2)
    found = left_out(mean(np.array([1.0, 3.0])), 2, np.ones(RESAMPLES, dtype=bool))
    has_all = items[:, 0] != items[:, 1]
    assert np.array_equal(np.isnan(found), has_all)
    assert np.array_equal(found[~has_all], np.where(items[~has_all, 0] == 0, 3.0, 1.0))
    assert not len(left_out(mean(np.array([1.0, 3.0])), 2, np.zeros(9, dtype=bool)))


def test_the_first_of_more_resamples_are_those_of_fewer() -> None:
    statistic = correlation("spearman_dot", GOLD, PREDICTED)
    assert np.array_equal(resampled(statistic, N, 600)[:250], resampled(statistic, N, 250))


def simulated(draws: np.random.Generator, n_items: int, steps: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gold scores and two predictions whose correlation with them is .8; with steps, all are rounded to so many."""
    gold = draws.normal(size=n_items)
    first, second = (0.8 * gold + 0.6 * draws.normal(size=n_items) for _ in range(2))
    if steps is None:
        return gold, first, second
    return tuple((np.clip(each, -2, 2) * steps / 4).round() for each in (gold, first, second))  # type: ignore[return-value]


# Spearman's correlation of normal variables is 6 / pi arcsin(r / 2); with ties it is that of a million pairs.
NORMAL = 6 / np.pi * np.arcsin(0.4)
_many = simulated(np.random.default_rng(99), 1_000_000, 5)
TIED = float(spearmanr(_many[0], _many[1])[0])


@pytest.mark.parametrize(
    ("name", "n_items", "steps", "truth", "studies"),
    [
        ("spearman", 100, None, NORMAL, 1000),
        ("spearman", 100, 5, TIED, 1000),
        ("pearson", 500, None, 0.8, 500),
        ("spearman", 500, 5, TIED, 500),
    ],
)
def test_the_interval_covers_the_known_correlation_in_95_percent_of_simulated_studies(
    name: str, n_items: int, steps: int | None, truth: float, studies: int
) -> None:
    draws = np.random.default_rng(n_items)
    covers, covers_difference = 0, 0
    for _ in range(studies):
        gold, *predicted = simulated(draws, n_items, steps)
        first, second = (resampled(correlation(f"{name}_x", gold, {"x": each}), n_items, 399) for each in predicted)
        interval, difference = interval_of(first), interval_of(first - second)
        assert interval is not None
        assert difference is not None
        covers += interval[0] <= truth <= interval[1]
        covers_difference += difference[0] <= 0 <= difference[1]
    assert 0.93 <= covers / studies <= 0.97
    assert 0.93 <= covers_difference / studies <= 0.97
