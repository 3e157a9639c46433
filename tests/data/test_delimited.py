"""Reading delimited files: texts, headers, delimiters, encodings, and messages for wrong files."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.trial import DataConfig, Shape
from embedsweep.data.checks import checked_examples
from embedsweep.data.delimited import read_delimited
from embedsweep.data.examples import as_pairs
from embedsweep.data.scored import Pairs
from embedsweep.data.tables import layout_of
from embedsweep.errors import ConfigError
from tests.configs import SCORED

NAMED = SCORED
BY_POSITION = replace(NAMED, columns=(0, 1, 2))
HEADER = "sentence1,sentence2,score\n"


def _written(folder: Path, content: str | bytes, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _pairs(path: Path, config: DataConfig) -> Pairs:
    return as_pairs(checked_examples(read_delimited(path, layout_of(config)), config))


def _refusal(path: Path, config: DataConfig) -> list[str]:
    """The problems reported, one a line, without the folder."""
    with pytest.raises(ConfigError) as error:
        _pairs(path, config)
    return [str(problem).replace(f"{path.parent}{os.sep}", "") for problem in error.value.problems]


@pytest.mark.parametrize(
    ("content", "config", "first", "second"),
    [
        ("a,b,1\nc,d,2\n", BY_POSITION, "a", "b"),
        ("a,b,1\r\nc,d,2\r\n", BY_POSITION, "a", "b"),
        ("a,b,1\nc,d,2", BY_POSITION, "a", "b"),
        ("\n\na,b,1\n\nc,d,2\n\n", BY_POSITION, "a", "b"),
        ("\ufeffa,b,1\nc,d,2\n", BY_POSITION, "a", "b"),
        ("NA,null,1\nc,d,2\n", BY_POSITION, "NA", "null"),
        ("None,nan,1\nc,d,2\n", BY_POSITION, "None", "nan"),
        ('"a, ""b""","two\nlines",1\nc,d,2\n', BY_POSITION, 'a, "b"', "two\nlines"),
        ('a,"two\r\nlines",1\r\nc,d,2\r\n', BY_POSITION, "a", "two\r\nlines"),
        ('say "a",b,1\nc,d,2\n', BY_POSITION, 'say "a"', "b"),
        ("a\u2028b,c\x0bd,1\nc,d,2\n", BY_POSITION, "a\u2028b", "c\x0bd"),
        (" a , b , 1 \nc,d,2\n", BY_POSITION, " a ", " b "),
        ("ñandú,日本,1\nc,d,2\n", BY_POSITION, "ñandú", "日本"),
        (HEADER + "a,b,1\nc,d,2\n", NAMED, "a", "b"),
        ("\ufeff" + HEADER + "a,b,1\nc,d,2\n", NAMED, "a", "b"),
        ("score, sentence2,sentence1,more\n1,b,a,x\n2,d,c,y\n", NAMED, "a", "b"),
        ("a;b, c;1\nc;d;2\n", replace(BY_POSITION, delimiter=";"), "a", "b, c"),
        ('"a\t"b"\t1\nc\td\t2\n', replace(BY_POSITION, delimiter="\t"), '"a', '"b"'),
        ("niño,b,1\nc,d,2\n".encode("latin-1"), replace(BY_POSITION, encoding="latin-1"), "niño", "b"),
        ("a,b,1\nc,d,2\n".encode("utf-16"), replace(BY_POSITION, encoding="utf-16"), "a", "b"),
        ("\ufeffa,b,1\nc,d,2\n", replace(BY_POSITION, encoding="UTF8"), "a", "b"),
    ],
)
def test_texts_are_read_unchanged(
    tmp_path: Path, content: str | bytes, config: DataConfig, first: str, second: str
) -> None:
    path = _written(tmp_path, content)
    pairs = _pairs(path, config)
    assert (pairs.sentences1, pairs.sentences2) == ((first, "c"), (second, "d"))
    assert pairs.scores == (0.2, 0.4)
    assert pairs.origin == str(path)


TABS = replace(NAMED, delimiter="\t")
QUOTED = '"sentence1"\t"sentence2"\t"score"\n"a ""b"""\t"x\ty"\t"1"\n"c\nd"\te\t2\n'


