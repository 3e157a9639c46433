from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import GroupByLabelBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from embedsweep.config.training import BatchSampler, DataloaderConfig
from embedsweep.errors import TrialError
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.batches import NoDuplicates, batch_sampler_of

EPOCHS = 8


def pairs(firsts: Sequence[str], seconds: Sequence[str], **labels: Sequence[object]) -> Dataset:
    return Dataset.from_dict({"anchor": list(firsts), "positive": list(seconds), **labels})


def chained(count: int) -> Dataset:
    """Return pairs whose second text is the next pair's first."""
    return pairs([f"t{number}" for number in range(count)], [f"t{number + 1}" for number in range(count)])


def both_directions(count: int) -> Dataset:
    firsts = [f"a{number}" for number in range(count)]
    seconds = [f"b{number}" for number in range(count)]
    return pairs(firsts + seconds, seconds + firsts)


FEW_ANCHORS = pairs([f"a{number % 100}" for number in range(2000)], [f"b{number}" for number in range(2000)])
DATA = {
    "all distinct": pairs([f"a{number}" for number in range(101)], [f"b{number}" for number in range(101)]),
    "few distinct anchors": FEW_ANCHORS,
    "one anchor": pairs(["a"] * 9, [f"b{number}" for number in range(9)]),
    "all equal": pairs(["a"] * 9, ["b"] * 9),
    "equal sides": pairs([f"a{number}" for number in range(40)], [f"a{number}" for number in range(40)]),
    "chained": chained(203),
    "both directions": both_directions(150),
    "one example": pairs(["a"], ["b"]),
    "one common text": pairs(["a"] * 30 + [f"c{n}" for n in range(70)], [f"b{n}" for n in range(100)]),
}


def sampler(data: Dataset, batch_size: int, *, drop_last: bool = False, seed: int = 42) -> NoDuplicates:
    return NoDuplicates(data, batch_size, drop_last, ["label", "score"], torch.Generator(), seed)


def epochs(source: NoDuplicates, count: int = EPOCHS) -> list[list[list[int]]]:
    batches = []
    for epoch in range(count):
        source.set_epoch(epoch)
        batches.append(list(source))
    return batches


@pytest.mark.parametrize("batch_size", [2, 7, 16])
@pytest.mark.parametrize("name", DATA)
def test_no_batch_has_a_text_in_two_examples(name: str, batch_size: int) -> None:
    data = DATA[name]
    rows = [{first, second} for first, second in zip(data["anchor"], data["positive"], strict=True)]
    for batch in chain(*epochs(sampler(data, batch_size), 3)):
        assert 1 <= len(batch) <= batch_size
        texts = list(chain(*(rows[index] for index in batch)))
        assert len(texts) == len(set(texts))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [2, 3, 16, 64])
@pytest.mark.parametrize("name", DATA)
def test_every_epoch_has_as_many_batches_as_len(name: str, batch_size: int, drop_last: bool) -> None:
    try:
        source = sampler(DATA[name], batch_size, drop_last=drop_last)
    except TrialError:
        assert drop_last
        return
    every = epochs(source)
    assert [len(batches) for batches in every] == [len(source)] * EPOCHS
    if drop_last:
        assert {len(batch) for batch in chain(*every)} == {batch_size}


def test_epochs_of_other_shuffles_would_be_longer_and_shorter() -> None:
    """Otherwise the test above could not fail."""
    source = sampler(DATA["one common text"], 3, drop_last=True)
    raw = {len(list(source._shuffled(source._generator(epoch)))) for epoch in range(EPOCHS)}
    assert min(raw) < len(source) or max(raw) > len(source)
    assert len(raw) > 1


def test_the_first_epoch_has_every_example_once() -> None:
    for name, data in DATA.items():
        (first,) = epochs(sampler(data, 7), 1)
        assert sorted(chain(*first)) == list(range(len(data))), name


