"""How examples become batches: the samplers that the trainer draws from.

Owns the choice of a batch sampler and the one that keeps equal texts apart. Knows nothing of losses. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

from embedsweep.errors import TrialError
from embedsweep.schema import DataloaderConfig


def batch_sampler_of(config: DataloaderConfig) -> str | type[DefaultBatchSampler]:
    """The batch sampler as sentence-transformers' training arguments take it: a name of theirs, or a class."""
    return NoDuplicates if config.batch_sampler == "no_duplicates" else config.batch_sampler


class NoDuplicates(DefaultBatchSampler):  # type: ignore[misc]  # the library is untyped
    """Shuffled batches in which no text stands in two examples, in whichever columns; each epoch as long as it says.

    An example that shares a text with the batch being filled waits for a later batch, as in the library's own sampler.
    How many batches that makes depends on the shuffle. Here every epoch has as many as the first: a schedule computed
    from ``len()`` then ends when training ends. Of a longer epoch the last batches are left out (the smallest ones,
    unless ``drop_last``); a shorter one goes on with a fresh shuffle.

    An epoch's batches depend on ``seed`` and its number alone, so that a resumed training sees the same.

    Args:
        dataset: the examples, with at least one; labels are no texts.
        batch_size: examples in a batch.
        drop_last: whether batches that cannot be filled are left out.
        valid_label_columns: names of columns that are labels.
        generator: not used; several datasets would share it, and one's batches depend on the other's.
        seed: of the shuffles.

    Raises:
        TrialError: with ``drop_last``, the texts repeat so often that no batch can be filled.
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
                f"no batch of {batch_size} can be filled without a text standing in it twice; "
                "lower dataloader.batch_size, or set dataloader.drop_last=false"
            )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        generator = self._generator(self.epoch)
        # The first epoch's shuffle alone makes enough batches, so that this ends even where a fresh one makes none.
        passes = (
            self._shuffled(generator),
            self._shuffled(generator),
            self._shuffled(self._generator(0)),
        )
        yield from islice(chain(*passes), self._length)

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + epoch)

    def _shuffled(self, generator: torch.Generator) -> Iterator[list[int]]:
        """The batches of one shuffle; it is drawn when the first is asked for."""
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
        """Puts an example into the batch, or leaves it for a later one."""
        texts = self._texts[index]
        if seen.isdisjoint(texts):
            batch.append(index)
            seen.update(texts)
        else:
            deferred.append(index)


def _numbered_texts(dataset: Dataset, others: set[str]) -> list[tuple[int, ...]]:
    """The texts of every example, equal ones under equal numbers; each is read once and kept as a number."""
    numbers: dict[str, int] = {}
    plain = dataset.with_format(None)  # the trainer adds a column by a transform where there are several datasets
    columns = [
        [numbers.setdefault(text, len(numbers)) for text in plain[name]]
        for name in dataset.column_names
        if name not in others
    ]
    return list(zip(*columns, strict=True))
