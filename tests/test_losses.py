"""The table of losses: complete against ``conf/loss``, and each row builds what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    MultipleNegativesRankingLoss,
)

from embedsweep.config import shipped_conf
from embedsweep.losses import LOSSES, InBatch, Shape, build_loss
from embedsweep.models.tiny import tiny_model_path
from embedsweep.schema import LossConfig

OPTIONS = sorted((shipped_conf() / "loss").glob("*.yaml"))
FIRST = ["the dog sleeps", "a cat eats fish", "el perro duerme", "two birds sing"]
SECOND = ["a dog is asleep", "the cat has fish", "duerme un perro", "birds are singing"]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    # Dropout is off in the tiny model, so that two forms of a loss can be compared.
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


def _parameters(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: value for key, value in tree.items() if key != "name"}


def _value(loss: torch.nn.Module, model: SentenceTransformer) -> torch.Tensor:
    features = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    value: torch.Tensor = loss(features, torch.tensor([1.0, 0.8, 0.4, 0.0]))
    return value


def test_the_table_and_the_options_are_the_same_losses() -> None:
    assert sorted(LOSSES) == [path.stem for path in OPTIONS]
    assert len(OPTIONS) >= 3


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_an_option_gives_every_parameter_a_value_within_its_bound(path: Path) -> None:
    parameters, bounds = _parameters(path), LOSSES[path.stem].parameters
    assert parameters.keys() == bounds.keys()
    assert all(parameters[key] > bound for key, bound in bounds.items())


@pytest.mark.parametrize(
    ("name", "wants", "in_batch", "built"),
    [
        ("mnrl", Shape.POSITIVE_PAIRS, InBatch.CACHED, MultipleNegativesRankingLoss),
        ("cosent", Shape.SCORED_PAIRS, InBatch.COMPARED, CoSENTLoss),
        ("cosine", Shape.SCORED_PAIRS, InBatch.INDEPENDENT, CosineSimilarityLoss),
    ],
)
def test_each_loss_is_sentence_transformers_own(
    model: SentenceTransformer, name: str, wants: Shape, in_batch: InBatch, built: type
) -> None:
    assert (LOSSES[name].wants, LOSSES[name].in_batch) == (wants, in_batch)
    loss = build_loss(LossConfig(name, _parameters(shipped_conf() / "loss" / f"{name}.yaml")), model, None)
    assert type(loss) is built


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_each_loss_trains_the_model(model: SentenceTransformer, path: Path) -> None:
    model.zero_grad()
    value = _value(build_loss(LossConfig(path.stem, _parameters(path)), model, None), model)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert any(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in model.parameters())


@pytest.mark.parametrize("name", ["mnrl", "cosent"])
def test_a_parameter_reaches_the_loss(model: SentenceTransformer, name: str) -> None:
    values = [_value(build_loss(LossConfig(name, {"scale": scale}), model, None), model) for scale in (1.0, 50.0)]
    assert abs(values[0].item() - values[1].item()) > 0.01


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_the_cached_form_sees_the_whole_batch(model: SentenceTransformer, micro_batch_size: int) -> None:
    config = LossConfig("mnrl", {"scale": 20.0})
    cached = build_loss(config, model, micro_batch_size)
    assert type(cached) is CachedMultipleNegativesRankingLoss
    assert cached.mini_batch_size == micro_batch_size
    plain = _value(build_loss(config, model, None), model)
    assert _value(cached, model).item() == pytest.approx(plain.item(), rel=1e-4)


def test_every_loss_says_it_is_cached_where_its_cached_form_differs(model: SentenceTransformer) -> None:
    for path in OPTIONS:
        config = LossConfig(path.stem, _parameters(path))
        differs = type(build_loss(config, model, 2)) is not type(build_loss(config, model, None))
        assert differs is (LOSSES[path.stem].in_batch is InBatch.CACHED)
