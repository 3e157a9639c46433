"""Load models from folders and the hub, all by one rule: code, weights, precision and padding. Imports torch.

transformers asks on stdin whether code that comes with a model may run wherever it was not told. Here it is told, and
where a library does not pass that on, it refuses instead of asking.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from torch import nn
from transformers import dynamic_module_utils
from transformers.utils.logging import EmptyTqdm, set_tqdm_hook

from embedsweep.config.trial import SaveDtype
from embedsweep.errors import TrialError
from embedsweep.hub import local_model
from embedsweep.models.layout import stored_dtypes, transformer_folder, weight_files

_log = logging.getLogger(__name__)

dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0  # documented there: without time for an answer, it does not ask

DTYPE = torch.float32
"""Of every weight that is trained or scored; ``trainer.precision`` is the precision of the computation."""


def load_model(
    source: str,
    *,
    device: str | None,
    trust_remote_code: bool,
    revision: str | None = None,
    as_stored: bool = False,
    kind: type[SentenceTransformer] = sentence_transformers.SentenceTransformer,
) -> SentenceTransformer:
    """Load a model: weights from safetensors only, in float32, and a tokenizer that can pad.

    Args:
        source: a folder, or an id on the hub.
        device: torch's name; None selects the best device.
        trust_remote_code: whether code that comes with the model may run.
        revision: a branch, tag or commit on the hub; None is its default branch.
        as_stored: keep weights in the precision they are stored in, for a model that is only used by a loss.
        kind: the class of the model.

    Raises:
        TrialError: a weight cannot be converted, or the tokenizer has no token to pad with.
    """
    with _without_progress_bar():
        model = kind(
            source,
            device=device,
            revision=revision,
            trust_remote_code=trust_remote_code,
            model_kwargs={"use_safetensors": True, "dtype": "auto" if as_stored else DTYPE},
            # Without it the library would ask the hub whether the folder's name is an id there.
            model_card_data=SentenceTransformerModelCardData(local_files_only=True),
        )
    ensure_padding(getattr(model, "tokenizer", None), source)
    folder = local_model(source, revision)
    stored = [] if folder is None else sorted(stored_dtypes(folder) - {"float32"})
    if stored:
        kept = "and is used so" if as_stored else "and is loaded in float32"
        _log.info("%s is stored in %s %s", Path(source).name or source, " and ".join(stored), kept)
    return model if as_stored else as_float32(model, source)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Load weights inside the block without transformers' progress bar, which a program that loads a model may use."""
    former = set_tqdm_hook(lambda _, args, kwargs: EmptyTqdm(*args, **kwargs))
    try:
        yield
    finally:
        set_tqdm_hook(former)


def as_float32(module: nn.Module, name: str) -> Any:
    """Return the module with every floating parameter and buffer in float32; converted in place.

    Raises:
        TrialError: one is not, or is quantised, so that it cannot be trained.
    """
    module.float()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    wrong = [key for key, value in tensors.items() if value.is_floating_point() and value.dtype != DTYPE]
    wrong += [key for key, value in module.named_parameters() if not value.is_floating_point()]
    if wrong:
        raise TrialError(f"{name}: {wrong[0]} is {tensors[wrong[0]].dtype}, which cannot be converted to {DTYPE}")
    return module


def save_model(model: SentenceTransformer, folder: Path, dtype: SaveDtype) -> None:
    """Save a model without its card as safetensors, its floating weights rounded to ``dtype``; it is left unchanged.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    model.save_pretrained(str(folder), safe_serialization=True, create_model_card=False)
    if dtype == "float32":
        return
    to = getattr(torch, dtype)
    for path in weight_files(folder):
        weights = load_file(path)
        rounded = {name: value.to(to) if value.is_floating_point() else value for name, value in weights.items()}
        save_file(rounded, path, metadata={"format": "pt"})
    config = transformer_folder(folder) / "config.json"
    if config.is_file() and "dtype" in (values := json.loads(config.read_text(encoding="utf-8"))):
        config.write_text(json.dumps({**values, "dtype": dtype}, indent=2) + "\n", encoding="utf-8")


def ensure_padding(tokenizer: Any, name: str) -> None:
    """Let a transformers tokenizer without a padding token pad with its end-of-sequence token, and log it.

    Args:
        tokenizer: changed in place; one of another library (of a static embedding) is left alone.
        name: the model's, for messages.

    Raises:
        TrialError: it has no such token either.
    """
    if getattr(tokenizer, "pad_token", "none needed") is not None:
        return
    if tokenizer.eos_token is None:
        raise TrialError(f"{name}: the tokenizer has neither a padding nor an end-of-sequence token to pad texts with")
    tokenizer.pad_token = tokenizer.eos_token
    _log.info("%s has no padding token: %s pads texts", Path(name).name or name, tokenizer.eos_token)
