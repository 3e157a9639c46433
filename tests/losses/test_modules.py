"""Modules around losses: merged columns, groups of processes, and a loss's own weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import TrainerCallback

from embedsweep.errors import TrialError
from embedsweep.losses.modules import AcrossProcesses, embed_together, load_own_state, own_state
from embedsweep.losses.nesting import merges_columns
from embedsweep.losses.table import LOSSES
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.data import Part
from embedsweep.training.train import build_task
from embedsweep.validation.single import pass_single
from tests.loss_cases import (
    EXAMPLES,
    LEAVES,
    batch,
    built,
    fresh_model,
    loss_config,
    trained,
    value_of,
)
from tests.losses.cases import NOWHERE, gradient

MERGING = {
    *("mnrl", "mnrl_symmetric", "cosent", "angle", "cosine", "contrastive", "online_contrastive", "triplet"),
    *("margin_mse", "distill_kl_div", "matryoshka"),
}
"""What is computed from the embeddings of several columns."""


@pytest.mark.parametrize("name", LOSSES)
def test_columns_can_be_merged_for_losses_computed_from_several_columns(name: str) -> None:
    config = loss_config(name, NOWHERE)
    assert merges_columns(config, cached=False) is (name in MERGING)
    assert not merges_columns(config, cached=True)


def passes_of(model: SentenceTransformer, embed: Callable[[], object]) -> int:
    """Return how many forward passes of the model ``embed`` runs."""
    seen: list[int] = []
    counting = model[0].register_forward_hook(lambda *_: seen.append(1))
    embed()
    counting.remove()
    return len(seen)


@pytest.mark.parametrize("name", sorted(MERGING))
def test_merged_columns_give_the_loss_and_gradient_of_separate_columns_in_one_pass(
    model: SentenceTransformer, other_model: Path, name: str
) -> None:
    config = loss_config(name, other_model)
    features, labels = batch(config, model)
    apart, merged = built(config, model), built(config, model, merge_columns=True)
    values: dict[torch.nn.Module, torch.Tensor] = {}

    def compute(loss: torch.nn.Module) -> None:
        values[loss] = loss([dict(column) for column in features], labels)

    # The library runs two: one of the first column, one of all others.
    assert [passes_of(model, partial(compute, loss)) for loss in (apart, merged)] == [2, 1]
    assert type(merged) is type(apart)
    assert values[merged].item() == pytest.approx(values[apart].item(), rel=1e-5)
    expected = gradient(values[apart], model)
    assert torch.allclose(gradient(values[merged], model), expected, rtol=1e-3, atol=1e-5)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "micro_batch_size"), [("mnrl", 2), ("gist", None), ("batch_all_triplet", None), ("adaptive_layer", None)]
)
def test_a_loss_that_embeds_by_itself_is_not_changed(name: str, micro_batch_size: int | None) -> None:
    loss = built(loss_config(name, tiny_model_path()), fresh_model(), micro_batch_size, merge_columns=True)
    assert [part for part in loss.modules() if "forward" in vars(part)] == []


@pytest.mark.parametrize(
    ("prompts", "passes"),
    [
        (("", "", ""), 1),
        (("query: ", "", ""), 2),
        (("query: ", "a rather long document: ", "a rather long document: "), 2),
    ],
)
def test_columns_that_cannot_be_merged_are_embedded_as_in_the_library(prompts: tuple[str, ...], passes: int) -> None:
    model = fresh_model()
    model.set_pooling_include_prompt(include_prompt=False)  # so that pooling has to know a prompt's length
    texts = zip(EXAMPLES["triplets"].texts, prompts, strict=True)
    features = [model.preprocess(list(column), prompt=prompt or None) for column, prompt in texts]
    assert passes_of(model, lambda: embed_together(model, [dict(column) for column in features])) == passes
    together = embed_together(model, [dict(column) for column in features])
    expected = [model(dict(column))["sentence_embedding"] for column in features]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(together, expected, strict=True))


@pytest.mark.parametrize(("word", "passes"), [("true", 1), ("false", 2)])
def test_a_process_of_a_group_merges_columns_if_configured(
    word: str, passes: int, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other process's examples are not needed to count passes.
    monkeypatch.setattr("embedsweep.losses.modules._sizes", lambda own: [len(own)])
    monkeypatch.setattr("embedsweep.losses.modules._gathered", lambda own, _: own)
    config = pass_single(["data.limit=96", "loss=cosent", f"trainer.merge_columns={word}"]).config
    task = build_task(config, Part(EXAMPLES["scored_pairs"], config.loss, 1), model, processes=2)
    assert isinstance(task.loss, AcrossProcesses)
    assert not task.merges_columns  # the loss does it
    features, labels = batch(config.loss, model)
    assert passes_of(model, lambda: task.loss(features, labels)) == passes


def test_a_regulariser_is_added_to_the_loss_inside(other_model: Path) -> None:
    inner = loss_config("mnrl", other_model)
    config = loss_config("global_orthogonal_regularization", other_model, inner, second_moment_weight=0.0)
    model = fresh_model()
    spread = []
    for texts in EXAMPLES["triplets"].texts:
        unit = torch.tensor(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))
        others = (unit @ unit.T)[~torch.eye(len(texts), dtype=torch.bool)]
        spread.append(others.mean() ** 2)
    expected = value_of(inner, model).item() + torch.stack(spread).mean().item()
    assert value_of(config, model).item() == pytest.approx(expected, rel=1e-4)


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
def test_own_state_is_all_that_is_trained_besides_the_model(name: str, other_model: Path) -> None:
    config, model = loss_config(name, other_model), fresh_model()
    loss = built(config, model)
    own = own_state(loss, model)
    assert set(own) == expected_own(name, model)
    # Counted in another way: all weights that require a gradient, without the model's.
    models = {id(weights) for weights in model.parameters()}
    beside = {id(weights): weights for weights in loss.parameters() if id(weights) not in models}
    trained_beside = sum(weights.numel() for weights in beside.values() if weights.requires_grad)
    assert sum(value.numel() for value in own.values()) == trained_beside


@pytest.mark.parametrize("name", ["mse", "embed_distill"])
def test_a_projection_is_own_state(name: str, other_model: Path) -> None:
    model = fresh_model()
    loss = built(loss_config(name, other_model, projection_dim=128), model)
    assert set(own_state(loss, model)) == {"projection.weight", "projection.bias"}


def test_own_state_includes_losses_inside_wrappers_and_of_several_datasets(other_model: Path) -> None:
    model = fresh_model()
    wrapped = built(loss_config("adaptive_layer", other_model, loss_config("softmax", other_model)), model)
    both = nn.ModuleDict({"a": wrapped, "b": built(loss_config("cosent", other_model), model)})
    assert set(own_state(wrapped, model)) == {"loss.classifier.weight", "loss.classifier.bias"}
    assert set(own_state(both, model)) == {"a.loss.classifier.weight", "a.loss.classifier.bias"}


def test_the_state_of_another_loss_is_refused_with_the_names_that_differ(other_model: Path) -> None:
    model = fresh_model()
    loss = built(loss_config("softmax", other_model), model)
    state = {**own_state(loss, model), "classifier.bias": torch.zeros(5), "projection.weight": torch.zeros(1)}
    with pytest.raises(TrialError, match=r"another loss; these differ: classifier\.bias, projection\.weight$"):
        load_own_state(loss, model, state)


class Keep(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Save a loss's own weights beside the checkpoint of a step."""

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
def test_a_resumed_training_is_exact_with_a_losses_own_weights_and_only_with_them(
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
        torch.manual_seed(11)  # a loss's own weights are initialised differently in another process
        loss = built(config, model)
        if with_own:
            load_own_state(loss, model, load_file(checkpoint / "loss.safetensors"))
        trained(config, model, loss, tmp_path / "resumed", resume=checkpoint, max_steps=4)
        ended = model.state_dict()
        distance[with_own] = max((ended[key] - value).abs().max().item() for key, value in undisturbed.items())
    assert distance[True] == 0.0
    assert distance[False] > 1e-6
