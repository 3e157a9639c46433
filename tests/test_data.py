"""Loading all splits: which source is asked, a folder's files by split and language, limits, all errors at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.data import load_splits
from embedsweep.errors import ConfigError
from embedsweep.schema import ConvertConfig, DataConfig

CSV = DataConfig(
    name="csv",
    path=None,
    hub=None,
    revision=None,
    language=None,
    files="{split}.csv",
    columns=(0, 1, 2),
    delimiter=",",
    score_range=(0.0, 5.0),
    convert=ConvertConfig(positive_threshold=0.8, both_directions=False),
    limit=None,
)
STSB = replace(CSV, name="stsb_multi_mt", hub="someone/stsb_multi_mt", files="stsb-{language}-{split}.csv")
DEMO = replace(CSV, name="demo", files=None)


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    load_splits.cache_clear()
    yield
    load_splits.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.csv").write_text(f"{split} a,b,1\n{split} c,d,2\n{split} e,f,2\n")
    return tmp_path


def _refusal(config: DataConfig) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_splits(config)
    return [str(problem) for problem in error.value.problems]


def test_each_split_of_a_folder_is_its_file(folder: Path) -> None:
    splits = load_splits(replace(CSV, path=str(folder)))
    for name, pairs in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
        assert pairs.sentences1 == (f"{name} a", f"{name} c", f"{name} e")
        assert pairs.origin == str(folder / f"{name}.csv")


def test_a_path_is_read_before_the_hub_is_asked(folder: Path) -> None:
    splits = load_splits(replace(CSV, path=str(folder), hub="someone/stsb_multi_mt"))
    assert len(splits.train) == 3


def test_a_home_folder_may_be_written_with_a_tilde(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_splits(replace(CSV, path=f"~/{folder.name}")).train) == 3


def test_data_is_read_once_a_process(folder: Path) -> None:
    config = replace(CSV, path=str(folder))
    splits = load_splits(config)
    (folder / "train.csv").unlink()
    assert load_splits(replace(config)) is splits


def test_the_limit_keeps_the_first_rows_of_each_split(folder: Path) -> None:
    splits = load_splits(replace(CSV, path=str(folder), limit=2))
    assert [pairs.sentences1[-1] for pairs in (splits.train, splits.dev, splits.test)] == ["train c", "dev c", "test c"]
    assert [len(pairs) for pairs in (splits.train, splits.dev, splits.test)] == [2, 2, 2]


def test_a_limit_that_leaves_nothing_to_rank_is_refused(folder: Path) -> None:
    (folder / "dev.csv").write_text("a,b,1\nc,d,1\ne,f,2\n")
    assert _refusal(replace(CSV, path=str(folder), limit=2)) == [
        f"data.limit: the first 2 rows of {folder}/dev.csv do not have two different scores: raise it"
    ]


def test_problems_of_all_splits_are_told_at_once(folder: Path) -> None:
    (folder / "train.csv").write_text("a,b,1\nc,d,high\n")
    (folder / "dev.csv").unlink()
    (folder / "test.csv").write_text("a,b,3\nc,d,3\n")
    assert _refusal(replace(CSV, path=str(folder))) == [
        f"{folder}/train.csv, line 2: score 'high' is not a number: write a plain number such as 3.5",
        f"{folder}/dev.csv: no such file; in its folder: 'test.csv'",
        f"{folder}/test.csv: all 2 scores are 3, so nothing can be ranked: is the third of data.columns the score?",
    ]


def test_a_wrong_option_is_told_once_not_once_a_split(folder: Path) -> None:
    assert len(_refusal(replace(CSV, path=str(folder), columns=(0, 1, 1)))) == 1


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("fr", "data.language: 'fr' is not there: for stsb-{language}-{split}.csv there are en, es in "),
        (
            None,
            "data.language: is not given, and the files' names have one: for stsb-{language}-{split}.csv there are en, "
            "es in ",
        ),
    ],
)
def test_a_language_that_is_not_there_is_told_with_those_that_are(
    folder: Path, language: str | None, message: str
) -> None:
    for name in ("stsb-es-train.csv", "stsb-en-dev.csv", "stsb-es-test.csv", "notes-de-train.csv"):
        (folder / name).write_text("")
    assert _refusal(replace(STSB, path=str(folder), language=language)) == [message + str(folder)]


def test_files_without_any_language_are_missed_by_name(folder: Path) -> None:
    told = _refusal(replace(STSB, path=str(folder), language="es"))
    assert told[0] == f"{folder}/stsb-es-train.csv: no such file; in its folder: 'train.csv', 'test.csv'"
    assert len(told) == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "data.files: is not given: say which file a split is, as in '{split}.csv'"),
        (
            "all.csv",
            "data.files: 'all.csv' has no {split}, so that all splits would be the same file: write it with {split}, "
            "and {language} where names have one",
        ),
        (
            "{name}.csv",
            "data.files: '{name}.csv' cannot be filled in (KeyError: 'name'): write it with {split}, and {language} "
            "where names have one",
        ),
        (
            "{split.csv",
            "data.files: '{split.csv' cannot be filled in (ValueError: expected '}' before end of string): write it "
            "with {split}, and {language} where names have one",
        ),
    ],
)
def test_file_names_that_name_no_splits_are_refused(folder: Path, files: str | None, message: str) -> None:
    assert _refusal(replace(CSV, path=str(folder), files=files)) == [message]


def test_a_path_that_is_no_folder_is_refused(folder: Path) -> None:
    file = folder / "train.csv"
    assert _refusal(replace(CSV, path=str(file))) == [
        f"data.path: {file} is a file: give its folder, and the name in data.files with {{split}} for train, dev and "
        "test"
    ]
    (folder / "spanish").mkdir()
    assert _refusal(replace(CSV, path=str(folder / "spanich"))) == [
        f"data.path: there is no folder {folder}/spanich; folders in {folder}: 'spanish'"
    ]


def test_without_path_and_hub_both_ways_are_told() -> None:
    assert _refusal(CSV) == ["data.hub: is not given: say data.path=FOLDER, or the dataset's id"]


def test_demo_data_is_generated_and_scaled_to_one() -> None:
    splits = load_splits(DEMO)
    assert splits.train.origin == "demo train"
    for pairs in (splits.train, splits.dev, splits.test):
        assert len(pairs) >= 100
        assert min(pairs.scores) < 0.2
        assert max(pairs.scores) == 1.0


def test_demo_data_reads_no_path(folder: Path) -> None:
    assert _refusal(replace(DEMO, path=str(folder))) == [
        f"data.path: {folder} is not read: demo data is generated; say data=csv for files"
    ]


@pytest.mark.parametrize(("language", "train"), [("es", "Un avión está despegando."), ("en", "A plane is taking off.")])
def test_the_sts_benchmark_is_read_whole(shared_data: Path, language: str, train: str) -> None:
    config = replace(STSB, path=str(shared_data / "stsb_multi_mt"), language=language)
    splits = load_splits(config)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (5749, 1500, 1379)
    assert splits.train.sentences1[0] == train


def test_reading_files_imports_no_heavy_library(folder: Path) -> None:
    script = (
        "import sys\n"
        "from embedsweep.data import load_splits\n"
        "from embedsweep.schema import ConvertConfig, DataConfig\n"
        f"load_splits({replace(CSV, path=str(folder))!r})\n"
        "print(sorted({'torch', 'pandas', 'datasets', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
