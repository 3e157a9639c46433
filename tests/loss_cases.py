"""Examples of every shape and configurations of every loss, for the tests of losses."""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import nn
from transformers import TrainerCallback

from embedsweep.config.compose import shipped_conf
from embedsweep.config.trial import LossConfig, ParameterValue, Shape
from embedsweep.data.examples import Examples
from embedsweep.losses.nesting import build_loss, nest, shapes_of, training_dataset
from embedsweep.losses.table import LOSSES
from embedsweep.models.tiny import tiny_model_path

OPTIONS = sorted((shipped_conf() / "loss").glob("*.yaml"))
LEAVES = tuple(name for name, row in LOSSES.items() if not row.wraps)
WRAPPERS = tuple(name for name, row in LOSSES.items() if row.wraps)

ANCHORS = (
    *("the dog sleeps under a big tree", "a cat eats fish", "el perro duerme", "two birds sing in the morning"),
    *("a man plays a guitar", "the woman reads", "una niña corre por el parque", "the train is late again"),
)
POSITIVES = (
    *("a dog is asleep under the tree", "the cat has a fish", "duerme un perro", "in the morning birds are singing"),
    *("somebody plays guitar", "a woman is reading", "corre una niña", "again there is no train"),
)
NEGATIVES = (
    *("the dog runs", "a cat drinks milk", "el gato come", "two cats fight"),
    *("a man sleeps", "the woman cooks", "un niño llora", "the bus is early"),
)

EXAMPLES: dict[Shape, Examples] = {
    "scored_pairs": Examples(
        "scored_pairs", (ANCHORS, POSITIVES), (1.0, 0.75, 0.5, 0.25, 0.0, 0.9, 0.6, 0.3), None, "test", None
    ),
    "positive_pairs": Examples("positive_pairs", (ANCHORS, POSITIVES), None, None, "test", None),
    "triplets": Examples("triplets", (ANCHORS, POSITIVES, NEGATIVES), None, None, "test", None),
    "tuples": Examples("tuples", (ANCHORS, POSITIVES, NEGATIVES, NEGATIVES[::-1]), None, None, "test", None),
    "binary_pairs": Examples("binary_pairs", (ANCHORS, POSITIVES), (1.0, 0.0) * 4, None, "test", None),
    "class_pairs": Examples(
        "class_pairs", (ANCHORS, POSITIVES), (0.0, 1.0, 2.0, 1.0) * 2, ("a", "b", "c"), "test", None
    ),
    "class_texts": Examples("class_texts", (ANCHORS,), (0.0, 1.0) * 4, ("a", "b"), "test", None),
    "texts": Examples("texts", (ANCHORS,), None, None, "test", None),
}


def fresh_model() -> SentenceTransformer:
    """Load the tiny model, untrained; its dropout is off, so that two forms of a loss can be compared."""
    torch.manual_seed(7)
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


def write_other_model(folder: Path) -> Path:
    """Save a guide or teacher of the tiny model's size with other weights; return its folder."""
    model = fresh_model()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@functools.cache
def option(name: str) -> Mapping[str, Any]:
    """Return the values of ``conf/loss/NAME.yaml`` without its name, defaults list and search space."""
    tree: dict[str, Any] = yaml.safe_load((shipped_conf() / "loss" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in tree.items() if key not in ("name", "defaults", "space")}


def loss_config(name: str, other_model: Path, inner: LossConfig | None = None, **values: ParameterValue) -> LossConfig:
    """Configure a loss by its option, with ``other_model`` as guide or teacher; a wrapper gets CoSENT inside."""
    parameters = {key: tuple(value) if isinstance(value, list) else value for key, value in option(name).items()}
    row = LOSSES[name]
    if row.other_model is not None:
        parameters[row.other_model] = str(other_model)
    if row.wraps and inner is None:
        inner = loss_config("cosent", other_model)
    return LossConfig(name, {**parameters, **values}, inner)


def built(
    config: LossConfig,
    model: SentenceTransformer,
    micro_batch_size: int | None = None,
    *,
    merge_columns: bool = False,
) -> nn.Module:
    """Build the loss for the examples of its first shape."""
    classes = EXAMPLES[shapes_of(config)[0]].classes
    n_classes = None if classes is None else len(classes)
    return build_loss(config, model, micro_batch_size, n_classes, merge_columns=merge_columns)


def batch(config: LossConfig, model: SentenceTransformer) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor | None]:
    """Return the features of each text column and the labels of all examples of a loss's first shape."""
    dataset = training_dataset(config, EXAMPLES[shapes_of(config)[0]], model, seed=1)
    *texts, last = dataset.column_names
    labels = torch.tensor(list(dataset[last])) if last in ("label", "score") else None
    columns = texts if labels is not None else dataset.column_names
    return [model.preprocess(list(dataset[column])) for column in columns], labels


def value_of(config: LossConfig, model: SentenceTransformer, micro_batch_size: int | None = None) -> torch.Tensor:
    """Return the loss of all its examples, before training."""
    features, labels = batch(config, model)
    value: torch.Tensor = built(config, model, micro_batch_size)(features, labels)
    return value


def trained(
    config: LossConfig,
    model: SentenceTransformer,
    loss: nn.Module,
    folder: Path,
    callback: TrainerCallback | None = None,
    resume: Path | None = None,
    **arguments: Any,
) -> list[float]:
    """Train with the library's own trainer, in batches of 4; return the loss of each step."""
    by_label = LOSSES[nest(config)[-1].name].groups_by_label
    defaults = {
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "batch_sampler": "group_by_label" if by_label else "batch_sampler",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(str(folder), **{**defaults, **arguments}),
        train_dataset=training_dataset(config, EXAMPLES[shapes_of(config)[0]], model, seed=1),
        loss=loss,
        callbacks=[] if callback is None else [callback],
    )
    # The trainer collects garbage at its end: slow, unless the libraries' objects are frozen.
    gc.freeze()
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    gc.unfreeze()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
