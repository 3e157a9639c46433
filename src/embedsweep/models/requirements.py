"""Find out from a model's files, without loading it or torch, what loading it needs: code, weights, a tokenizer."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedsweep.models.layout import Module, modules_of, transformer_config, transformer_folder

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "spm*", "tekken.json")
_GENERIC_TOKENIZERS = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", None)
"""Classes without special tokens of their own, by their names without ``Fast``."""


@functools.cache
def known_model_types() -> frozenset[str]:
    """Return the types of transformers that the installed library has a class for; empty if it does not tell.

    They are read from the one file that lists them, since importing the library takes two seconds.
    """
    package = importlib.util.find_spec("transformers")
    locations = package.submodule_search_locations if package is not None else None
    file = Path(next(iter(locations or ("",)))) / "models" / "auto" / "auto_mappings.py"
    spec = importlib.util.spec_from_file_location("_model_types", file)
    if spec is None or spec.loader is None or not file.is_file():
        return frozenset()
    mappings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mappings)
    return frozenset(getattr(mappings, "CONFIG_MAPPING_NAMES", ()))


def code_of(folder: Path) -> list[str]:
    """Return what names code that comes with the model in ``folder``, or another package, and runs on loading it.

    Raises:
        ValueError: a file is not what its name says.
    """
    found = [text for module in modules_of(folder) or () for text in _code_of_module(module)]
    own = transformer_folder(folder)
    config = transformer_config(own) or {}
    known = known_model_types()
    if known and config.get("model_type") not in known:
        files = ("config.json", "tokenizer_config.json")
        found += [f"{file} has an auto_map" for file in files if "auto_map" in _section(own / file)]
    return found


def _code_of_module(module: Module) -> Iterator[str]:
    """Yield the classes that the configuration of a module names and the library does not have."""
    if not module.path.startswith("sentence_transformers."):
        yield f"modules.json names {module.path}"
    config = _section(module.folder / "config.json")
    activation = config.get("activation_function") if module.kind == "Dense" else None
    if isinstance(activation, str) and not activation.startswith("torch."):
        yield f"{module.folder.name}/config.json names {activation}"
    tokenizer = config.get("tokenizer_class") if module.kind == "WordEmbeddings" else None
    if isinstance(tokenizer, str) and not tokenizer.startswith("sentence_transformers."):
        yield f"{module.folder.name}/config.json names {tokenizer}"


def unknown_type(folder: Path) -> str | None:
    """Return the type of the transformer in ``folder`` that the installed library has no class for; None if it has.

    Raises:
        ValueError: its configuration is not a JSON object.
    """
    config = transformer_config(transformer_folder(folder))
    kind = None if config is None else config.get("model_type")
    known = known_model_types()
    return kind if isinstance(kind, str) and known and kind not in known else None


def without_safetensors(folder: Path) -> Path | None:
    """Return the first folder of a model's modules whose weights are not safetensors; None if all are.

    Raises:
        ValueError: its ``modules.json`` is invalid.
    """
    modules = modules_of(folder)
    if modules is None:
        return None if _has(folder, WEIGHTS) else folder
    for module in modules:
        needs = module.kind in ("Transformer", "StaticEmbedding") or _has(module.folder, PICKLES)
        if needs and not _has(module.folder, WEIGHTS):
            return module.folder
    return None


def has_tokenizer(folder: Path) -> bool:
    """Return whether the model in ``folder`` has files of a tokenizer, or is no transformer and may do without."""
    own = transformer_folder(folder)
    return transformer_config(own) is None or _has(own, TOKENIZER_FILES)


def can_pad(folder: Path) -> bool:
    """Return whether the tokenizer of the model in ``folder`` can pad, by a padding or an end-of-sequence token.

    A class of its own may have such a token by itself, and counts as able; so does a tokenizer that does not tell.
    """
    own = transformer_folder(folder)
    config = _section(own / "tokenizer_config.json")
    if not config or str(config.get("tokenizer_class")).removesuffix("Fast") not in map(str, _GENERIC_TOKENIZERS):
        return True
    tokens = {**_section(own / "special_tokens_map.json"), **config}
    return any(tokens.get(name) is not None for name in ("pad_token", "eos_token"))


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _section(file: Path) -> dict[str, Any]:
    """Return a JSON file's object; empty if there is none."""
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not a JSON object") from error
