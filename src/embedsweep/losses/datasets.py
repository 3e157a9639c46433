"""Training datasets of the losses that need other columns: labels from a teacher, noisy copies, contrastive tension.

A teacher embeds the training data once, before training; it is not part of the loss.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedsweep.data.examples import Examples
from embedsweep.errors import TrialError
from embedsweep.losses.builders import load_encoder, similarity_function

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer


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
    """Label with the margins: the teacher's score of the positive minus that of the negative, or of each of several."""
    positive, *negatives = _scores(examples, parameters, model)
    margins = [(positive - negative).tolist() for negative in negatives]
    return _labelled(examples, margins[0] if len(margins) == 1 else [list(row) for row in zip(*margins, strict=True)])


def with_scores(examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer, _seed: int) -> Dataset:
    """Label with the teacher's scores ``(1 + negatives,)`` of the positive and the negatives."""
    scores = [column.tolist() for column in _scores(examples, parameters, model)]
    return _labelled(examples, [list(row) for row in zip(*scores, strict=True)])


def _scores(examples: Examples, parameters: Mapping[str, Any], model: SentenceTransformer) -> list[torch.Tensor]:
    """Return the teacher's scores ``(examples,)`` of the positives and of each column of negatives."""
    anchor, *others = _embed(examples.texts, parameters, model)
    similarity = similarity_function(parameters["similarity_fct"])
    return [similarity(anchor, other) for other in others]


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

    names = examples.columns[: len(examples.texts)]
    columns = {name: list(texts) for name, texts in zip(names, examples.texts, strict=True)}
    return Dataset.from_dict({**columns, "label": labels})


def damaged(examples: Examples, parameters: Mapping[str, Any], _model: SentenceTransformer, seed: int) -> Dataset:
    """Make (damaged, original) pairs: each word is deleted with probability ``del_ratio``, but one is always kept."""
    from datasets import Dataset

    rng = random.Random(seed)
    originals = list(examples.texts[0])
    noisy = [_without_words(text, parameters["del_ratio"], rng) for text in originals]
    return Dataset.from_dict({"damaged": noisy, "original": originals})


def _without_words(text: str, ratio: float, rng: random.Random) -> str:
    words = text.split()
    kept = [word for word in words if rng.random() >= ratio]
    return " ".join(kept or [rng.choice(words)])


def tension_pairs(examples: Examples, parameters: Mapping[str, Any], _model: SentenceTransformer, seed: int) -> Dataset:
    """Make (text1, text2, label) rows: one of ``pos_neg_ratio`` pairs is a text with itself, the others are two texts.

    As in sentence-transformers' ``ContrastiveTensionDataLoader`` each text is used once, so that n texts make about
    n / 2 pairs. Labels are part of the data because the loss would otherwise compare tokens, and two texts that are cut
    to the maximum length may have the same.

    Raises:
        TrialError: there are too few different texts for a pair of each kind.
    """
    from datasets import Dataset

    texts = list(dict.fromkeys(examples.texts[0]))
    if len(texts) < 3:
        raise TrialError(
            f"contrastive tension needs at least 3 different texts, but {examples.origin} has {len(texts)}"
        )
    random.Random(seed).shuffle(texts)
    rows: list[tuple[str, str, float]] = []
    remaining = iter(texts)
    for first in remaining:
        if len(rows) % parameters["pos_neg_ratio"] == 0:
            rows.append((first, first, 1.0))
        elif (second := next(remaining, None)) is not None:
            rows.append((first, second, 0.0))
    first_texts, second_texts, labels = zip(*rows, strict=True)
    return Dataset.from_dict({"text1": list(first_texts), "text2": list(second_texts), "label": list(labels)})
