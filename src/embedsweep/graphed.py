"""Which steps of a training are captured in CUDA graphs, and why others are not. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from embedsweep.cuda_graphs import GraphMemory, StepGraphs
from embedsweep.lengths import Lengths, lengths_of
from embedsweep.losses import nest
from embedsweep.micro_batches import losses_of
from embedsweep.models import training_prompts
from embedsweep.schema import TrialConfig

_log = logging.getLogger(__name__)

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"

MEASURED_TEXTS = 20_000
"""Of each column, evenly spread, at most; a longer text than any of these makes a batch that is not captured."""

MOST_LOSSES = 4
"""Losses whose graphs are kept at once, the last ones: a search may draw a loss's parameters anew for every trial."""


@dataclass
class Graphed:
    """The captured steps of a training.

    Attributes:
        graphs: the steps.
        forget: forgets all steps over the model.
        lengths: what batches are padded to.
        batch_size: examples of a batch; one of fewer, an epoch's last, is not captured.
        padding_id: the token that texts are filled up with.
        is_required: whether a step that cannot be captured fails the trial; else the training goes on without graphs.
    """

    graphs: StepGraphs
    forget: Callable[[], None]
    lengths: Lengths
    batch_size: int
    padding_id: int
    is_required: bool

    @property
    def told(self) -> str:
        """What is captured, in words."""
        if not len(self.graphs):
            return "none: no batch was whole, or all were trained before"
        edges = ", ".join(map(str, self.lengths.edges))
        return f"{len(self.graphs)} steps, padded to {edges} tokens ({self.lengths.cost:.0%} more tokens)"

    def takes(self, batch: Mapping[str, Any]) -> bool:
        """Whether a batch is of a shape that recurs: whole, and padded to one of the edges."""
        ids = [value for key, value in batch.items() if key.endswith(IDS)]
        return bool(ids) and all(
            value.shape[0] == self.batch_size and value.shape[1] in self.lengths.edges for value in ids
        )

    def pad(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A whole batch with all its columns padded to one edge; any other as it is."""
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
        model: on a CUDA device once steps are captured; its weights stay where they are.

    Attributes:
        refused: why the trial under way captures nothing, whatever its configuration says; None if nothing forbids it.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self.refused: str | None = None
        self._model = model
        self._memory: GraphMemory | None = None
        self._graphs: dict[str, StepGraphs] = {}
        self._lengths: dict[str, Lengths] = {}

    def graphed(self, config: TrialConfig, datasets: Mapping[str, Dataset]) -> Graphed:
        """The steps of a trial: those that earlier trials captured of the same, and room for more.

        Args:
            config: the trial.
            datasets: what is trained on, by name.
        """
        if self._memory is None:
            self._memory = GraphMemory(tuple(p for p in self._model.parameters() if p.requires_grad))
        trainer, losses = config.trainer, losses_of(config)
        max_norm = config.optimizer.max_grad_norm
        key = repr((losses, config.dataloader.batch_size, trainer.precision, trainer.merge_columns, max_norm))
        graphs = self._graphs.pop(key) if key in self._graphs else StepGraphs(self._memory, max_norm)
        self._graphs[key] = graphs  # the last one, as it is used last
        for oldest in list(self._graphs)[:-MOST_LOSSES]:
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
        """Whether steps of a trial are captured, or were to be: a capture that runs out of memory holds some."""
        return bool(self._graphs)

    def clear(self) -> None:
        """Forgets all captured steps: their memory is needed."""
        self._memory = None
        self._graphs.clear()

    def _lengths_of(self, config: TrialConfig, datasets: Mapping[str, Dataset]) -> Lengths:
        names = [nest(loss)[-1].name for loss in losses_of(config)]
        key = repr((config.data, names, config.dataloader.batch_size))
        if key not in self._lengths:
            columns = [_tokens(config, self._model, dataset) for dataset in datasets.values()]
            texts = config.dataloader.batch_size * max(map(len, columns))
            tokens = [length for each in columns for lengths in each for length in lengths]
            self._lengths[key] = lengths_of(tokens, texts, self._model.max_seq_length)
        _log.info("CUDA graphs: batches are padded to %s tokens", self._lengths[key].edges)
        return self._lengths[key]


def _tokens(config: TrialConfig, model: SentenceTransformer, dataset: Dataset) -> list[list[int]]:
    """Tokens of the texts of each column, as the trainer tokenises them."""
    columns = [name for name in dataset.column_names if name not in ("label", "score")]
    prompts = training_prompts(config.model, columns)
    step = max(1, len(dataset) // MEASURED_TEXTS)
    found = []
    for column in columns:
        prompt = prompts.get(column) if isinstance(prompts, dict) else prompts
        features = model.preprocess(dataset[column][::step], prompt=prompt)
        found.append(features[MASK].sum(dim=1).tolist())
    return found


class PaddingCollator:
    """Pads what the trainer's own collator makes.

    Args:
        collate: the trainer's own.
        graphed: knows the lengths.
    """

    def __init__(self, collate: Any, graphed: Graphed) -> None:
        self.collate = collate
        self.valid_label_columns = collate.valid_label_columns
        self._graphed = graphed

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of examples."""
        return self._graphed.pad(self.collate(list(examples)))
