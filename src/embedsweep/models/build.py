"""Build base models from their configuration; load trained models and the weights of checkpoints. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from torch import nn
from transformers import AutoTokenizer

from embedsweep.config.trial import Activation, ModelConfig
from embedsweep.errors import TrialError
from embedsweep.files import user_path
from embedsweep.hub import local_model
from embedsweep.models.layout import modules_of, transformer_folder, usable_positions
from embedsweep.models.loading import as_float32, load_model
from embedsweep.models.lora import add_adapters, has_adapters, load_adapters
from embedsweep.models.tiny import tiny_model_path
from embedsweep.models.tokenised import SentenceTransformer as RememberingModel

_log = logging.getLogger(__name__)

ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}


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
    model = _load_static(config, device) if config.static_dim is not None else _load(config, device)
    if config.path is not None and not user_path(config.path).is_dir():
        # The library would ask the hub, and a cached model's folder does not have its id.
        model.model_card_data.base_model = config.path
    if config.parts == "transformer":
        _keep_transformer(model)
    if config.pooling is not None:
        _replace_pooling(model, config.pooling)
    if config.dense is not None:
        _add_dense(model, config.dense, config.dense_activation)
    if config.static_dim is None:
        _cut_length(model, config.max_seq_length)
    model.prompts = {**model.prompts, **config.prompts}
    if config.default_prompt is not None:
        if config.default_prompt not in model.prompts:
            there = ", ".join(model.prompts)
            raise TrialError(
                f"model.default_prompt: the model has no prompt {config.default_prompt}; there are: {there}"
            )
        model.default_prompt_name = config.default_prompt
    if config.lora.rank is not None:
        folder = Path(_source(config))
        add_adapters(model, config.lora, transformer_folder(folder) if folder.is_dir() else None)
    model.remember_tokens()
    return model


def load_trained(folder: Path, config: ModelConfig, device: str | None) -> SentenceTransformer:
    """Load a trained model from its folder."""
    return load_model(str(folder), device=device, trust_remote_code=config.trust_remote_code)


def load_weights(model: SentenceTransformer, folder: Path, trust_remote_code: bool) -> None:
    """Load the weights of a checkpoint into ``model``.

    A checkpoint of a model with adapters contains these alone and a path to the base model on the machine that wrote
    it, so it cannot always be loaded as a model; here ``model`` is the base model.

    Args:
        model: as it was built for the training of the checkpoint; changed in place.
        folder: written by ``model.save_pretrained``, as the trainer does.
        trust_remote_code: as configured.
    """
    if not has_adapters(model):
        saved = load_model(str(folder), device="cpu", trust_remote_code=trust_remote_code)
        model.load_state_dict(saved.state_dict())
        return
    for module, files in zip(model, modules_of(folder) or (), strict=True):
        if isinstance(module, Transformer):
            load_adapters(model, files.folder)
        else:
            inside = files.folder.relative_to(folder).as_posix()
            module.load_state_dict(type(module).load(str(folder), subfolder=inside).state_dict())


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


def _load(config: ModelConfig, device: str | None) -> SentenceTransformer:
    return load_model(
        _source(config),
        device=device,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        kind=RememberingModel,
    )


def _load_static(config: ModelConfig, device: str | None) -> SentenceTransformer:
    assert config.static_dim is not None
    source = _source(config)
    if Path(source).is_dir():
        source = str(transformer_folder(Path(source)))
    tokenizer = AutoTokenizer.from_pretrained(
        source, revision=config.revision, trust_remote_code=config.trust_remote_code
    )
    model = RememberingModel(
        modules=[_static_embedding(tokenizer, config.static_dim, config.max_seq_length)],
        device=device,
        model_card_data=SentenceTransformerModelCardData(local_files_only=True),
    )
    return as_float32(model, source)


def _source(config: ModelConfig) -> str:
    """Return the model's folder if there is one, else its id; a cached model needs no hub."""
    if config.name == "tiny":
        return str(tiny_model_path())
    assert config.path is not None, "validation refuses other models without a path"
    return str(local_model(config.path, config.revision) or config.path)


def _keep_transformer(model: SentenceTransformer) -> None:
    """Remove all modules but the transformer, and add a mean pooling.

    Raises:
        TrialError: the first module is not a transformer.
    """
    (first, transformer), *others = model.named_children()
    if not isinstance(transformer, Transformer):
        kind = type(transformer).__name__
        raise TrialError(f"model.parts: this model begins with {kind}, not with a transformer; set it to all")
    for name, _ in others:
        delattr(model, name)
    model.module_kwargs = {first: (model.module_kwargs or {}).get(first, [])}
    model.append(Pooling(transformer.get_embedding_dimension(), pooling_mode="mean").to(model.device))


def _replace_pooling(model: SentenceTransformer, pooling: str) -> None:
    """Replace the model's pooling; modes joined by ``+`` are concatenated in that order.

    Raises:
        TrialError: the model has no pooling.
    """
    for name, module in model.named_children():
        if isinstance(module, Pooling):
            modes = pooling.split("+")
            new = Pooling(module.embedding_dimension, pooling_mode=modes, include_prompt=module.include_prompt)
            setattr(model, name, new)
            return
    raise TrialError(f"model.pooling: this model has no pooling to replace with {pooling}; leave it at null")


def _add_dense(model: SentenceTransformer, dim: int, activation: Activation) -> None:
    """Add a dense layer at the end, before a normalisation; its weights are drawn from torch's random state."""
    width = model.get_embedding_dimension()
    last = []
    while isinstance(model[-1], Normalize):
        last.append(model.pop(-1))
    dense = Dense(width, dim, activation_function=ACTIVATIONS[activation]())
    for module in (dense, *last):
        model.append(module.to(model.device, model.dtype))


def _cut_length(model: SentenceTransformer, tokens: int | None) -> None:
    """Set the length to which texts are cut; longer than the model's positions is reduced, with a warning.

    RoBERTa's 514 positions, which model cards and the library itself take for its length, are 512 tokens.

    Args:
        model: changed in place.
        tokens: the length; None keeps the model's.
    """
    length = model.max_seq_length if tokens is None else tokens
    transformer = model.transformers_model
    positions = None if transformer is None else usable_positions(transformer.config.to_dict())
    if positions is not None and length is not None and length > positions:
        _log.warning("texts are cut to %d tokens, the number of the model's positions, not to %d", positions, length)
        length = positions
    if length != model.max_seq_length:
        model.max_seq_length = length


def _static_embedding(tokenizer: Any, dim: int, tokens: int | None) -> StaticEmbedding:
    """Return a table of a vector for each token, drawn from torch's random state; a text is the mean of its vectors.

    Args:
        tokenizer: a fast tokenizer of transformers.
        dim: the length of a vector.
        tokens: the number of tokens to which texts are cut; None reads all, whatever the tokenizer's own limit is.
    """
    module = StaticEmbedding(tokenizer, embedding_dim=dim)
    module.tokenizer.no_truncation()
    if tokens is not None:
        module.tokenizer.enable_truncation(tokens)
    return module