def test_quoted_columns_between_tabs_are_read_as_excel_and_pandas_write_them(tmp_path: Path) -> None:
    pairs = _pairs(_written(tmp_path, QUOTED), replace(TABS, quoting="double_quotes"))
    assert (pairs.sentences1, pairs.sentences2) == (('a "b"', "c\nd"), ("x\ty", "e"))
    unquoted = _written(tmp_path, HEADER + '"a,b",1\n"c,d",2\n', "unquoted.csv")
    assert _pairs(unquoted, replace(NAMED, quoting="none")).sentences1 == ('"a', '"c')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (QUOTED, "train.csv: its header has double quotes; if they are around texts, as Excel and pandas write them, "),
        (
            'sentence1\tsentence2\tscore\na\tb\t"1"\nc\td\t2\n',
            "train.csv, line 2: score '\"1\"' is not a number: it is in double quotes, as Excel and pandas may write ",
        ),
        (
            'sentence1\tsentence2\tscore\na\t"b\tx"\t1\nc\td\t2\n',
            "train.csv, line 2: 4 columns, where the others have 3: a text may not contain a tab (it has double",
        ),
    ],
)
def test_quotes_that_are_read_as_texts_are_named(tmp_path: Path, content: str, message: str) -> None:
    (reported, *_) = _refusal(_written(tmp_path, content), TABS)
    assert reported[: len(message)] == message
    assert "set data.quoting=double_quotes" in reported


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_text_may_have_any_length(tmp_path: Path, delimiter: str) -> None:
    limit = csv.field_size_limit()
    long = "word " * 40_000
    content = f"sentence1,sentence2,score\n{long},b,1\nc,d,2\n".replace(",", delimiter)
    assert _pairs(_written(tmp_path, content), replace(NAMED, delimiter=delimiter)).sentences1 == (long, "c")
    assert csv.field_size_limit() == limit  # it is of the whole process


def test_content_compressed_by_gzip_is_read_whatever_the_files_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b,1\n") + gzip.compress(b"c,d,2\n")
    for name in ("train.csv", "train.csv.gz"):
        assert _pairs(_written(tmp_path, packed, name), BY_POSITION).sentences1 == ("a", "c")
    (reported,) = _refusal(_written(tmp_path, packed[:-4], "train.csv"), BY_POSITION)
    assert reported.startswith("train.csv: is compressed by gzip and damaged (")


OTHERS = {
    b"\x28\xb5\x2f\xfd\x00": "train.csv: is compressed by zstd: unpack it with zstd -d train.csv",
    b"PK\x03\x04\x14\x00": "train.csv: is a zip archive or a workbook: unpack it with unzip train.csv, or export the ",
    b"BZh91AY&SY\x00": "train.csv: is compressed by bzip2: unpack it with bunzip2 train.csv",
    b"\xfd7zXZ\x00\x00": "train.csv: is compressed by xz: unpack it with unxz train.csv",
    b"PAR1\x15\x04": "train.csv: is a parquet file: set data.format=parquet",
    "a,b,1\n".encode(
        "utf-32"
    ): "train.csv: is in UTF-32: convert it with iconv -f utf-32 -t utf-8, or set data.encoding=",
    "a,b,1\nc,d,2\n".encode("utf-32-be"): "train.csv: is probably in UTF-32-BE: convert it with iconv -f utf-32be -t ",
    "a,b,1\nc,d,2\n".encode("utf-16-le"): "train.csv: is probably in UTF-16: convert it with iconv -f utf-16 -t utf-8",
    "a,b,1\nc,d,2\n".encode("utf-16-be"): "train.csv: is probably in UTF-16-BE: convert it with iconv -f utf-16be -t ",
    b"\0" * 24_000: "train.csv: holds nothing but NUL bytes, as after a crash: get it or write it again",
    b"a,b,1\nc\0,d,2\n": "train.csv, line 2: has a NUL character, which no text has (1 in the file): remove it",
}


@pytest.mark.parametrize("content", OTHERS)
def test_a_file_of_another_kind_is_named_for_what_it_is(tmp_path: Path, content: bytes) -> None:
    (reported,) = _refusal(_written(tmp_path, content), BY_POSITION)
    assert reported[: len(OTHERS[content])] == OTHERS[content]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
