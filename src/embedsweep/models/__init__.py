"""Build base models from their configuration; load trained models and the weights of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.config.trial import ModelConfig
from embedsweep.hub import cached_model_path
from embedsweep.models.layout import modules_of, transformer_folder
from embedsweep.models.lora import add_adapters, has_adapters, load_adapters
from embedsweep.models.tiny import tiny_model_path

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.models.tokenised import SentenceTransformer as RememberingModel


def build_model(config: ModelConfig, device: str | None) -> SentenceTransformer:
    """Load a base model and change its modules as configured.

    Weights are read from safetensors only, and code that comes with a model runs only with ``trust_remote_code``. New
    layers, adapters and static embeddings are drawn from torch's random state, which the caller has seeded.

    Args:
        config: the model.
        device: torch's name; None selects the best device.

    Raises:
        TrialError: the model lacks a module that is to be replaced or adapted.
    """
    from embedsweep.models.parts import add_dense, cut_length, keep_transformer, replace_pooling

    model = _load_static(config, device) if config.static_dim is not None else _load(config, device)
    if config.path is not None and not Path(config.path).expanduser().is_dir():
        # The library would ask the hub, and a cached model's folder does not have its id.
        model.model_card_data.base_model = config.path
    if config.parts == "transformer":
        keep_transformer(model)
    if config.pooling is not None:
        replace_pooling(model, config.pooling)
    if config.dense is not None:
        add_dense(model, config.dense, config.dense_activation)
    if config.static_dim is None:
        cut_length(model, config.max_seq_length)
    model.prompts = {**model.prompts, **config.prompts}
    if config.default_prompt is not None:
        model.default_prompt_name = config.default_prompt
    if config.lora.rank is not None:
        folder = Path(_source(config))
        add_adapters(model, config.lora, transformer_folder(folder) if folder.is_dir() else None)
    model.remember_tokens()
    return model


def load_trained(folder: Path, config: ModelConfig, device: str | None) -> SentenceTransformer:
    """Load a trained model from its folder."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device=device, trust_remote_code=config.trust_remote_code)


def load_weights(model: SentenceTransformer, folder: Path, trust_remote_code: bool) -> None:
    """Load the weights of a checkpoint into ``model``.

    A checkpoint of a model with adapters contains these alone and a path to the base model on the machine that wrote
    it, so it cannot always be loaded as a model; here ``model`` is the base model.

    Args:
        model: as it was built for the training of the checkpoint; changed in place.
        folder: written by ``model.save_pretrained``, as the trainer does.
        trust_remote_code: as configured.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    if not has_adapters(model):
        saved = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trust_remote_code)
        model.load_state_dict(saved.state_dict())
        return
    for module, files in zip(model, modules_of(folder) or (), strict=True):
        if isinstance(module, Transformer):
            load_adapters(model, files.folder)
        else:
            inside = files.folder.relative_to(folder).as_posix()
            module.load_state_dict(type(module).load(str(folder), subfolder=inside).state_dict())


def training_prompts(config: ModelConfig, columns: Sequence[str]) -> str | dict[str, str] | None:
    """Return the trainer's argument ``prompts``.

    Args:
        config: the model with its prompts.
        columns: names of the text columns, in order.

    Returns:
        If the model has both, ``query`` for the first column and ``document`` for the others; else the default prompt
        for all; None without one.
    """
    prompts = config.prompts
    if "query" in prompts and "document" in prompts:
        return {column: prompts["document" if number else "query"] for number, column in enumerate(columns)}
    return prompts[config.default_prompt] if config.default_prompt is not None else None


def count_tokens(model: SentenceTransformer, texts: Sequence[str]) -> list[int]:
    """Return the number of tokens of each text, special tokens included, without truncation."""
    tokenizer = model.tokenizer
    if hasattr(tokenizer, "encode_batch_fast"):  # a static embedding has a tokenizer of the tokenizers library
        limit = tokenizer.truncation
        tokenizer.no_truncation()
        counts = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]
        if limit is not None:
            tokenizer.enable_truncation(**limit)
        return counts
    return [len(ids) for ids in tokenizer(list(texts), truncation=False)["input_ids"]]


def torch_device(device: str) -> str | None:
    """Return torch's name of ``trainer.device``; the GPU of ``cuda:N`` was selected when the process started."""
    return None if device == "auto" else device.partition(":")[0]


def _load(config: ModelConfig, device: str | None) -> RememberingModel:
    from sentence_transformers import SentenceTransformerModelCardData

    from embedsweep.models.tokenised import SentenceTransformer

    return SentenceTransformer(
        _source(config),
        device=device,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        model_kwargs={"use_safetensors": True},
        model_card_data=SentenceTransformerModelCardData(local_files_only=True),
    )


def _load_static(config: ModelConfig, device: str | None) -> RememberingModel:
    from sentence_transformers import SentenceTransformerModelCardData
    from transformers import AutoTokenizer

    from embedsweep.models.parts import static_embedding
    from embedsweep.models.tokenised import SentenceTransformer

    assert config.static_dim is not None
    source = _source(config)
    if Path(source).is_dir():
        source = str(transformer_folder(Path(source)))
    tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision)
    return SentenceTransformer(
        modules=[static_embedding(tokenizer, config.static_dim, config.max_seq_length)],
        device=device,
        model_card_data=SentenceTransformerModelCardData(local_files_only=True),
    )


def _source(config: ModelConfig) -> str:
    """Return the model's folder if there is one, else its id; a cached model needs no hub."""
    if config.name == "tiny":
        return str(tiny_model_path())
    assert config.path is not None, "validation refuses other models without a path"
    folder = Path(config.path).expanduser()
    if folder.is_dir():
        return str(folder)
    cached = cached_model_path(config.path, config.revision)
    return str(cached) if cached is not None else config.path
