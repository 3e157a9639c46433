"""The model card: sentence-transformers' own, with what this project knows beside it.

Owns one section of the card's text and the emissions and results in its metadata. Writing it again (when the test
score comes later) replaces that section. Knows nothing of how the model was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedsweep.schema import Emissions, TrialConfig, TrialResult
from embedsweep.tracking import flatten

BEGIN, END = "<!-- embedsweep: begin -->", "<!-- embedsweep: end -->"
CITATION = "\n## Citation"


def write_card(folder: Path, config: TrialConfig, result: TrialResult, selection: str) -> None:
    """Writes what this project knows into the card of the model in ``folder``.

    Args:
        folder: holds the model and the library's ``README.md``.
        config: the trial's configuration.
        result: what came of it, test metrics among it where they are known.
        selection: how this model was chosen, in words.

    Raises:
        FileNotFoundError: the folder holds no card.
    """
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=True)
    card.data.co2_eq_emissions = _emissions_metadata(result.emissions)
    sections = [
        _scores({**result.dev, **result.test}),
        _origin(config, result, selection),
        _cost(result.emissions),
        _parameters(flatten(config)),
    ]
    card.text = _with_section(card.text, "\n\n".join(sections))
    card.save(folder / "README.md")


def _emissions_metadata(emissions: Emissions) -> dict[str, Any]:
    """As the Hub reads it: grams, and where they come from."""
    return {
        "emissions": emissions.co2eq_kg * 1000,
        "energy_consumed": emissions.energy_kwh,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "geographical_location": emissions.country,
        "hours_used": emissions.duration_s / 3600,
    }


def _with_section(text: str, section: str) -> str:
    block = f"{BEGIN}\n{section}\n{END}"
    if BEGIN in text:
        return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, text, flags=re.DOTALL)
    before, citation, after = text.partition(CITATION)
    return f"{before.rstrip()}\n\n{block}\n{citation}{after}"


def _scores(scores: Mapping[str, float]) -> str:
    splits = sorted({name.split("/")[0] for name in scores})
    metrics = sorted({name.split("/")[1] for name in scores})
    lines = [f"| metric | {' | '.join(splits)} |", f"|:---|{'---:|' * len(splits)}"]
    for metric in metrics:
        values = [scores.get(f"{split}/{metric}") for split in splits]
        lines.append(f"| {metric} | {' | '.join('-' if value is None else f'{value:.4f}' for value in values)} |")
    return "## Scores\n\nPearson and Spearman correlation with the gold scores.\n\n" + "\n".join(lines)


def _origin(config: TrialConfig, result: TrialResult, selection: str) -> str:
    data = config.data
    source = data.path or data.hub or "generated"
    lines = [
        "## How this model came about",
        f"Trained by embedsweep for {result.steps} optimizer steps on {data.name} ({source}"
        f"{f', {data.language}' if data.language else ''}{f', revision {data.revision}' if data.revision else ''}); "
        f"the checkpoint of step {result.best_step} is kept, the best by {config.objective}. {selection}",
    ]
    if result.conversion is not None:
        lines.append(f"Training data was converted for loss={config.loss.name}: {result.conversion}.")
    return "\n\n".join(lines)


def _cost(emissions: Emissions) -> str:
    text = (
        "## Emissions\n\n"
        f"{emissions.co2eq_kg * 1000:.4g} g CO2eq, {emissions.energy_kwh:.4g} kWh in {emissions.duration_s:.0f} s, "
        f"measured by CodeCarbon; electricity of: {emissions.country}."
    )
    return text + (f" Not measured: {'; '.join(emissions.unmeasured)}." if emissions.unmeasured else "")


def _parameters(params: Mapping[str, str]) -> str:
    rows = "\n".join(f"| `{key}` | `{value}` |" for key, value in params.items())
    return f"## Configuration\n\n| key | value |\n|:---|:---|\n{rows}"