def test_the_advised_encoding_reads_the_file(tmp_path: Path, encoding: str) -> None:
    path = _written(tmp_path, "a,b,1\nc,ñ,2\n".encode(encoding))
    (reported,) = _refusal(path, BY_POSITION)
    advised = reported.rpartition("data.encoding=")[2]
    assert _pairs(path, replace(BY_POSITION, encoding=advised)).sentences2 == ("b", "ñ")


def test_scores_are_normalised_by_their_range(tmp_path: Path) -> None:
    path = _written(tmp_path, "a,b,-1\nc,d,0.5\ne,f,1e0\n")
    assert _pairs(path, replace(BY_POSITION, score_range=(-1.0, 1.0))).scores == (0.0, 0.75, 1.0)


WRONG_ROWS = [
    ("x,y,high", "score 'high' is not a number: write a plain number such as 3.5"),
    ("x,y,", "score '' is not a number: fill it in or leave the row out"),
    ("x,y,1_5", "score '1_5' is not a number: write a plain number such as 3.5"),
    ('x,y,"4,500"', "score '4,500' is not a number: write 4.500, with a point"),
    ("x,y,nan", "score 'nan' is not a finite number: fill it in or leave the row out"),
    ("x,y,-inf", "score '-inf' is not a finite number: fill it in or leave the row out"),
    (
        "x,y,7.5",
        "score 7.5 is outside data.score_range=[0,5]: fix it, or, if the scale is another, set data.score_range "
        "(the scores here go from 1 to 7.5)",
    ),
    (
        "x,y,-1",
        "score -1 is outside data.score_range=[0,5]: fix it, or, if the scale is another, set data.score_range "
        "(the scores here go from -1 to 3)",
    ),
    (",y,1", "sentence1 is empty: fill it in or leave the row out"),
    ("x, \t,1", "sentence2 is only white space: fill it in or leave the row out"),
    ("x,y", "2 columns, where the others have 3: complete the line or leave it out"),
    ("x,y,z,1", "4 columns, where the others have 3: put a text that contains ',' in double quotes"),
    (
        'x,"y" z,1',
        'a text opened by a double quote here is not closed: close it after the text, and write "" for a quote '
        "inside of it",
    ),
]


@pytest.mark.parametrize(("row", "message"), WRONG_ROWS)
def test_a_wrong_row_is_reported_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    # The quoted line break and the blank line make the third row stand on line 5.
    path = _written(tmp_path, f'"a\nb",b,1\n\nc,d,2\n{row}\ne,f,3\n')
    assert _refusal(path, BY_POSITION) == [f"train.csv, line 5: {message}"]


def test_problems_of_all_kinds_are_reported_together_and_counted_by_kind(tmp_path: Path) -> None:
    good = "a,b,1\nc,d,2\n"
    path = _written(tmp_path, HEADER + good + "x,y,high\n" * 7 + "x,y\n" + ",y,3\n" * 5)
    reported = _refusal(path, NAMED)
    assert [line.split(":")[0] for line in reported] == [
        "train.csv, line 11",
        *(f"train.csv, line {line}" for line in range(12, 17)),
        *(f"train.csv, line {line}" for line in range(4, 9)),
        "train.csv",
    ]
    assert reported[-1] == "train.csv: ... and 2 more scores that are not numbers"


