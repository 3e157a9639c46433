"""The ``dataloader``, ``optimizer`` and ``trainer`` sections."""

from __future__ import annotations

from typing import get_args

from embedsweep.config.reader import Reader
from embedsweep.config.trial import (
    BatchSampler,
    DataloaderConfig,
    EarlyStoppingConfig,
    MultiDatasetBatchSampler,
    OptimizerConfig,
    Precision,
    Schedule,
    TrainerConfig,
)
from embedsweep.training.optimizers import OPTIMIZERS

HIGHEST_LR = 1.0
"""No optimizer here trains anything beyond; a rate of 1e6 once trained without an error."""


def read_dataloader(reader: Reader) -> DataloaderConfig:
    """How examples become batches."""
    config = DataloaderConfig(
        name=reader.text("name"),
        batch_size=reader.integer("batch_size", at_least=1),
        micro_batch_size=reader.optional_integer("micro_batch_size", at_least=1),
        batch_sampler=reader.one_of("batch_sampler", get_args(BatchSampler)),
        multi_dataset_batch_sampler=reader.one_of("multi_dataset_batch_sampler", get_args(MultiDatasetBatchSampler)),
        drop_last=reader.boolean("drop_last"),
        num_workers=reader.integer("num_workers", at_least=0),
    )
    reader.finish()
    return config


def read_optimizer(reader: Reader) -> OptimizerConfig:
    """The optimizer and its schedule."""
    config = OptimizerConfig(
        name=reader.one_of("name", tuple(OPTIMIZERS)),
        lr=reader.real("lr", above=0, at_most=HIGHEST_LR),
        weight_decay=reader.real("weight_decay", at_least=0),
        warmup=reader.real("warmup", at_least=0),
        schedule=reader.one_of("schedule", get_args(Schedule)),
        max_grad_norm=reader.real("max_grad_norm", at_least=0),
    )
    reader.finish()
    return config


def read_trainer(reader: Reader) -> TrainerConfig:
    """How long, how exact, on what."""
    stopping = reader.section("early_stopping")
    config = TrainerConfig(
        name=reader.text("name"),
        epochs=reader.real("epochs", above=0),
        max_steps=reader.optional_integer("max_steps", at_least=1),
        precision=reader.one_of("precision", get_args(Precision)),
        device=reader.text("device"),
        seed=reader.integer("seed", at_least=0),
        eval_every=reader.real("eval_every", above=0),
        log_every=reader.real("log_every", above=0),
        load_best_model_at_end=reader.boolean("load_best_model_at_end"),
        merge_columns=reader.boolean("merge_columns"),
        cuda_graphs=reader.switch("cuda_graphs"),
        early_stopping=EarlyStoppingConfig(
            patience=stopping.optional_integer("patience", at_least=1),
            min_delta=stopping.real("min_delta", at_least=0),
        ),
    )
    stopping.finish()
    reader.finish()
    return config
