"""The model card: sentence-transformers' own, with what this project knows in it.

Owns which parts of the library's card are replaced and what stands where. The library's are right about the model, its
use, the loss's class and defaults, the trainer's arguments, the training log, versions and citations; ours are the
scores, the data, the origin, the configuration and the cost. Knows nothing of how the model was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedsweep.card import template
from embedsweep.card.data import evaluation_data_section, training_data_section
from embedsweep.card.metadata import base_model, languages, set_emissions, set_origin, set_results
from embedsweep.card.scores import evaluation_section
from embedsweep.card.template import with_citations
from embedsweep.card.text import data_name, data_source
from embedsweep.card.training import (
    base_model_words,
    configuration_section,
    cost_section,
    introduction,
    origin_section,
    read_hardware,
    with_versions,
)
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import Examples, Splits
from embedsweep.secrets import redact

_CITATION, _DETAILS = "## Citation", "## Training Details"
_HYPERPARAMETERS, _LOGS, _VERSIONS = "### Training Hyperparameters", "### Training Logs", "### Framework Versions"


def write_card(
    folder: Path,
    config: TrialConfig,
    result: TrialResult,
    splits: Splits,
    also: Mapping[str, Examples],
    selection: str,
    emissions_csv: Path,
) -> None:
    """Writes all that this project knows into the card of a model that was just trained and saved on this machine.

    Args:
        folder: holds the model and the library's ``README.md``.
        config: the trial's configuration.
        result: what came of it, test metrics among it where they are known.
        splits: the trial's data; ``train`` as the loss saw it, after conversion.
        also: what else was trained on, by its name in ``data.also``, as its loss saw it; in the order of training.
        selection: how this model was chosen, in words.
        emissions_csv: the attempts of the trial; tells the hardware.

    Raises:
        FileNotFoundError: the folder holds no card.
        ValueError: the card's metadata cannot be read.
    """
    card = _read(folder)
    set_origin(card.data, config)
    hardware = read_hardware(emissions_csv, config.trainer.device)
    set_emissions(card.data, result.emissions, hardware)
    hub_id = card.data.base_model
    text = _with_facts(card.text, config, hub_id)
    if card.data.license is not None:
        text = template.with_license(text, card.data.license)
    if not template.has_part(text, "data"):  # of data that does not change; what the library found out is gone by then
        data = training_data_section(config, splits, also, template.dataset_facts(text))
        text = template.with_part(
            text,
            "data",
            f"{data}\n\n{evaluation_data_section(config, splits)}",
            template.TRAINING_DATA,
            (_HYPERPARAMETERS, _LOGS, _VERSIONS, _CITATION),
        )
    text = template.with_part(
        text, "configuration", configuration_section(config, hub_id), None, (_LOGS, _VERSIONS, _CITATION)
    )
    cost = cost_section(result, hardware)
    text = template.with_part(text, "cost", cost, template.TRAINING_TIME, (_VERSIONS, _CITATION))
    card.text = with_citations(with_versions(text), card.data.tags or [])
    _write(folder, card, config, result, selection)


def complete_card(folder: Path, config: TrialConfig, result: TrialResult, selection: str) -> None:
    """Replaces scores and selection in a card that :func:`write_card` wrote, here or on another machine.

    The card is then the one that :func:`write_card` would have written with this result and selection.

    Args:
        folder: holds the model and its card.
        config: the trial's configuration.
        result: what came of it, with the metrics that are new.
        selection: how this model was chosen, in words.

    Raises:
        FileNotFoundError: the folder holds no card.
        ValueError: the card's metadata cannot be read.
    """
    _write(folder, _read(folder), config, result, selection)


def _read(folder: Path) -> Any:
    from huggingface_hub import ModelCard

    # What the library says of scores is replaced, and may be wrong until then.
    return ModelCard((folder / "README.md").read_text(encoding="utf-8"), ignore_metadata_errors=True)


def _write(folder: Path, card: Any, config: TrialConfig, result: TrialResult, selection: str) -> None:
    title = re.search(r"^# (.+)", card.text, re.MULTILINE)
    set_results(card.data, config, result, title[1].strip() if title else "SentenceTransformer")
    hub_id = base_model(config, card.data.base_model)
    evaluation = evaluation_section(config, result)
    text = template.with_part(card.text, "evaluation", evaluation, template.EVALUATION, (_DETAILS, _CITATION))
    origin = origin_section(config, result, selection, hub_id)
    begin = "<!-- embedsweep: data -->"
    card.text = redact(template.with_part(text, "origin", origin, None, (begin, _HYPERPARAMETERS, _CITATION)))
    card.save(folder / "README.md")


def _with_facts(text: str, config: TrialConfig, hub_id: str | None) -> str:
    """The card with the first sentence and the description of the model filled in."""
    data = [(data_name(config.data), config.data), *((name, more.data) for name, more in config.data.also.items())]
    sources = "".join(f"\n    - {name}: {data_source(source)}" for name, source in data)
    facts = {
        "Base model": f"- **Base model:** {base_model_words(config.model, hub_id)}",
        "Training Dataset": f"- **Training Dataset{'s' if len(data) > 1 else ''}:**{sources}",
    }
    if codes := languages(config):
        facts["Language"] = f"- **Language{'s' if len(codes) > 1 else ''}:** {', '.join(codes)}"
    for name, line in facts.items():
        text = template.replaced(text, template.FACTS[name], line)
    return template.replaced(text, template.INTRODUCTION, introduction(config, hub_id))
