"""Sections of the card: how the model was trained, its configuration and hardware, and its evaluation.

Metrics are known by their names: ``dev/spearman_cosine``; ``dev-256/...`` of embeddings truncated to 256 dimensions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedsweep.card.text import code, data_name, last_part, table, without_folders
from embedsweep.config.metrics import SIMILARITIES, Family
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.emissions.rows import read_rows
from embedsweep.models.layout import base_dtypes
from embedsweep.secrets import redact
from embedsweep.tracking.names import flatten

CORRELATIONS = ("pearson", "spearman")
SPLITS = ("dev", "test")
_ROWS = (*SIMILARITIES, "max")
_CUT = re.compile(r"(.+)-(\d+)")


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


def weights_line(config: TrialConfig) -> str:
    """Say in which precision the weights were stored, trained and saved, and computed with."""
    model, precision = config.model, config.trainer.precision
    stored = [dtype for dtype in base_dtypes(model) if dtype != "float32"]
    parts = [f"saved in {model.save_dtype or 'float32'}", "trained in float32"]
    parts += [f"stored in {' and '.join(stored)} by the base model"] if stored else []
    parts += [f"with computation in mixed precision ({precision})"] if precision != "fp32" else []
    rounded = (
        "; scores are of the weights before they were rounded" if model.save_dtype not in (None, "float32") else ""
    )
    return ", ".join(parts) + rounded


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
    before = result.before.get(config.objective)
    if before is not None and result.objective <= before:
        parts.append(f"It is not better than the untrained model, whose {objective} is {before:.4f}.")
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


@dataclass(frozen=True)
class ScoredSet:
    """What was scored.

    Attributes:
        pairs: ``dev``, ``test`` or a benchmark's name.
        dims: the number of dimensions that embeddings were truncated to; None if they were not.
    """

    pairs: str
    dims: int | None


Scores = Mapping[ScoredSet, Mapping[str, float]]
"""What was scored -> metric (``spearman_cosine``) -> value."""


def grouped(metrics: Mapping[str, float], benchmarks: Collection[str]) -> Scores:
    """Group metrics by what was scored; a number at the end of a name is its dimensions, unless a benchmark has it."""
    scores: dict[ScoredSet, dict[str, float]] = {}
    for name, value in metrics.items():
        pairs, _, metric = name.rpartition("/")
        cut = None if pairs in benchmarks else _CUT.fullmatch(pairs)
        scored = ScoredSet(cut[1], int(cut[2])) if cut else ScoredSet(pairs, None)
        scores.setdefault(scored, {})[metric] = value
    return scores


def all_scores(config: TrialConfig, result: TrialResult) -> Scores:
    """Return all scores of the trained model; those of a benchmark once, though it was also watched."""
    scores = grouped({**result.dev, **result.test, **result.benchmarks}, benchmark_names(config))
    return {scored: of for scored, of in scores.items() if replace(scored, pairs=f"dev/{scored.pairs}") not in scores}


def benchmark_names(config: TrialConfig) -> set[str]:
    """Return what the metrics of the configured benchmarks begin with; of one that was watched, ``dev/`` is first."""
    evaluation = config.evaluation
    return {*(each.name for each in evaluation.benchmarks), *(f"dev/{each.name}" for each in evaluation.watch)}


def family_of(config: TrialConfig, pairs: str) -> Family:
    """Return the family that scores a split or a benchmark, by what the names of its metrics begin with."""
    evaluation = config.evaluation
    families = {each.name: each.family for each in evaluation.benchmarks}
    families |= {f"dev/{each.name}": each.family for each in evaluation.watch}
    return families.get(pairs, evaluation.family)


_MEASURED: Mapping[Family, str] = {
    "sts": "Pearson and Spearman correlation, over all pairs, between the similarity of a pair's embeddings and its "
    "gold score. `euclidean` and `manhattan` are negated distances; `max` is the largest value of its column. ",
    "retrieval": "How well each question finds the documents that are relevant to it among all documents, as the mean "
    "over the questions: `ndcg_at_10_cosine` is nDCG@10 of a ranking by cosine similarity. ",
    "triplets": "The share of triplets whose positive is more similar to the anchor than the negative. ",
    "pairs": "How well a threshold on the similarity of two texts separates pairs that mean the same from others; the "
    "threshold is the best one for each metric. ",
    "reranking": "How well the judged documents of each question are ranked by cosine similarity, as the mean over the "
    "questions. ",
}
"""Family -> what its metrics say."""


def evaluation_section(config: TrialConfig, result: TrialResult) -> str:
    """Write the section ``## Evaluation``."""
    after, before = all_scores(config, result), grouped(result.before, benchmark_names(config))
    family = config.evaluation.family
    splits = _splits if family == "sts" else _splits_by_metric
    pairs, _, metric = config.objective.rpartition("/")
    in_bold = ", in bold" if metric in after.get(ScoredSet(pairs, None), {}) else ""
    parts = [
        "## Evaluation",
        f"{_MEASURED[family]}The objective, by which the model was chosen, is `{config.objective}`{in_bold}.",
        splits(after, objective=config.objective),
    ]
    if before:
        parts += [
            "### Before training",
            f"Scores of the model before it was trained, on the same {'pairs' if family == 'sts' else 'data'}.",
            splits(before),
        ]
    for title, scores in (("", after), (" before training", before)):
        dims = {scored.dims for scored in scores if scored.dims is not None and scored.pairs in SPLITS}
        if dims:
            parts += [f"### Truncated embeddings{title}", splits(scores, sorted(dims, reverse=True))]
    benchmarks = [scored for scored in after if scored.pairs not in SPLITS]
    of_pairs = [scored for scored in benchmarks if family_of(config, scored.pairs) == "sts"]
    others = [scored for scored in benchmarks if scored not in of_pairs]
    parts += ["### Other benchmarks"] if benchmarks else []
    parts += [_benchmarks(of_pairs, after, before)] if of_pairs else []
    parts += [_benchmarks_by_metric(others, after, before)] if others else []
    return "\n\n".join(parts)


