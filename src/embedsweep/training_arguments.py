"""A configuration as sentence-transformers' training arguments.

Owns every argument the trainer is given. Knows neither the trainer nor what becomes of a training. Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments

from embedsweep.batches import batch_sampler_of
from embedsweep.micro_batches import loss_batch_size_of
from embedsweep.models import training_prompts
from embedsweep.optimizers import optimizer_arguments
from embedsweep.schema import TrialConfig


def training_arguments(
    config: TrialConfig, folder: Path, datasets: Mapping[str, Dataset], processes: int
) -> SentenceTransformerTrainingArguments:
    """sentence-transformers' arguments for a configuration.

    Args:
        config: the trial.
        folder: where checkpoints go.
        datasets: what is trained on, by name.
        processes: how many share a batch, and each micro-batch of it, a divisor of both.
    """
    trainer, loader = config.trainer, config.dataloader
    # A smaller loss batch is drawn as such, so that it has no duplicates and whole groups; others are split later.
    loss_batch_size = loss_batch_size_of(config)
    pinned = trainer.device != "cpu" and torch.cuda.is_available()
    every = _ratio_or_steps(trainer.eval_every)
    prompts = {name: training_prompts(config.model, _text_columns(dataset)) for name, dataset in datasets.items()}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=trainer.epochs,
        max_steps=trainer.max_steps or -1,
        per_device_train_batch_size=loss_batch_size // processes,
        gradient_accumulation_steps=loader.batch_size // loss_batch_size,
        per_device_eval_batch_size=config.evaluation.batch_size,
        prompts=prompts if len(prompts) > 1 and any(prompts.values()) else next(iter(prompts.values())),
        batch_sampler=batch_sampler_of(loader, processes),
        multi_dataset_batch_sampler=loader.multi_dataset_batch_sampler,
        dataloader_drop_last=loader.drop_last,
        dataloader_num_workers=loader.num_workers,
        dataloader_persistent_workers=loader.num_workers > 0,
        dataloader_pin_memory=pinned,
        # A batch is copied to the device while the step before it is computed.
        accelerator_config={"non_blocking": pinned},
        # A process that shares a batch would look for a GPU of its own.
        use_cpu=trainer.device == "cpu" or (processes > 1 and not torch.cuda.is_available()),
        fp16=trainer.precision == "fp16",
        bf16=trainer.precision == "bf16",
        seed=trainer.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        metric_for_best_model="eval_" + config.objective.replace("/", "_"),
        greater_is_better=True,
        logging_steps=_ratio_or_steps(trainer.log_every),
        # The filter would show a loss that is NaN as 0.0.
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        **optimizer_arguments(config.optimizer),
    )
    # The library drops the last batch in every group of processes, which share it out unevenly; here they can.
    arguments.dataloader_drop_last = loader.drop_last
    return arguments


def _text_columns(dataset: Dataset) -> list[str]:
    return [name for name in dataset.column_names if name not in ("label", "score")]


def _ratio_or_steps(value: float) -> float:
    return value if value < 1 else int(value)
