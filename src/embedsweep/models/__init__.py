"""Base models: built from their configuration, ready to train.

Owns how a model is loaded, pooled and cut to length. Knows nothing of training or data. Imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.hub import cached_model_path
from embedsweep.models.tiny import tiny_model_path
from embedsweep.schema import ModelConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def build_model(config: ModelConfig, device: str | None) -> SentenceTransformer:
    """Loads a base model.

    Weights are read from safetensors only, and code that comes with a model runs only with ``trust_remote_code``.

    Args:
        config: which model.
        device: torch's name of where it goes; None is the best there is.
    """
    from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData

    model = SentenceTransformer(
        _source(config),
        device=device,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        model_kwargs={"use_safetensors": True},
        model_card_data=SentenceTransformerModelCardData(local_files_only=True),
    )
    if config.path is not None and not Path(config.path).expanduser().is_dir():
        # The library would ask the hub for it, and a cached model's folder does not tell its id.
        model.model_card_data.base_model = config.path
    if config.pooling is not None:
        _pool(model, config.pooling)
    if config.max_seq_length is not None:
        model.max_seq_length = config.max_seq_length
    return model


def load_trained(folder: Path, config: ModelConfig, device: str | None) -> SentenceTransformer:
    """Loads a model that was trained here, from its folder."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device=device, trust_remote_code=config.trust_remote_code)


def torch_device(device: str) -> str | None:
    """``trainer.device`` as torch says it; which GPU ``cuda:N`` is was settled when the process was started."""
    return None if device == "auto" else device.partition(":")[0]


def _source(config: ModelConfig) -> str:
    """A folder wherever there is one: a cached model is loaded without asking the hub, which may not be there."""
    if config.name == "tiny":
        return str(tiny_model_path())
    assert config.path is not None, "the gate lets no other model pass without a path"
    folder = Path(config.path).expanduser()
    if folder.is_dir():
        return str(folder)
    cached = cached_model_path(config.path, config.revision)
    return str(cached) if cached is not None else config.path


def _pool(model: SentenceTransformer, pooling: str) -> None:
    """Replaces the model's pooling, in its place."""
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    for name, module in model.named_children():
        if isinstance(module, PoolingModule):
            setattr(model, name, PoolingModule(module.embedding_dimension, pooling_mode=pooling.split("+")))
            return
    raise ValueError(f"this model has no pooling to replace by {pooling}; leave model.pooling at null")
