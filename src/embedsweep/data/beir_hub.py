"""Read datasets of the hub in the layout of BEIR: subsets ``corpus`` and ``queries``, and one of judgements.

So are BEIR's sets in `MTEB <https://huggingface.co/mteb>`_, whose judgements are the subset ``default``, and
`NanoBEIR <https://huggingface.co/datasets/sentence-transformers/NanoBEIR-en>`_, whose judgements are ``qrels`` without
a score; each split of the latter is a set of its own, with the same name in all subsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from embedsweep.config.trial import DataConfig, Split
from embedsweep.data.beir import JUDGEMENT, Judged, Texts, check_settings, judged, layout, texts
from embedsweep.data.sources import HubDataset, hub_dataset
from embedsweep.data.tables import Findings, Row, Table, choose, joined_parts
from embedsweep.data.texts import is_blank
from embedsweep.errors import ConfigError

JUDGEMENTS = ("qrels", "default")
"""Usual names of the subset of judgements, where ``data.language`` names none."""


def read_hub_judged(
    hub: str, data: DataConfig, splits: Sequence[Split], instead: str
) -> dict[Split, Judged | ConfigError]:
    """Read splits of a dataset, from the local cache if it is there; for which revision see :func:`hub_dataset`.

    Documents and queries without a text are left out, as by sentence-transformers, with what judges them; the origin
    says how many.

    Args:
        hub: its id.
        data: its revision, names of splits, and whether titles belong to texts; ``language`` is the subset of
            judgements.
        splits: the splits to read.
        instead: advice for users who cannot reach the hub.

    Raises:
        ConfigError: the dataset is not cached and the hub cannot be reached, or it cannot be loaded.
    """
    check_settings(data)
    qrels = _judgements(hub, data, instead)
    corpus, queries = (hub_dataset(hub, replace(data, language=name), instead) for name in ("corpus", "queries"))
    outcomes: dict[Split, Judged | ConfigError] = {}
    for split in splits:
        try:
            outcomes[split] = _judged(qrels, queries, corpus, data, split)
        except ConfigError as error:
            outcomes[split] = error
    return outcomes


def _judgements(hub: str, data: DataConfig, instead: str) -> HubDataset:
    """Return the subset of judgements; of several usual names the first that there is."""
    errors = []
    for name in JUDGEMENTS if data.language is None else (data.language,):
        try:
            return hub_dataset(hub, replace(data, language=name), instead)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _judged(qrels: HubDataset, queries: HubDataset, corpus: HubDataset, data: DataConfig, split: Split) -> Judged:
    names = data.splits[split]
    has_scores = all("score" in qrels.split(name, split).column_names for name in names)
    table = joined_parts(names, lambda name: _table(qrels, name, JUDGEMENT if has_scores else JUDGEMENT[:2]))
    documents, blank_documents = _texts(corpus, names, ("_id", "title", "text") if data.titles else ("_id", "text"))
    asked, blank_queries = _texts(queries, names, ("_id", "text"))
    rows = [row for row in table.rows if row.cells[0] not in blank_queries and row.cells[1] not in blank_documents]
    if blank := len(blank_documents) + len(blank_queries):
        table.findings.origin += f" ({blank} {'text' if blank == 1 else 'texts'} without a character left out)"
    return judged(Table(rows, table.findings), asked, documents)


def _texts(dataset: HubDataset, names: Sequence[str], columns: tuple[str, ...]) -> tuple[Texts, set[object]]:
    """Return the texts that belong to splits of the judgements, and the ids of the rows that have none.

    They are in the splits of the same names, else in the only one there is.
    """
    own = [name for name in names if name in dataset.splits] or list(dataset.splits)
    if len(own) > len(names):
        message = f"has the splits {', '.join(own)}, of which none is called {', '.join(names)}"
        raise ConfigError.single(dataset.source, f"{message}: there must be one, or a single one for all")
    table = joined_parts(own, lambda name: _table(dataset, name, columns))
    blank = {row.cells[0] for row in table.rows if all(isinstance(c, str) and is_blank(c) for c in row.cells[1:])}
    rows: list[Row] = [row for row in table.rows if row.cells[0] not in blank]
    return texts(Table(rows, table.findings)), blank


def _table(dataset: HubDataset, name: str, columns: tuple[str, ...]) -> Table:
    table: Any = dataset.splits[name]
    findings = Findings(f"{dataset.source} {name}")
    picker = choose(table.column_names, layout(columns, "utf-8"), findings, "it has")
    picker.take_columns(findings.origin, len(table), lambda position: table[table.column_names[position]][:])
    return picker.table()
