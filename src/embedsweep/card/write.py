"""Write the model card of a trained model, and complete it with scores that are known later.

The card is rendered by sentence-transformers and huggingface_hub from ``template.md``, which follows the library's own
template: what the library knows (usage, architecture, hyperparameters, training log, versions, citations) comes from
the model's ``model_card_data``, all else from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsweep.card.data import evaluation_datasets, training_datasets
from embedsweep.card.metadata import base_model, set_emissions, set_origin, set_results
from embedsweep.card.sections import (
    base_model_link,
    configuration_table,
    evaluation_section,
    origin_section,
    read_hardware,
    weights_line,
)
from embedsweep.card.text import data_name, data_source, verbatim, without_folders
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import Examples, Splits
from embedsweep.models.prompts import prompts_in_words
from embedsweep.secrets import redact

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEMPLATE = Path(__file__).with_name("template.md")
OWN_VERSIONS = {
    "Optuna": "optuna",
    "Hydra": "hydra-core",
    "MLflow": "mlflow",
    "CodeCarbon": "codecarbon",
    "embedsweep": "embedsweep",
}
FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "CachedGISTEmbedLoss": ("GISTEmbedLoss", "CachedMultipleNegativesRankingLoss"),
    "OnlineContrastiveLoss": ("ContrastiveLoss",),
}
"""A loss without a citation -> the losses whose papers it follows, by the library's documentation."""


def write_card(
    model: SentenceTransformer,
    folder: Path,
    config: TrialConfig,
    result: TrialResult,
    splits: Splits,
    also: Mapping[str, Examples],
    selection: str,
    emissions_csv: Path,
    warnings: Sequence[str],
) -> None:
    """Write ``README.md`` for a model that was trained by this process.

    Args:
        model: the trained model; a trainer has filled its ``model_card_data``.
        folder: where the model is saved.
        config: the trial's configuration.
        result: the trial's result, with test metrics if they are known.
        splits: the trial's data; ``train`` as the loss saw it, after conversion.
        also: further training data as its loss saw it, by its name in ``data.also``, in the order of training.
        selection: a sentence on how this model was chosen.
        emissions_csv: the attempts of the trial, from which the hardware is read.
        warnings: what the trial was warned of about its data and batches.
    """
    from huggingface_hub import ModelCard

    data: Any = model.model_card_data
    set_origin(data, config)
    data.eval_results_dict = {}  # the library's scores are of its last evaluation, not of the checkpoint that was kept
    data.citations = {**data.citations, **_missing_citations(data.tags)}
    hardware = read_hardware(emissions_csv, config.trainer.device)
    sources = [(data_name(config.data), config.data), *((name, more.data) for name, more in config.data.also.items())]
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        config=config,
        result=result,
        weights=weights_line(config),
        prompts=verbatim(redact(prompts_in_words(model, config))),
        base=base_model_link(config.model, data.base_model),
        sources=[(without_folders(name), data_source(source)) for name, source in sources],
        training=training_datasets(config, splits, also, data.train_datasets),
        evaluation=evaluation_datasets(config, splits),
        warnings=[verbatim(redact(without_folders(line))) for line in warnings],
        configuration=configuration_table(config, data.base_model),
        estimated=[without_folders(item) for item in result.emissions.unmeasured],
        hardware=hardware,
        own_versions={name: _version(package) for name, package in OWN_VERSIONS.items()},
    )
    card.data.model_name = data.model_name
    set_emissions(card.data, config, result.emissions, hardware)
    _save(card, folder, config, result, selection)


def complete_card(folder: Path, config: TrialConfig, result: TrialResult, selection: str) -> None:
    """Replace scores and selection in a card that :func:`write_card` of this or an earlier version wrote.

    Args:
        folder: holds the model and its card.
        config: the trial's configuration.
        result: the trial's result with the new metrics.
        selection: a sentence on how this model was chosen.

    Raises:
        FileNotFoundError: the folder has no card.
        ValueError: the card's metadata cannot be read.
    """
    from huggingface_hub import ModelCard

    text = (folder / "README.md").read_text(encoding="utf-8")
    # Scores in the metadata may be invalid: they are replaced.
    _save(ModelCard(text, ignore_metadata_errors=True), folder, config, result, selection)


def _save(card: Any, folder: Path, config: TrialConfig, result: TrialResult, selection: str) -> None:
    set_results(card.data, config, result)
    text = with_part(card.text, "evaluation", evaluation_section(config, result))
    origin = origin_section(config, result, selection, base_model(config, card.data.base_model))
    card.text = redact(with_part(text, "origin", origin))
    card.save(folder / "README.md")


def with_part(text: str, name: str, body: str) -> str:
    """Return the card with the Markdown between two markers replaced; a card without them gets it at its end."""
    begin, end = f"<!-- embedsweep: {name} -->", f"<!-- embedsweep: {name}, end -->"
    part = f"{begin}\n{body}\n\n{end}"
    pattern = re.compile(f"^{re.escape(begin)}$.*?^{re.escape(end)}$", re.DOTALL | re.MULTILINE)
    replaced, count = pattern.subn(lambda _: part, text, count=1)
    return replaced if count else f"{text.rstrip()}\n\n{part}\n"


def _missing_citations(tags: Sequence[str]) -> dict[str, str]:
    """Return loss -> BibTeX for losses, from the tags ``loss:...``, that the library has no citation of."""
    from sentence_transformers.sentence_transformer import losses

    missing = [name for tag in tags if (name := tag.removeprefix("loss:")) in FOLLOWS]
    # `citation` is a property that does not use its loss.
    bibtex = {name: [getattr(losses, each).citation.fget(None).strip() for each in FOLLOWS[name]] for name in missing}
    return {name: "\n\n".join(entries) for name, entries in bibtex.items()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
