"""Read documents, queries and judgements in the layout of BEIR: each file checked alone, then against the others.

The layout is that of `BEIR <https://github.com/beir-cellar/beir>`_ (Thakur et al. 2021)::

    corpus.jsonl          a document a line: _id, text and perhaps title
    queries.jsonl         a query a line: _id, text
    qrels/<split>.tsv     the judgements of a split, with the header query-id, corpus-id, score; or as TREC has them
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from embedsweep.config.trial import DataConfig, Quoting, Split
from embedsweep.data.checks import as_number, check_texts
from embedsweep.data.contents import text_of
from embedsweep.data.delimited import read_delimited
from embedsweep.data.examples import COLUMNS, Examples
from embedsweep.data.formats import read_json_lines
from embedsweep.data.scored import Retrieval
from embedsweep.data.sources import file_names, missing_folder
from embedsweep.data.tables import Findings, Layout, Row, Table, joined_parts, quoted
from embedsweep.data.texts import half_character, is_blank
from embedsweep.errors import ConfigError, Problem
from embedsweep.files import user_path

CORPUS, QUERIES = "corpus.jsonl", "queries.jsonl"
"""The files of documents and of queries."""

JUDGEMENT = ("query-id", "corpus-id", "score")
"""The columns of a judgement."""


class Judged(NamedTuple):
    """A split of data with judgements.

    Attributes:
        retrieval: the queries that it judges, and all documents.
        pairs: each query with each document that is relevant to it, in the order of the judgements, to train on.
    """

    retrieval: Retrieval
    pairs: Examples


@dataclass(frozen=True)
class Texts:
    """The documents or the queries of a source.

    Attributes:
        of: id -> text, in the order of the source.
        places: id -> place.
        source: the name of their file, for messages.
        problems: all that is wrong with them; then there may be more ids than those above.
    """

    of: Mapping[str, str]
    places: Mapping[str, str]
    source: str
    problems: tuple[Problem, ...]


def read_folder(data: DataConfig, splits: Sequence[Split]) -> dict[Split, Judged | ConfigError]:
    """Read splits of a folder in the layout of BEIR; of each all problems, those of documents and queries included.

    Args:
        data: its path, the names of its judgements' files, and whether titles belong to texts.
        splits: the splits to read.

    Raises:
        ConfigError: there is no such folder, or ``data`` sets values that the layout does not read.
    """
    check_settings(data)
    folder = _folder(data)
    documents, queries = _texts_of(folder, data.encoding, data.titles)
    outcomes: dict[Split, Judged | ConfigError] = {}
    for split in splits:
        try:
            names = file_names(data, split, splits)
            table = joined_parts(
                [_or_packed(folder / name) for name in names], lambda path: _read_judgements(path, data)
            )
            outcomes[split] = judged(table, queries, documents)
        except ConfigError as error:
            outcomes[split] = error
    return outcomes


def check_settings(data: DataConfig) -> None:
    """Check that nothing is set that the layout fixes; trials that differ in it only would be the same trial."""
    fixed: Mapping[str, object] = {"shape": "positive_pairs", "columns": COLUMNS["positive_pairs"], "where": {}}
    problems = [
        Problem(f"data.{key}", f"is not read: data.format=beir has its own columns ({', '.join(JUDGEMENT)}); leave it")
        for key, value in fixed.items()
        if getattr(data, key) != value
    ]
    if problems:
        raise ConfigError(problems)


def _folder(data: DataConfig) -> Path:
    assert data.path is not None, "the caller has looked"
    folder = user_path(data.path)
    if folder.is_file():
        needed = f"{CORPUS}, {QUERIES} and {data.files}"
        raise ConfigError.single("data.path", f"{folder} is a file: data.format=beir reads a folder with {needed}")
    if not folder.is_dir():
        raise ConfigError.single("data.path", missing_folder(folder))
    return folder


@functools.lru_cache(maxsize=4)
def _texts_of(folder: Path, encoding: str, titles: bool) -> tuple[Texts, Texts]:
    """Return the documents and the queries of a folder; cached, as all its splits share them."""
    columns = ("_id", "title", "text") if titles else ("_id", "text")
    documents = _read_texts(folder / CORPUS, layout(columns, encoding))
    queries = _read_texts(folder / QUERIES, layout(("_id", "text"), encoding))
    return documents, queries


def _read_texts(path: Path, columns: Layout) -> Texts:
    path = _or_packed(path)
    try:
        return texts(read_json_lines(path, columns))
    except ConfigError as error:
        return Texts({}, {}, str(path), error.problems)


def _or_packed(path: Path) -> Path:
    """Return a file's path, or if only that exists the same with ``.gz`` at its end."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.exists() else path


