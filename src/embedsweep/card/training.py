"""The card's account of the training: what it began with, how the model was chosen, what it cost and ran on.

Must not know data or scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from embedsweep.card.template import VERSIONS
from embedsweep.card.text import code, data_name, folded, last_part, table, without_folders
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.emissions.rows import read_rows
from embedsweep.secrets import redact
from embedsweep.tracking.names import flatten

OWN_VERSIONS = {"Optuna": "optuna", "CodeCarbon": "codecarbon", "embedsweep": "embedsweep"}


@dataclass(frozen=True)
class Hardware:
    """What a training ran on.

    Attributes:
        cpu: the processor's name; empty where it is not known.
        gpu: as in ``1 x NVIDIA H200``; empty where none was used.
        ram_gib: of the whole machine.
    """

    cpu: str
    gpu: str
    ram_gib: float


def read_hardware(emissions_csv: Path, device: str) -> Hardware:
    """The machine of the latest attempt, this one; a GPU that was there and not used is left out."""
    import psutil

    rows = read_rows(emissions_csv)
    last: Mapping[str, str] = rows[-1] if rows else {}
    gpu = "" if device == "cpu" else last.get("gpu_model", "")
    return Hardware(last.get("cpu_model", ""), gpu, psutil.virtual_memory().total / 2**30)


def base_model_words(model: ModelConfig, hub_id: str | None) -> str:
    """The base model in Markdown: a link where it is on the hub, else the name of its folder."""
    if hub_id is not None:
        link = f"https://huggingface.co/{hub_id}"
        return f"[{hub_id}]({link})" + (
            f" at [{model.revision[:12]}]({link}/tree/{model.revision})" if model.revision else ""
        )
    if model.path is None:
        return "a small BERT with random weights"
    return f"{code(last_part(model.path))} (a local folder)"


def introduction(config: TrialConfig, hub_id: str | None) -> str:
    """How the card's first sentence goes on after 'a sentence-transformers model'."""
    model = config.model
    base = base_model_words(model, hub_id)
    names = [data_name(config.data), *config.data.also]
    if model.static_dim is not None:
        begun = f"of static embeddings, trained from random weights over the tokenizer of {base}"
    else:
        begun = f"trained from {base}" if model.path is None else f"finetuned from {base}"
    return f"{begun} on {', '.join(without_folders(name) for name in names)}"


def origin_section(config: TrialConfig, result: TrialResult, selection: str, hub_id: str | None) -> str:
    """How the model came about and how it was chosen."""
    trainer = config.trainer
    objective = f"`{config.objective}` ({result.objective:.4f})"
    if trainer.load_best_model_at_end:
        chosen = (
            f"The checkpoint of step {result.best_step} is kept, the best of those evaluated by {objective}. "
            "embedsweep chose and loaded it, whatever the trainer's own `load_best_model_at_end` below says."
        )
    else:
        chosen = f"The last checkpoint is kept, that of step {result.best_step}, with {objective}."
    parts = [
        "### How this model came about",
        f"embedsweep trained {base_model_words(config.model, hub_id)} (`model={config.model.name}`) for {result.steps} "
        f"optimizer steps, of at most {config.dataloader.batch_size} examples each, with `loss={config.loss.name}` on "
        f"{data_name(config.data)}. {chosen}",
        selection,
    ]
    both = [name for name in config.data.splits["train"] if name in config.data.splits["dev"]]
    if both and config.evaluation.dev is None:
        parts.append(
            f"The split `{both[0]}` is part of the training data, so that the dev scores are not to be trusted."
        )
    return "\n\n".join(part for part in parts if part)


def configuration_section(config: TrialConfig, hub_id: str | None) -> str:
    """Every value that decided the result, without the folders of the machine."""
    values = {key: redact(value) for key, value in flatten(config).items()}  # escaped, a secret is not found
    rows = [[f"`{key}`", code(_shown(key, value, hub_id))] for key, value in values.items()]
    body = folded("Every value that decided the result", table(["key", "value"], rows, texts=2))
    return f"### Configuration of embedsweep\n\n{body}"


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


def cost_section(result: TrialResult, hardware: Hardware) -> str:
    """What the training cost, summed over its attempts, and what it ran on."""
    emissions, peak_gib = result.emissions, result.peak_memory_gib
    country = f"that of {emissions.country}" if len(emissions.country) == 3 else f"the {emissions.country}"
    lines = [
        "### Environmental Impact",
        "Carbon emissions were measured using [CodeCarbon](https://github.com/mlco2/codecarbon), from loading the data "
        "to the last evaluation.",
        f"- **Energy Consumed**: {emissions.energy_kwh:.4g} kWh",
        f"- **Carbon Emitted**: {emissions.co2eq_kg * 1000:.4g} g of CO2 equivalent",
        f"- **Hours Used**: {emissions.duration_s / 3600:.4g} hours",
        *([] if emissions.gpu_h is None else [f"- **GPU Hours**: {emissions.gpu_h:.4g} hours"]),
        f"- **Electricity**: {country}",
        *(f"- **Not exact**: {without_folders(what)}" for what in emissions.unmeasured),
        "",
        "### Training Hardware",
        "- **On Cloud**: No, as far as the measurement knows",
        f"- **GPU Model**: {hardware.gpu or 'No GPU used'}",
        *([] if peak_gib is None else [f"- **Peak GPU Memory**: {peak_gib:.2f} GiB"]),
        f"- **CPU Model**: {hardware.cpu or 'unknown'}",
        f"- **RAM Size**: {hardware.ram_gib:.2f} GiB",
    ]
    return "\n".join(lines)


def with_versions(text: str) -> str:
    """The card with the versions that the library does not know among those it does; once is enough."""
    found = VERSIONS.search(text)
    if found is None or "- embedsweep:" in found[0]:
        return text
    own = "".join(f"- {name}: {_version(package)}\n" for name, package in OWN_VERSIONS.items())
    return text[: found.end()] + own + text[found.end() :]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
