"""Write the model card of an average of trained models: the best one's card, with what is true of the average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedsweep.card.metadata import set_results
from embedsweep.card.sections import evaluation_section
from embedsweep.card.write import with_part
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.secrets import redact


def write_average_card(
    folder: Path, source: Path, config: TrialConfig, result: TrialResult, members: Mapping[int, float], tried: int
) -> None:
    """Write ``README.md`` for a model whose weights are the mean of trained models.

    Args:
        folder: where the average is saved.
        source: the folder of a model whose card is changed: the best member, or the average itself.
        config: the best member's configuration.
        result: the scores of the average, and what all trainings that are in it cost together.
        members: number -> dev score of each member by itself, the best first.
        tried: how many models were tried.

    Raises:
        FileNotFoundError: ``source`` has no card.
    """
    from huggingface_hub import ModelCard

    text = (source / "README.md").read_text(encoding="utf-8")
    card: Any = ModelCard(text, ignore_metadata_errors=True)  # scores in the metadata are replaced
    set_results(card.data, config, result)
    cost = result.emissions
    if isinstance(metadata := card.data.get("co2_eq_emissions"), dict):
        sums = {
            "emissions": cost.co2eq_kg * 1000,  # grams
            "energy_consumed": cost.energy_kwh,
            "hours_used": cost.duration_s / 3600,
        }
        card.data.co2_eq_emissions = {**metadata, **sums}
    body = with_part(card.text, "evaluation", evaluation_section(config, result))
    card.text = redact(with_part(body, "origin", _origin(config, result, members, tried)))
    card.save(folder / "README.md")


def _origin(config: TrialConfig, result: TrialResult, members: Mapping[int, float], tried: int) -> str:
    """Describe what the model is an average of, and how its members were chosen."""
    metric, cost, interval = f"`{config.objective}`", result.emissions, ""
    if result.interval is not None:
        interval = f" (95 % interval over the dev items {result.interval[0]:.4f} to {result.interval[1]:.4f})"
    alone = ", ".join(f"{number} ({score:.4f})" for number, score in members.items())
    return "\n\n".join(
        [
            "### How this model was made",
            f"Its weights are the mean of those of {len(members)} of {tried} trained models, which were added one by "
            "one, the best on dev first, and stayed if dev scores rose: a greedy soup "
            f"([Wortsman et al. 2022](https://arxiv.org/abs/2203.05482)). {metric} of the mean is "
            f"{result.objective:.4f}{interval}; as its members were chosen by it, that is optimistic. They are these "
            f"trainings of the finals of a study, each with its own {metric}: {alone}.",
            f"Training them took {cost.energy_kwh:.4g} kWh and {1000 * cost.co2eq_kg:.4g} g of CO2 equivalent. All "
            f"that follows on data, hyperparameters, logs and environmental impact is of final {next(iter(members))}"
            ", the best of them.",
        ]
    )
