"""Examples as the dataset that the trainer reads.

Owns the columns and their order, which losses go by. Knows no loss in particular: the table says who wants other ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedsweep.data.shapes import COLUMNS, Examples
from embedsweep.losses.nesting import nest
from embedsweep.losses.table import LOSSES
from embedsweep.schema import LossConfig

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer


def training_dataset(config: LossConfig, examples: Examples, model: SentenceTransformer, seed: int) -> Dataset:
    """What a loss is trained on.

    Args:
        config: the loss.
        examples: of a shape that it wants.
        model: what is trained; a teacher computes where it lies.
        seed: of what is drawn at random: deleted words, negatives.
    """
    innermost = nest(config)[-1]
    make = LOSSES[innermost.name].dataset
    if make is not None:
        return make(examples, innermost.parameters, model, seed)
    return _plain(examples)


def _plain(examples: Examples) -> Dataset:
    from datasets import Dataset

    columns: list[list[str] | list[float] | list[int]] = [list(texts) for texts in examples.texts]
    if examples.labels is not None:
        scored = examples.shape == "scored_pairs"
        # Classes are whole numbers: a classifier's loss and a sampler by label go by them.
        columns.append(list(examples.labels) if scored else [int(label) for label in examples.labels])
    return Dataset.from_dict(dict(zip(COLUMNS[examples.shape], columns, strict=True)))
