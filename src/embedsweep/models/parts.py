"""The modules around a transformer, changed in a model that is loaded; and the model that is none but a table.

Owns pooling, dense layers, lengths and static embeddings. Knows no paths. Imports torch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from torch import nn

from embedsweep.config.trial import Activation
from embedsweep.errors import TrialError
from embedsweep.models.layout import usable_positions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

_log = logging.getLogger(__name__)

ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}


def keep_transformer(model: SentenceTransformer) -> None:
    """Leaves of all modules the transformer, with a mean pooling behind it.

    Raises:
        TrialError: the first module is no transformer.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    (first, transformer), *others = model.named_children()
    if not isinstance(transformer, Transformer):
        kind = type(transformer).__name__
        raise TrialError(f"model.parts: this model has no transformer to take out, but begins with {kind}; use all")
    for name, _ in others:
        delattr(model, name)
    model.module_kwargs = {first: (model.module_kwargs or {}).get(first, [])}
    model.append(Pooling(transformer.get_embedding_dimension(), pooling_mode="mean").to(model.device))


def replace_pooling(model: SentenceTransformer, pooling: str) -> None:
    """Replaces the model's pooling, in its place; modes joined by ``+`` are concatenated in that order.

    Raises:
        TrialError: it has none.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    for name, module in model.named_children():
        if isinstance(module, Pooling):
            modes = pooling.split("+")
            new = Pooling(module.embedding_dimension, pooling_mode=modes, include_prompt=module.include_prompt)
            setattr(model, name, new)
            return
    raise TrialError(f"model.pooling: this model has no pooling to replace by {pooling}; leave it at null")


def add_dense(model: SentenceTransformer, dim: int, activation: Activation) -> None:
    """Adds a dense layer behind the modules there are, before one that normalises; its weights from torch's seed."""
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    width = model.get_embedding_dimension()
    behind = []
    while isinstance(model[-1], Normalize):
        behind.append(model.pop(-1))
    dense = Dense(width, dim, activation_function=ACTIVATIONS[activation]())
    for module in (dense, *behind):
        model.append(module.to(model.device, model.dtype))


def cut_length(model: SentenceTransformer, tokens: int | None) -> None:
    """Cuts texts to ``tokens``; None to what the model says; never beyond what its positions allow, which is logged.

    A RoBERTa's 514 positions, which cards and the library itself take for its length, are 512 tokens.
    """
    asked = model.max_seq_length if tokens is None else tokens
    transformer = model.transformers_model
    positions = None if transformer is None else usable_positions(transformer.config.to_dict())
    if positions is not None and asked is not None and asked > positions:
        _log.warning("texts are cut to %d tokens, all that the model's positions allow, not to %d", positions, asked)
        asked = positions
    if asked != model.max_seq_length:
        model.max_seq_length = asked


def static_embedding(tokenizer: Any, dim: int, tokens: int | None) -> StaticEmbedding:
    """A table of one vector a token, drawn from torch's seed; a text is the mean of its tokens' vectors.

    Args:
        tokenizer: a fast tokenizer of transformers.
        dim: the vectors' length.
        tokens: texts are cut to so many; None reads them to their end, whatever the tokenizer's own limit is.
    """
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    module = StaticEmbedding(tokenizer, embedding_dim=dim)
    module.tokenizer.no_truncation()
    if tokens is not None:
        module.tokenizer.enable_truncation(tokens)
    return module
