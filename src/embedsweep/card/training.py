"""The card's account of the training: the base model, how the model was chosen, its configuration and the hardware."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedsweep.card.text import code, data_name, last_part, table, without_folders
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.emissions.rows import read_rows
from embedsweep.secrets import redact
from embedsweep.tracking.names import flatten


@dataclass(frozen=True)
class Hardware:
    """What a training ran on.

    Attributes:
        cpu: the processor's name; empty if unknown.
        gpu: as in ``1 x NVIDIA H200``; empty if none was used.
        ram_gib: memory of the whole machine, in GiB.
    """

    cpu: str
    gpu: str
    ram_gib: float


def read_hardware(emissions_csv: Path, device: str) -> Hardware:
    """Return the hardware of the last attempt, which ran on this machine; an unused GPU is left out."""
    import psutil

    rows = read_rows(emissions_csv)
    last: Mapping[str, str] = rows[-1] if rows else {}
    gpu = "" if device == "cpu" else last.get("gpu_model", "")
    return Hardware(last.get("cpu_model", ""), gpu, psutil.virtual_memory().total / 2**30)


def base_model_link(model: ModelConfig, hub_id: str | None) -> str:
    """Return the base model in Markdown: a link to the Hub, or the name of its folder."""
    if hub_id is not None:
        link = f"https://huggingface.co/{hub_id}"
        at = f" at [{model.revision[:12]}]({link}/tree/{model.revision})" if model.revision else ""
        return f"[{hub_id}]({link}){at}"
    if model.path is None:
        return "a small BERT with random weights"
    return f"{code(last_part(model.path))} (a local folder)"


def origin_section(config: TrialConfig, result: TrialResult, selection: str, hub_id: str | None) -> str:
    """Describe how the model was trained and chosen."""
    objective = f"`{config.objective}`"
    if config.trainer.load_best_model_at_end:
        kept = (
            f"The checkpoint of step {result.best_step} was kept: it has the best {objective} ({result.objective:.4f}) "
            "of all that were evaluated. embedsweep chose and loaded it, so that `load_best_model_at_end` in the "
            "trainer's arguments below is False."
        )
    else:
        kept = f"The last checkpoint was kept, of step {result.best_step}, with {objective} {result.objective:.4f}."
    parts = [
        "### How this model was trained",
        f"embedsweep trained {base_model_link(config.model, hub_id)} (`model={config.model.name}`) for {result.steps} "
        f"optimizer steps, on batches of at most {config.dataloader.batch_size} examples of {data_name(config.data)}, "
        f"with `loss={config.loss.name}`. {kept}",
        selection,
    ]
    both = [name for name in config.data.splits["train"] if name in config.data.splits["dev"]]
    if both and config.evaluation.dev is None:
        parts.append(f"The split `{both[0]}` is part of the training data too: the dev scores cannot be trusted.")
    return "\n\n".join(part for part in parts if part)


def configuration_table(config: TrialConfig, hub_id: str | None) -> str:
    """Return all values that determine the result as a table, without folders of this machine and without secrets."""
    # Redacted first: once escaped, secrets are not recognised.
    values = {key: redact(value) for key, value in flatten(config).items()}
    rows = [[f"`{key}`", code(_shown(key, value, hub_id))] for key, value in values.items()]
    return table(["key", "value"], rows, texts=2)


def _shown(key: str, value: str, hub_id: str | None) -> str:
    if value == "null" or (key == "model.path" and hub_id is not None):
        return value
    if key == "path" or key.endswith(".path"):
        return last_part(value)
    if value.startswith("["):
        return json.dumps(_cut(json.loads(value)), ensure_ascii=False)
    return without_folders(value)


def _cut(value: object) -> object:
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, list):
        return [_cut(part) for part in value]
    if isinstance(value, dict):
        return {key: last_part(part) if key == "path" and part else _cut(part) for key, part in value.items()}
    return value
