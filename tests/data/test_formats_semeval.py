"""Reading folders in the layout of SemEval's STS tasks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.trial import BenchmarkConfig, DataConfig
from embedsweep.data.checks import checked_examples
from embedsweep.data.examples import Examples, as_examples
from embedsweep.data.formats import read_semeval
from embedsweep.data.load import load_benchmark, load_splits
from embedsweep.data.tables import layout_of
from embedsweep.errors import ConfigError
from tests.configs import EVALUATION, SCORED

SEMEVAL = replace(SCORED, name="semeval", format="semeval", files="{split}/STS.input.*.txt")


def _part(folder: Path, name: str, pairs: str | bytes, scores: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"STS.input.{name}.txt").write_bytes(pairs.encode() if isinstance(pairs, str) else pairs)
    (folder / f"STS.gs.{name}.txt").write_text(scores)


def _examples(folder: Path, config: DataConfig) -> Examples:
    return checked_examples(read_semeval(folder / "STS.input.*.txt", layout_of(config)), config)


def _refusal(folder: Path, config: DataConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        _examples(folder, config)
    return [str(problem).replace(f"{folder}{os.sep}", "") for problem in error.value.problems]


def test_parts_are_joined_by_name_and_unscored_pairs_left_out(tmp_path: Path) -> None:
    _part(tmp_path, "wiki", "g\th\ni\tj\nk\tl\n", "\n5.0\n\n")
    _part(tmp_path, "news", 'a "\tb\r\nc\td\r\ne\tf\r\n', "1\r\n\r\n2.5\r\n")
    (tmp_path / "STS.gs.ALL.txt").write_text("1\n")
    examples = _examples(tmp_path, SEMEVAL)
    assert examples.texts == (('a "', "e", "i"), ("b", "f", "j"))
    assert examples.labels == (0.2, 0.5, 1.0)
    news, wiki = (f"{tmp_path}/STS.input.{name}.txt" for name in ("news", "wiki"))
    assert examples.origin == f"{news} + {wiki} (3 unscored pairs left out)"


@pytest.mark.parametrize(
    ("pairs", "scores"),
    [
        ("a\tb\nc\td\n", "1\n2\n"),
        ("a\tb\nc\td", "1\n2"),
        ("a\tb\nc\td\n\n", "1\n2\n"),
        ("a\tb\nc\td\n", "1\n2\n\n\n"),
        ("\ufeffa\tb\nc\td\n", "\ufeff1\n2\n"),
        ("a\tb\tsource\tsource\nc\td\tsource\tsource\n", "1\n2\n"),
    ],
)
def test_the_ends_of_files_and_further_columns_do_not_matter(tmp_path: Path, pairs: str, scores: str) -> None:
    _part(tmp_path, "news", pairs, scores)
    examples = _examples(tmp_path, SEMEVAL)
    assert (examples.texts, examples.labels) == ((("a", "c"), ("b", "d")), (0.2, 0.4))
    assert examples.origin == f"{tmp_path}/STS.input.news.txt"


@pytest.mark.parametrize(
    ("config", "texts"),
    [
        (replace(SEMEVAL, columns=(1, 0, 2)), (("b", "d"), ("a", "c"))),
        (replace(SEMEVAL, shape="positive_pairs", columns=("sentence1", "sentence2")), (("a", "c"), ("b", "d"))),
        (replace(SEMEVAL, shape="texts", columns=(1,)), (("b", "d"),)),
    ],
)
def test_columns_are_chosen_as_elsewhere(
    tmp_path: Path, config: DataConfig, texts: tuple[tuple[str, ...], ...]
) -> None:
    _part(tmp_path, "news", "a\tb\nc\td\n", "1\n2\n")
    assert _examples(tmp_path, config).texts == texts


@pytest.mark.parametrize(
    ("pairs", "scores", "message"),
    [
        (
            "a\tb\nc\td\n",
            "1\n2\n3\n",
            "STS.input.news.txt: has 2 lines and STS.gs.news.txt has 3: a line of one belongs to the same line "
            "of the other; the score of a pair without one is an empty line",
        ),
        (
            "a\tb\nc d\ne\tf\n",
            "1\n2\n3\n",
            "STS.input.news.txt, line 2: 1 column, where a line has two sentences with a tab between them",
        ),
        (
            "a\tb\nc\td\te\nf\tg\n",
            "1\n2\n3\n",
            "STS.input.news.txt, line 2: 3 columns, where a line has two sentences with a tab between them",
        ),
        (
            "a\tb\n\nc\td\n",
            "1\n2\n3\n",
            "STS.input.news.txt, line 2: 1 column, where a line has two sentences with a tab between them",
        ),
        (
            "a\tb\nc\t\ne\tf\n",
            "1\n2\n3\n",
            "STS.{input,gs}.news.txt, line 2: sentence2 is empty: fill it in or leave the row out",
        ),
        (
            "a\tb\nc\td\ne\tf\n",
            "1\nx\n3\n",
            "STS.{input,gs}.news.txt, line 2: score 'x' is not a number: write a plain number such as 3.5",
        ),
        (
            "a\tb\nñ\td\n".encode("latin-1"),
            "1\n2\n",
            "STS.input.news.txt, line 2: byte 1 (0xf1) is not UTF-8; the file is probably latin-1: convert it with "
            "iconv -f latin1 -t utf-8, or set data.encoding=latin-1",
        ),
        ("", "", "STS.input.news.txt: has no rows"),
        (
            "a\tb\nc\td\n",
            "3\n3\n",
            "STS.input.news.txt: all 2 scores are 3, so nothing can be ranked: is the third of data.columns the score?",
        ),
    ],
)
def test_wrong_parts_are_reported_by_file_and_line(
    tmp_path: Path, pairs: str | bytes, scores: str, message: str
) -> None:
    _part(tmp_path, "news", pairs, scores)
    assert _refusal(tmp_path, SEMEVAL) == [message]


def test_problems_of_all_parts_are_reported_at_once(tmp_path: Path) -> None:
    _part(tmp_path, "news", "a\tb\n", "1\n2\n")
    _part(tmp_path, "wiki", "a\tb\nc\td\n", "1\n2\n")
    (tmp_path / "STS.gs.wiki.txt").rename(tmp_path / "STS.gs.wikipedia.txt")
    reported = _refusal(tmp_path, SEMEVAL)
    assert reported[0].startswith("STS.input.news.txt: has 1 lines and STS.gs.news.txt has 2: ")
    assert reported[1].startswith(
        "STS.input.wiki.txt: has no scores: no such file; in its folder: 'STS.gs.wikipedia.txt'"
    )
    assert reported[1].endswith("(looked for STS.gs.wiki.txt)")


def test_a_folder_without_input_files_is_reported_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "STS.output.news.txt").write_text("")
    assert _refusal(tmp_path, SEMEVAL) == ["STS.input.*.txt: no such file; in its folder: 'STS.output.news.txt'"]


def test_names_that_cannot_have_scores_beside_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_semeval(tmp_path / "*.txt", layout_of(SEMEVAL))
    assert str(error.value) == (
        "data.files: '*.txt' lacks .input., which .gs. replaces in the names of the scores: STS.input.*.txt"
    )


def test_splits_are_folders_of_parts(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        _part(tmp_path / split, "news", f"{split} a\tb\nc\td\n", "1\n2\n")
    splits = load_splits(replace(SEMEVAL, path=str(tmp_path)), EVALUATION)
    assert (splits.train.texts[0][0], as_examples(splits.dev).texts[0][0]) == ("train a", "dev a")


def test_semeval_2012_is_read_whole(shared_data: Path) -> None:
    data = replace(SEMEVAL, files="STS.input.*.txt")
    benchmark = BenchmarkConfig("sts2012-en", "sts2012_en", "test", data, "sts", None)
    pairs = as_examples(load_benchmark(benchmark, str(shared_data)))
    assert len(pairs) == 1500
    assert (pairs.texts[0][0], (pairs.labels or ())[0]) == ("A man with a hard hat is dancing.", 1.0)
    assert pairs.texts[1][750] == "restate (words) from one language into another language."
