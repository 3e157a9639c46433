"""The card's metadata, which the Hub reads, searches and shows beside the model.

Follows https://github.com/huggingface/hub-docs/blob/main/modelcard.md and model-cards-co2.md. Unknown values are left
out: the licence if the base model's card has none that the Hub knows, a dataset's id if files were read, the location
if the country of the electricity is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from yaml import YAMLError

from embedsweep.card.sections import Hardware, ScoredSet, all_scores, family_of
from embedsweep.card.text import data_name, hub_dataset, is_hub_id, without_folders
from embedsweep.config.metrics import SIMILARITIES, Family
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.trial import ModelConfig, Split, TrialConfig
from embedsweep.data.load import benchmark_data
from embedsweep.hub import local_model
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
"""ISO 639-1. The Hub refuses other names of languages, and a subset of a dataset may be called ``all`` or ``pt-BR``."""

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""The form of the Hub's licence ids: https://huggingface.co/docs/hub/repositories-licenses."""
_NO_LICENSE = ("other", "unknown")


def base_model(config: TrialConfig, recorded: object) -> str | None:
    """Return the base model's id on the Hub; None for a folder.

    Args:
        config: the trial's configuration.
        recorded: the base model in the card, which was set when the model was loaded.
    """
    return config.model.path if recorded == config.model.path and is_hub_id(recorded) else None


def _base_license(model: ModelConfig) -> str | None:
    """Return the licence of the base model from its card on this disk; None without one that the Hub knows."""
    from huggingface_hub import ModelCard

    folder = local_model(model.path, model.revision)
    if folder is None:
        return None
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        name = ModelCard(text, ignore_metadata_errors=True).data.get("license")
    except (OSError, ValueError, YAMLError):  # a card that somebody else wrote, which may hold anything
        return None
    return name if isinstance(name, str) and LICENSE.fullmatch(name) and name not in _NO_LICENSE else None


def with_license(text: str, name: str) -> str:
    """Return the card with a licence in the description of the model, where it is a comment if unknown."""
    return re.sub(
        r"^(?:<!-- )?- \*\*License:\*\*.*$", lambda _: f"- **License:** {name}", text, count=1, flags=re.MULTILINE
    )


def set_origin(data: Any, config: TrialConfig) -> None:
    """Set base model, languages, licence and datasets in the library's ``model_card_data``; redact its examples."""
    sources = [dataset.data for dataset in config.datasets.values()]
    # A dataset of several languages may be cut to one by a column of that name.
    languages = dict.fromkeys(
        code for each in sources for code in each.languages or (each.language, each.where.get("language"))
    )
    hub_ids = dict.fromkeys(hub_dataset(source) for source in sources)
    data.base_model = base_model(config, data.base_model)
    data.language = [code for code in languages if code in LANGUAGES]
    data.license = _base_license(config.model)
    data.datasets = [name for name in hub_ids if name is not None]
    data.widget = [{key: _redacted(value) for key, value in example.items()} for example in data.widget]


def is_pretrained(model: ModelConfig) -> bool:
    """Return whether training began from weights that were trained before, and not from random ones."""
    return model.name != "tiny" and model.static_dim is None


def set_emissions(data: Any, config: TrialConfig, cost: Emissions, hardware: Hardware) -> None:
    """Set the emissions in a card's ``data``, unless no energy was measured."""
    if cost.energy_kwh <= 0:
        return
    fields: dict[str, object] = {
        "emissions": cost.co2eq_kg * 1000,  # grams
        "energy_consumed": cost.energy_kwh,
        "source": "codecarbon",
        "training_type": "fine-tuning" if is_pretrained(config.model) else "pre-training",
        "cpu_model": hardware.cpu,
        "ram_total_size": hardware.ram_gib,
        "hours_used": cost.duration_s / 3600,
        "hardware_used": hardware.gpu or hardware.cpu,
        "geographical_location": cost.country if cost.country.isupper() else "",  # not of the world average
    }
    data.co2_eq_emissions = {name: value for name, value in fields.items() if value != ""}


def set_results(data: Any, config: TrialConfig, result: TrialResult) -> None:
    """Set the scores of the trained model in a card's ``data``."""
    data.model_name = data.get("model_name") or "SentenceTransformer"
    data.eval_results = list(_results(config, result))
    data.metrics = list(dict.fromkeys(score.metric_type for score in data.eval_results))


TASKS: Mapping[Family, str] = {
    "sts": "Semantic Similarity",
    "retrieval": "Information Retrieval",
    "triplets": "Triplet",
    "pairs": "Binary Classification",
    "reranking": "Reranking",
}
"""Family -> the task as sentence-transformers' cards name it."""

_BY = re.compile(rf"(.+)_({'|'.join((*SIMILARITIES, 'max'))})")


def library_metric(metric: str) -> str:
    """Return sentence-transformers' name of a metric: ``cosine_ndcg@10`` of ``ndcg_at_10_cosine``."""
    by = _BY.fullmatch(metric)
    return re.sub(r"_at_(\d+)", r"@\1", f"{by[2]}_{by[1]}" if by else metric)


def _results(config: TrialConfig, result: TrialResult) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    seen: set[tuple[object, ...]] = set()
    for scored, metrics in all_scores(config, result).items():
        dataset, family = _dataset(config, scored), family_of(config, scored.pairs)
        for metric, value in metrics.items():
            identity = (*dataset.values(), scored.dims, metric)
            if identity in seen:  # the same pairs under two names
                continue
            seen.add(identity)
            library_name = metric if family == "sts" else library_metric(metric)
            name = library_name.replace("_", " ").title()
            yield EvalResult(
                task_type=TASKS[family].lower().replace(" ", "-"),
                task_name=TASKS[family],
                metric_type=library_name,
                metric_name=name if scored.dims is None else f"{name}, {scored.dims} dimensions",
                metric_value=float(value),
                metric_args=None if scored.dims is None else {"truncate_dim": scored.dims},
                **dataset,
            )


def _dataset(config: TrialConfig, scored: ScoredSet) -> dict[str, Any]:
    """Return the pairs that were scored as the Hub's fields of a dataset."""
    evaluation = config.evaluation
    named = {each.name: each for each in evaluation.benchmarks}
    named |= {f"dev/{each.name}": each for each in evaluation.watch}
    own = {"dev": evaluation.dev, "test": evaluation.test}.get(scored.pairs, named.get(scored.pairs))
    data = benchmark_data(own, evaluation.path) if own is not None else config.data
    split: Split = own.split if own is not None else "dev" if scored.pairs == "dev" else "test"
    title = f"{data_name(data)}, {split}" if own is None else own.name
    hub = hub_dataset(data)
    return {
        "dataset_type": hub or re.sub(r"[^\w.-]+", "-", own.name if own else data.name),
        "dataset_name": without_folders(title),
        "dataset_config": data.language,
        "dataset_split": "+".join(data.splits[split]) or split,
        "dataset_revision": data.revision if hub is not None else None,
    }


def _redacted(value: object) -> object:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_redacted(part) for part in value]
    return redact(value) if isinstance(value, str) else value