@pytest.mark.parametrize(
    ("content", "config", "messages"),
    [
        ("", BY_POSITION, ["train.csv: is empty"]),
        ("\ufeff\n\n", BY_POSITION, ["train.csv: is empty"]),
        (HEADER, NAMED, ["train.csv: has no rows"]),
        (
            HEADER + "a,b,1\n",
            NAMED,
            ["train.csv: has only one row; at least two with different scores are needed"],
        ),
        (
            "a,b,3\n" * 4,
            BY_POSITION,
            ["train.csv: all 4 scores are 3, so nothing can be ranked: is the third of data.columns the score?"],
        ),
        (
            "sentence1;sentence2;score\na, or b;b;1\nc;d;2\n",
            NAMED,
            ["train.csv: one column found with ',' between columns; with ';' there are 3: set 'data.delimiter=\";\"'"],
        ),
        (
            "a, or b\tb\t1\nc\td\t2\n",
            BY_POSITION,
            [
                "train.csv: the wrong columns found with ',' between columns; with a tab there are 3: set "
                "data.delimiter=tab"
            ],
        ),
        (
            "a,b,1\nc,d,2\n",
            replace(BY_POSITION, delimiter="\t"),
            [
                "train.csv: one column found with a tab between columns; with ',' there are 3: set "
                "'data.delimiter=\",\"'"
            ],
        ),
        (
            "sentence_1,sentence2,label\na,b,1\nc,d,2\n",
            NAMED,
            [
                "train.csv: has no columns 'sentence1', 'score' (data.columns), but 'sentence_1', 'label': if these "
                "are the same in this order, set 'data.columns=[sentence_1,sentence2,label]'",
            ],
        ),
        (
            "question,answer\na,b\nc,d\n",
            NAMED,
            [
                "train.csv: has no columns 'sentence1', 'sentence2', 'score' (data.columns); its header has "
                "'question', 'answer'",
            ],
        ),
        (
            "first;second;sim\na;b;0,5\nc;d;1,5\n",
            NAMED,
            ["train.csv: one column found with ',' between columns; with ';' there are 3: set 'data.delimiter=\";\"'"],
        ),
        (
            "a,b,1\nc,d,2\n",
            replace(NAMED, columns=("a", "b", "score")),
            [
                "train.csv: has no column 'score' (data.columns); its header has 'a', 'b', '1'",
                "train.csv: line 1 looks like data, not like a header: if the file has no header, set "
                "'data.columns=[0,1,2]'",
            ],
        ),
        (
            "sentence1,sentence1,score,sentence2\na,b,1,e\nc,d,2,f\n",
            NAMED,
            ["train.csv: has 2 columns named 'sentence1' (data.columns), so it is not clear which"],
        ),
        (
            "a,b,1\nc,d,2\n",
            replace(BY_POSITION, columns=(0, 1, 4)),
            ["train.csv: has no column 4 (data.columns): there are 0 to 2"],
        ),
        (
            HEADER + "a,b,1\nc,d,2\n",
            BY_POSITION,
            [
                "train.csv: line 1 looks like a header: name the columns, set "
                "'data.columns=[sentence1,sentence2,score]'",
                "train.csv, line 1: score 'score' is not a number: write a plain number such as 3.5",
            ],
        ),
        (
            'a,b,1\nc,d,2\ne,"f,3\ng,h,4\ni,j,5\n',
            BY_POSITION,
            [
                "train.csv, line 3: a text opened by a double quote here is not closed (lines 3 to 5 were read as one "
                'text): close it after the text, and write "" for a quote inside of it'
            ],
        ),
        (
            'a,b,1\nc,d,2\n"e,f,3\ng,h,4\ni"\nj,k,5\n',
            BY_POSITION,
            [
                "train.csv, line 3: 1 column, where the others have 3: a double quote opened here runs over 3 lines; "
                "close it"
            ],
        ),
        (
            "a,b,low\nc,d,high\n",
            BY_POSITION,
            [
                "train.csv: no score is a finite number: is the third of data.columns the score?",
                "train.csv, line 1: score 'low' is not a number: write a plain number such as 3.5",
                "train.csv, line 2: score 'high' is not a number: write a plain number such as 3.5",
            ],
        ),
        (
            "a\tb\tx\t1\nc\td\t2\ne\tf\t3\n",
            replace(BY_POSITION, delimiter="\t"),
            ["train.csv, line 1: 4 columns, where the others have 3: a text may not contain a tab"],
        ),
    ],
)
def test_a_wrong_file_is_refused_with_advice(
    tmp_path: Path, content: str, config: DataConfig, messages: list[str]
) -> None:
    assert _refusal(_written(tmp_path, content), config) == messages


