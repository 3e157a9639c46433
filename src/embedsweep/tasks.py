"""A part of the data and its loss, ready for the trainer.

Owns nothing but that step, which every process of a group takes alike. Imports torch.
"""

from __future__ import annotations

import logging

from sentence_transformers import SentenceTransformer

from embedsweep.losses import InBatch, build_loss, training_dataset
from embedsweep.micro_batches import cached_micro_batch, kind_of
from embedsweep.schema import TrialConfig
from embedsweep.training import Task
from embedsweep.training_data import Part

_log = logging.getLogger(__name__)


def build_task(config: TrialConfig, part: Part, model: SentenceTransformer, processes: int) -> Task:
    """The dataset and the loss of one part.

    Args:
        config: the trial.
        part: the examples, and what they are trained by.
        model: what is trained.
        processes: how many share a batch; this is to be one of them where they are several.
    """
    cached = cached_micro_batch(config)
    # Examples that count each by itself need not see the other shares.
    seen_by = 1 if kind_of(config) is InBatch.INDEPENDENT else processes
    if config.trainer.merge_columns and cached is not None:
        _log.info("columns are not merged: loss=%s is in its cached form, which embeds them in parts", part.loss.name)
    n_classes = len(part.examples.classes) if part.examples.classes is not None else None
    return Task(
        training_dataset(part.loss, part.examples, model, part.seed),
        build_loss(
            part.loss,
            model,
            None if cached is None else cached // processes,
            n_classes,
            seen_by,
            merge_columns=config.trainer.merge_columns,
        ),
    )