def test_few_anchors_make_as_many_batches_as_the_most_frequent_one_needs() -> None:
    source = sampler(FEW_ANCHORS, 512)  # each of 100 anchors is in 20 pairs: 20 batches at least, not 4
    assert 20 <= len(source) <= 30
    assert all(len(batch) <= 100 for batch in chain(*epochs(source, 2)))


def test_distinct_texts_are_batched_in_the_order_of_their_shuffle() -> None:
    source = sampler(DATA["all distinct"], 16)
    (first,) = epochs(source, 1)
    shuffled = torch.randperm(101, generator=torch.Generator().manual_seed(42)).tolist()
    assert first == [shuffled[start : start + 16] for start in range(0, 101, 16)]


def test_an_example_that_repeats_a_text_waits_for_the_next_batch() -> None:
    # In the order of their shuffle: (x, 1) (x, 2) (x, 3) (y, 4) (z, 5), batches of two.
    order = torch.randperm(5, generator=torch.Generator().manual_seed(42)).tolist()
    firsts, seconds = [""] * 5, [""] * 5
    for place, text, number in zip(order, "xxxyz", "12345", strict=True):
        firsts[place], seconds[place] = text, number
    (first,) = epochs(sampler(pairs(firsts, seconds), 2), 1)
    one, two, three, four, five = order
    assert first == [[one, four], [two, five], [three]]


def test_epochs_are_shuffled_anew_and_repeat_by_their_number() -> None:
    one, other = sampler(DATA["both directions"], 16), sampler(DATA["both directions"], 16)
    first, second, *_ = epochs(one)
    assert first != second
    other.set_epoch(1)
    next(iter(other))  # an epoch that was started and left
    assert list(other) == second
    assert epochs(sampler(DATA["both directions"], 16, seed=43), 1) != [first]


def test_labels_and_dataset_names_are_not_texts() -> None:
    data = pairs([f"a{n}" for n in range(32)], [f"b{n}" for n in range(32)], label=[1.0] * 32, dataset_name=["x"] * 32)
    assert [len(batch) for batch in epochs(sampler(data, 16), 1)[0]] == [16, 16]


def test_an_error_about_a_batch_that_cannot_be_filled_says_what_to_change() -> None:
    message = r"no batch of 16 can be filled .*; lower dataloader.batch_size, or set dataloader.drop_last=false"
    with pytest.raises(TrialError, match=message):
        sampler(DATA["one anchor"], 16, drop_last=True)


def test_a_published_size_is_batched_nearly_as_tightly_as_can_be() -> None:
    source = sampler(both_directions(7249), 16)  # 14,498 pairs, 906 batches of 16 and 2
    assert 907 <= len(source) <= 909
    assert sum(len(batch) == 16 for batch in source) >= 905


