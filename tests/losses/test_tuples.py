"""Losses over tuples: their values by their papers' formulas, in the plain, the cached and the merged form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize, softmax

from embedsweep.losses.nesting import build_loss, training_dataset
from embedsweep.losses.table import LOSSES
from tests.loss_cases import EXAMPLES, fresh_model, loss_config, write_other_model

TUPLES = EXAMPLES["tuples"]
TAKING = tuple(name for name, row in LOSSES.items() if "tuples" in row.shapes)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guide or teacher."""
    return write_other_model(tmp_path_factory.mktemp("other") / "model")


def _loss(name: str, other: Path, model: SentenceTransformer, size: int | None = None, *, merge: bool = False) -> Any:
    """Return the loss of all tuples, a scalar."""
    config = loss_config(name, other)
    dataset = training_dataset(config, TUPLES, model, seed=1)
    labels = torch.tensor(list(dataset["label"])) if "label" in dataset.column_names else None
    texts = [column for column in dataset.column_names if column != "label"]
    features = [model.preprocess(list(dataset[column])) for column in texts]
    assert texts == ["anchor", "positive", "negative_1", "negative_2"]
    return build_loss(config, model, size, merge_columns=merge)(features, labels)


def _embedded(model: SentenceTransformer) -> list[torch.Tensor]:
    return [model.encode(list(texts), convert_to_tensor=True) for texts in TUPLES.texts]


def _scores(columns: Sequence[torch.Tensor]) -> torch.Tensor:
    """Dot products ``(examples, 3)`` of each anchor with its positive and its negatives."""
    anchors, *others = columns
    return torch.stack([(anchors * other).sum(dim=1) for other in others], dim=1)


def test_mnrl_compares_with_all_positives_and_all_negatives_of_the_batch(other: Path) -> None:
    model = fresh_model()
    anchors, *others = map(normalize, _embedded(model))
    expected = cross_entropy(20 * anchors @ torch.cat(others).T, torch.arange(len(anchors)))
    torch.testing.assert_close(_loss("mnrl", other, model), expected)


def test_margins_and_scores_of_a_teacher_are_those_of_each_negative(other: Path) -> None:
    model, teacher = fresh_model(), SentenceTransformer(str(other), device="cpu")
    ours, theirs = _scores(_embedded(model)), _scores(_embedded(teacher))
    margins = nn.functional.mse_loss(ours[:, :1] - ours[:, 1:], theirs[:, :1] - theirs[:, 1:])
    torch.testing.assert_close(_loss("margin_mse", other, model), margins)
    divergence = kl_div(log_softmax(ours, dim=1), softmax(theirs, dim=1), reduction="batchmean")
    torch.testing.assert_close(_loss("distill_kl_div", other, model), divergence, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in TAKING if "tuples" not in LOSSES[name].only_cached])
def test_embedding_all_columns_together_changes_nothing(name: str, other: Path) -> None:
    torch.testing.assert_close(
        _loss(name, other, fresh_model(), merge=True), _loss(name, other, fresh_model()), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["mnrl", "gist"])
def test_the_cached_form_takes_all_negatives(name: str, other: Path) -> None:
    values = [_loss(name, other, fresh_model(), size) for size in (2, 8)]
    torch.testing.assert_close(values[0], values[1])
    if name == "mnrl":
        torch.testing.assert_close(values[0], _loss(name, other, fresh_model()))


def test_only_losses_that_are_said_to_need_their_cached_form_refuse_tuples_in_their_plain_form(other: Path) -> None:
    for name in TAKING:
        if "tuples" in LOSSES[name].only_cached:
            with pytest.raises(ValueError, match="Expected 2 or 3"):
                _loss(name, other, fresh_model())
        else:
            _loss(name, other, fresh_model())


def test_losses_that_take_one_negative_are_not_said_to_take_several() -> None:
    with pytest.raises(ValueError, match="unpack"):
        _loss("triplet", Path(), fresh_model())
    assert "tuples" not in LOSSES["triplet"].shapes
    assert replace(TUPLES, shape="triplets").columns == ("anchor", "positive", "negative")
