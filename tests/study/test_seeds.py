"""The verdict over seeds: the exact permutation test, Welch's interval, looks, false winners and power."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from embedsweep.study import seeds
from embedsweep.study.seeds import (
    LEVEL,
    LOOKS,
    Decision,
    decide,
    permutation_p,
    seeds_needed,
    smallest_p,
    welch,
    winner_of,
)

NAN = math.nan
LOW = [0.70, 0.71, 0.72, 0.73, 0.74]
HIGH = [0.75, 0.76, 0.77, 0.78, 0.79]


def difference_of_means(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(first.mean(axis=axis) - second.mean(axis=axis))


@pytest.mark.parametrize("digits", [1, 12], ids=["with ties", "without ties"])
@pytest.mark.parametrize(("n", "m"), [(2, 3), (4, 5), (5, 5), (7, 4), (8, 8)])
def test_the_p_value_is_scipys_exact_one(n: int, m: int, digits: int) -> None:
    draws = np.random.default_rng(n * m)
    for shift in (0.0, 0.4, -1.5):
        first, second = (draws.normal(size=n) + shift).round(digits), draws.normal(size=m).round(digits)
        theirs = stats.permutation_test((first, second), difference_of_means, vectorized=True, n_resamples=np.inf)
        assert permutation_p(first, second) == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (HIGH, LOW, 2 / 252),  # of 252 splits one is as extreme on either side
        (LOW, HIGH, 2 / 252),
        ([0.75, *HIGH[1:]], [*LOW[:4], 0.75], 4 / 252),  # 0.75 is in both: two splits are
        ([0.7], [0.9], 1.0),
        ([0.7, 0.7], [0.7, 0.7, 0.7], 1.0),
        ([0.1 + 0.2] * 5, [0.3] * 5, 1.0),  # equal but for rounding
        (LOW, LOW, 1.0),
        ([1.0, 1.0], [0.0, 0.0], 2 / 6),
    ],
)
def test_the_p_value_of_a_case_counted_by_hand(first: list[float], second: list[float], p: float) -> None:
    assert permutation_p(np.array(first), np.array(second)) == pytest.approx(p, abs=1e-12)


def splits_at_least(values: list[int], n: int, total: int) -> int:
    """How many choices of n of the values have at least this sum, counted one value after another."""
    counts = {(0, 0): 1}
    for value in values:
        for (size, found), count in list(counts.items()):
            key = (size + 1, found + value)
            counts[key] = counts.get(key, 0) + count
    return sum(count for (size, found), count in counts.items() if size == n and found >= total)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 17), (10, 10)])
def test_all_splits_of_many_seeds_are_counted(n: int, m: int) -> None:
    draws = np.random.default_rng(3)
    first, second = draws.integers(0, 12, n) + 4, draws.integers(0, 12, m)
    values = [*map(int, first), *map(int, second)]
    above = splits_at_least(values, n, int(first.sum()))
    below = splits_at_least([-value for value in values], n, -int(first.sum()))
    expected = 2 * min(above, below) / math.comb(n + m, n)
    assert 0 < expected < 0.5
    assert permutation_p(first / 10, second / 10) == pytest.approx(expected, rel=1e-9)


def test_five_seeds_a_side_reach_the_level_and_four_do_not() -> None:
    assert [smallest_p(n, n) for n in (1, 2, 3, 4, 5)] == pytest.approx([1, 1 / 3, 0.1, 2 / 70, 2 / 252])
    assert smallest_p(4, 4) > LEVEL > smallest_p(4, 5) > smallest_p(5, 5)
    assert min(LOOKS) == 5
    assert pytest.approx(0.05) == LEVEL * len(LOOKS)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 5), (10, 4)])
def test_welchs_interval_is_scipys(n: int, m: int) -> None:
    draws = np.random.default_rng(n)
    first, second = draws.normal(0.7, 0.01, n), draws.normal(0.71, 0.03, m)
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert welch(first, second) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_welchs_interval_of_constant_samples_is_their_difference_and_of_one_seed_there_is_none() -> None:
    assert welch(np.array([0.75, 0.75]), np.array([0.5, 0.5])) == (0.25, 0.25)
    assert welch(np.array([0.75]), np.array([0.5, 0.5])) is None


TEN_HIGH = [*HIGH, *(0.75 + np.arange(5) / 100)]
TEN_LOW = [*LOW, *(0.70 + np.arange(5) / 100)]
MIDDLE = [0.74, 0.75, 0.76, 0.77, 0.78]


@pytest.mark.parametrize(
    ("scores", "expected", "group"),
    [
        ([LOW, HIGH], Decision(5, 1, 1, 5, (2 / 252, NAN)), (1,)),
        ([LOW, HIGH, LOW], Decision(5, 1, 1, 5, (2 / 252, NAN, 2 / 252)), (1,)),
        ([LOW, HIGH, MIDDLE], Decision(5, 1, None, None, (2 / 252, NAN, NAN)), (1, 2)),  # beats one of them only
        ([LOW[:4], HIGH[:4]], Decision(0, 1, None, None, (2 / 70, NAN)), (0, 1)),  # no look yet: nothing is decided
        ([[0.7], [0.8]], Decision(0, 1, None, None, (1.0, NAN)), (0, 1)),
        ([LOW], Decision(5, 0, None, None, (NAN,)), (0,)),  # alone it has beaten nothing
        ([[*LOW, 9.0, 9.0], [*HIGH, 0.0, 0.0]], Decision(5, 1, 1, 5, (2 / 252, NAN)), (1,)),  # the next look is at 10
        ([TEN_LOW, TEN_HIGH], Decision(10, 1, 1, 5, (2 / math.comb(20, 10), NAN)), (1,)),
        ([[*LOW[:4], NAN], HIGH], Decision(5, 1, 1, 5, (2 / 126, NAN)), (1,)),  # a failed training
        ([[*LOW[:3], NAN, NAN], HIGH], Decision(5, 1, None, None, (2 / 56, NAN)), (0, 1)),
        ([[NAN] * 5, HIGH, LOW], Decision(5, 1, 1, 5, (NAN, NAN, 2 / 252)), (1,)),
        ([[0.7] * 5, [0.7] * 5], Decision(5, 0, None, None, (NAN, 1.0)), (0, 1)),  # the first of equals
    ],
)
def test_the_decision_of_seeds(scores: list[list[float]], expected: Decision, group: tuple[int, ...]) -> None:
    found = decide(np.array(scores))
    assert found is not None
    assert (found.look, found.best, found.winner, found.named_at) == (
        expected.look,
        expected.best,
        expected.winner,
        expected.named_at,
    )
    known = [(p, q) for p, q in zip(found.p, expected.p, strict=True) if not math.isnan(q)]
    assert [p for p, _ in known] == pytest.approx([q for _, q in known])
    assert found.group == group


def test_a_winner_of_an_earlier_look_stays_although_later_seeds_are_less_sure() -> None:
    later = [0.5, 0.9, 0.7, 0.8, 0.6]
    found = decide(np.array([[*LOW, *later], [*HIGH, *later]]))
    assert found is not None
    assert (found.look, found.winner, found.named_at) == (10, 1, 5)
    assert found.p[0] > LEVEL
    assert found.group == (1,)


def test_finalists_without_any_score_have_no_decision() -> None:
    assert decide(np.full((2, 5), NAN)) is None


def student_p(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two-sided p-values of Student's t-test along the last axis."""
    return np.asarray(stats.ttest_ind(first, second, axis=-1).pvalue)


