"""Which steps of a training are captured in CUDA graphs, the lengths that batches are padded to. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import TrialConfig
from embedsweep.losses.nesting import nest
from embedsweep.models.prompts import training_prompts
from embedsweep.training.cuda_graphs import GraphMemory, StepGraphs
from embedsweep.training.micro_batches import losses_of

QUANTILES = ((0.75, 1.0), (0.5, 0.8, 1.0), (0.25, 0.5, 0.75, 0.9, 1.0))
"""Quantiles of a batch's longest text that become edges, with a graph for each: the first tuple that costs little."""

MAX_COST = 0.2
"""Share of a batch's tokens that padding may add before more edges are used."""

MULTIPLE = 8
"""Edges are rounded up to multiples of it, which suits matrix products on tensor cores."""


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens that batches are padded to, and the cost of padding.

    Attributes:
        edges: rising; a batch is padded to the smallest that holds its longest text.
        cost: tokens of a padded batch over those of one padded to its own longest text, minus 1; expected over random
            batches.
    """

    edges: tuple[int, ...]
    cost: float

    def edge(self, longest: int) -> int | None:
        """Return the length to pad to for a longest text of ``longest`` tokens; None if it exceeds all edges."""
        return next((edge for edge in self.edges if longest <= edge), None)


def lengths_of(tokens: Sequence[int] | NDArray[np.int64], texts_per_batch: int, most: int | None) -> Lengths:
    """Return the edges for batches of ``texts_per_batch`` texts, over all their columns.

    The longest of n texts is at most l with probability F(l)^n, where F is the distribution of single texts; so its
    p-quantile is the texts' p^(1/n)-quantile.

    Args:
        tokens: tokens of each text, special ones included; at least one text.
        texts_per_batch: at least 1.
        most: the most tokens that the model reads, which no edge exceeds; None sets no limit.
    """
    rising = np.sort(np.asarray(tokens, dtype=np.int64))
    limit = None if most is None else max(most, int(rising[-1]))
    tried = [_lengths(rising, texts_per_batch, limit, quantiles) for quantiles in QUANTILES]
    return next((lengths for lengths in tried if lengths.cost <= MAX_COST), tried[-1])


def _lengths(
    rising: NDArray[np.int64], texts_per_batch: int, limit: int | None, quantiles: tuple[float, ...]
) -> Lengths:
    levels = np.array(quantiles) ** (1 / texts_per_batch)
    ranks = np.ceil(levels * len(rising)).astype(np.int64) - 1
    edges = tuple(sorted({_rounded_up(int(rising[rank]), limit) for rank in ranks}))
    below = (np.arange(1, len(rising) + 1) / len(rising)) ** texts_per_batch
    chance = np.diff(below, prepend=0.0)
    padded = np.array(edges)[np.searchsorted(edges, rising)]
    return Lengths(edges, float((chance * padded).sum() / (chance * rising).sum() - 1))


def _rounded_up(length: int, limit: int | None) -> int:
    multiple = -(-length // MULTIPLE) * MULTIPLE
    return multiple if limit is None else min(multiple, limit)


_log = logging.getLogger(__name__)

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"

MEASURED_TEXTS = 20_000
"""Texts of each column, evenly spread, that are measured at most; a batch with a longer text is not captured."""

MAX_LOSSES = 4
"""Number of losses whose graphs are kept, the last ones: a search may draw a loss's parameters anew for every trial."""


