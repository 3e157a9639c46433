"""Rules of the base model: it exists, and supports what is built onto it. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.config.values import nearest
from embedsweep.errors import Problem
from embedsweep.files import user_path
from embedsweep.hub import cache_problem, cached_model_path, hub_model, hub_reachable, local_model, why_unreachable
from embedsweep.models.layout import (
    Module,
    modules_of,
    stored_dtypes,
    transformer_config,
    transformer_folder,
    usable_positions,
)
from embedsweep.models.prompts import ROLES, SCORED_WITH_ROLES, WITH_ROLES
from embedsweep.models.requirements import (
    can_pad,
    code_of,
    has_tokenizer,
    known_model_types,
    unknown_type,
    without_safetensors,
)
from embedsweep.models.tiny import SIZES

TINY_MAX_LENGTH: int = SIZES["max_position_embeddings"]
FIXED_WIDTH = ("Dense", "LayerNorm", "CNN", "LSTM", "WeightedLayerPooling")
"""Modules that take embeddings of a fixed width."""


def check_model(config: ModelConfig) -> list[Problem]:
    """Check that a model exists (a folder, in the cache, or on a hub that answers) and supports its settings."""
    return [*_check_source(config), *_check_default_prompt(config), *_check_static(config)]


def check_prompts(config: TrialConfig) -> Iterator[Problem]:
    """Check that some text gets one of the configured prompts, in training or in scoring."""
    model = config.model
    if not model.prompts or model.default_prompt is not None or _own_prompts(model)[1] is not None:
        return
    names, shapes = ", ".join(model.prompts), [dataset.data.shape for dataset in config.datasets.values()]
    advice = f"set model.default_prompt={next(iter(model.prompts))}"
    names_roles = any(model.prompts.get(role) for role in ROLES)
    scores_roles = not SCORED_WITH_ROLES.isdisjoint(config.evaluation.families)
    has_roles = scores_roles or any(shape in WITH_ROLES for shape in shapes)
    if model.prompt_rule == "columns":
        gets_one = set(ROLES) <= model.prompts.keys() or (scores_roles and names_roles)
    else:
        gets_one = has_roles and names_roles
    if gets_one:
        return
    if has_roles or model.prompt_rule == "columns":
        message = f"no text gets one of {names}: name them query and document, or {advice}"
    else:
        message = f"no text gets one of {names}: texts of data.shape={shapes[0]} are equals: {advice}"
    yield Problem("model.prompts", message)


def _check_source(config: ModelConfig) -> list[Problem]:
    if config.name == "tiny":
        return list(_check_tiny(config))
    if config.path is None:
        return [Problem("model.path", f"model={config.name} needs one: a hub id (ORG/NAME) or a folder")]
    folder = user_path(config.path)
    return _check_folder(folder, config) if folder.exists() else _check_hub_id(config.path, config)


def _check_default_prompt(config: ModelConfig) -> Iterator[Problem]:
    name = config.default_prompt
    own = _own_prompts(config)[0]
    if name is None or own is None:
        return
    prompts = [*config.prompts, *(prompt for prompt in own if prompt not in config.prompts)]
    if name not in prompts:
        there = ", ".join(prompts) or "none"
        message = f"must be a name in model.prompts or of the model's own, but got {name}{nearest(name, prompts)}"
        yield Problem("model.default_prompt", f"{message}; there are: {there}")


def _own_prompts(config: ModelConfig) -> tuple[list[str] | None, str | None]:
    """Return the names of a model's own prompts that are not empty, and its default; None where it is not here."""
    if config.name == "tiny" or config.static_dim is not None:
        return [], None
    folder = local_model(config.path, config.revision)
    if folder is None:
        return None, None
    own = _read(folder / "config_sentence_transformers.json")
    prompts = own.get("prompts")
    names = [str(name) for name, text in prompts.items() if text] if isinstance(prompts, dict) else []
    default = own.get("default_prompt_name")
    return names, default if isinstance(default, str) else None


def _check_static(config: ModelConfig) -> Iterator[Problem]:
    """Check that nothing is set that a static embedding does not have: parts, pooling, a dense layer, adapters."""
    if config.static_dim is None:
        return
    settings = {
        "parts": (config.parts != "all", "all"),
        "pooling": (config.pooling is not None, "null"),
        "dense": (config.dense is not None, "null"),
        "lora.rank": (config.lora.rank is not None, "null"),
    }
    for key, (is_set, off) in settings.items():
        if is_set:
            message = f"a static embedding (model.static_dim={config.static_dim}) has no transformer; set it to {off}"
            yield Problem(f"model.{key}", message)


