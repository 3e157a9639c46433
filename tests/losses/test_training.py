"""Every loss trains: the library's own trainer, a few steps, on the examples it wants."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from tests.loss_cases import (
    EXAMPLES,
    LEAVES,
    WRAPPERS,
    built,
    fresh_model,
    loss_config,
    option,
    trained,
    value_of,
    write_other_model,
)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_model(tmp_path_factory.mktemp("other"))


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


def combinations() -> list[tuple[str, str, int | None]]:
    return [
        (outer, inner, micro_batch_size)
        for outer in WRAPPERS
        for inner in (*LEAVES, *WRAPPERS)
        for micro_batch_size in ((None, 4) if LOSSES[inner].in_batch is InBatch.CACHED else (None,))
    ]


COMBINATIONS = combinations()
BREAKS_BY_CHANCE = {
    # Run for some draws of layers and dims, but mean nothing: the same thing twice.
    ("adaptive_layer", "adaptive_layer"),
    ("adaptive_layer", "matryoshka2d"),
    ("matryoshka2d", "adaptive_layer"),
    ("matryoshka2d", "matryoshka"),
    ("matryoshka2d", "matryoshka2d"),
    # Run, but compare the embeddings of all examples with the labels of the first.
    ("global_orthogonal_regularization", "mse"),
    ("global_orthogonal_regularization", "embed_distill"),
}


def is_borne(outer: str, inner: str, micro_batch_size: int | None) -> bool:
    """What the table says."""
    return outer not in LOSSES[inner].not_inside and (micro_batch_size is None or LOSSES[outer].bears_cached)


def test_the_table_of_combinations_is_whole() -> None:
    assert len(COMBINATIONS) == 4 * (22 + 4 + 4)
    assert sum(is_borne(*combination) for combination in COMBINATIONS) == 24 + 23 + 19 + 14


@pytest.mark.slow
@pytest.mark.parametrize(("outer", "inner", "micro_batch_size"), COMBINATIONS)
@pytest.mark.filterwarnings("ignore:AdaptiveLayerLoss is not compatible", "ignore:Using a target size")
def test_a_wrapper_bears_the_losses_that_the_table_says_and_no_others(
    other_model: Path, outer: str, inner: str, micro_batch_size: int | None
) -> None:
    if (outer, inner) in BREAKS_BY_CHANCE:
        assert not is_borne(outer, inner, micro_batch_size)
        return
    # Every layer and every dim: by default a wrapper draws some of them, and may draw those that do not break.
    all_of_them = {key: -1 for key in ("n_layers_per_step", "n_dims_per_step") if key in option(outer)}
    config = loss_config(outer, other_model, loss_config(inner, other_model), **all_of_them)
    model = fresh_model()
    if not is_borne(outer, inner, micro_batch_size):
        with pytest.raises((RuntimeError, AttributeError, KeyError, ValueError)):
            value_of(config, model, micro_batch_size)
        return
    value = value_of(config, model, micro_batch_size)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert any(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in model.parameters())


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("matryoshka", "mnrl"),
        ("matryoshka", "global_orthogonal_regularization"),
        ("adaptive_layer", "matryoshka"),
        ("matryoshka2d", "cosine"),
    ],
)
def test_a_wrapper_trains_around_another_loss(outer: str, inner: str, other_model: Path, tmp_path: Path) -> None:
    config, model = loss_config(outer, other_model, loss_config(inner, other_model)), fresh_model()
    before = [value.clone() for value in model.parameters()]
    trained(config, model, built(config, model), tmp_path, max_steps=2)
    assert any(not torch.equal(value, old) for value, old in zip(model.parameters(), before, strict=True))


def test_matryoshka_is_the_sum_over_cut_embeddings(other_model: Path) -> None:
    inner = loss_config("cosine", other_model)
    config = loss_config("matryoshka", other_model, inner, matryoshka_dims=(128, 32), matryoshka_weights=(1.0, 0.5))
    model = fresh_model()
    first, second = (
        torch.tensor(model.encode(list(texts), show_progress_bar=False)) for texts in EXAMPLES["scored_pairs"].texts
    )
    labels = torch.tensor(EXAMPLES["scored_pairs"].labels)
    expected = sum(
        weight * ((torch.cosine_similarity(first[:, :dim], second[:, :dim]) - labels) ** 2).mean()
        for dim, weight in ((128, 1.0), (32, 0.5))
    )
    assert value_of(config, model).item() == pytest.approx(float(expected), rel=1e-4)


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
