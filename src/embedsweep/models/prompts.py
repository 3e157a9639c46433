"""Which text gets which of a model's prompts: one rule, in training and in scoring. Imports no torch.

The first text of a positive pair, triplet or tuple is a query and the others are documents, mined negatives among them;
the texts of all other shapes are equals and get the model's default prompt, or none. It is the same for what is scored:
retrieval, reranking and triplets have queries and documents, and pairs are equals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from embedsweep.config.metrics import Family
from embedsweep.config.trial import ModelConfig, Shape, TrialConfig
from embedsweep.data.examples import columns_of, text_columns

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WITH_ROLES: tuple[Shape, ...] = ("positive_pairs", "triplets", "tuples")
"""Shapes of data whose first text is a query and whose others are documents."""

SCORED_WITH_ROLES: frozenset[Family] = frozenset({"retrieval", "reranking", "triplets"})
"""Families of evaluations that score queries with documents; the others score pairs of equals."""

ROLES = ("query", "document")
_PLURAL = {"query": "queries", "document": "documents"}


def training_prompts(
    model: SentenceTransformer, config: ModelConfig, shape: Shape, columns: Sequence[str]
) -> dict[str, str]:
    """Return the prompt of each text column in training, without the columns that get none.

    Args:
        model: with its own prompts and the configured ones.
        config: the configuration it was built from.
        shape: of the data themselves, before they are converted for a loss: pairs of equals stay equals.
        columns: names of the text columns, in order.
    """
    prompts: Mapping[str, str | None] = model.prompts
    names = [ROLES[min(number, 1)] for number in range(len(columns))]
    default = model.default_prompt_name
    if config.prompt_rule == "columns":
        prompts, default = config.prompts, config.default_prompt
        has_roles = all(role in prompts for role in ROLES)
    else:
        has_roles = shape in WITH_ROLES and any(prompts.get(role) for role in ROLES)
    texts = [prompts.get(name if has_roles else default or "") for name in names]
    return {column: text for column, text in zip(columns, texts, strict=True) if text}


def role_prompts(model: SentenceTransformer) -> dict[str, str]:
    """Return the prompt of queries and of documents in scoring; the empty text for none.

    A model that has neither puts its default prompt before both.
    """
    if not any(model.prompts.get(role) for role in ROLES):
        return dict.fromkeys(ROLES, model.prompts.get(model.default_prompt_name or "") or "")
    return {role: model.prompts.get(role) or "" for role in ROLES}


def prompts_in_words(model: SentenceTransformer, config: TrialConfig) -> str:
    """Say which texts get which prompt in training and in scoring (``demo: anchor "query: "; scored pairs: none``)."""
    words = []
    for name, dataset in config.datasets.items():
        shape = dataset.data.shape
        columns = text_columns(shape, len(dataset.data.columns))
        if count := dataset.data.negatives.count:
            columns = columns_of("triplets" if count == 1 else "tuples", 2 + count)
        prompts = training_prompts(model, config.model, shape, columns)
        words.append(f"{name}: {', '.join(f'{column} {_quoted(text)}' for column, text in prompts.items()) or 'none'}")
    families = config.evaluation.families
    if not families <= SCORED_WITH_ROLES:
        words.append(f"scored pairs: {_quoted(model.prompts.get(model.default_prompt_name or ''))}")
    if families & SCORED_WITH_ROLES:
        words += [f"scored {_PLURAL[role]}: {_quoted(text)}" for role, text in role_prompts(model).items()]
    return "; ".join(words)


def _quoted(text: str | None) -> str:
    return json.dumps(text, ensure_ascii=False) if text else "none"