def _check_hub_id(hub_id: str, config: ModelConfig) -> list[Problem]:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", hub_id):
        return [Problem("model.path", f"there is no folder {hub_id}, and it is not a hub id (ORG/NAME) either")]
    if (cached := cached_model_path(hub_id, config.revision)) is not None:
        return _check_inside(
            cached, config, _Named(f"the copy of {hub_id} in the local cache", f"run: hf download {hub_id}")
        )
    if hub_reachable():
        if (problem := cache_problem()) is not None:
            return [Problem("model.path", f"{hub_id} has to be downloaded, and {problem}")]
        return list(_check_on_hub(hub_id, config))
    message = (
        f"{hub_id} is neither a folder nor in the local cache, and {why_unreachable()}; "
        "use model=pretrained model.path=FOLDER, or model=tiny, which needs no download"
    )
    return [Problem("model.path", message)]


def _check_on_hub(hub_id: str, config: ModelConfig) -> Iterator[Problem]:
    """Check a model that is not here yet by what the hub says of it."""
    try:
        model = hub_model(hub_id, config.revision)
    except LookupError as error:
        yield Problem("model.path", str(error))
        return
    if model is None:
        return
    known = known_model_types()
    is_own = "auto_map" in model.config and known and model.config.get("model_type") not in known
    if is_own and not config.trust_remote_code:
        yield Problem(
            "model.path", f"{hub_id} needs code that is not the library's (config.json has an auto_map){TRUST}"
        )
    # The transformer is at the root or in the first module's folder.
    if config.static_dim is None and not any(
        re.fullmatch(r"(0_\w+/)?[^/]+\.safetensors", name) for name in model.files
    ):
        message = f"{hub_id} has no safetensors weights on the hub, and a pickle could execute code: take another model"
        yield Problem("model.path", message)


def _check_tiny(config: ModelConfig) -> Iterator[Problem]:
    if config.path is not None:
        yield Problem("model.path", "model=tiny is built here and has none; use model=pretrained")
    length = config.max_seq_length
    if length is not None and length > TINY_MAX_LENGTH and config.static_dim is None:
        yield Problem("model.max_seq_length", f"model=tiny reads at most {TINY_MAX_LENGTH} tokens, but got {length}")


def _check_folder(folder: Path, config: ModelConfig) -> list[Problem]:
    if not folder.is_dir():
        return [Problem("model.path", f"{folder} is a file; a model is a folder with config.json or modules.json")]
    is_model = any((folder / name).is_file() for name in ("config.json", "modules.json"))
    if config.static_dim is None and not is_model:
        return [Problem("model.path", f"{folder} holds no model: it has neither config.json nor modules.json")]
    return _check_inside(folder, config, _Named(str(folder), None))


@dataclass(frozen=True)
class _Named:
    """A model's folder in messages.

    Attributes:
        words: what it is.
        complete: how to get files that it lacks; None if only its author can.
    """

    words: str
    complete: str | None

    def lacks(self, what: str, otherwise: str) -> Problem:
        """Return the problem that it has no ``what``, with the advice of a cached copy or ``otherwise``."""
        return Problem(
            "model.path", f"{self.words} has no {what}{f'; {self.complete}' if self.complete else otherwise}"
        )


def _check_inside(folder: Path, config: ModelConfig, named: _Named) -> list[Problem]:
    """Check what loading needs, and the settings, against the folder's own files."""
    try:
        if not config.trust_remote_code and (code := code_of(folder)):
            return [Problem("model.path", f"{named.words} needs code that is not the library's ({code[0]}){TRUST}")]
        if config.static_dim is not None:
            own = transformer_folder(folder)
            if (own / "tokenizer.json").is_file():
                return []
            message = f"{own} has no tokenizer.json, over which a static embedding (model.static_dim) is trained"
            return [Problem("model.path", message)]
        if missing := list(_check_loading(folder, config, named)):
            return missing
        modules = modules_of(folder)
        problems = [] if modules is None else list(_check_modules(modules, config))
        return [*problems, *_check_length(transformer_folder(folder), config)]
    except ValueError as error:
        return [Problem("model.path", str(error))]


TRUST = "; set model.trust_remote_code=true to run it, if you trust its author"
"""Advice that only the model to train can follow: a guide or teacher, and what is only evaluated, run no code."""


