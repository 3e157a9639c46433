"""How the sections of a trial go together with each other, with the data and with this machine.

Owns every check that needs more than one value, a file or the hub. Knows neither commands nor studies. No torch.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from embedsweep.data import load_splits
from embedsweep.data.pairs import to_positive_pairs
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.devices import device_problem, precision_problem
from embedsweep.hub import cached_model_path, hub_reachable, why_unreachable
from embedsweep.losses import LOSSES, InBatch, Shape
from embedsweep.models.tiny import SIZES
from embedsweep.schema import DataConfig, ModelConfig, TrialConfig

TINY_MAX_LENGTH: int = SIZES["max_position_embeddings"]


def check_trial(config: TrialConfig) -> list[Problem]:
    """Everything wrong with a trial whose sections are right by themselves."""
    return [
        *_check_numbers(config),
        *_check_device(config),
        *check_model(config.model),
        *_check_examples(config),
    ]


def _check_numbers(config: TrialConfig) -> list[Problem]:
    problems: list[Problem] = []
    loader = config.dataloader
    if loader.micro_batch_size is not None and loader.batch_size % loader.micro_batch_size:
        problems.append(
            Problem(
                "dataloader.micro_batch_size",
                f"must divide dataloader.batch_size={loader.batch_size}, but got {loader.micro_batch_size}",
            )
        )
    for key, value in (
        ("trainer.eval_every", config.trainer.eval_every),
        ("optimizer.warmup", config.optimizer.warmup),
    ):
        if value > 1 and value != int(value):
            problems.append(Problem(key, f"must be a ratio below 1 or a whole number of steps, but got {value:g}"))
    return problems


def _check_device(config: TrialConfig) -> list[Problem]:
    trainer = config.trainer
    if (message := device_problem(trainer.device)) is not None:
        return [Problem("trainer.device", message)]
    if (message := precision_problem(trainer.precision, trainer.device)) is not None:
        return [Problem("trainer.precision", message)]
    return []


def check_model(config: ModelConfig) -> list[Problem]:
    """Whether the base model is there (a folder, the cache or a hub that answers) and takes such lengths."""
    if config.name == "tiny":
        return _check_tiny(config)
    if config.path is None:
        return [Problem("model.path", f"model={config.name} needs one: a hub id (ORG/NAME) or a folder")]
    folder = Path(config.path).expanduser()
    return _check_folder(folder, config) if folder.exists() else _check_hub_id(config.path, config)


def _check_hub_id(hub_id: str, config: ModelConfig) -> list[Problem]:
    if hub_id.count("/") != 1 or hub_id.startswith((".", "/", "~")):
        return [Problem("model.path", f"there is no folder {hub_id}, and it is no hub id (ORG/NAME) either")]
    if (cached := cached_model_path(hub_id, config.revision)) is not None:
        return _check_length(cached, config)
    if hub_reachable():
        return []
    message = (
        f"{hub_id} is not in the local cache, and {why_unreachable()}; "
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
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*/*.safetensors")):
        return [
            Problem(
                "model.path",
                f"{folder} has no safetensors weights; a pickle could execute code. Load it where you trust it and "
                "save it again with save_pretrained()",
            )
        ]
    return _check_length(folder, config)


def _check_length(folder: Path, config: ModelConfig) -> list[Problem]:
    file = folder / "config.json"
    if config.max_seq_length is None or not file.is_file():
        return []
    longest = json.loads(file.read_text(encoding="utf-8")).get("max_position_embeddings")
    if longest is None or config.max_seq_length <= longest:
        return []
    message = f"the model has positions for {longest} tokens, but got {config.max_seq_length}"
    return [Problem("model.max_seq_length", message)]


def _check_examples(config: TrialConfig) -> list[Problem]:
    """Whether the data can be read, suits the loss and fills a batch."""
    problems = _data_problems(config.data)
    if problems:
        return list(problems)
    examples = len(load_splits(config.data).train)
    if LOSSES[config.loss.name].wants is Shape.POSITIVE_PAIRS:
        try:
            positive = to_positive_pairs(load_splits(config.data).train, config.data.convert, config.data.score_range)
        except ConfigError as error:
            return list(error.problems)
        examples = len(positive.anchors)
    batch = config.dataloader.batch_size
    if LOSSES[config.loss.name].in_batch is not InBatch.INDEPENDENT and batch < 2:
        message = f"loss={config.loss.name} compares examples inside a batch and needs at least 2, but got {batch}"
        return [Problem("dataloader.batch_size", message)]
    if config.dataloader.drop_last and examples < batch:
        message = f"with drop_last no batch is left: {examples} examples for a batch of {batch}"
        return [Problem("dataloader.batch_size", message)]
    return []


@functools.lru_cache(maxsize=64)
def _data_problems(config: DataConfig) -> tuple[Problem, ...]:
    """What is wrong with the data; a grid asks this of every cell, and reading files takes its time."""
    try:
        load_splits(config)
    except ConfigError as error:
        return error.problems
    return ()
