"""Reading files of texts for commands: every suffix, and messages with the command's own flag."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedsweep.data.formats import read_texts
from embedsweep.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "content", "columns", "expected"),
    [
        ("a.txt", "uno, dos\r\ntres\n", ["text"], [["uno, dos", "tres"]]),
        ("a.txt", "\ufeffuno\nNA", ["text"], [["uno", "NA"]]),
        ("a.csv", 'text,n\n"uno, dos",1\nNA,2\n', ["text"], [["uno, dos", "NA"]]),
        ("a.csv", "uno,dos\ntres,cuatro\n", [1, 0], [["dos", "cuatro"], ["uno", "tres"]]),
        ("a.tsv", "a\tb\nuno, y\tdos\n", ["b", "a"], [["dos"], ["uno, y"]]),
        ("a.jsonl", '{"text": "uno\\ndos"}\n\n{"text": "tres"}\n', ["text"], [["uno\ndos", "tres"]]),
    ],
)
def test_texts_are_read_unchanged(
    tmp_path: Path, name: str, content: str, columns: Sequence[str | int], expected: list[list[str]]
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_texts(tmp_path / name, columns, "--columns") == expected


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "a.jsonl.gz"])
def test_compressed_texts_are_read_by_the_suffix_before(tmp_path: Path, name: str) -> None:
    content = {
        "a.txt.gz": "uno\ndos\n",
        "a.csv.gz": "text\nuno\ndos\n",
        "a.jsonl.gz": '{"text":"uno"}\n{"text":"dos"}\n',
    }
    (tmp_path / name).write_bytes(gzip.compress(content[name].encode()))
    assert read_texts(tmp_path / name, ["text"], "--column") == [["uno", "dos"]]


def test_half_of_a_character_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude00 whole"}\n{"text": "half \\ud83d"}\n')
    with pytest.raises(ConfigError) as error:
        read_texts(tmp_path / "a.jsonl", ["text"], "--column")
    (problem,) = error.value.problems
    assert problem.where.endswith("a.jsonl, line 2")
    assert problem.message == "text has half of a character ('\\ud83d'), as cut out of an emoji: write it again"


def test_parquet_columns_are_taken_by_name_and_by_position(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["uno", "dos"], "n": [1, 2]}), tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet", ["a"], "--column") == [["uno", "dos"]]
    assert read_texts(tmp_path / "a.parquet", [0], "--column") == [["uno", "dos"]]


@pytest.mark.parametrize(
    ("name", "content", "columns", "where", "message"),
    [
        ("a.txt", b"uno\n\ntres\n", ["text"], "a.txt, line 2", "text is empty: fill it in or leave the row out"),
        ("a.txt", b"", ["text"], "a.txt", "has no rows"),
        (
            "a.txt",
            b"uno\ncami\xf3n\n",
            ["text"],
            "a.txt, line 2",
            "byte 5 (0xf3) is not UTF-8; the file is probably latin-1: convert it with iconv -f latin1 -t utf-8",
        ),
        ("a.txt", b"uno\n", ["a", "b"], "a.txt", "has one text a line, but 2 columns are needed"),
        ("a.csv", b"", ["text"], "a.csv", "is empty"),
        ("a.csv", b"text\n", ["text"], "a.csv", "has no rows"),
        (
            "a.csv",
            b"txt\nuno\n",
            ["text"],
            "a.csv",
            "has no column 'text' (--columns); a file without a header takes positions from 0; its header has 'txt'",
        ),
        ("a.csv", b"uno\n", [3], "a.csv", "has no column 3 (--columns): there are 0 to 0"),
        (
            "a.csv",
            b"text,n\nuno,1,2\n",
            ["text"],
            "a.csv, line 2",
            "3 columns, where the others have 2: put a text that contains ',' in double quotes",
        ),
        (
            "a.csv",
            b'text\nuno\n"dos\n',
            ["text"],
            "a.csv, line 3",
            'a text opened by a double quote here is not closed: close it after the text, and write "" for a quote '
            "inside of it",
        ),
        (
            "a.csv",
            b"text;n\nuno;1\n",
            ["text"],
            "a.csv",
            "one column found with ',' between columns; with ';' there are 2: a .csv needs commas, a .tsv tabs",
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"txt": "b"}\n',
            ["text"],
            "a.jsonl, line 2",
            "has no 'text'; it has 'txt': fill it in or leave the line out",
        ),
        (
            "a.jsonl",
            b'{"text": 3}\n',
            ["text"],
            "a.jsonl, line 1",
            "text is 3, not a text: choose another column, or leave the row out",
        ),
        (
            "a.jsonl",
            b"uno\n",
            ["text"],
            "a.jsonl, line 1",
            "is not JSON (Expecting value at character 1): one value a line, texts in double quotes",
        ),
        (
            "a.parquet",
            b"uno\n",
            ["text"],
            "a.parquet",
            "is not a parquet file (it does not begin with PAR1): give it the suffix of its format",
        ),
        (
            "a.xlsx",
            b"uno\n",
            ["text"],
            "a.xlsx",
            "must end in .txt, .csv, .tsv, .jsonl, .parquet, which decides how it is read",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_place_and_advice(
    tmp_path: Path, name: str, content: bytes, columns: Sequence[str | int], where: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_texts(tmp_path / name, columns, "--columns")
    assert caught.value.problems[0].where == str(tmp_path / where)
    assert caught.value.problems[0].message == message


def test_many_empty_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n" * 9, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_texts(tmp_path / "a.txt", ["text"], "--column")
    assert len(caught.value.problems) == 6
    assert "and 4 more" in caught.value.problems[-1].message


def test_a_first_line_of_usual_names_is_a_text_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question\nhouse\n", encoding="utf-8")
    assert read_texts(tmp_path / "a.csv", [0], "--column") == [["question", "house"]]


def test_a_single_row_and_texts_of_digits_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n7\n", encoding="utf-8")
    assert read_texts(tmp_path / "a.csv", ["text"], "--column") == [["7"]]


def test_tabs_separate_texts_that_may_begin_with_a_quote(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('a\tb\n"uno" y\tdos\n', encoding="utf-8")
    assert read_texts(tmp_path / "a.tsv", ["a"], "--column") == [['"uno" y']]


def test_double_quotes_around_texts_between_tabs_are_no_part_of_them_on_request(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('a\tb\n"uno ""y""\tdos"\ttres\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"it has double quotes; .*, set --quoting double_quotes"):
        read_texts(tmp_path / "a.tsv", ["a"], "--column")
    assert read_texts(tmp_path / "a.tsv", ["a"], "--column", "double_quotes") == [['uno "y"\tdos']]


@pytest.mark.parametrize(("name", "what"), [("b.csv", "does not exist"), ("folder", "is a folder")])
def test_a_path_that_is_not_a_file_is_refused(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"{name}: {what}: give a file, .txt, .csv, .tsv, .jsonl, .parquet"):
        read_texts(tmp_path / name, ["text"], "--column")
