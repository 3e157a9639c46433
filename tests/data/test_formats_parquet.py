"""Reading parquet files."""

from __future__ import annotations

import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedsweep.config.trial import DataConfig
from embedsweep.data.checks import checked_examples
from embedsweep.data.examples import Examples
from embedsweep.data.formats import read_parquet
from embedsweep.data.tables import layout_of
from embedsweep.errors import ConfigError
from tests.configs import SCORED

NAMED = replace(SCORED, format="parquet", files="{split}.parquet")
COLUMNS: dict[str, list[Any]] = {
    "lang": ["es", "en", "es"],
    "sentence1": ["NA", "x", "c"],
    "sentence2": ["b", "y", "d"],
    "score": [1.0, 4.0, 2.5],
}


def _written(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "train.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def _examples(path: Path, config: DataConfig) -> Examples:
    return checked_examples(read_parquet(path, layout_of(config)), config)


def _refusal(path: Path, config: DataConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        _examples(path, config)
    return [str(problem).replace(f"{path.parent}{os.sep}", "") for problem in error.value.problems]


@pytest.mark.parametrize(
    "config",
    [
        replace(NAMED, where={"lang": "es"}),
        replace(NAMED, columns=(1, 2, 3), where={"0": "es"}),
        replace(NAMED, columns=(1, 2, 3), where={"lang": "es"}),
    ],
)
def test_columns_are_read_by_name_or_by_position(tmp_path: Path, config: DataConfig) -> None:
    examples = _examples(_written(tmp_path, COLUMNS), config)
    assert examples.texts == (("NA", "c"), ("b", "d"))
    assert examples.labels == (0.2, 0.5)


def test_dictionaries_are_read_as_their_values(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    labels = pa.array(["no", "yes", "no"]).dictionary_encode()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": labels}), path)
    examples = _examples(path, replace(NAMED, shape="class_texts", columns=("text", "label")))
    assert (examples.labels, examples.classes) == ((0.0, 1.0, 0.0), ("no", "yes"))


SCORES = [Decimal("1.00"), Decimal("4.00"), Decimal("2.50")]


def test_decimals_are_numbers_and_bytes_in_utf_8_are_texts(tmp_path: Path) -> None:
    path = _written(tmp_path, {**COLUMNS, "sentence1": [b"uno", "dós".encode(), b"c"], "score": SCORES})
    examples = _examples(path, NAMED)
    assert examples.texts[0] == ("uno", "dós", "c")
    assert examples.labels == (0.2, 0.8, 0.5)
    classes = replace(NAMED, shape="class_texts", columns=("sentence1", "score"))
    path = _written(tmp_path, {"sentence1": ["a", "b", "c"], "score": [Decimal("1.0"), Decimal("0.0"), Decimal("1.0")]})
    assert _examples(path, classes).classes == ("0", "1")


@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_bytes_that_are_not_utf_8_are_refused_by_their_row(tmp_path: Path, kind: pa.DataType) -> None:
    raw = pa.array([b"uno", b"d\xf3s", None, b"c"], pa.binary())
    length = len(raw)
    binary = pa.Array.from_buffers(pa.string(), length, raw.buffers())
    column = raw if kind == pa.binary() else binary.dictionary_encode() if pa.types.is_dictionary(kind) else binary
    column = column.cast(kind) if kind == pa.large_string() else column
    table = {"sentence1": column, "sentence2": ["a"] * length, "score": [1.0, 2.0, 3.0, 4.0]}
    assert _refusal(_written(tmp_path, table), NAMED) == [
        "train.parquet, row 2: sentence1 is bytes that are not UTF-8 (b'd\\xf3s'): write it again in UTF-8",
        "train.parquet, row 3: sentence1 is None, not a text: choose another column, or leave the row out",
    ]


@pytest.mark.parametrize(
    ("changed", "messages"),
    [
        (
            {"sentence1": ["a", None, "c"]},
            ["train.parquet, row 2: sentence1 is None, not a text: choose another column, "],
        ),
        (
            {"score": [1.0, float("nan"), 2.0]},
            ["train.parquet, row 2: score 'nan' is not a finite number: fill it in "],
        ),
        (
            {"score": [1.0, 2.0, 9.0]},
            ["train.parquet, row 3: score 9 is outside data.score_range=[0,5]: fix it, or, "],
        ),
    ],
)
def test_a_wrong_row_is_reported_with_its_number(
    tmp_path: Path, changed: dict[str, list[Any]], messages: list[str]
) -> None:
    reported = _refusal(_written(tmp_path, {**COLUMNS, **changed}), NAMED)
    assert [line[: len(message)] for line, message in zip(reported, messages, strict=True)] == messages


def test_a_missing_column_is_reported_with_the_existing_ones(tmp_path: Path) -> None:
    path = _written(tmp_path, {"text1": ["a"], "sentence2": ["b"], "score": [1.0]})
    assert _refusal(path, NAMED) == [
        "train.parquet: has no column 'sentence1' (data.columns), but 'text1': if it is the same, set "
        "'data.columns=[text1,sentence2,score]'"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"sentence1,sentence2,score\na,b,1\n", "is not a parquet file (it does not begin with PAR1): set data.format"),
        (b"PAR1" + b"\0" * 100, "is a broken parquet file: "),
    ],
)
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    reported = _refusal(path, NAMED)
    assert len(reported) == 1
    assert reported[0].startswith(f"train.parquet: {message}")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path, COLUMNS)
    path.write_bytes(path.read_bytes()[:-40])
    assert _refusal(path, NAMED)[0].startswith("train.parquet: is a broken parquet file: ")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.mkdir()
    assert _refusal(path, NAMED) == ["train.parquet: is a folder, not a file; in it: nothing"]


def test_dates_that_python_lacks_are_no_traceback(tmp_path: Path) -> None:
    dates = pa.array([-(10**17)] * 3, pa.timestamp("ms"))
    (reported,) = _refusal(_written(tmp_path, {**COLUMNS, "sentence1": dates}), NAMED)
    assert reported.startswith("train.parquet: is a broken parquet file: ")


def test_a_long_value_is_cut_in_messages(tmp_path: Path) -> None:
    (reported,) = _refusal(_written(tmp_path, {**COLUMNS, "score": ["1", "x" * 5000, "2"]}), NAMED)
    assert reported.startswith("train.parquet, row 2: score 'xxx")
    assert len(reported) < 300
