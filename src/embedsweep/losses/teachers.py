"""Losses that follow a teacher, and the labels it gives.

The teacher reads the training data once, before training; it is not part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsweep.data.examples import COLUMNS, Examples
from embedsweep.hub import cached_model_path
from embedsweep.losses.rows import Ingredients

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn


def load_encoder(path: str, device: torch.device) -> SentenceTransformer:
    """A model that is used and never trained.

    Args:
        path: a folder or a hub id; a copy in the local cache is loaded without asking the hub.
        device: where it goes.
    """
    from sentence_transformers import SentenceTransformer

    folder = Path(path).expanduser()
    source = folder if folder.is_dir() else cached_model_path(path, None) or path
    encoder = SentenceTransformer(str(source), device=str(device), model_kwargs={"use_safetensors": True})
    # The trainer gives its optimizer every weight inside of the loss that asks for a gradient.
    return encoder.requires_grad_(False).eval()


DISTANCES = ("cosine", "l2", "mse")
SIMILARITIES = ("pairwise_dot_score", "pairwise_cos_sim")
"""Functions of ``sentence_transformers.util``."""

_TEACHING = ("teacher", "teacher_batch_size")


def mse(given: Ingredients) -> nn.Module:
    """MSELoss (https://arxiv.org/abs/2004.09813)."""
    from sentence_transformers.sentence_transformer.losses import MSELoss

    return MSELoss(given.model, **_own(given.parameters))


def embed_distill(given: Ingredients) -> nn.Module:
    """EmbedDistillLoss (https://arxiv.org/abs/2301.12005)."""
    from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss

    return EmbedDistillLoss(given.model, **_own(given.parameters))


def margin_mse(given: Ingredients) -> nn.Module:
    """MarginMSELoss (https://arxiv.org/abs/2010.02666)."""
    from sentence_transformers.sentence_transformer.losses import MarginMSELoss

    return MarginMSELoss(given.model, similarity_fct=_similarity(given.parameters))


def distill_kl_div(given: Ingredients) -> nn.Module:
    """DistillKLDivLoss (https://arxiv.org/abs/2010.11386)."""
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

    parameters = {**_own(given.parameters), "similarity_fct": _similarity(given.parameters)}
    return DistillKLDivLoss(given.model, **parameters)


def _own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key not in _TEACHING}


def _similarity(parameters: Mapping[str, Any]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    from sentence_transformers import util

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = getattr(util, parameters["similarity_fct"])
    return function


def with_embeddings(
    examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int
) -> Dataset:
    """The texts, labelled with the teacher's embedding ``(width,)`` of the first.

    Of two texts with one meaning both follow the teacher's embedding of the first: so a student learns a language from
    translations (https://arxiv.org/abs/2004.09813).
    """
    (embeddings,) = _embeddings((examples.texts[0],), parameters, model)
    return _labelled(examples, embeddings.tolist())


def with_margins(examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int) -> Dataset:
    """The triplets, labelled with how much nearer the positive is to the teacher than the negative."""
    positive, negative = _scores(examples, parameters, model)
    return _labelled(examples, (positive - negative).tolist())


def with_scores(examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int) -> Dataset:
    """The triplets, labelled with the teacher's scores ``(2,)`` of positive and negative."""
    positive, negative = _scores(examples, parameters, model)
    return _labelled(examples, [list(pair) for pair in zip(positive.tolist(), negative.tolist(), strict=True)])


def _scores(
    examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer
) -> tuple[torch.Tensor, torch.Tensor]:
    anchor, positive, negative = _embeddings(examples.texts, parameters, model)
    similarity = _similarity(parameters)
    return similarity(anchor, positive), similarity(anchor, negative)


def _embeddings(
    columns: tuple[tuple[str, ...], ...], parameters: Mapping[str, Any], model: SentenceTransformer
) -> list[torch.Tensor]:
    """The teacher's embeddings ``(examples, width)`` of each column, on the CPU."""
    teacher = load_encoder(parameters["teacher"], model.device)
    return [
        teacher.encode(
            list(texts),
            batch_size=parameters["teacher_batch_size"],
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        .float()
        .cpu()
        for texts in columns
    ]


def _labelled(examples: Examples, labels: list[Any]) -> Dataset:
    from datasets import Dataset

    names = COLUMNS[examples.shape][: len(examples.texts)]
    columns = {name: list(texts) for name, texts in zip(names, examples.texts, strict=True)}
    return Dataset.from_dict({**columns, "label": labels})
