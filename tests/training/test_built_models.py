from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import TrialConfig
from embedsweep.training.built_models import BuiltModels
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from tests.training.cases import train_config

SHORT = ("trainer.device=cpu", "data.limit=64", "trainer.max_steps=4", "trainer.eval_every=4")
FIRST = ("trainer.seed=1", "optimizer.lr=1e-2")


def config_of(*words: str) -> TrialConfig:
    return pass_single([*SHORT, *words]).config


def trained(models: BuiltModels, config: TrialConfig, folder: Path) -> tuple[Outcome, SentenceTransformer]:
    return train_config(config, folder, built=models.get(config))


def weights_of(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("words", "is_kept"),
    [
        ([], True),
        (["trainer.seed=7"], True),
        (["loss=mnrl"], True),
        (["loss=matryoshka", "loss.matryoshka_dims=[64,32]"], True),
        (["loss=softmax", "data=demo_nli"], True),
        (["loss=adaptive_layer"], True),
        (["trainer.precision=bf16"], True),
        (["model.dense=16", "trainer.seed=1"], False),
        (["model.dense=16", "trainer.seed=7"], False),
        (["model.pooling=cls"], False),
        (["model.lora.rank=2"], False),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_a_trial_on_a_kept_model_equals_one_on_a_new_model_to_the_last_digit(
    words: list[str], is_kept: bool, tmp_path: Path
) -> None:
    models = BuiltModels()
    _, first = trained(models, config_of(*FIRST), tmp_path / "first")
    outcome, model = trained(models, config_of(*words), tmp_path / "second")
    assert (model is first) == is_kept
    alone, fresh = trained(BuiltModels(), config_of(*words), tmp_path / "alone")
    assert outcome.dev == alone.dev
    assert outcome.best_step == alone.best_step
    kept_weights, fresh_weights = weights_of(model), weights_of(fresh)
    assert kept_weights.keys() == fresh_weights.keys()
    assert all(torch.equal(value, fresh_weights[name]) for name, value in kept_weights.items())


def test_new_layers_are_drawn_from_the_seed_of_their_trial(tmp_path: Path) -> None:
    models = BuiltModels()
    one = models.get(config_of("model.dense=16", "trainer.seed=1")).model
    again = models.get(config_of("model.dense=16", "trainer.seed=1")).model
    other = models.get(config_of("model.dense=16", "trainer.seed=2")).model
    assert again is one
    assert other is not one
    assert not torch.equal(other[2].linear.weight, one[2].linear.weight)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model.append(torch.nn.Identity()),
        lambda model: setattr(
            model[0].model.embeddings.word_embeddings, "weight", torch.nn.Parameter(torch.ones(3, 3))
        ),
    ],
    ids=["a module more", "a weight replaced"],
)
def test_a_model_whose_modules_were_replaced_is_built_anew(spoil: Callable[[SentenceTransformer], object]) -> None:
    models = BuiltModels()
    first = models.get(config_of()).model
    spoil(first)
    assert models.get(config_of()).model is not first


def test_nothing_of_a_training_is_left_on_a_kept_model(tmp_path: Path) -> None:
    models, config = (
        BuiltModels(),
        config_of("trainer.precision=bf16", "loss=matryoshka", "loss.matryoshka_dims=[64,32]"),
    )
    fresh = models.get(config).model
    names = {name: set(vars(module)) for name, module in fresh.named_modules()}
    modes = [module.training for module in fresh.modules()]
    trained(models, config, tmp_path)
    kept = models.get(config).model
    assert {name: set(vars(module)) for name, module in kept.named_modules()} == names
    assert not kept.model_card_data.training_logs
    assert kept.model_card_data.model is kept
    assert [module.training for module in kept.modules()] == modes
    assert all(parameter.grad is None for parameter in kept.parameters())


def test_a_dropped_model_is_built_anew() -> None:
    models = BuiltModels()
    first = models.get(config_of()).model
    models.drop()
    assert models.get(config_of()).model is not first


def test_a_single_run_keeps_no_second_copy_of_its_weights() -> None:
    models = BuiltModels(keeps=False)
    first = models.get(config_of()).model
    assert models._as_built is None
    assert models.get(config_of()).model is not first


def test_a_dropped_model_is_freed_before_the_next_is_built() -> None:
    models = BuiltModels()
    first = weakref.ref(models.get(config_of()).model)
    models.get(config_of("model.pooling=cls"))
    assert first() is None
