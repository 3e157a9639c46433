"""Losses on single texts, and the pairs they are trained on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embedsweep.data.examples import Examples
from embedsweep.errors import TrialError
from embedsweep.losses.rows import Ingredients

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn


def denoising_autoencoder(given: Ingredients) -> nn.Module:
    """DenoisingAutoEncoderLoss (TSDAE, https://arxiv.org/abs/2104.06979), its decoder tied to the encoder.

    Raises:
        TrialError: there is no decoder of the model's architecture.
    """
    from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss

    device = given.model.device
    try:
        loss = DenoisingAutoEncoderLoss(given.model)
    except ValueError as error:
        kind = given.model.transformers_model.config.model_type
        raise TrialError(
            f"loss=denoising_autoencoder needs a decoder like the encoder, and transformers has none of type {kind}: "
            "use a BERT, RoBERTa or XLM-RoBERTa"
        ) from error
    # The decoder is loaded on the CPU, and its weights have taken the place of the encoder's.
    return loss.to(device)


def contrastive_tension(given: Ingredients) -> nn.Module:
    """ContrastiveTensionLoss (https://openreview.net/forum?id=Ov_sMNau-PF): against a second encoder of its own."""
    from sentence_transformers.sentence_transformer.losses import ContrastiveTensionLoss

    return ContrastiveTensionLoss(given.model)


def contrastive_tension_in_batch(given: Ingredients) -> nn.Module:
    """ContrastiveTensionLossInBatchNegatives: the same text in a second encoder, against the others of the batch."""
    from sentence_transformers.sentence_transformer.losses import ContrastiveTensionLossInBatchNegatives

    return ContrastiveTensionLossInBatchNegatives(given.model, **given.parameters)


def damaged(examples: Examples, parameters: Mapping[str, Any], _model: SentenceTransformer, seed: int) -> Dataset:
    """(damaged, original): of each text every word is deleted by chance, but one word is always left."""
    from datasets import Dataset

    draw = random.Random(seed)
    originals = list(examples.texts[0])
    noisy = [_without_words(text, parameters["del_ratio"], draw) for text in originals]
    return Dataset.from_dict({"damaged": noisy, "original": originals})


def _without_words(text: str, ratio: float, draw: random.Random) -> str:
    words = text.split()
    kept = [word for word in words if draw.random() >= ratio]
    return " ".join(kept or [draw.choice(words)])


def tension_pairs(examples: Examples, parameters: Mapping[str, Any], _model: SentenceTransformer, seed: int) -> Dataset:
    """(text, text, label): of ``pos_neg_ratio`` pairs one is a text with itself, the others are two texts.

    As in sentence-transformers' ``ContrastiveTensionDataLoader`` each text is used once, so that n texts give about
    n / 2 pairs. The labels are given, since the loss would compare tokens, which a cut text may share with another.

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
    left = iter(texts)
    for first in left:
        if len(rows) % parameters["pos_neg_ratio"] == 0:
            rows.append((first, first, 1.0))
        elif (second := next(left, None)) is not None:
            rows.append((first, second, 0.0))
    first_texts, second_texts, labels = zip(*rows, strict=True)
    return Dataset.from_dict({"text1": list(first_texts), "text2": list(second_texts), "label": list(labels)})
