from __future__ import annotations

import numpy as np
import pytest

from embedsweep.lengths import MULTIPLE, QUANTILES, lengths_of


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
        (list(range(1, 101)), 1, None, (32, 56, 80, 104)),  # single texts: the quartiles, rounded up
        (list(range(1, 101)), 1000, None, (104,)),  # of so many one is always among the longest
    ],
)
def test_edges_are_quantiles_of_a_batchs_longest_text(
    tokens: list[int], texts: int, most: int | None, edges: tuple[int, ...]
) -> None:
    assert lengths_of(tokens, texts, most).edges == edges


def test_random_batches_reach_each_edge_as_often_as_its_quantile_says() -> None:
    tokens = np.random.default_rng(1).geometric(0.01, 5000).tolist()  # long enough for rounding not to matter
    lengths = lengths_of(tokens, 16, None)
    longest = longest_of_random_batches(tokens, 16)
    for edge, quantile in zip(lengths.edges, QUANTILES, strict=True):
        assert abs((longest <= edge).mean() - quantile) < 0.03


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