@dataclass
class Graphed:
    """The captured steps of a training.

    Attributes:
        graphs: the steps.
        forget: discards all steps over the model.
        lengths: what batches are padded to.
        batch_size: examples of a batch; a smaller one, the last of an epoch, is not captured.
        padding_id: the token that texts are filled up with.
        is_required: whether a step that cannot be captured fails the trial; else training continues without graphs.
    """

    graphs: StepGraphs
    forget: Callable[[], None]
    lengths: Lengths
    batch_size: int
    padding_id: int
    is_required: bool

    @property
    def summary(self) -> str:
        """What is captured, in words."""
        if not len(self.graphs):
            return "none: no batch was whole, or all were trained before"
        edges = ", ".join(map(str, self.lengths.edges))
        return f"{len(self.graphs)} steps, padded to {edges} tokens ({self.lengths.cost:.0%} more tokens)"

    def takes(self, batch: Mapping[str, Any]) -> bool:
        """Return whether a batch has a shape that recurs: whole, and padded to one of the edges."""
        ids = [value for key, value in batch.items() if key.endswith(IDS)]
        return bool(ids) and all(
            value.shape[0] == self.batch_size and value.shape[1] in self.lengths.edges for value in ids
        )

    def pad(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Pad all columns of a whole batch to one edge; return any other batch unchanged."""
        texts = {key: value for key, value in batch.items() if _is_padded(value, key)}
        if not texts or any(value.shape[0] != self.batch_size for value in texts.values()):
            return batch
        edge = self.lengths.edge(max(value.shape[1] for value in texts.values()))
        return batch if edge is None else batch | {key: self._filled(key, value, edge) for key, value in texts.items()}

    def _filled(self, key: str, value: torch.Tensor, edge: int) -> torch.Tensor:
        filler = self.padding_id if key.endswith(IDS) else 0
        return torch.nn.functional.pad(value, (0, edge - value.shape[1]), value=filler)


def _is_padded(value: object, key: str) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2 and key.endswith((IDS, MASK, TYPES))


class ModelGraphs:
    """The captured steps over one model, by the loss they train.

    Args:
        model: on a CUDA device once steps are captured; its weights stay in place.

    Attributes:
        refused: why the current trial captures nothing, whatever its configuration; None if nothing forbids it.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self.refused: str | None = None
        self._model = model
        self._memory: GraphMemory | None = None
        self._graphs: dict[str, StepGraphs] = {}
        self._lengths: dict[str, Lengths] = {}

    def graphed(self, config: TrialConfig, datasets: Mapping[str, Dataset]) -> Graphed:
        """Return the steps of a trial: those captured by earlier trials with the same loss, and room for more.

        Args:
            config: the trial.
            datasets: the training datasets by name.
        """
        if self._memory is None:
            self._memory = GraphMemory(tuple(p for p in self._model.parameters() if p.requires_grad))
        trainer, losses = config.trainer, losses_of(config)
        max_norm = config.optimizer.max_grad_norm
        key = repr((losses, config.dataloader.batch_size, trainer.precision, trainer.merge_columns, max_norm))
        graphs = self._graphs.pop(key) if key in self._graphs else StepGraphs(self._memory, max_norm)
        self._graphs[key] = graphs  # at the end: it was used last
        for oldest in list(self._graphs)[:-MAX_LOSSES]:
            del self._graphs[oldest]
        return Graphed(
            graphs,
            self.clear,
            self._lengths_of(config, datasets),
            config.dataloader.batch_size,
            self._model.tokenizer.pad_token_id,
            is_required=trainer.cuda_graphs is True,
        )

    @property
    def hold_memory(self) -> bool:
        """Whether steps of a trial were captured or about to be: a capture that runs out of memory holds some."""
        return bool(self._graphs)

    def clear(self) -> None:
        """Discard all captured steps: their memory is needed."""
        self._memory = None
        self._graphs.clear()

    def _lengths_of(self, config: TrialConfig, datasets: Mapping[str, Dataset]) -> Lengths:
        names = [nest(loss)[-1].name for loss in losses_of(config)]
        key = repr((config.data, names, config.dataloader.batch_size))
        if key not in self._lengths:
            columns = [_tokens(config, self._model, name, dataset) for name, dataset in datasets.items()]
            texts = config.dataloader.batch_size * max(map(len, columns))
            tokens = [length for each in columns for lengths in each for length in lengths]
            self._lengths[key] = lengths_of(tokens, texts, self._model.max_seq_length)
        _log.info("CUDA graphs: batches are padded to %s tokens", self._lengths[key].edges)
        return self._lengths[key]


def text_columns(dataset: Dataset) -> list[str]:
    """Return the names of the columns that hold texts."""
    return [name for name in dataset.column_names if name not in ("label", "score")]


def dataset_prompts(config: TrialConfig, model: SentenceTransformer, name: str, dataset: Dataset) -> dict[str, str]:
    """Return the prompt of each text column of the training dataset ``name`` that gets one."""
    return training_prompts(model, config.model, config.datasets[name].data.shape, text_columns(dataset))


def _tokens(config: TrialConfig, model: SentenceTransformer, name: str, dataset: Dataset) -> list[list[int]]:
    """Return the tokens of the texts of each column, as the trainer tokenises them."""
    columns = text_columns(dataset)
    prompts = dataset_prompts(config, model, name, dataset)
    step = max(1, len(dataset) // MEASURED_TEXTS)
    lengths = []
    for column in columns:
        features = model.preprocess(dataset[column][::step], prompt=prompts.get(column))
        lengths.append(features[MASK].sum(dim=1).tolist())
    return lengths


class PaddingCollator:
    """Collate as the trainer's own collator does, and pad the batch to one of the lengths.

    Args:
        collate: the trainer's own collator.
        graphed: pads a batch.
    """

    def __init__(self, collate: Any, graphed: Graphed) -> None:
        self.collate = collate
        self.valid_label_columns = collate.valid_label_columns
        self._graphed = graphed

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a padded batch of examples."""
        return self._graphed.pad(self.collate(list(examples)))
