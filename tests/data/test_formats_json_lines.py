"""Reading JSON lines: values, and messages for wrong lines."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.trial import DataConfig
from embedsweep.data.checks import checked_examples
from embedsweep.data.examples import Examples
from embedsweep.data.formats import read_json_lines
from embedsweep.data.tables import layout_of
from embedsweep.errors import ConfigError
from tests.configs import SCORED

NAMED = replace(SCORED, format="json_lines", files="{split}.jsonl")
BY_POSITION = replace(NAMED, columns=(0, 1, 2))
FIRST = '{"sentence1": "a", "sentence2": "b", "score": 1}\n'
GOOD = FIRST + '{"sentence2": "d", "score": 2.5, "sentence1": "c", "more": [1]}\n'


def _written(folder: Path, content: str | bytes) -> Path:
    path = folder / "train.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _examples(path: Path, config: DataConfig) -> Examples:
    return checked_examples(read_json_lines(path, layout_of(config)), config)


def _refusal(path: Path, config: DataConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        _examples(path, config)
    return [str(problem).replace(f"{path.parent}{os.sep}", "") for problem in error.value.problems]


@pytest.mark.parametrize(
    ("content", "config"),
    [
        (GOOD, NAMED),
        ("\ufeff\n" + GOOD.replace("\n", "\r\n\n"), NAMED),
        ('["a", "b", 1]\n["c", "d", "2.5"]', BY_POSITION),
        ('[1, "b", "a"]\n[2.5, "d", "c"]\n', replace(NAMED, columns=(2, 1, 0))),
        (GOOD.encode("utf-16"), replace(NAMED, encoding="utf-16")),
        (
            GOOD.replace('"score"', '"lang": "es", "score"') + FIRST.replace('"score"', '"lang": "en", "score"'),
            replace(NAMED, where={"lang": "es"}),
        ),
        (
            '["a", "b", 1, true]\n["x", "y", 4, false]\n["c", "d", 2.5, true]\n',
            replace(BY_POSITION, where={"3": "true"}),
        ),
    ],
)
def test_lines_are_read_by_name_or_by_position(tmp_path: Path, content: str | bytes, config: DataConfig) -> None:
    examples = _examples(_written(tmp_path, content), config)
    assert examples.texts == (("a", "c"), ("b", "d"))
    assert examples.labels == (0.2, 0.5)


def test_texts_are_read_unchanged(tmp_path: Path) -> None:
    content = FIRST.replace('"a"', '"NA"') + FIRST.replace('"a"', '"two\\nlines \\u00f1\u2028"').replace("1}", "2}")
    assert _examples(_written(tmp_path, content), NAMED).texts[0] == ("NA", "two\nlines ñ\u2028")


@pytest.mark.parametrize(
    ("line", "config", "message"),
    [
        (
            '{"sentence1": "a", "sentence2": "b" "score": 1}',
            NAMED,
            "is not JSON (Expecting ',' delimiter at character 37): one value a line, texts in double quotes",
        ),
        (
            "{'sentence1': 'a'}",
            NAMED,
            "is not JSON (Expecting property name enclosed in double quotes at character 2): one value a line, texts "
            "in double quotes",
        ),
        ('["a", "b", 1]', NAMED, 'is ["a", "b", 1], not an object: columns are named (data.columns)'),
        (
            '{"sentence1": "a", "sentence2": "b"}',
            NAMED,
            "has no 'score'; it has 'sentence1', 'sentence2': fill it in or leave the line out",
        ),
        (FIRST.replace("1}", "null}").strip(), NAMED, "score None is not a number: fill it in or leave the row out"),
        (
            FIRST.replace("1}", "NaN}").strip(),
            NAMED,
            "score 'nan' is not a finite number: fill it in or leave the row ",
        ),
        (
            FIRST.replace('"a"', "3").strip(),
            NAMED,
            "sentence1 is 3, not a text: choose another column, or leave the row ",
        ),
    ],
)
def test_a_wrong_line_is_reported_with_its_number(tmp_path: Path, line: str, config: DataConfig, message: str) -> None:
    reported = _refusal(_written(tmp_path, f"{FIRST}\n{line}\n{GOOD}"), config)
    assert len(reported) == 1
    assert reported[0].startswith(f"train.jsonl, line 3: {message}")


@pytest.mark.parametrize(
    ("content", "config", "messages"),
    [
        ("", NAMED, ["train.jsonl: is empty"]),
        (
            '[{"sentence1": "a"}, {"sentence1": "b"}]',
            NAMED,
            [
                "train.jsonl: is one JSON document over all lines, not one value a line: convert it with jq -c "
                "'.[]' train.jsonl"
            ],
        ),
        (
            '[\n {"sentence1": "a"}\n]',
            NAMED,
            [
                "train.jsonl: is one JSON document over all lines, not one value a line: convert it with jq -c "
                "'.[]' train.jsonl"
            ],
        ),
        (
            GOOD.replace("sentence1", "text1"),
            NAMED,
            [
                "train.jsonl: has no column 'sentence1' (data.columns), but 'text1': if it is the same, set "
                "'data.columns=[text1,sentence2,score]'"
            ],
        ),
        (
            GOOD,
            replace(NAMED, where={"lang": "es"}),
            ["train.jsonl: has no column 'lang' (data.where); its first line has 'sentence1', 'sentence2', 'score'"],
        ),
        (
            FIRST,
            BY_POSITION,
            [
                "train.jsonl, line 1: is not a list, and data.columns has positions: name the columns; it has "
                "'sentence1', 'sentence2', 'score'"
            ],
        ),
        (
            '["a", "b", 1]\n["c", "d"]\n["e", "f", 2]\n',
            BY_POSITION,
            ["train.jsonl, line 2: 2 values, where others have 3: complete the line or leave it out"],
        ),
        ('["a", "b"]\n["c", "d"]\n', BY_POSITION, ["train.jsonl: has no column 2 (data.columns): there are 0 to 1"]),
        (
            FIRST.replace('"a"', '"ñ"').encode("latin-1"),
            NAMED,
            [
                "train.jsonl, line 1: byte 16 (0xf1) is not UTF-8; the file is probably latin-1: convert it with "
                "iconv -f latin1 -t utf-8, or set data.encoding=latin-1"
            ],
        ),
    ],
)
def test_a_wrong_file_is_refused_with_advice(
    tmp_path: Path, content: str | bytes, config: DataConfig, messages: list[str]
) -> None:
    assert _refusal(_written(tmp_path, content), config) == messages


def test_a_folder_or_nothing_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    assert _refusal(path, NAMED) == ["train.jsonl: no such file; in its folder: nothing"]
    path.mkdir()
    assert _refusal(path, NAMED) == ["train.jsonl: is a folder, not a file; in it: nothing"]
