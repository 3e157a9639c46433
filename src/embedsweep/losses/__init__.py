"""Losses: what each wants of its data, which parameters it takes, how it is built and what it is trained on.

Owns the table of losses, which needs no torch: a row in ``table`` and a YAML file in ``conf/loss`` is a loss. Knows
nothing of where data comes from or how training runs. Weights of a loss's own are in ``losses.state``.
"""

from embedsweep.losses.examples import training_dataset
from embedsweep.losses.nesting import across, build_loss, dims, in_batch, merges_columns, nest, not_captured, wants
from embedsweep.losses.rows import Across, Average, InBatch, Loss
from embedsweep.losses.table import LOSSES

__all__ = [
    "LOSSES",
    "Across",
    "Average",
    "InBatch",
    "Loss",
    "across",
    "build_loss",
    "dims",
    "in_batch",
    "merges_columns",
    "nest",
    "not_captured",
    "training_dataset",
    "wants",
]
