"""Read a model's folder without loading the model or torch: its modules and its number of positions."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsweep.config.trial import ModelConfig
from embedsweep.hub import local_model

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
        path: its class with the class's module, dotted.
    """

    kind: str
    folder: Path
    path: str


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
        return tuple(
            Module(entry["type"].rpartition(".")[2], folder / entry["path"], entry["type"]) for entry in entries
        )
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


DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""safetensors' name of a floating type -> torch's; the narrower ones of quantised models keep the former."""


def stored_dtypes(folder: Path) -> frozenset[str]:
    """Return the types of the floating weights of the model in ``folder`` (``bfloat16``), from its files' headers.

    A file that is not safetensors is passed over: loading the model reports it.
    """
    names: set[str] = set()
    for path in weight_files(folder):
        try:
            with path.open("rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(size, 2**27)))
            names |= {entry["dtype"] for key, entry in header.items() if key != "__metadata__"}
        except (OSError, ValueError, struct.error, LookupError, TypeError, AttributeError):
            continue
    return frozenset(DTYPES.get(name, name) for name in names if "F" in name)


def base_dtypes(config: ModelConfig) -> list[str]:
    """Return the types in which the weights of a base model on this disk are stored; empty if it has none yet."""
    folder = None if config.static_dim is not None else local_model(config.path, config.revision)
    return [] if folder is None else sorted(stored_dtypes(folder))


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
