"""Change the modules of a loaded model: pooling, dense layer, length; create static embeddings. Imports torch."""

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
    """Remove all modules but the transformer, and add a mean pooling.

    Raises:
        TrialError: the first module is not a transformer.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    (first, transformer), *others = model.named_children()
    if not isinstance(transformer, Transformer):
        kind = type(transformer).__name__
        raise TrialError(f"model.parts: this model begins with {kind}, not with a transformer; set it to all")
    for name, _ in others:
        delattr(model, name)
    model.module_kwargs = {first: (model.module_kwargs or {}).get(first, [])}
    model.append(Pooling(transformer.get_embedding_dimension(), pooling_mode="mean").to(model.device))


def replace_pooling(model: SentenceTransformer, pooling: str) -> None:
    """Replace the model's pooling; modes joined by ``+`` are concatenated in that order.

    Raises:
        TrialError: the model has no pooling.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    for name, module in model.named_children():
        if isinstance(module, Pooling):
            modes = pooling.split("+")
            new = Pooling(module.embedding_dimension, pooling_mode=modes, include_prompt=module.include_prompt)
            setattr(model, name, new)
            return
    raise TrialError(f"model.pooling: this model has no pooling to replace with {pooling}; leave it at null")


def add_dense(model: SentenceTransformer, dim: int, activation: Activation) -> None:
    """Add a dense layer at the end, before a normalisation; its weights are drawn from torch's random state."""
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    width = model.get_embedding_dimension()
    last = []
    while isinstance(model[-1], Normalize):
        last.append(model.pop(-1))
    dense = Dense(width, dim, activation_function=ACTIVATIONS[activation]())
    for module in (dense, *last):
        model.append(module.to(model.device, model.dtype))


def cut_length(model: SentenceTransformer, tokens: int | None) -> None:
    """Set the length to which texts are cut; longer than the model's positions is reduced, with a warning.

    RoBERTa's 514 positions, which model cards and the library itself take for its length, are 512 tokens.

    Args:
        model: changed in place.
        tokens: the length; None keeps the model's.
    """
    length = model.max_seq_length if tokens is None else tokens
    transformer = model.transformers_model
    positions = None if transformer is None else usable_positions(transformer.config.to_dict())
    if positions is not None and length is not None and length > positions:
        _log.warning("texts are cut to %d tokens, the number of the model's positions, not to %d", positions, length)
        length = positions
    if length != model.max_seq_length:
        model.max_seq_length = length


def static_embedding(tokenizer: Any, dim: int, tokens: int | None) -> StaticEmbedding:
    """Return a table of a vector for each token, drawn from torch's random state; a text is the mean of its vectors.

    Args:
        tokenizer: a fast tokenizer of transformers.
        dim: the length of a vector.
        tokens: the number of tokens to which texts are cut; None reads all, whatever the tokenizer's own limit is.
    """
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    module = StaticEmbedding(tokenizer, embedding_dim=dim)
    module.tokenizer.no_truncation()
    if tokens is not None:
        module.tokenizer.enable_truncation(tokens)
    return module