def _splits(scores: Scores, dims: Sequence[int | None] = (None,), objective: str = "") -> str:
    """Return a table of dev and test, with a row for each similarity of embeddings truncated to each of ``dims``."""
    splits = [split for split in SPLITS if any(scored.pairs == split for scored in scores)]
    labels = ["similarity"] if dims == (None,) else ["dimensions", "similarity"]
    rows = []
    for number in dims:
        scored = [ScoredSet(split, number) for split in splits]
        label = [] if number is None else [str(number)]
        rows += [[*label, similarity, *_cells(scores, scored, similarity, objective)] for similarity in _ROWS]
    heads = [f"{split} {correlation.title()}" for split in splits for correlation in CORRELATIONS]
    return table([*labels, *heads], rows, texts=len(labels))


def _splits_by_metric(scores: Scores, dims: Sequence[int | None] = (None,), objective: str = "") -> str:
    """Return a table of dev and test, with a row for each metric of embeddings truncated to each of ``dims``."""
    splits = [split for split in SPLITS if any(scored.pairs == split for scored in scores)]
    labels = ["metric"] if dims == (None,) else ["dimensions", "metric"]
    rows = []
    for number in dims:
        scored = [ScoredSet(split, number) for split in splits]
        for metric in dict.fromkeys(name for each in scored for name in scores.get(each, {})):
            cells = [_cell(scores, each, metric, objective) for each in scored]
            rows.append([*([] if number is None else [str(number)]), f"`{metric}`", *cells])
    return table([*labels, *splits], rows, texts=len(labels))


def _benchmarks_by_metric(benchmarks: Sequence[ScoredSet], after: Scores, before: Scores) -> str:
    sources = [after, *([before] if any(scored in before for scored in benchmarks) else [])]
    rows = [
        [scored.pairs.removeprefix("dev/"), str(scored.dims or "all"), f"`{metric}`"]
        + [_cell(scores, scored, metric) for scores in sources]
        for scored in benchmarks
        for metric in after[scored]
    ]
    return table(["benchmark", "dimensions", "metric", "score", "before"][: 3 + len(sources)], rows, texts=3)


def _benchmarks(benchmarks: Sequence[ScoredSet], after: Scores, before: Scores) -> str:
    sources = [after, *([before] if any(scored in before for scored in benchmarks) else [])]
    heads = [
        f"{name}{when}" for _, when in zip(sources, ("", " before"), strict=False) for name in ("Pearson", "Spearman")
    ]
    rows = [
        [scored.pairs.removeprefix("dev/"), str(scored.dims or "all"), similarity]
        + [cell for scores in sources for cell in _cells(scores, [scored], similarity)]
        for scored in benchmarks
        for similarity in _ROWS
    ]
    return table(["benchmark", "dimensions", "similarity", *heads], rows, texts=3)


def _cells(scores: Scores, wanted: Sequence[ScoredSet], similarity: str, objective: str = "") -> list[str]:
    """Return both correlations of each by one similarity."""
    return [
        _cell(scores, scored, f"{correlation}_{similarity}", objective)
        for scored in wanted
        for correlation in CORRELATIONS
    ]


def _cell(scores: Scores, scored: ScoredSet, metric: str, objective: str = "") -> str:
    """Return a score as text, in bold if it is the objective; a dash is a missing score."""
    value = scores.get(scored, {}).get(metric)
    text = "-" if value is None else f"{value:.4f}"
    return f"**{text}**" if scored.dims is None and f"{scored.pairs}/{metric}" == objective else text
