from __future__ import annotations

import pytest

from embedsweep.data.load import load_splits
from embedsweep.data.scored import Retrieval
from embedsweep.training.data import data_warnings
from embedsweep.validation.single import pass_single

JUDGED = {"q0": {"d3": 1.0, "d90": 0.0}, "q1": {"d50": 2.0}}
RETRIEVAL = Retrieval(
    ("q0", "q1"),
    ("first", "second"),
    tuple(f"d{number}" for number in range(100)),
    tuple(f"text {number}" for number in range(100)),
    JUDGED,
    "here",
)


@pytest.mark.parametrize(("size", "expected"), [(1, 3), (3, 3), (20, 20), (99, 99)])
def test_a_sample_has_all_judged_documents_and_others_in_their_order(size: int, expected: int) -> None:
    sample = RETRIEVAL.with_sample(size, seed=1)
    numbers = [int(name[1:]) for name in sample.document_ids]
    assert len(numbers) == expected
    assert {3, 50, 90} <= set(numbers)
    assert numbers == sorted(numbers)
    assert sample.documents == tuple(f"text {number}" for number in numbers)
    assert (sample.queries, sample.relevant, sample.sampled_from) == (RETRIEVAL.queries, JUDGED, 100)


def test_a_sample_follows_from_its_seed() -> None:
    samples = [RETRIEVAL.with_sample(20, seed=seed) for seed in (1, 1, 2)]
    assert samples[0] == samples[1]
    assert samples[0].digest == samples[1].digest != samples[2].digest
    assert len({*samples[0].document_ids} & {*samples[2].document_ids}) < 15


@pytest.mark.parametrize("size", [100, 1000])
def test_documents_that_are_not_more_than_the_sample_stay_as_they_are(size: int) -> None:
    assert RETRIEVAL.with_sample(size, seed=1) is RETRIEVAL


def test_the_documents_of_dev_and_test_are_sampled_and_this_is_said() -> None:
    words = ["data=demo_retrieval", "evaluation=retrieval", "loss=mnrl"]
    whole, sampled = (pass_single([*words, *more]).config for more in ([], ["evaluation.corpus_size=45"]))
    of_whole, of_sample = (load_splits(config.data, config.evaluation) for config in (whole, sampled))
    for split in ("dev", "test"):
        before, after = getattr(of_whole, split), getattr(of_sample, split)
        assert len(after.documents) == 45 < len(before.documents)
        assert after.queries == before.queries
        line = f"{split} searches 45 of {len(before.documents)} documents, all judged ones among them"
        assert [each.startswith(line) for each in data_warnings(sampled)].count(True) == 1
    assert not any("searches" in line for line in data_warnings(whole))
    assert of_sample.train == of_whole.train
