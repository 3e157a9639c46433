from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedsweep.commands.sources import as_column, read_texts
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
def test_texts_are_read_as_they_stand(
    tmp_path: Path, name: str, content: str, columns: Sequence[str | int], expected: list[list[str]]
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_texts(tmp_path / name, columns) == expected


def test_parquet_columns_are_taken_by_name_and_by_position(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["uno", "dos"], "n": [1, 2]}), tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet", ["a"]) == read_texts(tmp_path / "a.parquet", [0]) == [["uno", "dos"]]


@pytest.mark.parametrize(
    ("name", "content", "columns", "where", "message"),
    [
        ("a.txt", b"uno\n\ntres\n", ["text"], "a.txt, line 2", "empty"),
        ("a.txt", b"", ["text"], "a.txt", "has no rows"),
        ("a.txt", b"uno\ncami\xf3n\n", ["text"], "a.txt, line 2", "not UTF-8"),
        ("a.csv", b"txt\nuno\n", ["text"], "a.csv", "no column text (did you mean txt?)"),
        ("a.csv", b"uno\n", [3], "a.csv", "there are 0 to 0"),
        ("a.csv", b"text,n\nuno,1,2\n", ["text"], "a.csv, line 2", "3 columns, where the first line has 2"),
        ("a.csv", b'text\nuno\n"dos\n', ["text"], "a.csv, line 3", "close the double quote"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', ["text"], "a.jsonl, line 2", "no text (did you mean txt?)"),
        ("a.jsonl", b'{"text": 3}\n', ["text"], "a.jsonl, line 1", "not a text"),
        ("a.jsonl", b"uno\n", ["text"], "a.jsonl, line 1", "no JSON"),
        ("a.parquet", b"uno\n", ["text"], "a.parquet", "no parquet file"),
        ("a.xlsx", b"uno\n", ["text"], "a.xlsx", "must end in .txt"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_how_to_mend_it(
    tmp_path: Path, name: str, content: bytes, columns: Sequence[str | int], where: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_texts(tmp_path / name, columns)
    assert caught.value.problems[0].where == str(tmp_path / where)
    assert message in caught.value.problems[0].message


def test_many_empty_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n" * 9, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_texts(tmp_path / "a.txt", ["text"])
    assert len(caught.value.problems) == 6
    assert "and 4 more" in caught.value.problems[-1].message


@pytest.mark.parametrize(("word", "column"), [("0", 0), ("12", 12), ("text", "text"), ("-1", "-1")])
def test_digits_are_a_position(word: str, column: str | int) -> None:
    assert as_column(word) == column