def layout(columns: tuple[str, ...], encoding: str, delimiter: str = ",", quoting: Quoting = "auto") -> Layout:
    """Return how files of the layout are read, whose columns have fixed names."""
    return Layout(columns, {}, delimiter, encoding, quoting, False, key="data.format=beir", optional=("title",))


def _read_judgements(path: Path, data: DataConfig) -> Table:
    """Read the judgements of one file: columns in any order below a header, or without one the four columns of TREC.

    Names in the header may be written with an underscore or in capitals.

    Raises:
        ConfigError: no judgement can be read.
    """
    columns = layout(JUDGEMENT, data.encoding, data.delimiter, data.quoting)
    text = text_of(path, columns)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if _trec_fields(first) is not None:
        return _read_trec(path, text)
    header = first.split(data.delimiter)
    names = {name.strip().casefold().replace("_", "-"): name.strip() for name in header}
    present = [names[name] for name in JUDGEMENT if name in names]
    is_other = len(header) > 1 or not any(name in first for name in JUDGEMENT)
    if first and is_other and len(present) < len(JUDGEMENT) and '"' not in first:
        raise ConfigError.single(str(path), _wrong_header(header, names.keys(), data.delimiter))
    return read_delimited(
        path, replace(columns, columns=tuple(present) if len(present) == len(JUDGEMENT) else JUDGEMENT)
    )


def _wrong_header(header: Sequence[str], names: Set[str], delimiter: str) -> str:
    """Return what is wrong with a first line that lacks a column of judgements."""
    line = quoted(delimiter.join(header))
    needed = ("<TAB>" if delimiter == "\t" else delimiter).join(JUDGEMENT)
    if missing := [name for name in JUDGEMENT if name not in names] if names & set(JUDGEMENT) else []:
        there = ", ".join(quoted(name.strip()) for name in header)
        return f"its header has no {' and no '.join(missing)}, but {there}: rename the columns"
    if any(as_number(cell) is not None for cell in (*header, *header[0].split())):
        return f"has no header, but begins with {line}: write the line {needed} above it"
    return f"begins with {line}: name its columns {needed}, or write that line above it if this one is a judgement"


def _trec_fields(line: str) -> list[str] | None:
    """Return query, iteration, document and relevance of a line of TREC's qrels; None if it is none.

    The iteration, which nobody uses, tells it from other lines (https://trec.nist.gov/data/qrels_eng/).
    """
    fields = line.split("\t") if "\t" in line else line.split()
    is_trec = len(fields) == 4 and fields[1].strip() in ("0", "Q0") and as_number(fields[3]) is not None
    return [field.strip() for field in fields] if is_trec else None


def _read_trec(path: Path, text: str) -> Table:
    findings, rows = Findings(str(path)), []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if (fields := _trec_fields(line)) is not None:
            rows.append(Row(where, (fields[0], fields[2], fields[3])))
        elif line.strip():
            message = f"is {quoted(line.strip())}, where the first line has query, 0, document and relevance"
            findings.add_row("lines of another form", where, f"{message}: complete the line or leave it out")
    return Table(rows, findings)


def texts(table: Table) -> Texts:
    """Check documents or queries.

    Args:
        table: id and text of every row, with the title between them where titles belong to texts; and the problems of
            reading.
    """
    findings = table.findings
    rows = [Row(where, (cells[-1] if len(cells) == 2 else _with_title(*cells[1:]),)) for where, cells in table.rows]
    check_texts(rows, ["text"], findings)
    if not table.rows and not findings:
        findings.add("has no rows")
    of: dict[str, str] = {}
    places: dict[str, str] = {}
    for (where, cells), row in zip(table.rows, rows, strict=True):
        name = _id(cells[0], "_id", where, findings)
        if name is None:
            continue
        if name in places:
            message = f"_id {quoted(name)} is also that of {places[name]}: give each its own, or leave one out"
            findings.add_row("ids that occur twice", where, message)
            continue
        of[name], places[name] = str(row.cells[0]), where
    problems = findings.error().problems if findings else ()
    if not problems and all(len(cells) == 3 and _is_untitled(cells[1]) for _, cells in table.rows):
        problems = (Problem("data.titles", f"no document of {findings.origin} has a title: leave it at false"),)
    return Texts(of, places, findings.origin, tuple(problems))


def _is_untitled(title: object) -> bool:
    return title is None or (isinstance(title, str) and is_blank(title))


def _with_title(title: object, text: object) -> object:
    """Return a text behind its title, as BEIR joins them: with a space; what is no text is left to the check."""
    if not isinstance(title, str | None):
        return title
    if _is_untitled(title) or not isinstance(text, str):
        return text
    return f"{title} {text}".strip()


