"""Read a model's folder without loading the model or torch: its modules and its number of positions."""

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
        kind: the name of its class: ``Transformer``, ``Pooling``, ``Dense`` ...
        folder: of its files.
    """

    kind: str
    folder: Path


def modules_of(folder: Path) -> tuple[Module, ...] | None:
    """Return the modules of the sentence-transformers model in ``folder``, in order; None for a plain transformer.

    Raises:
        ValueError: its ``modules.json`` is invalid.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return None
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        entries[0]  # without one there is no model
        return tuple(Module(entry["type"].rpartition(".")[2], folder / entry["path"]) for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a list of modules, each with a type and a path") from error


def transformer_folder(folder: Path) -> Path:
    """Return the folder of the transformer and tokenizer of the model in ``folder``: ``folder`` or one inside.

    Raises:
        ValueError: its ``modules.json`` is invalid.
    """
    modules = modules_of(folder) or ()
    return next((module.folder for module in modules if module.kind == "Transformer"), folder)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of the model in ``folder``, in it or in the folders of its modules."""
    return [*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]


def transformer_config(folder: Path) -> dict[str, Any] | None:
    """Return the ``config.json`` of the transformer in ``folder``; None without one.

    Raises:
        ValueError: it is not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not the configuration of a model (a JSON object)") from error


def usable_positions(transformer: Mapping[str, Any]) -> int | None:
    """Return how many tokens a transformer can read; None without a limit.

    Args:
        transformer: its ``config.json``. RoBERTa and its relatives reserve the positions up to the padding token's id,
            so that 514 positions are 512 tokens; one more is an index error in the middle of a training.
    """
    positions = transformer.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:  # XLNet has -1
        return None
    if transformer.get("model_type") not in POSITIONS_FROM_PADDING:
        return positions
    padding = transformer.get("pad_token_id")
    return positions - (padding if isinstance(padding, int) else 1) - 1
