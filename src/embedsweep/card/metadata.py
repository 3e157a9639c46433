"""The card's metadata: what the Hub reads, searches and shows beside the model.

Follows https://github.com/huggingface/hub-docs/blob/main/modelcard.md and model-cards-co2.md. What is not known is left
out: the licence where the base model's card has none of the Hub's, a dataset's id where files were read, the place
where the electricity's country is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import YAMLError

from embedsweep.card.scores import Scored, all_scores
from embedsweep.card.text import data_name, hub_dataset, is_hub_id, without_folders
from embedsweep.card.training import Hardware
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.trial import DataConfig, ModelConfig, Split, TrialConfig
from embedsweep.hub import cached_model_path
from embedsweep.secrets import redact

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki
kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no
nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te
tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(_CODES.split())
"""ISO 639-1. The Hub refuses other words as languages, and a subset of a dataset may be called ``all`` or ``pt-BR``."""

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""The form of the Hub's ids of licences: https://huggingface.co/docs/hub/repositories-licenses."""
_NO_LICENSE = ("other", "unknown")


def languages(config: TrialConfig) -> list[str]:
    """The languages trained on, as far as they are named and the Hub knows them."""
    named = (data.language for data in _trained_on(config))
    return list(dict.fromkeys(code for code in named if code is not None and code in LANGUAGES))


def base_model(config: TrialConfig, said: object) -> str | None:
    """The base model's id on the hub; None for a folder.

    Args:
        config: the trial's configuration.
        said: what the library's card has: this was found out where the model was loaded.
    """
    return config.model.path if said == config.model.path and is_hub_id(said) else None


def base_license(model: ModelConfig) -> str | None:
    """The licence of the base model, as its own card on this disk says; None where that names none of the Hub's."""
    from huggingface_hub import ModelCard

    if model.path is None:
        return None
    folder = Path(model.path).expanduser()
    found = folder if folder.is_dir() else cached_model_path(model.path, model.revision)
    try:
        text = (found / "README.md").read_text(encoding="utf-8") if found is not None else ""
        said = ModelCard(text, ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError, YAMLError):  # somebody else's card, which may be anything
        return None
    return said if isinstance(said, str) and LICENSE.fullmatch(said) and said not in _NO_LICENSE else None


def set_origin(data: Any, config: TrialConfig) -> None:
    """Says in a card's ``data`` what the model was made from."""
    data.base_model = base_model(config, data.base_model)
    data.language = languages(config) or None
    data.license = base_license(config.model)
    hubs = (hub_dataset(source) for source in _trained_on(config))
    data.datasets = list(dict.fromkeys(name for name in hubs if name is not None)) or None
    for example in data.get("widget") or []:
        example.update({key: _redacted(value) for key, value in example.items()})


def set_emissions(data: Any, cost: Emissions, hardware: Hardware) -> None:
    """Says in a card's ``data`` what the training cost; nothing where no energy was measured."""
    if cost.energy_kwh <= 0:
        data.pop("co2_eq_emissions")
        return
    fields: dict[str, object] = {
        "emissions": cost.co2eq_kg * 1000,  # grams
        "energy_consumed": cost.energy_kwh,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": False,
        "cpu_model": hardware.cpu,
        "ram_total_size": hardware.ram_gib,
        "hours_used": cost.duration_s / 3600,
        "hardware_used": hardware.gpu or hardware.cpu,
        "geographical_location": cost.country if cost.country.isupper() else "",  # the world's average is no place
    }
    data.co2_eq_emissions = {name: value for name, value in fields.items() if value != ""}


def set_results(data: Any, config: TrialConfig, result: TrialResult, model_name: str) -> None:
    """Says in a card's ``data`` how the trained model scored."""
    data.model_name = model_name
    data.eval_results = list(_results(config, result))
    data.metrics = list(dict.fromkeys(found.metric_type for found in data.eval_results))


def _results(config: TrialConfig, result: TrialResult) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    told: set[tuple[object, ...]] = set()
    for scored, metrics in all_scores(config, result).items():
        dataset = _dataset(config, scored)
        for metric, value in metrics.items():
            identity = (*dataset.values(), scored.dims, metric)
            if identity in told:  # one set under two names
                continue
            told.add(identity)
            name = metric.replace("_", " ").title()
            yield EvalResult(
                task_type="semantic-similarity",
                task_name="Semantic Similarity",
                metric_type=metric,
                metric_name=name if scored.dims is None else f"{name}, {scored.dims} dimensions",
                metric_value=float(value),
                metric_args=None if scored.dims is None else {"truncate_dim": scored.dims},
                **dataset,
            )


def _dataset(config: TrialConfig, scored: Scored) -> dict[str, Any]:
    """The pairs of a score as the Hub's fields."""
    evaluation = config.evaluation
    named = {benchmark.name: benchmark for benchmark in evaluation.benchmarks}
    own = {"dev": evaluation.dev, "test": evaluation.test}.get(scored.pairs, named.get(scored.pairs))
    data = own.data if own is not None else config.data
    split: Split = own.split if own is not None else "dev" if scored.pairs == "dev" else "test"
    title = f"{data_name(data)}, {split}" if own is None else own.name
    local = own is not None and evaluation.path is not None
    return {
        "dataset_type": (None if local else hub_dataset(data))
        or re.sub(r"[^\w.-]+", "-", own.name if own else data.name),
        "dataset_name": without_folders(title),
        "dataset_config": data.language,
        "dataset_split": "+".join(data.splits[split]) or split,
        "dataset_revision": data.revision,
    }


def _trained_on(config: TrialConfig) -> list[DataConfig]:
    return [config.data, *(further.data for further in config.data.also.values())]


def _redacted(value: object) -> object:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_redacted(part) for part in value]
    return redact(value) if isinstance(value, str) else value
