from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainingArguments,
)
from transformers import TrainerCallback

from embedsweep.config.trial import LossConfig, TrialConfig
from embedsweep.losses.nesting import in_batch, shapes_of, training_dataset
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.training.checkpoints import CheckpointWriter
from embedsweep.training.divergence import DivergenceCheck
from embedsweep.training.micro_batches import (
    Split,
    averaged_over,
    cached_micro_batch,
    kind_of,
    loss_batch_size_of,
    with_micro_batch,
)
from embedsweep.training.trainer import Trainer, TrainerOptions, training_arguments
from embedsweep.validation.single import pass_single
from tests.loss_cases import EXAMPLES, LEAVES, built, fresh_model, loss_config, write_other_model

INDEPENDENT = [name for name in LEAVES if LOSSES[name].in_batch is InBatch.INDEPENDENT]


class Gradients(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Records the gradient of each optimizer step."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.steps: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, *_: object, **__: object) -> None:
        gradients = [weights.grad.flatten() for weights in self.model.parameters() if weights.grad is not None]
        self.steps.append(torch.cat(gradients).clone())


def trained(config: LossConfig, folder: Path, split: int | None, **arguments: Any) -> tuple[list[torch.Tensor], Any]:
    """Train two epochs over all examples; return the gradients and the logged losses."""
    model = fresh_model()
    gradients = Gradients(model)
    defaults = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "learning_rate": 1e-4,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    options = TrainerOptions(
        DivergenceCheck(fp16=False),
        CheckpointWriter(),
        split=None if split is None else Split(split, {"data": averaged_over(config)}),
    )
    trainer = Trainer(
        options,
        model=model,
        args=SentenceTransformerTrainingArguments(str(folder), **{**defaults, **arguments}),
        train_dataset=training_dataset(config, EXAMPLES[shapes_of(config)[0]], model, seed=1),
        loss=built(config, model),
        callbacks=[gradients],
    )
    trainer.train()
    return gradients.steps, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_model(tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "cosine")) for name in (*INDEPENDENT, "matryoshka")]
)
def test_a_split_batch_has_the_gradient_and_the_loss_of_the_whole(name: str, other_model: Path, tmp_path: Path) -> None:
    inner = loss_config("cosine", other_model) if name == "matryoshka" else None
    config = loss_config(name, other_model, inner)
    assert in_batch(config) is InBatch.INDEPENDENT
    whole, values = trained(config, tmp_path / "whole", None)
    parts, split_values = trained(config, tmp_path / "split", 3)  # of 8: 3, 3 and 2
    assert len(parts) == len(whole) == 2
    # The trainer's log is rounded nowhere, but sums are taken in another order.
    assert split_values == pytest.approx(values, rel=1e-4)
    for one, other in zip(parts, whole, strict=True):
        scale = other.abs().max().item()
        assert scale > 0
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"per_device_train_batch_size": 5},
        {"per_device_train_batch_size": 5, "dataloader_drop_last": True},
        {"per_device_train_batch_size": 6, "batch_sampler": "no_duplicates"},
        {"per_device_train_batch_size": 5, "dataloader_num_workers": 1},
    ],
    ids=lambda arguments: "-".join(map(str, arguments)),
)
def test_splitting_changes_neither_samplers_nor_the_last_batch(arguments: dict[str, Any], tmp_path: Path) -> None:
    config = loss_config("cosine", Path("unused"))
    whole, _ = trained(config, tmp_path / "whole", None, **arguments)
    parts, _ = trained(config, tmp_path / "split", 2, **arguments)
    assert len(parts) == len(whole)
    for one, other in zip(parts, whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


def config_of(*words: str) -> TrialConfig:
    return pass_single(["trainer.device=cpu", "data.limit=96", *words]).config


@pytest.mark.parametrize(
    ("words", "kind", "sees", "drawn", "accumulated", "cached"),
    [
        (["loss=cosine"], InBatch.INDEPENDENT, 32, 32, 1, None),
        (["loss=mnrl"], InBatch.CACHED, 32, 32, 1, 8),
        (["loss=cosent"], InBatch.COMPARED, 8, 8, 4, None),
        (["loss=matryoshka"], InBatch.COMPARED, 8, 8, 4, None),
    ],
)
def test_what_a_micro_batch_does_to_each_kind_of_loss(
    words: list[str], kind: InBatch, sees: int, drawn: int, accumulated: int, cached: int | None, tmp_path: Path
) -> None:
    config = config_of(*words, "dataloader.micro_batch_size=8")
    assert kind_of(config) is kind
    assert loss_batch_size_of(config) == sees
    assert cached_micro_batch(config) == cached
    whole = config_of(*words)
    assert loss_batch_size_of(whole) == 32
    assert with_micro_batch(whole, 32) is whole
    assert with_micro_batch(whole, 8) == config
    arguments = training_arguments(config, tmp_path, {"demo": {}}, processes=1)
    assert arguments.per_device_train_batch_size == drawn
    assert arguments.gradient_accumulation_steps == accumulated