SAMPLERS: dict[BatchSampler, object] = {
    "batch_sampler": "batch_sampler",
    "no_duplicates": NoDuplicates,
    "group_by_label": "group_by_label",
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_trainer_gets_the_configured_sampler(name: BatchSampler, tmp_path: Path) -> None:
    chosen = batch_sampler_of(DataloaderConfig(name, 16, None, name, "proportional", drop_last=False, num_workers=0), 1)
    assert chosen == SAMPLERS[name]
    SentenceTransformerTrainingArguments(str(tmp_path), batch_sampler=chosen, report_to="none")


@pytest.mark.parametrize("sizes", [(9, 9), (30, 2), (7, 5, 4), (2, 2), (101, 3, 50)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_librarys_grouping_has_as_many_batches_as_len(sizes: tuple[int, ...], drop_last: bool) -> None:
    """Otherwise its schedule would be wrong, too."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    data = Dataset.from_dict({"text": [f"t{n}" for n in range(len(labels))], "label": labels})
    for batch_size in (4, 6, 16):
        grouped = GroupByLabelBatchSampler(data, batch_size, drop_last, ["label"], torch.Generator(), 42)
        assert {len(list(grouped)) for _ in range(3)} == {len(grouped)}


def trainer(folder: Path, data: Dataset, max_epochs: int = 2) -> SentenceTransformerTrainer:
    torch.manual_seed(0)
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=max_epochs,
        per_device_train_batch_size=8,
        batch_sampler=NoDuplicates,
        save_steps=5,
        logging_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        seed=7,
    )
    loss = MultipleNegativesRankingLoss(model)
    return SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss)


TRAINED = pairs(
    ["the cat", "a dog"] * 6 + [f"el {number}" for number in range(9)],
    [f"it is {number}" for number in range(12)] + ["x"] * 9,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformerTrainer:
    """A training without interruption, with a checkpoint every five steps."""
    trained = trainer(tmp_path_factory.mktemp("undisturbed"), TRAINED)
    trained.train()
    return trained


def test_training_ends_when_its_schedule_ends(undisturbed: SentenceTransformerTrainer) -> None:
    steps = 2 * len(sampler(TRAINED, 8, seed=7))
    assert undisturbed.state.global_step == undisturbed.state.max_steps == steps
    assert undisturbed.lr_scheduler.get_last_lr() == [0.0, 0.0]
    assert undisturbed.state.epoch == 2


@pytest.mark.parametrize(("step", "epoch"), [(5, 0), (15, 1)])
def test_a_resumed_training_sees_the_same_batches(
    undisturbed: SentenceTransformerTrainer, tmp_path: Path, step: int, epoch: int
) -> None:
    assert step // len(sampler(TRAINED, 8, seed=7)) == epoch
    resumed = trainer(tmp_path, TRAINED)
    resumed.train(resume_from_checkpoint=f"{undisturbed.args.output_dir}/checkpoint-{step}")
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


TEXTS = [f"t{number % 30}" for number in range(101)]


SAMPLED: dict[BatchSampler, Dataset] = {
    "batch_sampler": Dataset.from_dict({"anchor": TEXTS}),
    "no_duplicates": Dataset.from_dict({"anchor": TEXTS}),
    "group_by_label": Dataset.from_dict({"anchor": TEXTS, "label": [number % 3 for number in range(101)]}),
}


def batches_of(name: BatchSampler, processes: int, rank: int, epoch: int, *, drop_last: bool) -> list[list[int]]:
    config = DataloaderConfig(name, 16, None, name, "proportional", drop_last, num_workers=0)
    make = batch_sampler_of(config, 2)  # one share if `processes` is 1
    assert callable(make)
    generator = torch.Generator().manual_seed(3)
    sampler = make(
        SAMPLED[name],
        batch_size=8,
        drop_last=drop_last,
        valid_label_columns=["label"],
        generator=generator,
        seed=3,
    )
    sampler.set_epoch(epoch)
    if processes == 1:
        return list(sampler._whole)
    return list(BatchSamplerShard(sampler, processes, rank, even_batches=False))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("name", SAMPLED)
def test_shares_of_a_step_make_up_the_batch_of_one_process(name: BatchSampler, drop_last: bool) -> None:
    for epoch in range(2):
        whole = batches_of(name, 1, 0, epoch, drop_last=drop_last)
        first, second = (batches_of(name, 2, rank, epoch, drop_last=drop_last) for rank in range(2))
        assert [one + other for one, other in zip(first, second, strict=True)] == [
            batch if len(batch) > 1 else batch * 2 for batch in whole
        ]
        assert all(abs(len(one) - len(other)) <= 1 for one, other in zip(first, second, strict=True))
        assert len(set(chain(*first, *second))) >= 96


def test_no_text_is_in_two_shares_of_a_step() -> None:
    first, second = (batches_of("no_duplicates", 2, rank, 0, drop_last=False) for rank in range(2))
    for one, other in zip(first, second, strict=True):
        texts = [TEXTS[index] for index in (*one, *other)]
        assert len(texts) == len(set(texts))
