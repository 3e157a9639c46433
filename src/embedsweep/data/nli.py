"""Triplets out of inference pairs: what a sentence entails beside what it contradicts.

Owns the construction. Knows no source, and no shape but these two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Literal

Relation = Literal["contradiction", "neutral", "entailment"]
Triplet = tuple[str, str, str]

RELATIONS: tuple[Relation, ...] = ("contradiction", "neutral", "entailment")
"""The classes of inference; without the middle one there is still something to build."""


def is_inference(classes: Iterable[str]) -> bool:
    """Whether classes of pairs are those of inference: entailment, contradiction and, where there is one, neutral."""
    named = set(classes)
    return {"entailment", "contradiction"} <= named <= set(RELATIONS)


def triplets(pairs: Iterable[tuple[str, str, str]], seed: int) -> list[Triplet]:
    """Two triplets of each sentence that entails something and contradicts something.

    Every pair counts in both directions. A sentence ``s`` with the entailments ``E`` and the contradictions ``C`` gives
    ``(s, e, c)`` and ``(e', s, c')``, each of ``e, e'`` drawn from ``E`` and each of ``c, c'`` from ``C``. Sentences
    come in the order of their first appearance, so that the same pairs and seed give the same triplets everywhere.

    The construction is that of sentence-transformers' ``training_nli_v2.py``, with the texts stripped as in
    `bertin-roberta-base-finetuning-esnli <https://huggingface.co/hackathon-pln-es/bertin-roberta-base-finetuning-esnli>`_.

    Args:
        pairs: two sentences and what holds between them, a word of :data:`RELATIONS`.
        seed: of the draws.
    """
    rng = Random(seed)
    found: list[Triplet] = []
    for sentence, related in _relations(pairs).items():
        entailed, contradicted = list(related["entailment"]), list(related["contradiction"])
        if entailed and contradicted:
            found.append((sentence, rng.choice(entailed), rng.choice(contradicted)))
            found.append((rng.choice(entailed), sentence, rng.choice(contradicted)))
    return found


def _relations(pairs: Iterable[tuple[str, str, str]]) -> Mapping[str, Mapping[str, Mapping[str, None]]]:
    """Sentence -> relation -> the sentences it holds with; mappings to None are sets that keep their order."""
    relations: dict[str, dict[str, dict[str, None]]] = {}
    for first, second, relation in pairs:
        for one, other in ((first.strip(), second.strip()), (second.strip(), first.strip())):
            relations.setdefault(one, {relation: {} for relation in RELATIONS})[relation][other] = None
    return relations
