"""Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685): add them to a model, load and merge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.config.trial import LoraConfig
from embedsweep.errors import TrialError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ADAPTER = "default"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."

QUERY_AND_VALUE: Mapping[str, Sequence[str]] = {
    "camembert": ("query", "value"),
    "distilbert": ("q_lin", "v_lin"),
    "modernbert": ("Wqkv",),
    "mpnet": ("attn.q", "attn.v"),
}
"""Type of transformer -> its query and value layers, which PEFT adapts by default, for types missing in PEFT."""


def add_adapters(model: SentenceTransformer, config: LoraConfig, folder: Path | None) -> None:
    """Add adapters to the model's transformer and freeze its own weights.

    The adapters are drawn from torch's random state; embeddings are unchanged at first, since an update starts at zero.

    Args:
        model: changed in place.
        config: its rank is set.
        folder: of the transformer, if it has one; without it PEFT asks the hub at every checkpoint.

    Raises:
        TrialError: the transformer lacks the layers.
    """
    from peft import LoraConfig as PeftConfig
    from peft import TaskType

    assert config.rank is not None
    transformer = model.transformers_model
    if transformer is None:
        raise TrialError("model.lora.rank: this model has no transformer to add adapters to; set it to null")
    targets = config.target_modules or QUERY_AND_VALUE.get(transformer.config.model_type)
    _check_targets(model, targets or ())
    adapters = PeftConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(targets) if targets else None,
    )
    try:
        model.add_adapter(adapters, adapter_name=ADAPTER)
    except ValueError as error:
        kind = transformer.config.model_type
        message = f"PEFT has no default layers for {kind}; name some of {_layers(model)}"
        raise TrialError(f"model.lora.target_modules: {message} ({error})") from error
    if folder is not None:
        transformer.peft_config[ADAPTER].base_model_name_or_path = str(folder)


def _check_targets(model: SentenceTransformer, targets: Sequence[str]) -> None:
    """Raise a TrialError for every missing layer; PEFT accepts a list with one right name."""
    names = [name for name, _ in model.transformers_model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise TrialError(
                f"model.lora.target_modules: the transformer has no layer {target}; name some of {_layers(model)}"
            )


def _layers(model: SentenceTransformer) -> str:
    from torch import nn

    modules = model.transformers_model.named_modules()
    return ", ".join(sorted({name.rpartition(".")[2] for name, module in modules if isinstance(module, nn.Linear)}))


def has_adapters(model: SentenceTransformer) -> bool:
    """Return whether the model's transformer has adapters that are not merged."""
    return bool(getattr(model.transformers_model, "_hf_peft_config_loaded", False))


def load_adapters(model: SentenceTransformer, folder: Path) -> None:
    """Load the weights saved in the transformer's ``folder`` into the model's adapters.

    Nothing else is read: a checkpoint has the path of the base model on the machine that wrote it, which is not needed.

    Raises:
        TrialError: the saved adapters have other layers or shapes.
    """
    from safetensors.torch import load_file

    saved = {key.removeprefix(_PREFIX): value for key, value in load_file(folder / WEIGHTS).items()}
    parameters = model.transformers_model.named_parameters()
    own = {name.replace(f".{ADAPTER}.", "."): value for name, value in parameters if f".{ADAPTER}." in name}
    if own.keys() != saved.keys() or any(own[key].shape != saved[key].shape for key in own):
        raise TrialError(f"{folder / WEIGHTS} has the weights of other adapters; model.lora has changed since")
    for key, value in own.items():
        value.data.copy_(saved[key])


def merge_adapters(model: SentenceTransformer) -> None:
    """Add the adapters' updates to the weights and remove the adapters.

    The model then has the same embeddings (up to rounding, 1e-5) and can be loaded without PEFT. A model without
    adapters is unchanged.
    """
    if not has_adapters(model):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    transformer = model.transformers_model
    for name, module in list(transformer.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)  # refuses weights that are not numbers
            transformer.set_submodule(name, module.get_base_layer())
    # transformers checks these when it saves.
    del transformer.peft_config
    transformer._hf_peft_config_loaded = False
    transformer.requires_grad_(requires_grad=True)
