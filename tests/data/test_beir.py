"""Reading documents, queries and judgements in the layout of BEIR."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.trial import DataConfig
from embedsweep.data.examples import Examples
from embedsweep.data.load import load_retrieval, load_splits, load_train
from embedsweep.data.scored import Retrieval
from embedsweep.errors import ConfigError
from embedsweep.validation.single import pass_audit
from tests.configs import SCORED

BEIR = replace(
    SCORED,
    name="beir",
    format="beir",
    files="qrels/{split}.tsv",
    shape="positive_pairs",
    columns=("anchor", "positive"),
    delimiter="\t",
)
CORPUS = (
    '{"_id": "d1", "title": "One", "text": "first"}',
    '{"_id": "d2", "title": "", "text": "second"}',
    '{"_id": "d3", "text": "third", "metadata": {}}',
)
QUERIES = ('{"_id": "q1", "text": "one?"}', '{"_id": "q2", "text": "two?"}', '{"_id": "q3", "text": "three?"}')
HEADER = "query-id\tcorpus-id\tscore"
QRELS = (HEADER, "q2\td2\t1", "q1\td3\t0", "q1\td1\t2", "q2\td3\t1")


def _write(folder: Path, corpus: str | bytes, queries: str | bytes, qrels: str | bytes) -> Path:
    (folder / "qrels").mkdir()
    for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/train.tsv", qrels)):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write(tmp_path, "\n".join(CORPUS), "\n".join(QUERIES), "\n".join(QRELS))


def _retrieval(folder: Path, **changes: object) -> Retrieval:
    return load_retrieval(replace(BEIR, path=str(folder), **changes), "train")  # type: ignore[arg-type]


def _train(folder: Path, **changes: object) -> Examples:
    return load_train(replace(BEIR, path=str(folder), **changes))  # type: ignore[arg-type]


def _refusal(folder: Path, config: DataConfig = BEIR) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_train(replace(config, path=str(folder)))
    return [str(problem).replace(f"{folder}{os.sep}", "") for problem in error.value.problems]


def test_a_split_is_the_queries_it_judges_and_all_documents(folder: Path) -> None:
    retrieval = _retrieval(folder)
    assert retrieval.query_ids == ("q2", "q1")
    assert retrieval.queries == ("two?", "one?")
    assert retrieval.document_ids == ("d1", "d2", "d3")
    assert retrieval.documents == ("first", "second", "third")
    assert retrieval.relevant == {"q2": {"d2": 1.0, "d3": 1.0}, "q1": {"d3": 0.0, "d1": 2.0}}
    assert retrieval.origin == str(folder / "qrels" / "train.tsv")
    assert retrieval.places == (f"{folder}/queries.jsonl, line 2", f"{folder}/queries.jsonl, line 1")


def test_every_relevant_document_is_a_positive_pair_in_the_order_of_the_file(folder: Path) -> None:
    train = _train(folder)
    assert train.texts == (("two?", "one?", "two?"), ("second", "first", "third"))
    assert train.places == tuple(f"{folder}/qrels/train.tsv, line {line}" for line in (2, 4, 5))
    assert train.conversion == "positive pairs: score above 0, 3 of 4 judgements"


def test_the_limit_cuts_the_pairs_but_not_what_is_known_to_be_relevant(folder: Path) -> None:
    assert _train(folder, limit=2).texts[1] == ("second", "first")
    assert _retrieval(folder, limit=2) == _retrieval(folder)


def test_titles_are_put_before_texts_where_there_are_any(folder: Path) -> None:
    assert _retrieval(folder, titles=True).documents == ("One first", "second", "third")
    assert _train(folder, titles=True).texts[1] == ("second", "One first", "third")


def test_a_title_alone_is_a_text(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text("\n".join([*CORPUS[1:], '{"_id": "d1", "title": "One", "text": ""}']))
    assert _retrieval(folder, titles=True).documents == ("second", "third", "One")
    empty = "corpus.jsonl, line 3: text is empty: fill it in or leave the row out"
    assert _refusal(folder) == [empty]


def test_titles_that_no_document_has_are_refused(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text("\n".join([*CORPUS[1:], '{"_id": "d1", "title": null, "text": "first"}']))
    message = f"data.titles: no document of {folder}/corpus.jsonl has a title: leave it at false"
    assert _refusal(folder, replace(BEIR, titles=True)) == [message.replace(f"{folder}{os.sep}", "")]


def test_queries_without_a_relevant_document_are_left_out_and_counted(folder: Path) -> None:
    path = folder / "qrels" / "train.tsv"
    path.write_text("\n".join([*QRELS, "q3\td1\t0", "q3\td2\t0"]))
    assert _retrieval(folder).query_ids == ("q2", "q1")
    assert _retrieval(folder).origin == f"{path} (1 query without a relevant document left out)"


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda lines: "\ufeff" + "\n".join(lines), id="byte-order mark"),
        pytest.param(lambda lines: "\r\n".join(lines) + "\r\n", id="CRLF"),
        pytest.param(lambda lines: "\n" + "\n\n".join(lines) + "\n\n", id="blank lines"),
        pytest.param(lambda lines: gzip.compress("\n".join(lines).encode()), id="gzip"),
    ],
)
def test_files_are_read_however_their_lines_are_written(
    tmp_path: Path, written: Callable[[tuple[str, ...]], str | bytes]
) -> None:
    folder = _write(tmp_path, written(CORPUS), written(QUERIES), written(QRELS))
    retrieval = _retrieval(folder)
    assert retrieval.documents == ("first", "second", "third")
    assert retrieval.queries == ("two?", "one?")
    assert retrieval.relevant == {"q2": {"d2": 1.0, "d3": 1.0}, "q1": {"d3": 0.0, "d1": 2.0}}


def test_packed_files_may_have_the_suffix_gz(folder: Path) -> None:
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert _retrieval(folder).documents == ("first", "second", "third")


def test_ids_may_be_whole_numbers(tmp_path: Path) -> None:
    corpus = "\n".join(json.dumps({"_id": number, "text": f"text {number}"}) for number in (1, 2))
    queries = "\n".join(json.dumps({"_id": number, "text": f"query {number}"}) for number in (7, 8))
    folder = _write(tmp_path, corpus, queries, f"{HEADER}\n7\t2\t1\n8\t1\t1\n")
    assert _retrieval(folder).relevant == {"7": {"2": 1.0}, "8": {"1": 1.0}}


def test_columns_of_judgements_may_be_in_any_order_with_others_between(tmp_path: Path) -> None:
    lines = ["score\tcorpus-id\tby\tquery-id", "2\td1\tann\tq1", "1\td2\tann\tq2"]
    folder = _write(tmp_path, "\n".join(CORPUS), "\n".join(QUERIES), "\n".join(lines))
    assert _retrieval(folder).relevant == {"q1": {"d1": 2.0}, "q2": {"d2": 1.0}}


@pytest.mark.parametrize("header", ["query_id\tcorpus_id\tscore", "Query-ID\tCorpus-ID\tScore"])
def test_names_of_columns_may_be_written_otherwise(folder: Path, header: str) -> None:
    (folder / "qrels" / "train.tsv").write_text("\n".join([header, *QRELS[1:]]))
    assert _retrieval(folder).relevant == {"q2": {"d2": 1.0, "d3": 1.0}, "q1": {"d3": 0.0, "d1": 2.0}}


@pytest.mark.parametrize(
    "line", ["{0} 0 {1} {2}", "{0}\t0\t{1}\t{2}", "{0}  Q0   {1} {2} ", "{0} 0 {1} {2}\r", "\n{0} 0 {1} {2}"]
)
def test_judgements_of_trec_are_read(folder: Path, line: str) -> None:
    rows = [line.format(*row.split("\t")) for row in QRELS[1:]]
    (folder / "qrels" / "train.tsv").write_text("\n".join(rows) + "\n", newline="")
    assert _retrieval(folder).relevant == {"q2": {"d2": 1.0, "d3": 1.0}, "q1": {"d3": 0.0, "d1": 2.0}}


def test_wrong_lines_of_trec_are_reported_with_their_lines(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").write_text("q1 0 d1 1\nq2 0 d2\nq2 0 d2 -1\nq2 0 d9 1\n")
    assert _refusal(folder) == [
        "qrels/train.tsv, line 2: is 'q2 0 d2', where the first line has query, 0, document and relevance: complete "
        "the line or leave it out",
        f"qrels/train.tsv, line 3: score -1 is negative: {ADVICE}",
        "qrels/train.tsv, line 4: corpus-id 'd9' is not in corpus.jsonl: add it there, or leave the row out",
    ]


def test_ids_that_differ_in_white_space_are_named(folder: Path) -> None:
    (folder / "queries.jsonl").write_text("\n".join([*QUERIES, '{"_id": "q4 ", "text": "four?"}']))
    (folder / "qrels" / "train.tsv").write_text("\n".join([*QRELS, "q1 \td2\t1", "q4\t d3\t1"]))
    advice = "remove the white space around the id"
    assert _refusal(folder) == [
        f"qrels/train.tsv, line 6: query-id 'q1 ' differs in white space from 'q1' of queries.jsonl, line 1: {advice}",
        f"qrels/train.tsv, line 7: query-id 'q4' differs in white space from 'q4 ' of queries.jsonl, line 4: {advice}",
        f"qrels/train.tsv, line 7: corpus-id ' d3' differs in white space from 'd3' of corpus.jsonl, line 3: {advice}",
    ]


def test_damaged_and_otherwise_encoded_files_are_named(folder: Path) -> None:
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress("\n".join(CORPUS).encode())[:-20])
    (folder / "queries.jsonl").write_text("\n".join(QUERIES), encoding="utf-16")
    (folder / "qrels" / "train.tsv").write_text("\n".join(QRELS), encoding="utf-16-le")
    convert = "convert it with iconv -f utf-16 -t utf-8, or set data.encoding=utf-16"
    assert _refusal(folder) == [
        "corpus.jsonl.gz: is compressed by gzip and damaged (Compressed file ended before the end-of-stream marker was "
        "reached): get it or write it again",
        f"queries.jsonl, line 1: byte 1 (0xff) is not UTF-8; the file is probably UTF-16: {convert}",
        f"qrels/train.tsv: is probably in UTF-16: {convert}",
    ]


ADVICE = "write 0 for a document that is not relevant, 1 or a higher grade for one that is"
ROWS = {
    "q9\td1\t1": "query-id 'q9' is not in queries.jsonl: add it there, or leave the row out",
    "q1\td9\t1": "corpus-id 'd9' is not in corpus.jsonl: add it there, or leave the row out",
    "q2\td2\t0": "judges 'q2' and 'd2' as qrels/train.tsv, line 2 does: leave one out",
    "q1\td2\thigh": f"score 'high' is not a number: {ADVICE}",
    "q1\td2\t": f"score '' is not a number: {ADVICE}",
    "q1\td2\tnan": f"score 'nan' is not a finite number: {ADVICE}",
    "q1\td2\t-1": f"score -1 is negative: {ADVICE}",
    "\td2\t1": "query-id is '': write an id, a text or a whole number",
    "q1\t\t1": "corpus-id is '': write an id, a text or a whole number",
    "q1\td2": "2 columns, where the others have 3: complete the line or leave it out",
}
"""A wrong row -> what is said about it."""


@pytest.mark.parametrize(("row", "message"), ROWS.items())
def test_each_wrong_judgement_is_reported_with_its_line(folder: Path, row: str, message: str) -> None:
    (folder / "qrels" / "train.tsv").write_text("\n".join([*QRELS, row]))
    assert _refusal(folder) == [f"qrels/train.tsv, line 6: {message}"]


def test_problems_of_all_files_are_reported_at_once(folder: Path) -> None:
    wrong = ['{"_id": "d1", "text": "again"}', '{"_id": "d4", "text": " "}', '{"_id": 1.5, "text": "x"}', '{"text": 1}']
    (folder / "corpus.jsonl").write_text("\n".join([*CORPUS, *wrong]))
    (folder / "queries.jsonl").write_text(
        "\n".join([*QUERIES, "[]", '{"_id": null, "text": null}', '{"_id": "\\ud83d", "text": "x"}'])
    )
    # Ids that are unknown are not reported where those of the other file are not all known.
    (folder / "qrels" / "train.tsv").write_text("\n".join([*QRELS, "q9\td9\t1", "q1\td2\tx"]))
    assert _refusal(folder) == [
        "corpus.jsonl, line 7: has no '_id'; it has 'text': fill it in or leave the line out",
        "corpus.jsonl, line 5: text is only white space: fill it in or leave the row out",
        "corpus.jsonl, line 4: _id 'd1' is also that of corpus.jsonl, line 1: give each its own, or leave one out",
        "corpus.jsonl, line 6: _id is 1.5: write an id, a text or a whole number",
        "queries.jsonl, line 4: is [], not an object: columns are named (data.format=beir)",
        "queries.jsonl, line 5: text is None, not a text: choose another column, or leave the row out",
        "queries.jsonl, line 5: _id is None: write an id, a text or a whole number",
        "queries.jsonl, line 6: _id is '\\ud83d': write an id, a text or a whole number",
        f"qrels/train.tsv, line 7: score 'x' is not a number: {ADVICE}",
    ]


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        (HEADER, "has no rows"),
        ("", "is empty"),
        (f"{HEADER}\nq1\td1\t0", "no query has a relevant document (a score above 0); at least two are needed"),
        (f"{HEADER}\nq1\td1\t1", "only one query has a relevant document (a score above 0); at least two are needed"),
        (
            "q1\td1\t1\nq2\td2\t1",
            "has no header, but begins with 'q1\\td1\\t1': write the line query-id<TAB>corpus-id<TAB>score above it",
        ),
        (
            "query-id\tdoc-id\tscore\nq1\td1\t1",
            "its header has no corpus-id, but 'query-id', 'doc-id', 'score': rename the columns",
        ),
        (
            "qid\tdid\trel\nq1\td1\t1",
            "begins with 'qid\\tdid\\trel': name its columns query-id<TAB>corpus-id<TAB>score, or write that line "
            "above it if this one is a judgement",
        ),
        (
            "q1 d1 1\nq2 d2 1",
            "has no header, but begins with 'q1 d1 1': write the line query-id<TAB>corpus-id<TAB>score above it",
        ),
        (
            f"{HEADER}\nq1\td1\t1".replace("\t", ","),
            "one column found with a tab between columns; with ',' there are 3: set 'data.delimiter=\",\"'",
        ),
    ],
)
def test_judgements_that_are_none_are_refused(folder: Path, qrels: str, message: str) -> None:
    (folder / "qrels" / "train.tsv").write_text(qrels)
    assert _refusal(folder) == [f"qrels/train.tsv: {message}"]


def test_problems_of_all_splits_are_reported_once_where_search_is_scored(folder: Path) -> None:
    (folder / "queries.jsonl").write_text("\n".join([*QUERIES, '{"_id": "q1", "text": "again"}']))
    for split, row in (("dev", "q1\td1\t-1"), ("test", "q9\td1\t1")):
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join([*QRELS, row]))
    with pytest.raises(ConfigError) as error:
        load_splits(replace(BEIR, path=str(folder)), pass_audit(["evaluation=retrieval"]).evaluation)
    assert [str(problem).replace(f"{folder}{os.sep}", "") for problem in error.value.problems] == [
        "queries.jsonl, line 4: _id 'q1' is also that of queries.jsonl, line 1: give each its own, or leave one out",
        f"qrels/dev.tsv, line 6: score -1 is negative: {ADVICE}",
    ]


def test_each_split_is_scored_on_the_questions_that_it_judges(folder: Path) -> None:
    for split in ("dev", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join([*QRELS, "q3\td1\t1"]))
    splits = load_splits(replace(BEIR, path=str(folder), limit=2), pass_audit(["evaluation=retrieval"]).evaluation)
    assert len(splits.train) == 2
    assert isinstance(splits.dev, Retrieval)
    assert splits.dev.query_ids == ("q2", "q1", "q3")
    assert splits.dev == replace(splits.test, origin=splits.dev.origin)


def test_missing_files_are_named_all_at_once(folder: Path) -> None:
    (folder / "corpus.jsonl").rename(folder / "docs.jsonl")
    (folder / "queries.jsonl").unlink()
    (folder / "qrels" / "train.tsv").rename(folder / "qrels" / "test.tsv")
    assert _refusal(folder) == [
        "corpus.jsonl: no such file; in its folder: 'docs.jsonl'",
        "queries.jsonl: no such file; in its folder: 'docs.jsonl'",
        "qrels/train.tsv: no such file; in its folder: 'test.tsv'",
    ]


def test_what_the_layout_does_not_read_is_refused(folder: Path) -> None:
    wrong = replace(BEIR, columns=("query", "text"), where={"lang": "es"})
    fixed = "is not read: data.format=beir has its own columns (query-id, corpus-id, score); leave it"
    assert _refusal(folder, wrong) == [f"data.columns: {fixed}", f"data.where: {fixed}"]
    file = folder / "corpus.jsonl"
    needed = "a folder with corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
    assert _refusal(file) == [f"data.path: {file} is a file: data.format=beir reads {needed}"]


@pytest.mark.parametrize(("split", "questions"), [("train", 786), ("dev", 206), ("test", 198)])
def test_xquad_is_read_whole(shared_data: Path, split: str, questions: int) -> None:
    config = replace(BEIR, path=str(shared_data / "xquad_es"))
    retrieval = load_retrieval(config, split)  # type: ignore[arg-type]
    assert (len(retrieval), len(retrieval.documents), len(retrieval.relevant_pairs)) == (questions, 240, questions)