def _check_loading(folder: Path, config: ModelConfig, named: _Named) -> Iterator[Problem]:
    """Check that the model can be loaded, and trained: safetensors, a known transformer, a tokenizer that can pad."""
    if (pickled := without_safetensors(folder)) is not None:
        where = "" if pickled == folder else f" in {pickled.name}"
        reason = ", and a pickle could execute code: if you trust it, load it and save it again with save_pretrained()"
        yield named.lacks(f"safetensors weights{where}", reason)
    if config.trust_remote_code:
        return
    if (kind := unknown_type(folder)) is not None:
        message = f"{named.words} is of type {kind}, which the installed transformers does not know: a newer one may"
        yield Problem("model.path", message)
    if not has_tokenizer(folder):
        yield named.lacks("tokenizer", ": save it into the folder with save_pretrained()")
    elif not can_pad(folder):
        message = f"the tokenizer of {named.words} has neither a padding nor an end-of-sequence token to pad texts with"
        yield Problem("model.path", f"{message}: set tokenizer.pad_token and save it with save_pretrained()")
    if (transformer_config(transformer_folder(folder)) or {}).get("quantization_config"):
        message = f"{named.words} is quantised, and only floating weights can be trained: take the original model"
        yield Problem("model.path", message)
    if config.save_dtype is None and (stored := " and ".join(sorted(stored_dtypes(folder) - {"float32"}))):
        message = (
            f"{named.words} is stored in {stored}, and this was begun when it was trained in that, too; it is now "
            "trained in float32, so that scores could not be compared: begin anew, under another name"
        )
        yield Problem("model.path", message)


def _check_modules(modules: tuple[Module, ...], config: ModelConfig) -> Iterator[Problem]:
    kinds = [module.kind for module in modules]
    words = ", ".join(kinds)
    # Code that comes with a model may define a transformer under another name.
    has_transformer = "Transformer" in kinds or config.trust_remote_code
    if config.parts == "transformer" and not has_transformer:
        yield Problem("model.parts", f"the model has no transformer to take out, only {words}; use all")
        return
    if config.lora.rank is not None and not has_transformer:
        yield Problem("model.lora.rank", f"the model has no transformer to adapt, only {words}; set it to null")
    if config.pooling is None or config.parts == "transformer":
        return
    if "Pooling" not in kinds:
        message = f"the model has no pooling to replace by {config.pooling}, only {words}; set it to null"
        yield Problem("model.pooling", message)
    elif "+" in config.pooling and (
        behind := [kind for kind in kinds[kinds.index("Pooling") :] if kind in FIXED_WIDTH]
    ):
        message = (
            f"{config.pooling} makes embeddings wider than the model's own {', '.join(behind)} takes; "
            "use one mode, or model.parts=transformer"
        )
        yield Problem("model.pooling", message)


def _check_length(folder: Path, config: ModelConfig) -> Iterator[Problem]:
    transformer = transformer_config(folder)
    if transformer is None:
        return
    length, longest = config.max_seq_length, usable_positions(transformer)
    # Cards of RoBERTa models count all positions; the model is then cut to the usable ones.
    if length is None or longest is None or length <= longest or length == transformer["max_position_embeddings"]:
        return
    yield Problem("model.max_seq_length", f"the model has positions for {longest} tokens, but got {length}")


_HIDDEN_SIZES = ("hidden_size", "dim", "d_model", "n_embd")
"""What different transformers call the width of their token embeddings."""
_KEEPS_WIDTH = ("Transformer", "Normalize", "Dropout", "LayerNorm", "WeightedLayerPooling")


def embedding_width(config: ModelConfig) -> int | None:
    """Return the dimensions of the model's embeddings; None if its files are not here or do not say."""
    if config.static_dim is not None or config.dense is not None:
        return config.static_dim or config.dense
    hidden = token_width(config)
    if hidden is None:
        return None
    folder = local_model(config.path, config.revision)
    modules = modules_of(folder) if folder is not None and config.parts == "all" else None  # it was read for `hidden`
    if modules is None:
        return hidden * len((config.pooling or "mean").split("+"))
    return _width_behind(modules, hidden, config.pooling)


def token_width(config: ModelConfig) -> int | None:
    """Return the dimensions of the transformer's token embeddings; None if its files are not here or do not say."""
    if config.name == "tiny":
        return int(SIZES["hidden_size"])
    folder = local_model(config.path, config.revision)
    try:
        transformer = _read(transformer_folder(folder) / "config.json") if folder is not None else {}
    except ValueError:  # an unreadable model is reported where the model is checked
        return None
    sizes = (transformer.get(name) for name in _HIDDEN_SIZES)
    return next((size for size in sizes if isinstance(size, int)), None)


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
    """Return the number of pooling modes that are joined; older files have a key for each."""
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
