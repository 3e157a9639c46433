"""Weights of a loss's own: exactly those that a checkpoint of the trainer lacks, and a training needs to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import TrainerCallback

from embedsweep.errors import TrialError
from embedsweep.losses.modules import load_own_state, own_state
from tests.loss_cases import LEAVES, built, fresh_model, loss_config, trained, write_other_model


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_model(tmp_path_factory.mktemp("other"))


CROSS_ATTENTION = {
    f"decoder.bert.encoder.layer.{layer}.crossattention.{part}.{kind}"
    for layer in (0, 1)
    for part in ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
    for kind in ("weight", "bias")
}
HEAD = {
    f"decoder.cls.predictions.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")
}
OWN: dict[str, set[str]] = {
    "softmax": {"classifier.weight", "classifier.bias"},
    "denoising_autoencoder": CROSS_ATTENTION | HEAD | {"decoder.cls.predictions.bias"},
}


def expected_own(name: str, model: SentenceTransformer) -> set[str]:
    if name.startswith("contrastive_tension"):
        copied = {f"model1.{key}" for key in model.state_dict()}
        return copied | ({"logit_scale"} if name.endswith("in_batch") else set())
    return OWN.get(name, set())


@pytest.mark.parametrize("name", LEAVES)
def test_own_state_is_what_the_trainer_trains_beside_the_model(name: str, other_model: Path) -> None:
    config, model = loss_config(name, other_model), fresh_model()
    loss = built(config, model)
    own = own_state(loss, model)
    assert set(own) == expected_own(name, model)
    # Counted another way: all that asks for a gradient, without the model's.
    models = {id(weights) for weights in model.parameters()}
    beside = {id(weights): weights for weights in loss.parameters() if id(weights) not in models}
    trained_beside = sum(weights.numel() for weights in beside.values() if weights.requires_grad)
    assert sum(value.numel() for value in own.values()) == trained_beside


@pytest.mark.parametrize("name", ["mse", "embed_distill"])
def test_a_projection_is_own_state(name: str, other_model: Path) -> None:
    model = fresh_model()
    loss = built(loss_config(name, other_model, projection_dim=128), model)
    assert set(own_state(loss, model)) == {"projection.weight", "projection.bias"}


def test_own_state_is_found_inside_of_a_wrapper_and_among_several_losses(other_model: Path) -> None:
    model = fresh_model()
    wrapped = built(loss_config("adaptive_layer", other_model, loss_config("softmax", other_model)), model)
    both = nn.ModuleDict({"a": wrapped, "b": built(loss_config("cosent", other_model), model)})
    assert set(own_state(wrapped, model)) == {"loss.classifier.weight", "loss.classifier.bias"}
    assert set(own_state(both, model)) == {"a.loss.classifier.weight", "a.loss.classifier.bias"}


def test_a_state_of_another_loss_is_refused_by_the_names_that_differ(other_model: Path) -> None:
    model = fresh_model()
    loss = built(loss_config("softmax", other_model), model)
    state = {**own_state(loss, model), "classifier.bias": torch.zeros(5), "projection.weight": torch.zeros(1)}
    with pytest.raises(TrialError, match=r"another loss; these differ: classifier\.bias, projection\.weight$"):
        load_own_state(loss, model, state)


class Keep(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Saves a loss's own weights beside the checkpoint of a step."""

    def __init__(self, loss: nn.Module, model: SentenceTransformer, folder: Path, step: int) -> None:
        self.loss, self.model, self.folder, self.step = loss, model, folder, step

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            save_file(own_state(self.loss, self.model), self.folder / f"checkpoint-{self.step}" / "loss.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "softmax",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("contrastive_tension", "denoising_autoencoder")),
    ],
)
def test_a_training_goes_on_exactly_with_a_losses_own_weights_and_not_without(
    name: str, other_model: Path, tmp_path: Path
) -> None:
    config, model = loss_config(name, other_model), fresh_model()
    loss = built(config, model)
    saving: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trained(config, model, loss, tmp_path, Keep(loss, model, tmp_path, step=2), **saving)
    undisturbed = model.state_dict()
    checkpoint = tmp_path / "checkpoint-2"

    distance = {}
    for with_own in (True, False):
        model = fresh_model()
        torch.manual_seed(11)  # what is new in a loss is not what it was in the first process
        loss = built(config, model)
        if with_own:
            load_own_state(loss, model, load_file(checkpoint / "loss.safetensors"))
        trained(config, model, loss, tmp_path / "resumed", resume=checkpoint, max_steps=4)
        ended = model.state_dict()
        distance[with_own] = max((ended[key] - value).abs().max().item() for key, value in undisturbed.items())
    assert distance[True] == 0.0
    assert distance[False] > 1e-6
