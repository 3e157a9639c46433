"""What a model's folder says of itself before it is loaded: its modules, and how long a text it can read.

Owns the reading of ``modules.json`` and of a transformer's ``config.json``. Knows nothing of this project's
configuration. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POSITIONS_FROM_PADDING = frozenset(
    {
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
        *("data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm"),
    }
)
"""Types of transformers that number tokens from the padding token's id + 1, as RoBERTa does."""


@dataclass(frozen=True)
class Module:
    """One module of a sentence-transformers model.

    Attributes:
        kind: its class's name, as ``Transformer``, ``Pooling``, ``Dense``.
        folder: where its files lie.
    """

    kind: str
    folder: Path


def modules_of(folder: Path) -> tuple[Module, ...] | None:
    """The modules of the sentence-transformers model in ``folder``, in order; None if it is a plain transformer.

    Raises:
        ValueError: its ``modules.json`` cannot be understood.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return None
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        entries[0]  # without one there is no model
        return tuple(Module(entry["type"].rpartition(".")[2], folder / entry["path"]) for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no list of modules, each with a type and a path") from error


def transformer_folder(folder: Path) -> Path:
    """Where the transformer of the model in ``folder`` lies, and its tokenizer with it: there, or in a folder inside.

    Raises:
        ValueError: its ``modules.json`` cannot be understood.
    """
    modules = modules_of(folder) or ()
    return next((module.folder for module in modules if module.kind == "Transformer"), folder)


def transformer_config(folder: Path) -> dict[str, Any] | None:
    """The ``config.json`` of the transformer in ``folder``; None where there is none.

    Raises:
        ValueError: it is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no model's configuration (a JSON object)") from error


def usable_positions(transformer: Mapping[str, Any]) -> int | None:
    """How many tokens a transformer can read; None where nothing limits them.

    Args:
        transformer: its ``config.json``. RoBERTa's kind keeps the positions up to the padding token's id for padding,
            so that 514 positions are 512 tokens; one more is an index error in the middle of a training.
    """
    positions = transformer.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:  # XLNet says -1
        return None
    if transformer.get("model_type") not in POSITIONS_FROM_PADDING:
        return positions
    padding = transformer.get("pad_token_id")
    return positions - (padding if isinstance(padding, int) else 1) - 1
