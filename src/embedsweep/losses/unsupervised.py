"""Training datasets of the losses that learn from single texts: noisy copies, and pairs of contrastive tension."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embedsweep.data.examples import Examples
from embedsweep.errors import TrialError

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer


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