def test_an_unclosed_quote_over_much_of_the_file_is_reported_where_it_was_opened(tmp_path: Path) -> None:
    path = _written(tmp_path, 'a,b,1\nc,d,2\n"e,f,3\n' + "some words,other words,4\n" * 8_000)
    reported = _refusal(path, BY_POSITION)
    assert reported[0].startswith("train.csv, line 3: a text opened by a double quote here is not closed (lines 3 to ")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (
            "a,b,1\nniño,d,2\n".encode("latin-1"),
            2,
            "byte 3 (0xf1) is not UTF-8; the file is probably latin-1: convert it with iconv -f latin1 -t utf-8, or "
            "set data.encoding=latin-1",
        ),
        (
            b"\xef\xbb\xbfa,b,1\n\x93c\x94,d,2\n",
            2,
            "byte 1 (0x93) is not UTF-8; the file is probably Windows-1252: convert it with iconv -f cp1252 -t utf-8, "
            "or set data.encoding=cp1252",
        ),
        (
            "a,b,1\nc,d,2\n".encode("utf-16"),
            1,
            "byte 1 (0xff) is not UTF-8; the file is probably UTF-16: convert it with iconv -f utf-16 -t utf-8, or "
            "set data.encoding=utf-16",
        ),
    ],
)
def test_another_encoding_is_reported_by_line_and_byte(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    assert _refusal(_written(tmp_path, content), BY_POSITION) == [f"train.csv, line {line}: {message}"]


def test_a_missing_file_is_reported_with_similar_names(tmp_path: Path) -> None:
    for name in ("train.tsv", "dev.tsv", "notes.md", ".train.csv.swp"):
        _written(tmp_path, "", name)
    reported = _refusal(tmp_path / "train.csv", BY_POSITION)
    assert reported == ["train.csv: no such file; in its folder: 'train.tsv'"]


def test_a_missing_folder_is_reported_with_the_existing_ones(tmp_path: Path) -> None:
    (tmp_path / "spanish").mkdir()
    reported = _refusal(tmp_path / "spanich" / "sts" / "train.csv", BY_POSITION)
    assert reported == [f"train.csv: no such file: there is no folder {tmp_path}/spanich; in {tmp_path}: 'spanish'"]


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "train.csv"
    folder.mkdir()
    _written(folder, "", "part-1.csv")
    assert _refusal(folder, BY_POSITION) == ["train.csv: is a folder, not a file; in it: 'part-1.csv'"]


@pytest.mark.parametrize(
    ("split", "rows", "first"),
    [
        ("train", 5749, "Un avión está despegando."),
        ("dev", 1500, "Un hombre con un casco está bailando."),
        ("test", 1379, "Una chica se está arreglando el pelo."),
    ],
)
def test_the_spanish_sts_benchmark_is_read_whole(shared_data: Path, split: str, rows: int, first: str) -> None:
    pairs = _pairs(shared_data / "stsb_multi_mt" / f"stsb-es-{split}.csv", BY_POSITION)
    assert len(pairs) == rows
    assert pairs.sentences1[0] == first


def test_unquoted_tab_files_are_read_whole(shared_data: Path) -> None:
    tabs = replace(BY_POSITION, delimiter="\t")
    assert len(_pairs(shared_data / "sts2017_es" / "STS2017.track3.es-es.tsv", tabs)) == 250
    classes = ("contradiction", "neutral", "entailment")
    columns = ("sentence1", "sentence2", "gold_label")
    esxnli = replace(tabs, shape="class_pairs", columns=columns, labels=classes)
    path = shared_data / "esxnli" / "esxnli.tsv"
    everything = checked_examples(read_delimited(path, layout_of(esxnli)), esxnli)
    assert (len(everything), everything.classes) == (4980, classes)
    spanish = replace(esxnli, where={"language": "es"})
    first = checked_examples(read_delimited(path, layout_of(spanish)), spanish)
    assert (len(first), first.labels and first.labels[:3]) == (2490, (1.0, 2.0, 0.0))


@pytest.mark.parametrize(
    ("content", "config", "sentences"),
    [
        ("sentence1,sentence2,score,lang\na,b,1,es\nc,d,2,en\ne,f,3,es\n", NAMED, ("a", "e")),
        ("a,b,1,es\nc,d,2,en\ne,f,3,es\n", replace(BY_POSITION, where={"3": "es"}), ("a", "e")),
        ("a,b,1,es\n,,9,en\ne,f,3,es\n", replace(BY_POSITION, where={"3": "es"}), ("a", "e")),
        ("a,b,1,es\nc,d,1,es\ne,f,3,es\n", replace(BY_POSITION, where={"3": "es", "2": "1"}), None),
        ("a,b,1,es\nc,d,2,es \ne,f,3,es\n", replace(BY_POSITION, where={"3": "es"}), ("a", "e")),
    ],
)
def test_rows_are_kept_where_a_column_has_the_value(
    tmp_path: Path, content: str, config: DataConfig, sentences: tuple[str, ...] | None
) -> None:
    config = config if config.where else replace(config, where={"lang": "es"})
    path = _written(tmp_path, content)
    if sentences is None:
        assert _refusal(path, config)[0].startswith("train.csv: all 2 scores are 1, so nothing can be ranked")
    else:
        assert _pairs(path, config).sentences1 == sentences


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"lang": "fr"}, "train.csv: has no row where lang is 'fr' (data.where); there are 'en', 'es'"),
        ({"lang": "es", "score": "2"}, "train.csv: has no row that fulfils all of data.where={lang:es,score:2}"),
        (
            {"language": "es"},
            "train.csv: has no column 'language' (data.where); its header has 'lang'",
        ),
    ],
)
def test_conditions_without_matching_rows_are_reported_with_existing_values(
    tmp_path: Path, where: dict[str, str], message: str
) -> None:
    path = _written(tmp_path, "sentence1,sentence2,score,lang\na,b,1,es\nc,d,2,en\n")
    assert _refusal(path, replace(NAMED, where=where))[0] == message


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ("a,b,1\nniño,d,2\n".encode(), "latin-1", "is in UTF-8, not in latin-1: set data.encoding=utf-8"),
        (
            "a,b,1\nniño,d,2\n".encode("latin-1"),
            "ascii",
            "is not in ascii (ordinal not in range(128) at byte 8): set data.encoding=latin-1",
        ),
        (b"a,b,1\n\x81,d,2\n", "cp1252", "is not in cp1252 (character maps to <undefined> at byte 6): "),
    ],
)
def test_a_wrong_encoding_setting_is_refused(tmp_path: Path, content: bytes, encoding: str, message: str) -> None:
    reported = _refusal(_written(tmp_path, content), replace(BY_POSITION, encoding=encoding))
    assert len(reported) == 1
    assert reported[0].startswith(f"train.csv: {message}")