def quick_p(first: np.ndarray, second: np.ndarray) -> float:
    """The exact p-value; of many seeds Student's where it is clearly above or below the level."""
    if len(first) > 5:
        p = float(student_p(first, second))
        if not 0.6 * LEVEL < p < 1.5 * LEVEL:
            return p
    return permutation_p(first, second)


@pytest.mark.parametrize("finalists", [2, 3, 5])
def test_equal_recipes_have_a_winner_in_at_most_six_percent_of_cases(
    finalists: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "permutation_p", quick_p)
    draws = np.random.default_rng(15)
    drawn = draws.normal(0.7, 0.01, size=(1000, finalists, 20))
    named = np.zeros((1000, len(LOOKS)), dtype=bool)
    for row, (look, n) in itertools.product(range(1000), enumerate(LOOKS)):
        named[row, look] = winner_of(drawn[row, :, :n]) is not None
    share = named.any(axis=1).mean()
    assert share <= 0.06
    if finalists == 2:
        assert share >= 0.02  # or nothing would ever be named
        assert named[:, 0].mean() < share  # later looks name some, too


def student_power(means: list[float], looks: list[int], level: float) -> list[float]:
    """In which share of cases the last finalist is named at one of the looks up to each, by Student's t-tests."""
    drawn = np.random.default_rng(77).normal(size=(20_000, len(means), max(looks))) + np.array(means)[:, None]
    named, shares = np.zeros(len(drawn), dtype=bool), []
    for n in looks:
        at = drawn[:, :, :n]
        is_best = at.mean(axis=2).argmax(axis=1) == len(means) - 1
        differs = [student_p(at[:, -1], at[:, other]) <= level for other in range(len(means) - 1)]
        named |= is_best & np.all(differs, axis=0)
        shares.append(float(named.mean()))
    return shares


STANDARD = np.array([-1.2, -0.6, 0.0, 0.6, 1.2])
STANDARD = STANDARD / STANDARD.std(ddof=1)


@pytest.mark.parametrize(
    ("means", "needed"),
    [([0.0, 1.6], 10), ([0.0, 1.1], 20), ([0.0, 0.5], None), ([0.0, 0.0, 1.78], 10), ([0.5, 0.0, 1.6], 20)],
)
def test_the_number_of_seeds_needed_has_the_power_in_a_simulation_by_t_tests(
    means: list[float], needed: int | None
) -> None:
    scores = np.array([0.7 + 0.01 * (STANDARD + mean) for mean in means])
    decision = decide(scores)
    assert decision is not None
    assert decision.winner is None
    assert seeds_needed(scores, decision) == needed
    power = dict(zip(LOOKS, student_power(means, list(LOOKS), 0.05 / 3), strict=True))
    assert all(power[n] < 0.8 for n in LOOKS if needed is None or n < needed)
    assert needed is None or power[needed] >= 0.8


@pytest.mark.parametrize(
    "scores",
    [[LOW, HIGH], [LOW], [[0.7], [0.8]], [[NAN] * 5, LOW], [[0.7] * 5, [0.7] * 5]],
    ids=["a winner", "one finalist", "one seed", "one with scores", "constants"],
)
def test_no_number_of_seeds_is_needed_or_known(scores: list[list[float]]) -> None:
    decision = decide(np.array(scores))
    assert decision is not None
    assert seeds_needed(np.array(scores), decision) is None


def test_too_few_seeds_for_a_look_need_as_many_as_the_power_says() -> None:
    scores = np.array([LOW[:3], [0.9, 0.91, 0.92]])
    decision = decide(scores)
    assert decision is not None
    assert (decision.look, seeds_needed(scores, decision)) == (0, 5)
