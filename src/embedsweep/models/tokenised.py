"""Texts that were tokenised before: trials of one process read the same ones, every epoch and at every evaluation.

Owns what is kept of them, and that a batch of it equals what the model's own tokenisation makes of the texts. Knows
nothing of data or training. Imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch.utils.data import get_worker_info
from transformers import PreTrainedTokenizerFast

MOST_BYTES = 2**29
"""Kept at once by a process."""

MOST_BYTES_ON_DEVICE = 2**27
"""Of batches of evaluations, kept on a GPU at once by a process."""

BYTES_A_TEXT = 300
"""Of a kept text beside its characters and numbers: the objects that hold them."""

MASK = "attention_mask"


@dataclass
class _Memo:
    """What one tokenizer makes of texts under one set of arguments.

    Attributes:
        rows: for each text its numbers, one row a key of ``padding``, without padding.
        padding: by key what fills a shorter text up, in the order of the tokenizer's output; not of the mask.
        keys: all keys of that output with a row a text, in its order.
        others: what the output has beside these, the same for all texts.
        is_refused: whether no more is kept: it could not be put together again.
    """

    rows: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    padding: dict[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    others: dict[str, Any] = field(default_factory=dict)
    is_refused: bool = False


class _Memory:
    """What all tokenizers of this process have made of texts."""

    def __init__(self) -> None:
        self.memos: dict[object, _Memo] = {}
        self.n_bytes = 0
        self.batches: dict[object, dict[str, Any]] = {}
        self.n_bytes_on_device = 0


_memory = _Memory()


class Tokenised:
    """Stands in for a transformer module's ``preprocess``: what it has tokenised once is put together again.

    What it does not know how to put together - anything but texts padded on the right - goes to the module's own.

    Args:
        module: of a model with a fast tokenizer.
    """

    def __init__(self, module: Transformer) -> None:
        tokenizer = module.tokenizer
        # Beside what the tokenizer's own file says: two models may share that and differ in how they are called.
        calls = (
            type(tokenizer).__name__,
            tuple(tokenizer.model_input_names),
            tokenizer.padding_side,
            tokenizer.truncation_side,
            tokenizer.pad_token_id,
            tokenizer.pad_token_type_id,
            repr(module.modality_config),
        )
        self._own: Callable[..., dict[str, Any]] = module.preprocess
        state = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        self._tokenizer = (state, repr(module.processing_kwargs), *calls)
        self._module = module
        self._padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}

    def __call__(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """The features of a batch of inputs, as the module's ``preprocess`` gives them."""
        # A loader's process is gone after the trial, and what it kept.
        if not inputs or get_worker_info() is not None or not all(isinstance(text, str) for text in inputs):
            return self._own(inputs, prompt=prompt, **kwargs)
        arguments = (self._module.max_seq_length, prompt, repr(sorted(kwargs.items())))
        if torch.is_inference_mode_enabled() and (device := _device_of(self._module)).type != "cpu":
            return self._on_device(inputs, prompt, arguments, device, kwargs)
        return self._in_main_memory(inputs, prompt, arguments, kwargs)

    def _on_device(
        self,
        inputs: Sequence[str],
        prompt: str | None,
        arguments: tuple[object, ...],
        device: torch.device,
        kwargs: dict[str, Any],
    ) -> dict[str, Any]:
        """A batch of an evaluation, which comes again with each: it stays where the model is."""
        key = (*self._tokenizer, arguments, str(device), tuple(inputs))
        batch = _memory.batches.get(key)
        if batch is None:
            batch = self._in_main_memory(inputs, prompt, arguments, kwargs)
            tensors = {name: value.to(device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
            batch |= tensors
            if _memory.n_bytes_on_device < MOST_BYTES_ON_DEVICE:
                _memory.batches[key] = batch
                _memory.n_bytes_on_device += sum(value.nbytes for value in tensors.values())
        return dict(batch)  # the model adds what it computes

    def _in_main_memory(
        self, inputs: Sequence[str], prompt: str | None, arguments: tuple[object, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        memo = _memory.memos.setdefault((*self._tokenizer, *arguments), _Memo())
        unknown = [text for text in dict.fromkeys(inputs) if text not in memo.rows]
        if unknown:
            if memo.is_refused or _memory.n_bytes >= MOST_BYTES:
                return self._own(inputs, prompt=prompt, **kwargs)
            if not self._keep(memo, unknown, self._own(unknown, prompt=prompt, **kwargs)):
                memo.is_refused = True
                return self._own(inputs, prompt=prompt, **kwargs)
        return _batch(memo, [memo.rows[text] for text in inputs])

    def _keep(self, memo: _Memo, texts: Sequence[str], features: Mapping[str, Any]) -> bool:
        """Keeps what was made of texts; False if it cannot be put together again from single texts."""
        mask = features.get(MASK)
        if not isinstance(mask, torch.Tensor) or mask.dtype != torch.int64:
            return False
        tensors = {key: value for key, value in features.items() if isinstance(value, torch.Tensor)}
        padding = {key: self._padding.get(key) for key in tensors if key != MASK}
        lengths = mask.sum(dim=1)
        on_the_right = torch.arange(mask.shape[1]) < lengths[:, None]
        if (
            None in padding.values()
            or any(value.shape != mask.shape or value.dtype != mask.dtype for value in tensors.values())
            or int(lengths.max()) != mask.shape[1]
            or not torch.equal(mask.bool(), on_the_right)
        ):
            return False
        if memo.rows and (tuple(tensors) != memo.keys or list(padding) != list(memo.padding)):
            return False
        memo.padding = {key: value for key, value in padding.items() if value is not None}
        memo.keys = tuple(tensors)
        memo.others = {key: value for key, value in features.items() if key not in tensors}
        stacked = torch.stack([tensors[key] for key in memo.padding]).numpy().astype(np.int32)
        for number, (text, length) in enumerate(zip(texts, lengths.tolist(), strict=True)):
            row = stacked[:, number, :length].copy()
            memo.rows[text] = row
            _memory.n_bytes += row.nbytes + len(text) + BYTES_A_TEXT
        return True


def _device_of(module: Transformer) -> torch.device:
    return next(module.parameters()).device


def _batch(memo: _Memo, rows: Sequence[NDArray[np.int32]]) -> dict[str, Any]:
    lengths = [row.shape[1] for row in rows]
    filled = np.empty((len(memo.padding), len(rows), max(lengths)), dtype=np.int64)
    filled[:] = np.array(list(memo.padding.values()))[:, None, None]
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        filled[:, number, :length] = row
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    features = {key: torch.from_numpy(values) for key, values in zip(memo.padding, filled, strict=True)}
    features[MASK] = torch.from_numpy(mask.astype(np.int64))
    return {**{key: features[key] for key in memo.keys}, **memo.others}


def keep_tokenised(model: SentenceTransformer) -> None:
    """Lets a model whose tokenizer is transformers' fast one keep what it tokenises, for itself and those after it."""
    module = model[0]
    if not isinstance(module, Transformer) or not isinstance(module.tokenizer, PreTrainedTokenizerFast):
        return
    # What pads to a width of its own, or draws how it cuts a word, makes of a text what depends on more than the text.
    draws = getattr(module.tokenizer.backend_tokenizer.model, "dropout", None)
    pads_on_the_right = module.tokenizer.padding_side == "right" and "pad" not in repr(module.processing_kwargs)
    if pads_on_the_right and not draws:
        module.preprocess = Tokenised(module)