def test_files_of_a_single_column_are_read_whatever_their_texts_contain(tmp_path: Path) -> None:
    config = replace(NAMED, shape="texts", columns=(0,), delimiter="\t")
    table = read_delimited(_written(tmp_path, "one, two; three\nfour | five, six; seven\n"), layout_of(config))
    assert checked_examples(table, config).texts == (("one, two; three", "four | five, six; seven"),)


@pytest.mark.parametrize(
    ("first", "shape", "columns", "names"),
    [
        ("Anchor,positive", "positive_pairs", (0, 1), "Anchor,positive"),
        ("id,premise,Hypothesis ,gold_label", "class_pairs", (1, 2, 3), "premise,Hypothesis,gold_label"),
        ("headline,x,title", "positive_pairs", (2, 0), "title,headline"),
        ("text", "texts", (0,), "text"),
        ("A cat,positive", "positive_pairs", (0, 1), None),
        ("Question mark,answer", "positive_pairs", (0, 1), None),
    ],
)
def test_a_first_line_of_usual_names_is_a_header_in_every_shape(
    tmp_path: Path, first: str, shape: Shape, columns: tuple[int, ...], names: str | None
) -> None:
    file = tmp_path / "train.csv"
    width = first.count(",") + 1
    file.write_text("".join(f"{line}\n" for line in (first, *(",".join(["a b"] * width) for _ in range(3)))))
    config = replace(SCORED, shape=shape, columns=columns)
    found = read_delimited(file, layout_of(config)).findings
    problems = [str(problem) for problem in found.error().problems] if found else []
    expected = f"{file}: line 1 looks like a header: name the columns, set 'data.columns=[{names}]'"
    assert problems == ([] if names is None else [expected])
