"""The card's evaluation: all correlations before and after training, of cut embeddings and of further benchmarks.

Must not know where a score came from; their names say all there is to say (``dev/spearman_cosine``, ``dev-256/...``).
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
    """What a score is of.

    Attributes:
        pairs: ``dev``, ``test`` or a benchmark's name.
        dims: how many of its first dimensions were left of an embedding; None is all.
    """

    pairs: str
    dims: int | None


Scores = Mapping[Scored, Mapping[str, float]]
"""What was scored -> metric (``spearman_cosine``) -> value."""


def grouped(metrics: Mapping[str, float], benchmarks: Collection[str]) -> Scores:
    """Metrics by what they are of; a number behind a name is its dimensions, unless a benchmark is called so."""
    found: dict[Scored, dict[str, float]] = {}
    for name, value in metrics.items():
        pairs, _, metric = name.rpartition("/")
        cut = None if pairs in benchmarks else _CUT.fullmatch(pairs)
        scored = Scored(cut[1], int(cut[2])) if cut else Scored(pairs, None)
        found.setdefault(scored, {})[metric] = value
    return found


def all_scores(config: TrialConfig, result: TrialResult) -> Scores:
    """All scores of the trained model."""
    return grouped({**result.dev, **result.test, **result.benchmarks}, benchmark_names(config))


def benchmark_names(config: TrialConfig) -> set[str]:
    """Names of the further benchmarks."""
    return {benchmark.name for benchmark in config.evaluation.benchmarks}


def evaluation_section(config: TrialConfig, result: TrialResult) -> str:
    """The whole section."""
    after, before = all_scores(config, result), grouped(result.before, benchmark_names(config))
    parts = [
        "## Evaluation",
        "Correlation, over all pairs, of the similarity of a pair's embeddings with its gold score. `euclidean` and "
        "`manhattan` are negated distances; `max` is the largest of its column. "
        f"The objective, by which models are chosen, is `{config.objective}`{_bold(config, after)}.",
        _splits(after, config.objective),
    ]
    if before:
        parts += [
            "### Before training",
            "The same pairs, scored by the model that training started from.",
            _splits(before),
        ]
    for title, scores in (("", after), (" before training", before)):
        if any(scored.dims is not None and scored.pairs in SPLITS for scored in scores):
            parts += [f"### Embeddings cut to their first dimensions{title}", _cut(scores)]
    if any(scored.pairs not in SPLITS for scored in after):
        parts += ["### Further benchmarks", _further(after, before)]
    return "\n\n".join(parts)


def _bold(config: TrialConfig, after: Scores) -> str:
    pairs, _, metric = config.objective.rpartition("/")
    return ", in bold" if metric in after.get(Scored(pairs, None), {}) else ""


def _splits(scores: Scores, objective: str = "") -> str:
    splits = _splits_of(scores)
    wanted = [Scored(split, None) for split in splits]
    rows = [[similarity, *_cells(scores, wanted, similarity, objective)] for similarity in _ROWS]
    return table(["similarity", *_heads(splits)], rows, texts=1)


def _cut(scores: Scores) -> str:
    splits = _splits_of(scores)
    dims = sorted(
        {scored.dims for scored in scores if scored.dims is not None and scored.pairs in SPLITS}, reverse=True
    )
    rows = [
        [str(number), similarity, *_cells(scores, [Scored(split, number) for split in splits], similarity)]
        for number in dims
        for similarity in _ROWS
    ]
    return table(["dimensions", "similarity", *_heads(splits)], rows, texts=2)


def _further(after: Scores, before: Scores) -> str:
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


def _splits_of(scores: Scores) -> list[str]:
    return [split for split in SPLITS if any(scored.pairs == split for scored in scores)]


def _heads(splits: Sequence[str]) -> list[str]:
    return [f"{split} {correlation.title()}" for split in splits for correlation in CORRELATIONS]


def _cells(scores: Scores, wanted: Sequence[Scored], similarity: str, objective: str = "") -> list[str]:
    """Both correlations of each by one similarity; a dash is a score there is none of."""
    cells = []
    for scored in wanted:
        for correlation in CORRELATIONS:
            metric = f"{correlation}_{similarity}"
            value = scores.get(scored, {}).get(metric)
            text = "-" if value is None else f"{value:.4f}"
            chosen = scored.dims is None and f"{scored.pairs}/{metric}" == objective
            cells.append(f"**{text}**" if chosen else text)
    return cells
