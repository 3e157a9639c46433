"""Batch samplers: the library's, one without duplicate texts, and shares of a batch for a group of processes.

Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler, GroupByLabelBatchSampler
from torch.utils.data import RandomSampler

from embedsweep.config.training import BatchSampler, DataloaderConfig
from embedsweep.errors import TrialError


def batch_sampler_of(
    config: DataloaderConfig, processes: int
) -> str | type[DefaultBatchSampler] | Callable[..., DefaultBatchSampler]:
    """Return the batch sampler as sentence-transformers' training arguments take it: a name, a class or a function.

    Args:
        config: the dataloader's configuration.
        processes: how many processes share every batch.
    """
    if processes > 1:
        return partial(_shared, config.batch_sampler, processes)
    return NoDuplicates if config.batch_sampler == "no_duplicates" else config.batch_sampler


def _shared(
    name: BatchSampler, processes: int, dataset: Dataset, batch_size: int, **arguments: Any
) -> DefaultBatchSampler:
    """Return the sampler ``name`` of whole batches, ``processes`` times ``batch_size``, in shares."""
    whole = {"batch_size": batch_size * processes, **arguments}
    if name == "no_duplicates":
        return Shares(NoDuplicates(dataset, **whole), processes)
    if name == "group_by_label":
        return Shares(GroupByLabelBatchSampler(dataset, **whole), processes)
    order = RandomSampler(dataset, generator=arguments["generator"])
    return Shares(DefaultBatchSampler(order, **whole), processes)


class Shares(DefaultBatchSampler):  # type: ignore[misc]  # the library is untyped
    """Every batch of another sampler, cut into one share for each process of a group, one after another.

    accelerate gives batch ``n`` to process ``n % processes``. The library would build its sampler for the size of a
    share, so that a text could be in two shares of one step, and would leave out an epoch's last batch. Here the shares
    of a step together are the batch that one process would see.

    Shares differ by at most one example. A batch of fewer examples than processes goes to each process whole: one
    without examples would have nothing to compute, and the others would wait for it.

    Args:
        whole: yields the batches to share; equal in all processes.
        processes: how many shares.
    """

    def __init__(self, whole: DefaultBatchSampler, processes: int) -> None:
        super().__init__(whole.sampler, whole.batch_size, whole.drop_last, whole.valid_label_columns)
        self.batch_size = None  # accelerate drops or fills up batches of another size than this
        self._whole = whole
        self._processes = processes

    def __len__(self) -> int:
        return len(self._whole) * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        # accelerate replaces the sampler of a plain order by one that shuffles anew in every epoch.
        self._whole.sampler = self.sampler
        for batch in self._whole:
            if len(batch) < self._processes:
                yield from [batch] * self._processes
                continue
            ends = [len(batch) * number // self._processes for number in range(self._processes + 1)]
            yield from (batch[start:end] for start, end in pairwise(ends))

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch's number on to whatever shuffles."""
        super().set_epoch(epoch)
        self._whole.set_epoch(epoch)
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


def pass_epochs_on(loader: Any) -> None:
    """Make a prepared loader pass the epoch on to its :class:`Shares` even if it is resumed in the middle of one.

    The trainer then wraps accelerate's wrapper once more and no longer reaches the sampler; accelerate itself passes
    the epoch to the attribute ``sampler``.
    """
    shard = loader.batch_sampler
    if isinstance(shares := getattr(shard, "batch_sampler", None), Shares):
        shard.sampler = shares


class NoDuplicates(DefaultBatchSampler):  # type: ignore[misc]  # the library is untyped
    """Shuffled batches in which no text is in two examples, in any column; every epoch has ``len()`` batches.

    An example that shares a text with the current batch waits for a later batch, as in the library's own sampler. The
    number of batches then depends on the shuffle. Here every epoch has as many as the first, so that a schedule
    computed from ``len()`` ends when training ends. The last batches of a longer epoch are left out (the smallest ones,
    unless ``drop_last``); a shorter one continues with a new shuffle.

    An epoch's batches depend on ``seed`` and the epoch's number alone, so that a resumed training sees the same ones.

    Args:
        dataset: the examples, at least one; labels are not texts.
        batch_size: examples in a batch.
        drop_last: whether batches that cannot be filled are left out.
        valid_label_columns: names of columns that are labels.
        generator: not used; several datasets would share it, and one's batches would depend on the other's.
        seed: seed of the shuffles.

    Raises:
        TrialError: with ``drop_last``, if texts repeat so often that no batch can be filled.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self._texts = _numbered_texts(dataset, {*(valid_label_columns or ()), "dataset_name"})
        self._length = sum(1 for _ in self._shuffled(self._generator(0)))
        if self._length == 0:
            raise TrialError(
                f"no batch of {batch_size} can be filled without a duplicate text; "
                "lower dataloader.batch_size, or set dataloader.drop_last=false"
            )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        generator = self._generator(self.epoch)
        # The first epoch's shuffle alone makes enough batches, so that this ends even if a new one makes none.
        passes = (
            self._shuffled(generator),
            self._shuffled(generator),
            self._shuffled(self._generator(0)),
        )
        yield from islice(chain(*passes), self._length)

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + epoch)

    def _shuffled(self, generator: torch.Generator) -> Iterator[list[int]]:
        """Yield the batches of one shuffle, which is drawn before the first."""
        waiting: list[int] = torch.randperm(len(self._texts), generator=generator).tolist()
        start = 0
        deferred: list[int] = []
        while start < len(waiting) or deferred:
            batch: list[int] = []
            seen: set[int] = set()
            still_deferred: list[int] = []
            for number, index in enumerate(deferred):
                if len(batch) == self.batch_size:
                    still_deferred += deferred[number:]
                    break
                self._take(index, batch, seen, still_deferred)
            while len(batch) < self.batch_size and start < len(waiting):
                self._take(waiting[start], batch, seen, still_deferred)
                start += 1
            deferred = still_deferred
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def _take(self, index: int, batch: list[int], seen: set[int], deferred: list[int]) -> None:
        """Put an example into the batch, or defer it to a later one."""
        texts = self._texts[index]
        if seen.isdisjoint(texts):
            batch.append(index)
            seen.update(texts)
        else:
            deferred.append(index)


def _numbered_texts(dataset: Dataset, others: set[str]) -> list[tuple[int, ...]]:
    """Return the texts of every example as numbers, equal for equal texts; columns in ``others`` are left out."""
    numbers: dict[str, int] = {}
    plain = dataset.with_format(None)  # the trainer adds a column by a transform if there are several datasets
    columns = [
        [numbers.setdefault(text, len(numbers)) for text in plain[name]]
        for name in dataset.column_names
        if name not in others
    ]
    return list(zip(*columns, strict=True))
