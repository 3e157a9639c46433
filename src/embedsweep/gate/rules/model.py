"""Whether the base model is there, and takes what is asked of it. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from embedsweep.errors import Problem
from embedsweep.hub import cached_model_path, hub_reachable, why_unreachable
from embedsweep.models.tiny import SIZES
from embedsweep.schema import ModelConfig, TrialConfig

TINY_MAX_LENGTH: int = SIZES["max_position_embeddings"]


def check_base_model(config: TrialConfig) -> list[Problem]:
    """Whether the trial's base model is there."""
    return check_model(config.model)


def check_model(config: ModelConfig) -> list[Problem]:
    """Whether the base model is there (a folder, the cache or a hub that answers) and takes such lengths."""
    if config.name == "tiny":
        return _check_tiny(config)
    if config.path is None:
        return [Problem("model.path", f"model={config.name} needs one: a hub id (ORG/NAME) or a folder")]
    folder = Path(config.path).expanduser()
    return _check_folder(folder, config) if folder.exists() else _check_hub_id(config.path, config)


def _check_hub_id(hub_id: str, config: ModelConfig) -> list[Problem]:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", hub_id):
        return [Problem("model.path", f"there is no folder {hub_id}, and it is no hub id (ORG/NAME) either")]
    if (cached := cached_model_path(hub_id, config.revision)) is not None:
        if not _has_safetensors(cached):
            message = f"the copy of {hub_id} in the local cache has no safetensors weights; run: hf download {hub_id}"
            return [Problem("model.path", message)]
        return _check_length(cached, config)
    if hub_reachable():
        return []
    message = (
        f"{hub_id} is neither a folder nor in the local cache, and {why_unreachable()}; "
        "use model=pretrained model.path=FOLDER, or model=tiny, which needs no download"
    )
    return [Problem("model.path", message)]


def _check_tiny(config: ModelConfig) -> list[Problem]:
    problems = []
    if config.path is not None:
        problems.append(Problem("model.path", "model=tiny is built here and takes none; use model=pretrained"))
    if config.max_seq_length is not None and config.max_seq_length > TINY_MAX_LENGTH:
        problems.append(
            Problem(
                "model.max_seq_length",
                f"model=tiny reads at most {TINY_MAX_LENGTH} tokens, but got {config.max_seq_length}",
            )
        )
    return problems


def _check_folder(folder: Path, config: ModelConfig) -> list[Problem]:
    if not folder.is_dir():
        return [Problem("model.path", f"{folder} is a file; a model is a folder with config.json or modules.json")]
    if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
        return [Problem("model.path", f"{folder} holds no model: neither config.json nor modules.json is in it")]
    if not _has_safetensors(folder):
        return [
            Problem(
                "model.path",
                f"{folder} has no safetensors weights; a pickle could execute code. Load it where you trust it and "
                "save it again with save_pretrained()",
            )
        ]
    return _check_length(folder, config)


def _has_safetensors(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*/*.safetensors"))


def _check_length(folder: Path, config: ModelConfig) -> list[Problem]:
    file = folder / "config.json"
    if not file.is_file():
        return []
    try:
        longest = json.loads(file.read_text(encoding="utf-8")).get("max_position_embeddings")
    except (ValueError, AttributeError):
        return [Problem("model.path", f"{file} is no model's configuration (a JSON object)")]
    if config.max_seq_length is None or longest is None or config.max_seq_length <= longest:
        return []
    message = f"the model has positions for {longest} tokens, but got {config.max_seq_length}"
    return [Problem("model.max_seq_length", message)]
