from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import DistilBertConfig, DistilBertModel

from embedsweep.config.training import OptimizerConfig, Schedule
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.trainer import OPTIMIZERS, SCHEDULES, optimizer_arguments
from embedsweep.validation.rules.training import check_schedule
from embedsweep.validation.single import pass_single

ADAMW = OptimizerConfig("adamw", lr=1e-3, weight_decay=0.25, warmup=0.1, schedule="linear", max_grad_norm=1.0)
SCHEDULE_FREE = replace(ADAMW, name="schedule_free", schedule="constant")
EACH = [ADAMW, replace(ADAMW, name="adafactor"), SCHEDULE_FREE]
STEPS = 10
DATA = Dataset.from_dict(
    {
        "sentence1": [f"the doctor {number}" for number in range(40)],
        "sentence2": [f"a teacher {number}" for number in range(40)],
        "score": [number / 40 for number in range(40)],
    }
)


class Scores(BaseEvaluator):  # type: ignore[misc]  # the library is untyped
    """Records the weights that it scores."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: SentenceTransformer, *_: Any, **__: Any) -> dict[str, float]:
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": 1.0}


def trainer(
    config: OptimizerConfig, folder: Path, scores: Scores | None = None, model: SentenceTransformer | None = None
) -> SentenceTransformerTrainer:
    model = model or SentenceTransformer(str(tiny_model_path()), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        eval_strategy="steps" if scores else "no",
        eval_steps=5,
        save_strategy="steps" if scores else "no",
        save_steps=5,
        logging_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        **optimizer_arguments(config),
    )
    return SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=DATA, loss=CosineSimilarityLoss(model), evaluator=scores
    )


def distilbert(folder: Path) -> SentenceTransformer:
    """A small DistilBERT with the tiny model's tokenizer."""
    tiny = Transformer(str(tiny_model_path()))
    config = DistilBertConfig(vocab_size=len(tiny.tokenizer), dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    transformer = Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")


@pytest.mark.parametrize("config", EACH, ids=lambda config: config.name)
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_biases_and_norms_do_not_decay(config: OptimizerConfig, kind: str, tmp_path: Path) -> None:
    model = distilbert(tmp_path / "model") if kind == "distilbert" else None
    trained = trainer(config, tmp_path, model=model)
    names = {id(value): name for name, value in trained.model.named_parameters()}
    groups = {group["weight_decay"]: group["params"] for group in trained.create_optimizer().param_groups}
    assert groups.keys() == {0.25, 0.0}
    spared = {names[id(value)] for value in groups[0.0]}
    assert spared == {name for name in names.values() if name.endswith(".bias") or "norm" in name.lower()}
    assert len(spared) >= 20
    assert len(spared) + len(groups[0.25]) == len(names)


EXPECTED: dict[str, tuple[type[torch.optim.Optimizer] | None, dict[str, object]]] = {
    "adamw": (torch.optim.AdamW, {"fused": True, "betas": (0.9, 0.999)}),
    "adafactor": (None, {"relative_step": False, "scale_parameter": False, "warmup_init": False}),
    "schedule_free": (None, {"betas": (0.9, 0.999), "weight_lr_power": 2.0}),
}


@pytest.mark.parametrize("config", EACH, ids=lambda config: config.name)
def test_each_name_builds_its_optimizer(config: OptimizerConfig, tmp_path: Path) -> None:
    optimizer = trainer(config, tmp_path).create_optimizer()
    kind, values = EXPECTED[config.name]
    assert type(optimizer).__name__.lower().startswith(config.name.replace("schedule_free", "adamwschedulefree"))
    assert kind is None or isinstance(optimizer, kind)
    for group in optimizer.param_groups:
        assert {key: group[key] for key in values} == values
        assert group["lr"] == 1e-3


def test_every_optimizer_is_tested() -> None:
    assert [config.name for config in EACH] == list(OPTIMIZERS)


def rates(config: OptimizerConfig, folder: Path) -> list[float]:
    """Return the learning rate of every step, without training."""
    arguments = trainer(config, folder)
    arguments.create_optimizer_and_scheduler(STEPS)
    measured = []
    for _ in range(STEPS):
        measured.append(arguments.optimizer.param_groups[0]["lr"])
        arguments.optimizer.step()
        arguments.lr_scheduler.step()
    return measured


def after_warm_up(schedule: Schedule, step: int) -> float:
    done = (step - 2) / (STEPS - 2)
    return {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "constant": 1.0}[schedule]


@pytest.mark.parametrize("warmup", [0.2, 2])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_rise_for_a_ratio_or_a_number_of_steps_and_follow_the_schedule(
    schedule: Schedule, warmup: float, tmp_path: Path
) -> None:
    measured = rates(replace(ADAMW, lr=1.0, warmup=warmup, schedule=schedule), tmp_path)
    assert measured == pytest.approx([0.0, 0.5, *(after_warm_up(schedule, step) for step in range(2, STEPS))])


@pytest.mark.parametrize(("warmup", "expected"), [(0.2, [0.0, 0.5]), (2, [0.5, 1.0]), (0, [1.0, 1.0])])
def test_schedule_free_warms_up_once(warmup: float, expected: list[float], tmp_path: Path) -> None:
    trained = trainer(replace(SCHEDULE_FREE, lr=1e-3, warmup=warmup), tmp_path)
    trained.create_optimizer_and_scheduler(STEPS)
    trained.optimizer.train()
    measured = []
    for _ in range(4):
        trained.optimizer.step()
        measured.append(trained.optimizer.param_groups[0]["scheduled_lr"])
        trained.lr_scheduler.step()
    assert measured == pytest.approx([1e-3 * rate for rate in (*expected, 1.0, 1.0)])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = SentenceTransformer(str(folder), device="cpu").state_dict()
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("config", EACH, ids=lambda config: config.name)
def test_resumed_training_equals_undisturbed_training_bit_for_bit(config: OptimizerConfig, tmp_path: Path) -> None:
    scores = Scores()
    undisturbed = trainer(config, tmp_path / "one", scores)
    undisturbed.train()
    # What was scored is what the checkpoints hold; of schedule-free, the averages.
    assert len(scores.seen) == 2
    assert same(scores.seen[0], weights(tmp_path / "one" / "checkpoint-5"))
    assert same(scores.seen[1], weights(tmp_path / "one" / "checkpoint-10"))
    assert same(scores.seen[1], undisturbed.model.state_dict())
    assert not same(scores.seen[0], scores.seen[1])
    resumed = trainer(config, tmp_path / "two", Scores())
    resumed.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-5"))
    assert same(resumed.model.state_dict(), undisturbed.model.state_dict())


def test_schedule_free_is_scored_by_its_averages(tmp_path: Path) -> None:
    """By its definition, x(t+1) = (1 - c) x(t) + c z(t+1), beside the y = (1 - beta) z + beta x that is trained."""
    scores = Scores()
    trained = trainer(SCHEDULE_FREE, tmp_path, scores)
    trained.train()
    parameters = dict(trained.model.named_parameters())
    name = next(name for name in parameters if name.endswith("word_embeddings.weight"))
    x = parameters[name].detach().clone()
    z = trained.optimizer.optimizer.state[parameters[name]]["z"]
    trained.optimizer.train()
    torch.testing.assert_close(parameters[name].detach(), 0.1 * z + 0.9 * x)
    assert torch.equal(scores.seen[-1][name], x)
    assert not torch.equal(x, z)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("config", EACH, ids=lambda config: config.name)
def test_schedule_free_takes_no_schedule_but_constant(config: OptimizerConfig, schedule: Schedule) -> None:
    trial = pass_single([]).config
    problems = list(check_schedule(replace(trial, optimizer=replace(config, schedule=schedule))))
    if config.name != "schedule_free" or schedule == "constant":
        assert problems == []
    else:
        (problem,) = problems
        assert str(problem) == (
            "optimizer.schedule: optimizer=schedule_free averages instead of lowering the rate; "
            f"use constant, not {schedule}"
        )
