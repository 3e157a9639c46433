from __future__ import annotations

import numpy as np
import pytest

from embedsweep.training.graphed import LITTLE, MULTIPLE, QUANTILES, lengths_of


def longest_of_random_batches(tokens: list[int], n: int, draws: int = 20_000) -> np.ndarray:
    return np.random.default_rng(0).choice(tokens, (draws, n)).max(axis=1)


@pytest.mark.parametrize(
    ("tokens", "texts", "most", "edges"),
    [
        ([5] * 10, 4, None, (8,)),
        ([8] * 10, 4, None, (8,)),
        ([9] * 10, 4, None, (16,)),
        ([30], 32, None, (32,)),
        ([61] * 3, 2, 64, (64,)),
        ([61] * 3, 2, 61, (61,)),  # the model reads no more
        (list(range(1, 101)), 1, None, (32, 56, 80, 96, 104)),  # single texts: quantiles, rounded up
        ([20] * 90 + [40] * 10, 1, None, (24, 40)),
        (list(range(1, 101)), 1000, None, (104,)),  # of so many one is always among the longest
    ],
)
def test_edges_are_quantiles_of_a_batchs_longest_text(
    tokens: list[int], texts: int, most: int | None, edges: tuple[int, ...]
) -> None:
    assert lengths_of(tokens, texts, most).edges == edges


@pytest.mark.parametrize(("n", "quantiles"), [(1, QUANTILES[2]), (64, QUANTILES[2])])
def test_random_batches_reach_each_edge_as_often_as_its_quantile_says(n: int, quantiles: tuple[float, ...]) -> None:
    tokens = np.random.default_rng(1).geometric(0.002, 5000).tolist()  # long enough for rounding not to matter
    longest = longest_of_random_batches(tokens, n)
    for edge, quantile in zip(lengths_of(tokens, n, None).edges, quantiles, strict=True):
        assert abs((longest <= edge).mean() - quantile) < 0.03


def test_there_are_as_few_edges_as_keep_padding_small() -> None:
    assert len(lengths_of([30] * 500 + [32] * 500, 16, None).edges) == 1
    narrow, wide = (np.random.default_rng(3).normal(100, spread, 5000).astype(int).clip(3) for spread in (10, 60))
    assert len(lengths_of(narrow, 32, None).edges) == 2
    assert len(lengths_of(wide, 1, None).edges) == 5
    assert lengths_of(narrow, 32, None).cost <= LITTLE


def test_the_cost_is_what_random_batches_pay() -> None:
    tokens = np.random.default_rng(2).poisson(14, 3000).clip(3).tolist()
    lengths = lengths_of(tokens, 32, 256)
    longest = longest_of_random_batches(tokens, 32)
    padded = np.array([lengths.edge(int(length)) for length in longest])
    assert abs(lengths.cost - (padded.sum() / longest.sum() - 1)) < 0.01


def test_no_batch_of_the_data_is_beyond_the_last_edge() -> None:
    tokens = [3, 200, 17, 17, 90]
    lengths = lengths_of(tokens, 8, None)
    assert lengths.edge(200) == 200
    assert lengths.edge(201) is None
    assert all(edge % MULTIPLE == 0 for edge in lengths.edges)
