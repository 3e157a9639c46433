"""Nested losses: what the table says of them is true, and the datasets they are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.config.compose import open_composer
from embedsweep.config.reader import Reader
from embedsweep.config.trial import LossConfig
from embedsweep.data.examples import COLUMNS
from embedsweep.errors import Problem
from embedsweep.losses.nesting import dims, in_batch, shapes_of, training_dataset
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.validation.sections import read_loss
from tests.loss_cases import (
    EXAMPLES,
    LEAVES,
    WRAPPERS,
    batch,
    built,
    fresh_model,
    loss_config,
    option,
    trained,
    value_of,
)
from tests.losses.cases import NOWHERE


def test_dims_and_shapes_are_those_of_any_loss_inside() -> None:
    inner = loss_config("matryoshka", NOWHERE, loss_config("mnrl", NOWHERE), matryoshka_dims=(16, 128))
    config = loss_config("adaptive_layer", NOWHERE, inner)
    assert (dims(config), shapes_of(config), in_batch(config)) == (
        (128, 16),
        ("triplets", "positive_pairs", "tuples"),
        InBatch.CACHED,
    )
    regularized = loss_config("global_orthogonal_regularization", NOWHERE, loss_config("cosine", NOWHERE))
    assert (dims(regularized), in_batch(regularized)) == ((), InBatch.COMPARED)


@pytest.mark.parametrize(
    ("choices", "names"),
    [
        ({"loss": "matryoshka"}, ["matryoshka", "cosent"]),
        ({"loss": "matryoshka", "loss@loss.inner": "mnrl"}, ["matryoshka", "mnrl"]),
        (
            {"loss": "adaptive_layer", "loss@loss.inner": "matryoshka", "loss@loss.inner.inner": "angle"},
            ["adaptive_layer", "matryoshka", "angle"],
        ),
    ],
    ids=["default", "chosen", "nested"],
)
def test_a_wrappers_inner_loss_is_chosen_by_hydra(choices: dict[str, str], names: list[str]) -> None:
    with open_composer() as composer:
        tree = composer.compose(choices)["loss"]
    problems: list[Problem] = []
    config: LossConfig | None = read_loss(Reader(tree, "loss", problems))
    nested = []
    while config is not None:
        nested.append(config.name)
        config = config.inner
    assert (nested, problems) == (names, [])


# Their values are means over tokens, or sums, not means over examples.
NOT_MEANS = {"denoising_autoencoder", "contrastive_tension"}


@pytest.mark.parametrize("name", [name for name in LEAVES if LOSSES[name].in_batch is not InBatch.CACHED])
def test_micro_batches_change_the_loss_where_examples_are_compared_and_only_there(
    model: SentenceTransformer, other_model: Path, name: str
) -> None:
    if name in NOT_MEANS:
        return
    config = loss_config(name, other_model)
    features, labels = batch(config, model)
    loss = built(config, model)
    halves = [
        loss(
            [
                {key: value[half] if isinstance(value, torch.Tensor) else value for key, value in column.items()}
                for column in features
            ],
            None if labels is None else labels[half],
        ).item()
        for half in (slice(0, 4), slice(4, 8))
    ]
    whole = loss(features, labels).item()
    same = whole == pytest.approx(sum(halves) / 2, rel=1e-3)
    assert same is (LOSSES[name].in_batch is InBatch.INDEPENDENT)


def combinations() -> list[tuple[str, str, int | None]]:
    return [
        (outer, inner, micro_batch_size)
        for outer in WRAPPERS
        for inner in (*LEAVES, *WRAPPERS)
        for micro_batch_size in ((None, 4) if LOSSES[inner].in_batch is InBatch.CACHED else (None,))
    ]


COMBINATIONS = combinations()
DEPENDS_ON_CHANCE = {
    # The same wrapper twice: works for some random choices of layers and dims, and has no meaning.
    ("adaptive_layer", "adaptive_layer"),
    ("adaptive_layer", "matryoshka2d"),
    ("matryoshka2d", "adaptive_layer"),
    ("matryoshka2d", "matryoshka"),
    ("matryoshka2d", "matryoshka2d"),
    # Works, but compares the embeddings of all columns with the labels of the first.
    ("global_orthogonal_regularization", "mse"),
    ("global_orthogonal_regularization", "embed_distill"),
}


def is_allowed(outer: str, inner: str, micro_batch_size: int | None) -> bool:
    """Return whether the table allows a combination."""
    return outer not in LOSSES[inner].not_inside and (micro_batch_size is None or LOSSES[outer].wraps_cached)


def test_all_combinations_of_wrappers_and_losses_are_tested() -> None:
    assert len(COMBINATIONS) == 4 * (22 + 4 + 4)
    assert sum(is_allowed(*combination) for combination in COMBINATIONS) == 24 + 23 + 19 + 14


@pytest.mark.slow
@pytest.mark.parametrize(("outer", "inner", "micro_batch_size"), COMBINATIONS)
@pytest.mark.filterwarnings("ignore:AdaptiveLayerLoss is not compatible", "ignore:Using a target size")
def test_a_wrapper_works_around_exactly_the_losses_that_the_table_allows(
    other_model: Path, outer: str, inner: str, micro_batch_size: int | None
) -> None:
    if (outer, inner) in DEPENDS_ON_CHANCE:
        assert not is_allowed(outer, inner, micro_batch_size)
        return
    # All layers and dims: by default a wrapper chooses some at random, which may be some that work.
    all_of_them = {key: -1 for key in ("n_layers_per_step", "n_dims_per_step") if key in option(outer)}
    config = loss_config(outer, other_model, loss_config(inner, other_model), **all_of_them)
    model = fresh_model()
    if not is_allowed(outer, inner, micro_batch_size):
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


def test_matryoshka_is_the_weighted_sum_over_truncated_embeddings(other_model: Path) -> None:
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


PLAIN = [name for name in LEAVES if LOSSES[name].dataset is None]


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_dataset_has_the_columns_of_its_shape_in_order(model: SentenceTransformer, name: str) -> None:
    config = loss_config(name, NOWHERE)
    for shape in shapes_of(config):
        examples = EXAMPLES[shape]
        dataset = training_dataset(config, examples, model, seed=1)
        assert tuple(dataset.column_names) == COLUMNS[shape]
        columns = [list(dataset[column]) for column in dataset.column_names]
        assert columns[: len(examples.texts)] == [list(texts) for texts in examples.texts]
        assert columns[len(examples.texts) :] == ([] if examples.labels is None else [list(examples.labels)])


def test_sixteen_losses_have_plain_datasets() -> None:
    assert len(PLAIN) == 16


@pytest.mark.parametrize(
    ("name", "kind"), [("cosent", float), ("contrastive", int), ("softmax", int), ("batch_all_triplet", int)]
)
def test_scores_are_floats_and_classes_are_integers(model: SentenceTransformer, name: str, kind: type) -> None:
    config = loss_config(name, NOWHERE)
    examples = EXAMPLES[shapes_of(config)[0]]
    labels = list(training_dataset(config, examples, model, seed=1)[COLUMNS[examples.shape][-1]])
    assert {type(label) for label in labels} == {kind}


def test_a_wrapper_is_trained_on_the_dataset_of_the_innermost_loss(model: SentenceTransformer) -> None:
    inner = loss_config("denoising_autoencoder", NOWHERE)
    wrapped = loss_config("adaptive_layer", NOWHERE, inner)
    one, other = (training_dataset(config, EXAMPLES["texts"], model, seed=3) for config in (wrapped, inner))
    assert one.to_dict() == other.to_dict()
    assert one.column_names == ["damaged", "original"]
