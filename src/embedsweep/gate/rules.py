"""How the sections of a trial go together with each other, with the data and with this machine.

Owns every check that needs more than one value, a file or the hub. Knows neither commands nor studies. No torch.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from embedsweep.data import load_splits
from embedsweep.data.pairs import PositivePairs, to_positive_pairs
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.devices import device_problem, precision_problem
from embedsweep.hub import cached_model_path, hub_reachable, why_unreachable
from embedsweep.losses import LOSSES, InBatch, Shape
from embedsweep.models.tiny import SIZES
from embedsweep.schema import DataConfig, ModelConfig, TrialConfig

TINY_MAX_LENGTH: int = SIZES["max_position_embeddings"]
DATA_KEYS = tuple(f"data.{field.name}" for field in fields(DataConfig) if field.name != "convert")
"""What decides which pairs there are."""


def check_trial(config: TrialConfig, broken: Collection[str]) -> list[Problem]:
    """Everything wrong with how a trial's values go together.

    Args:
        config: the trial.
        broken: keys that are wrong by themselves; rules that look at those are not asked.
    """
    problems: list[Problem] = []
    for rule, needs in RULES:
        if not any(key == need or key.startswith(f"{need}.") for key in broken for need in needs):
            problems += rule(config)
    return problems


def _check_micro_batch(config: TrialConfig) -> Iterator[Problem]:
    loader = config.dataloader
    if loader.micro_batch_size is not None and loader.batch_size % loader.micro_batch_size:
        message = f"must divide dataloader.batch_size={loader.batch_size}, but got {loader.micro_batch_size}"
        yield Problem("dataloader.micro_batch_size", message)


def _check_eval_every(config: TrialConfig) -> Iterator[Problem]:
    yield from _ratio_or_steps("trainer.eval_every", config.trainer.eval_every)


def _check_warmup(config: TrialConfig) -> Iterator[Problem]:
    yield from _ratio_or_steps("optimizer.warmup", config.optimizer.warmup)


def _ratio_or_steps(key: str, value: float) -> Iterator[Problem]:
    if value > 1 and value != int(value):
        yield Problem(key, f"must be a ratio below 1 or a whole number of steps, but got {value:g}")


def _check_device(config: TrialConfig) -> Iterator[Problem]:
    if (message := device_problem(config.trainer.device)) is not None:
        yield Problem("trainer.device", message)


def _check_precision(config: TrialConfig) -> Iterator[Problem]:
    trainer = config.trainer
    if device_problem(trainer.device) is not None:
        return
    if (message := precision_problem(trainer.precision, trainer.device)) is not None:
        yield Problem("trainer.precision", message)


def _check_model(config: TrialConfig) -> list[Problem]:
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


def _check_data(config: TrialConfig) -> Sequence[Problem]:
    return _data_problems(config.data)


def _check_conversion(config: TrialConfig) -> Sequence[Problem]:
    """Whether the data leaves the loss examples of the shape it wants."""
    if LOSSES[config.loss.name].wants is not Shape.POSITIVE_PAIRS or _data_problems(config.data):
        return ()
    try:
        _positives(config)
    except ConfigError as error:
        return error.problems
    return ()


def _check_smallest_batch(config: TrialConfig) -> Iterator[Problem]:
    loader, in_batch = config.dataloader, LOSSES[config.loss.name].in_batch
    key, batch = "batch_size", loader.batch_size
    if in_batch is InBatch.COMPARED and loader.micro_batch_size is not None:
        key, batch = "micro_batch_size", loader.micro_batch_size
    if in_batch is not InBatch.INDEPENDENT and batch < 2:
        message = f"loss={config.loss.name} compares examples inside a batch and needs at least 2, but got {batch}"
        yield Problem(f"dataloader.{key}", message)


def _check_dropped_batch(config: TrialConfig) -> Iterator[Problem]:
    if not config.dataloader.drop_last or _data_problems(config.data) or _check_conversion(config):
        return
    batch, examples = config.dataloader.batch_size, len(load_splits(config.data).train)
    if LOSSES[config.loss.name].wants is Shape.POSITIVE_PAIRS:
        examples = len(_positives(config).anchors)
    if examples < batch:
        message = f"with drop_last no batch is left: {examples} examples for a batch of {batch}"
        yield Problem("dataloader.batch_size", message)


def _positives(config: TrialConfig) -> PositivePairs:
    return to_positive_pairs(load_splits(config.data).train, config.data.convert, config.data.score_range)


@functools.lru_cache(maxsize=64)
def _data_problems(config: DataConfig) -> tuple[Problem, ...]:
    """What is wrong with the data; a grid asks this of every cell, and reading files takes its time."""
    try:
        load_splits(config)
    except ConfigError as error:
        return error.problems
    return ()


RULES: tuple[tuple[Callable[[TrialConfig], Iterable[Problem]], tuple[str, ...]], ...] = (
    (_check_micro_batch, ("dataloader.batch_size", "dataloader.micro_batch_size")),
    (_check_eval_every, ("trainer.eval_every",)),
    (_check_warmup, ("optimizer.warmup",)),
    (_check_device, ("trainer.device",)),
    (_check_precision, ("trainer.device", "trainer.precision")),
    (_check_model, ("model.name", "model.path", "model.revision", "model.max_seq_length")),
    (_check_data, DATA_KEYS),
    (_check_conversion, (*DATA_KEYS, "data.convert", "loss.name")),
    (_check_smallest_batch, ("dataloader.batch_size", "loss.name")),
    (_check_dropped_batch, ("dataloader", "data", "loss.name")),
)
"""Each rule with the keys it looks at."""