def _id(value: object, name: str, where: str, findings: Findings) -> str | None:
    """Return an id as text; whole numbers are ids, too. None, and a problem, for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and not is_blank(value) and half_character(value) is None:
        return value
    message = f"{name} is {quoted(value)}: write an id, a text or a whole number"
    findings.add_row("rows without an id", where, message)
    return None


class _Judgement(NamedTuple):
    query: str
    document: str
    relevance: float
    where: str


def judged(table: Table, queries: Texts, documents: Texts) -> Judged:
    """Check the judgements of a split, and return them with their texts.

    Queries without a relevant document are left out, which the origin says.

    Args:
        table: query id, document id and relevance of every row, and the problems of reading.
        queries: of the source.
        documents: of the source.

    Raises:
        ConfigError: all problems, those of queries and documents included.
    """
    findings = table.findings
    judgements = [one for row in table.rows if (one := _judgement(row, findings)) is not None]
    _check_known(judgements, "query-id", lambda one: one.query, queries, findings)
    _check_known(judgements, "corpus-id", lambda one: one.document, documents, findings)
    first: dict[tuple[str, str], str] = {}
    for one in judgements:
        if (before := first.setdefault((one.query, one.document), one.where)) != one.where:
            message = f"judges {quoted(one.query)} and {quoted(one.document)} as {before} does: leave one out"
            findings.add_row("judgements that occur twice", one.where, message)
    relevant = {one.query: None for one in judgements if one.relevance > 0}
    if not findings and not table.rows:
        findings.add("has no rows")
    elif not findings and len(relevant) < 2:
        count = "no query has" if not relevant else "only one query has"
        findings.add(f"{count} a relevant document (a score above 0); at least two are needed")
    problems = (*documents.problems, *queries.problems, *(findings.error().problems if findings else ()))
    if problems:
        raise ConfigError(problems)
    return _with_texts(judgements, relevant, queries, documents, findings.origin)


def _judgement(row: Row, findings: Findings) -> _Judgement | None:
    """Return a row's judgement; None, and its problems, if it is none. Without a score a document is relevant."""
    names = [_id(cell, name, row.where, findings) for cell, name in zip(row.cells[:2], JUDGEMENT, strict=False)]
    score = row.cells[2] if len(row.cells) > 2 else 1
    number = as_number(score)
    advice = "write 0 for a document that is not relevant, 1 or a higher grade for one that is"
    if number is None:
        findings.add_row("scores that are not numbers", row.where, f"score {quoted(score)} is not a number: {advice}")
    elif not math.isfinite(number):
        message = f"score {quoted(str(score).strip())} is not a finite number: {advice}"
        findings.add_row("scores that are not finite", row.where, message)
    elif number < 0:
        findings.add_row("negative scores", row.where, f"score {number:g} is negative: {advice}")
    query, document = names
    if query is None or document is None or number is None or not 0 <= number < math.inf:
        return None
    return _Judgement(query, document, number, row.where)


def _check_known(
    judgements: Sequence[_Judgement], name: str, of: Callable[[_Judgement], str], texts: Texts, findings: Findings
) -> None:
    """Add a problem for each judgement of an id that no text has; where texts are wrong themselves, ids may lack."""
    if texts.problems:
        return
    unknown = [one for one in judgements if of(one) not in texts.of]
    stripped = {known.strip(): known for known in texts.of} if unknown else {}
    for one in unknown:
        message = f"{name} {quoted(of(one))} is not in {texts.source}: add it there, or leave the row out"
        if (known := stripped.get(of(one).strip())) is not None:
            message = f"{name} {quoted(of(one))} differs in white space from {quoted(known)} of {texts.places[known]}"
            message += ": remove the white space around the id"
        findings.add_row(f"rows whose {name} is unknown", one.where, message)


def _with_texts(
    judgements: Sequence[_Judgement], relevant: Mapping[str, None], queries: Texts, documents: Texts, origin: str
) -> Judged:
    of_query: dict[str, dict[str, float]] = {query: {} for query in relevant}
    for one in judgements:
        if one.query in relevant:
            of_query[one.query][one.document] = one.relevance
    without = len({one.query for one in judgements}) - len(relevant)
    note = f" ({without} {'query' if without == 1 else 'queries'} without a relevant document left out)"
    retrieval = Retrieval(
        query_ids=tuple(relevant),
        queries=tuple(queries.of[query] for query in relevant),
        document_ids=tuple(documents.of),
        documents=tuple(documents.of.values()),
        relevant=of_query,
        origin=origin + (note if without else ""),
        places=tuple(queries.places[query] for query in relevant),
    )
    pairs = [one for one in judgements if one.relevance > 0]
    texts = (tuple(queries.of[one.query] for one in pairs), tuple(documents.of[one.document] for one in pairs))
    what = f"positive pairs: score above 0, {len(pairs)} of {len(judgements)} judgements"
    conversion = None if len(pairs) == len(judgements) else what
    places = tuple(one.where for one in pairs)
    return Judged(retrieval, Examples("positive_pairs", texts, None, None, origin, conversion, places))
