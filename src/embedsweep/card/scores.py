"""The card's evaluation: correlations before and after training, of truncated embeddings and of other benchmarks.

Metrics are known by their names: ``dev/spearman_cosine``; ``dev-256/...`` of embeddings truncated to 256 dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from embedsweep.card.text import table
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import SIMILARITIES, TrialConfig

CORRELATIONS = ("pearson", "spearman")
SPLITS = ("dev", "test")
_ROWS = (*SIMILARITIES, "max")
_CUT = re.compile(r"(.+)-(\d+)")


@dataclass(frozen=True)
class Scored:
    """What was scored.

    Attributes:
        pairs: ``dev``, ``test`` or a benchmark's name.
        dims: the number of dimensions that embeddings were truncated to; None if they were not.
    """

    pairs: str
    dims: int | None


Scores = Mapping[Scored, Mapping[str, float]]
"""What was scored -> metric (``spearman_cosine``) -> value."""


def grouped(metrics: Mapping[str, float], benchmarks: Collection[str]) -> Scores:
    """Group metrics by what was scored; a number at the end of a name is its dimensions, unless a benchmark has it."""
    scores: dict[Scored, dict[str, float]] = {}
    for name, value in metrics.items():
        pairs, _, metric = name.rpartition("/")
        cut = None if pairs in benchmarks else _CUT.fullmatch(pairs)
        scored = Scored(cut[1], int(cut[2])) if cut else Scored(pairs, None)
        scores.setdefault(scored, {})[metric] = value
    return scores


def all_scores(config: TrialConfig, result: TrialResult) -> Scores:
    """Return all scores of the trained model."""
    return grouped({**result.dev, **result.test, **result.benchmarks}, benchmark_names(config))


def benchmark_names(config: TrialConfig) -> set[str]:
    """Return the names of the configured benchmarks."""
    return {benchmark.name for benchmark in config.evaluation.benchmarks}


def evaluation_section(config: TrialConfig, result: TrialResult) -> str:
    """Write the section ``## Evaluation``."""
    after, before = all_scores(config, result), grouped(result.before, benchmark_names(config))
    parts = [
        "## Evaluation",
        "Pearson and Spearman correlation, over all pairs, between the similarity of a pair's embeddings and its gold "
        "score. `euclidean` and `manhattan` are negated distances; `max` is the largest value of its column. "
        f"The objective, by which the model was chosen, is `{config.objective}`{_bold(config, after)}.",
        _splits(after, objective=config.objective),
    ]
    if before:
        parts += [
            "### Before training",
            "Scores of the model before it was trained, on the same pairs.",
            _splits(before),
        ]
    for title, scores in (("", after), (" before training", before)):
        if dims := _truncated_to(scores):
            parts += [f"### Truncated embeddings{title}", _splits(scores, dims)]
    if any(scored.pairs not in SPLITS for scored in after):
        parts += ["### Other benchmarks", _benchmarks(after, before)]
    return "\n\n".join(parts)


def _bold(config: TrialConfig, after: Scores) -> str:
    pairs, _, metric = config.objective.rpartition("/")
    return ", in bold" if metric in after.get(Scored(pairs, None), {}) else ""


def _splits(scores: Scores, dims: Sequence[int | None] = (None,), objective: str = "") -> str:
    """Return a table of dev and test, with a row for each similarity of embeddings truncated to each of ``dims``."""
    splits = [split for split in SPLITS if any(scored.pairs == split for scored in scores)]
    labels = ["similarity"] if dims == (None,) else ["dimensions", "similarity"]
    rows = []
    for number in dims:
        scored = [Scored(split, number) for split in splits]
        label = [] if number is None else [str(number)]
        rows += [[*label, similarity, *_cells(scores, scored, similarity, objective)] for similarity in _ROWS]
    heads = [f"{split} {correlation.title()}" for split in splits for correlation in CORRELATIONS]
    return table([*labels, *heads], rows, texts=len(labels))


def _truncated_to(scores: Scores) -> list[int]:
    """Return the numbers of dimensions that embeddings of dev and test were truncated to, descending."""
    dims = {scored.dims for scored in scores if scored.dims is not None and scored.pairs in SPLITS}
    return sorted(dims, reverse=True)


def _benchmarks(after: Scores, before: Scores) -> str:
    benchmarks = [scored for scored in after if scored.pairs not in SPLITS]
    sources = [after, *([before] if any(scored in before for scored in benchmarks) else [])]
    heads = [
        f"{name}{when}" for _, when in zip(sources, ("", " before"), strict=False) for name in ("Pearson", "Spearman")
    ]
    rows = [
        [scored.pairs, str(scored.dims or "all"), similarity]
        + [cell for scores in sources for cell in _cells(scores, [scored], similarity)]
        for scored in benchmarks
        for similarity in _ROWS
    ]
    return table(["benchmark", "dimensions", "similarity", *heads], rows, texts=3)


def _cells(scores: Scores, wanted: Sequence[Scored], similarity: str, objective: str = "") -> list[str]:
    """Return both correlations of each by one similarity; a dash is a missing score."""
    cells = []
    for scored in wanted:
        for correlation in CORRELATIONS:
            metric = f"{correlation}_{similarity}"
            value = scores.get(scored, {}).get(metric)
            text = "-" if value is None else f"{value:.4f}"
            chosen = scored.dims is None and f"{scored.pairs}/{metric}" == objective
            cells.append(f"**{text}**" if chosen else text)
    return cells
