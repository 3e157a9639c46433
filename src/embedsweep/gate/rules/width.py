"""How wide a model's embeddings will be, from its configuration and its files. No torch.

Owns that figure. Knows nothing of who asks; what its files do not tell is None.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embedsweep.hub import cached_model_path
from embedsweep.models.layout import Module, modules_of, transformer_folder
from embedsweep.models.tiny import SIZES
from embedsweep.schema import ModelConfig

_HIDDEN_SIZES = ("hidden_size", "dim", "d_model", "n_embd")
"""What kinds of transformers call the width of their token embeddings."""
_KEEPS_WIDTH = ("Transformer", "Normalize", "Dropout", "LayerNorm", "WeightedLayerPooling")


def embedding_width(config: ModelConfig) -> int | None:
    """Dimensions of the model's embeddings; None where its files do not tell or are not here."""
    if config.static_dim is not None or config.dense is not None:
        return config.static_dim or config.dense
    hidden = token_width(config)
    if hidden is None:
        return None
    folder = _folder(config)
    modules = modules_of(folder) if folder is not None and config.parts == "all" else None  # it was read for `hidden`
    if modules is None:
        return hidden * len((config.pooling or "mean").split("+"))
    return _width_behind(modules, hidden, config.pooling)


def token_width(config: ModelConfig) -> int | None:
    """Dimensions of the transformer's token embeddings; None where its files do not tell or are not here."""
    if config.name == "tiny":
        return int(SIZES["hidden_size"])
    folder = _folder(config)
    try:
        transformer = _read(transformer_folder(folder) / "config.json") if folder is not None else {}
    except ValueError:  # that a model cannot be read is said where the model is checked
        return None
    sizes = (transformer.get(name) for name in _HIDDEN_SIZES)
    return next((size for size in sizes if isinstance(size, int)), None)


def _folder(config: ModelConfig) -> Path | None:
    if config.path is None:
        return None
    folder = Path(config.path).expanduser()
    return folder if folder.is_dir() else cached_model_path(config.path, config.revision)


def _width_behind(modules: tuple[Module, ...], hidden: int, pooling: str | None) -> int | None:
    width: int | None = hidden
    for module in modules:
        if module.kind == "Pooling":
            width = hidden * (len(pooling.split("+")) if pooling is not None else _modes(module))
        elif module.kind == "Dense":
            out = _read(module.folder / "config.json").get("out_features")
            width = out if isinstance(out, int) else None
        elif module.kind not in _KEEPS_WIDTH:
            return None
    return width


def _modes(pooling: Module) -> int:
    """How many ways of pooling are joined; older files have a key for each."""
    config = _read(pooling.folder / "config.json")
    modes = config.get("pooling_mode")
    if isinstance(modes, str):
        return len(modes.split("+"))
    if isinstance(modes, list):
        return len(modes)
    return sum(value is True for key, value in config.items() if key.startswith("pooling_mode_"))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
