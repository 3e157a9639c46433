"""The model card: sentence-transformers' own, with what this project knows beside it.

Owns the card's evaluation, origin, emissions and configuration, in its text and in its metadata. Writing it again (when
the test score comes later) replaces them. Knows nothing of how the model was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedsweep.schema import SIMILARITIES, DataConfig, Emissions, TrialConfig, TrialResult
from embedsweep.tracking import flatten

BEGIN, END = "<!-- embedsweep: begin -->", "<!-- embedsweep: end -->"
CITATION = "\n## Citation"
EVALUATION = re.compile(r"\n## Evaluation\n.*?(?=\n(?:<!--\n)?## )", re.DOTALL)
"""The library's own section, up to the next one: it knows this process's scores only, and so no later test score."""


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

    data = config.data
    card: Any = ModelCard((folder / "README.md").read_text(encoding="utf-8"), ignore_metadata_errors=True)
    card.data.co2_eq_emissions = _emissions_metadata(result.emissions)
    card.data.model_name = card.data.model_name or "SentenceTransformer"
    card.data.eval_results = _results_metadata(data, {**result.dev, **result.test})
    if data.language is not None:
        card.data.language = [data.language]
    if data.hub is not None and data.path is None:
        card.data.datasets = [data.hub]
    sections = [
        _scores({**result.dev, **result.test}, config.objective),
        _origin(config, result, selection),
        _cost(result.emissions),
        _parameters(flatten(config)),
    ]
    text = card.text.replace(" model trained. It maps", f" model trained on {_data_words(data)}. It maps", 1)
    card.text = _with_section(text, "\n\n".join(sections))
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


def _results_metadata(data: DataConfig, scores: Mapping[str, float]) -> list[Any]:
    """All scores as the Hub shows them beside the model."""
    from huggingface_hub import EvalResult

    found = []
    for name, value in scores.items():
        split, metric = name.split("/")
        found.append(
            EvalResult(
                task_type="semantic-similarity",
                task_name="Semantic Similarity",
                dataset_type=data.hub or data.name,
                dataset_name=f"{_data_words(data)}, {split}",
                dataset_config=data.language,
                dataset_split=split,
                dataset_revision=data.revision,
                metric_type=metric,
                metric_name=metric.replace("_", " ").title(),
                metric_value=value,
            )
        )
    return found


def _data_words(data: DataConfig) -> str:
    return f"{data.name} ({data.language})" if data.language else data.name


def _with_section(text: str, section: str) -> str:
    block = f"{BEGIN}\n{section}\n{END}"
    if BEGIN in text:
        return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, text, flags=re.DOTALL)
    if EVALUATION.search(text):
        return EVALUATION.sub(lambda _: f"\n{block}\n", text, count=1)
    before, citation, after = text.partition(CITATION)
    return f"{before.rstrip()}\n\n{block}\n{citation}{after}"


def _scores(scores: Mapping[str, float], objective: str) -> str:
    splits = [split for split in ("dev", "test") if any(name.startswith(f"{split}/") for name in scores)]
    columns = [(split, correlation) for split in splits for correlation in ("pearson", "spearman")]
    heads = (f"{split} {correlation.title()}" for split, correlation in columns)
    lines = [f"| similarity | {' | '.join(heads)} |", f"|:---|{'---:|' * len(columns)}"]
    for similarity in (*SIMILARITIES, "max"):
        names = [f"{split}/{correlation}_{similarity}" for split, correlation in columns]
        cells = [f"**{scores[name]:.4f}**" if name == objective else f"{scores[name]:.4f}" for name in names]
        lines.append(f"| {similarity} | {' | '.join(cells)} |")
    words = "Correlation of each pair's similarity with its gold score; the checkpoint was chosen by the one in bold."
    return f"## Evaluation\n\n{words}\n\n" + "\n".join(lines)


def _origin(config: TrialConfig, result: TrialResult, selection: str) -> str:
    data = config.data
    source = data.path or data.hub or "generated by embedsweep"
    lines = [
        "## How this model came about",
        f"Base model: {config.model.path or 'a small BERT with random weights'} (`model={config.model.name}`). Trained "
        f"by embedsweep for {result.steps} optimizer steps on {_data_words(data)}, {source}"
        f"{f', revision {data.revision}' if data.revision else ''}; "
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
    return text + (f" Estimated or not measured: {'; '.join(emissions.unmeasured)}." if emissions.unmeasured else "")


def _parameters(params: Mapping[str, str]) -> str:
    rows = "\n".join(f"| `{key}` | `{value}` |" for key, value in params.items())
    return (
        "## Configuration\n\n<details><summary>Every value that decided the result</summary>\n\n"
        f"| key | value |\n|:---|:---|\n{rows}\n\n</details>"
    )
