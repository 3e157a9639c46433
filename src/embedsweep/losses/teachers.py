"""Guides and teachers of losses, and the labels that a teacher gives to training data.

A teacher embeds the training data once, before training; it is not part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsweep.data.examples import COLUMNS, Examples
from embedsweep.hub import cached_model_path

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer


def load_encoder(path: str, device: torch.device) -> SentenceTransformer:
    """Load a model that is used and never trained.

    Args:
        path: a folder or an id on the Hub; a copy in the local cache is loaded without asking the Hub.
        device: where it is placed.
    """
    from sentence_transformers import SentenceTransformer

    folder = Path(path).expanduser()
    source = folder if folder.is_dir() else cached_model_path(path, None) or path
    encoder = SentenceTransformer(str(source), device=str(device), model_kwargs={"use_safetensors": True})
    # What a loss says of its guide in the model card.
    encoder.model_card_data.base_model = folder.resolve().name if folder.is_dir() else path
    # The trainer passes every weight inside the loss that requires a gradient to its optimizer.
    return encoder.requires_grad_(False).eval()


def similarity_function(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a function of ``sentence_transformers.util``: two batches ``(batch, dim)`` -> scores ``(batch,)``."""
    from sentence_transformers import util

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = getattr(util, name)
    return function


def with_embeddings(
    examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int
) -> Dataset:
    """Label the texts with the teacher's embedding ``(dim,)`` of the first column.

    Translations follow the teacher's embedding of the first text, too: so a student learns another language
    (https://arxiv.org/abs/2004.09813).
    """
    (embeddings,) = _embed((examples.texts[0],), parameters, model)
    return _labelled(examples, embeddings.tolist())


def with_margins(examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int) -> Dataset:
    """Label triplets with the margin: the teacher's score of the positive minus that of the negative."""
    positive, negative = _scores(examples, parameters, model)
    return _labelled(examples, (positive - negative).tolist())


def with_scores(examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int) -> Dataset:
    """Label triplets with the teacher's scores ``(2,)`` of positive and negative."""
    positive, negative = _scores(examples, parameters, model)
    return _labelled(examples, [list(pair) for pair in zip(positive.tolist(), negative.tolist(), strict=True)])


def _scores(
    examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer
) -> tuple[torch.Tensor, torch.Tensor]:
    anchor, positive, negative = _embed(examples.texts, parameters, model)
    similarity = similarity_function(parameters["similarity_fct"])
    return similarity(anchor, positive), similarity(anchor, negative)


def _embed(
    columns: Sequence[Sequence[str]], parameters: Mapping[str, Any], model: SentenceTransformer
) -> list[torch.Tensor]:
    """Return the teacher's embeddings ``(examples, dim)`` of each column, on the CPU."""
    teacher = load_encoder(parameters["teacher"], model.device)
    size = parameters["teacher_batch_size"]
    return [
        teacher.encode(list(texts), batch_size=size, convert_to_tensor=True, show_progress_bar=False).float().cpu()
        for texts in columns
    ]


def _labelled(examples: Examples, labels: list[Any]) -> Dataset:
    from datasets import Dataset

    names = COLUMNS[examples.shape][: len(examples.texts)]
    columns = {name: list(texts) for name, texts in zip(names, examples.texts, strict=True)}
    return Dataset.from_dict({**columns, "label": labels})
