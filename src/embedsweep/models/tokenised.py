"""A SentenceTransformer that remembers tokenised texts. Imports torch.

Trials of a process read the same texts, in every epoch and at every evaluation.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sentence_transformers
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.modules import Transformer
from torch.utils.data import get_worker_info
from transformers import PreTrainedTokenizerFast

MAX_BYTES = 2**29
"""Tokens of texts that a process remembers at once."""

MAX_BYTES_ON_DEVICE = 2**27
"""Batches of evaluations that a process keeps on its GPU at once."""

BYTES_PER_TEXT = 300
"""Of a remembered text beside its characters and token ids: the objects that hold them."""

MASK = "attention_mask"

Tokenise = Callable[[Sequence[str]], dict[str, Any]]
"""Texts to a padded batch of features, as the library's ``preprocess`` returns it."""


@dataclass(frozen=True)
class _Tokenizer:
    """What the tokens of a text depend on beside the arguments of a call, and how batches are padded.

    Attributes:
        identity: equal for tokenizers that turn each text into the same tokens.
        padding: by feature, the value that fills up shorter texts.
    """

    identity: tuple[Hashable, ...]
    padding: Mapping[str, int]


@dataclass
class _Texts:
    """Texts tokenised by one tokenizer with one set of arguments.

    Attributes:
        rows: text -> its token ids and the like ``(len(padding), length)``, without padding.
        padding: feature -> value that fills up shorter texts, in the tokenizer's order; the mask is not among them.
        keys: all features with a row for each text, in the tokenizer's order.
        others: the other entries of the tokenizer's output, the same for all texts.
        is_unsupported: whether a batch could not be rebuilt from single texts, so that none is remembered.
    """

    rows: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    padding: dict[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    others: dict[str, Any] = field(default_factory=dict)
    is_unsupported: bool = False


class _Memory:
    """All tokenised texts of this process."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self.n_bytes_on_device = 0
        self._texts: dict[Hashable, _Texts] = {}
        self._batches: dict[Hashable, dict[str, Any]] = {}

    def batch(
        self, key: Hashable, texts: Sequence[str], padding: Mapping[str, int], tokenise: Tokenise
    ) -> dict[str, Any]:
        """Return the features of ``texts``, padded to the longest, in main memory."""
        known = self._texts.setdefault(key, _Texts())
        new = [text for text in dict.fromkeys(texts) if text not in known.rows]
        if new:
            if known.is_unsupported or self.n_bytes >= MAX_BYTES:
                return tokenise(texts)
            if not self._add(known, new, padding, tokenise(new)):
                known.is_unsupported = True
                return tokenise(texts)
        return _padded_batch(known, [known.rows[text] for text in texts])

    def batch_on_device(
        self, key: Hashable, texts: Sequence[str], device: torch.device, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what ``make`` returns, on ``device``: evaluations repeat their batches, which therefore stay there."""
        whole_key = (key, str(device), tuple(texts))
        batch = self._batches.get(whole_key)
        if batch is None:
            batch = make()
            tensors = {name: value.to(device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
            batch |= tensors
            if self.n_bytes_on_device < MAX_BYTES_ON_DEVICE:
                self._batches[whole_key] = batch
                self.n_bytes_on_device += sum(value.nbytes for value in tensors.values())
        return dict(batch)  # the model adds what it computes

    def _add(
        self, known: _Texts, texts: Sequence[str], fillers: Mapping[str, int], features: Mapping[str, Any]
    ) -> bool:
        """Remember the tokens of ``texts``; return False if a batch cannot be rebuilt from single texts."""
        mask = features.get(MASK)
        if not isinstance(mask, torch.Tensor) or mask.dtype != torch.int64:
            return False
        tensors = {key: value for key, value in features.items() if isinstance(value, torch.Tensor)}
        padding = {key: fillers.get(key) for key in tensors if key != MASK}
        lengths = mask.sum(dim=1)
        on_the_right = torch.arange(mask.shape[1]) < lengths[:, None]
        if (
            None in padding.values()
            or any(value.shape != mask.shape or value.dtype != mask.dtype for value in tensors.values())
            or int(lengths.max()) != mask.shape[1]
            or not torch.equal(mask.bool(), on_the_right)
        ):
            return False
        if known.rows and (tuple(tensors) != known.keys or list(padding) != list(known.padding)):
            return False
        known.padding = {key: value for key, value in padding.items() if value is not None}
        known.keys = tuple(tensors)
        known.others = {key: value for key, value in features.items() if key not in tensors}
        stacked = torch.stack([tensors[key] for key in known.padding]).numpy().astype(np.int32)
        for number, (text, length) in enumerate(zip(texts, lengths.tolist(), strict=True)):
            row = stacked[:, number, :length].copy()
            known.rows[text] = row
            self.n_bytes += row.nbytes + len(text) + BYTES_PER_TEXT
        return True


_memory = _Memory()


class SentenceTransformer(sentence_transformers.SentenceTransformer):  # type: ignore[misc]  # the library is untyped
    """The library's model, which may remember tokenised texts. Cards print its name, so it has the library's."""

    _remembered: _Tokenizer | None = None

    def remember_tokens(self) -> None:
        """Remember each text's tokens, for this model and later ones with the same tokenizer.

        Call it once the model is complete. Texts are remembered if transformers' fast tokenizer pads them on the right;
        other models tokenise every text again.
        """
        module = self[0]
        if not isinstance(module, Transformer) or not isinstance(module.tokenizer, PreTrainedTokenizerFast):
            return
        # Tokens must depend on the text alone: not on a fixed width, nor on random subword dropout.
        draws = getattr(module.tokenizer.backend_tokenizer.model, "dropout", None)
        pads_on_the_right = module.tokenizer.padding_side == "right" and "pad" not in repr(module.processing_kwargs)
        if pads_on_the_right and not draws:
            self._remembered = _tokenizer_of(module)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return the features of a batch of inputs, equal to the library's."""
        tokenise = functools.partial(super().preprocess, prompt=prompt, **kwargs)
        tokenizer = self._remembered
        # A data loader's process ends with the trial, and its memory with it.
        is_remembered = tokenizer is not None and inputs and get_worker_info() is None
        if tokenizer is None or not is_remembered or not all(isinstance(text, str) for text in inputs):
            return tokenise(inputs)
        key = (*tokenizer.identity, self[0].max_seq_length, prompt, repr(sorted(kwargs.items())))
        make = functools.partial(_memory.batch, key, inputs, tokenizer.padding, tokenise)
        if torch.is_inference_mode_enabled() and (device := _device_of(self)).type != "cpu":
            return _memory.batch_on_device(key, inputs, device, make)
        return make()


def _device_of(model: SentenceTransformer) -> torch.device:
    return next(model[0].parameters()).device


def _tokenizer_of(module: Transformer) -> _Tokenizer:
    tokenizer = module.tokenizer
    # Two models may share the tokenizer's own file and differ in how they call it.
    calls = (
        type(tokenizer).__name__,
        tuple(tokenizer.model_input_names),
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.pad_token_id,
        tokenizer.pad_token_type_id,
        repr(module.modality_config),
    )
    state = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return _Tokenizer((state, repr(module.processing_kwargs), *calls), padding)


def _padded_batch(known: _Texts, rows: Sequence[NDArray[np.int32]]) -> dict[str, Any]:
    lengths = [row.shape[1] for row in rows]
    filled = np.empty((len(known.padding), len(rows), max(lengths)), dtype=np.int64)
    filled[:] = np.array(list(known.padding.values()))[:, None, None]
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        filled[:, number, :length] = row
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    features = {key: torch.from_numpy(values) for key, values in zip(known.padding, filled, strict=True)}
    features[MASK] = torch.from_numpy(mask.astype(np.int64))
    return {**{key: features[key] for key in known.keys}, **known.others}
