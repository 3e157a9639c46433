"""Builders of losses: each builds the library's class with its parameters, and each trains a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as library

from embedsweep.config.trial import ParameterValue
from embedsweep.losses.nesting import in_batch
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.models.tiny import tiny_model_path
from tests.loss_cases import (
    LEAVES,
    WRAPPERS,
    batch,
    built,
    fresh_model,
    loss_config,
    trained,
    value_of,
)
from tests.losses.cases import CACHED, LIBRARY, NOWHERE, gradient


@pytest.mark.parametrize("name", LIBRARY)
def test_each_loss_is_the_librarys_class(model: SentenceTransformer, name: str) -> None:
    built_loss = built(loss_config(name, tiny_model_path()), model)
    loss = built_loss.regularizer if name == "global_orthogonal_regularization" else built_loss
    expected = "MultipleNegativesRankingLoss" if name == "mnrl_symmetric" else LIBRARY[name]
    assert type(loss) is getattr(library, expected)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_the_symmetric_loss_is_the_librarys_deprecated_one(
    model: SentenceTransformer, micro_batch_size: int | None
) -> None:
    config = loss_config("mnrl_symmetric", NOWHERE)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        theirs = (
            library.MultipleNegativesSymmetricRankingLoss(model)
            if micro_batch_size is None
            else library.CachedMultipleNegativesSymmetricRankingLoss(model, mini_batch_size=micro_batch_size)
        )
    features, labels = batch(config, model)
    assert built(config, model, micro_batch_size)(features, labels).item() == theirs(features, labels).item()


@pytest.mark.parametrize("name", ["mnrl", "cosent", "angle", "triplet", "contrastive", "matryoshka"])
def test_a_parameter_reaches_the_loss(model: SentenceTransformer, name: str) -> None:
    others: dict[str, tuple[str, ParameterValue, ParameterValue]] = {
        "triplet": ("triplet_margin", 1.0, 9.0),
        "contrastive": ("distance_metric", "cosine_distance", "manhattan"),
        "matryoshka": ("matryoshka_weights", (1.0, 1.0, 1.0), (9.0, 1.0, 1.0)),
    }
    key, *values = others.get(name, ("scale", 1.0, 50.0))
    first, second = (value_of(loss_config(name, NOWHERE, None, **{key: value}), model).item() for value in values)
    assert abs(first - second) > 0.01


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_the_cached_form_has_the_gradient_of_the_whole_batch(
    model: SentenceTransformer, name: str, micro_batch_size: int
) -> None:
    config = loss_config(name, tiny_model_path())
    cached = built(config, model, micro_batch_size)
    assert isinstance(cached, getattr(library, CACHED[name]) if name != "mnrl_symmetric" else torch.nn.Module)
    assert cached.uses_gradient_cache
    assert cached.mini_batch_size == micro_batch_size
    features, labels = batch(config, model)
    plain = gradient(built(config, model)(features, labels), model)
    assert torch.allclose(gradient(cached(features, labels), model), plain, rtol=1e-3, atol=1e-5)


def test_exactly_the_losses_with_a_cached_form_are_built_cached(model: SentenceTransformer) -> None:
    for name in LEAVES:
        config = loss_config(name, tiny_model_path())
        assert getattr(built(config, model, 2), "uses_gradient_cache", False) is (in_batch(config) is InBatch.CACHED)


@pytest.mark.parametrize("name", [*LEAVES, *WRAPPERS])
def test_every_loss_trains_the_model(name: str, other_model: Path, tmp_path: Path) -> None:
    config, model = loss_config(name, other_model), fresh_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = trained(config, model, built(config, model), tmp_path)
    assert len(losses) == 3
    assert torch.tensor(losses).isfinite().all()
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert len(moved) > 20
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("name", [name for name in LEAVES if LOSSES[name].in_batch is InBatch.CACHED])
def test_every_cached_form_trains_the_model(name: str, other_model: Path, tmp_path: Path) -> None:
    config, model = loss_config(name, other_model), fresh_model()
    before = [value.clone() for value in model.parameters()]
    trained(config, model, built(config, model, 2), tmp_path, max_steps=2)
    assert any(not torch.equal(value, old) for value, old in zip(model.parameters(), before, strict=True))
