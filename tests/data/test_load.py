"""Loading splits: sources, a folder's files by split and language, limits, all errors at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from embedsweep.config.trial import AlsoConfig, BenchmarkConfig, DataConfig, EvaluationConfig, LossConfig
from embedsweep.data.demo import DEMO_VALUES, DEMOS, DemoName
from embedsweep.data.examples import COLUMNS, as_examples
from embedsweep.data.load import load_also, load_benchmark, load_splits, load_train
from embedsweep.errors import ConfigError
from tests.configs import EVALUATION, SCORED

CSV = replace(SCORED, columns=(0, 1, 2))
STSB = replace(CSV, name="stsb_multi_mt", hub="someone/stsb_multi_mt", files="stsb-{language}-{split}.csv")
DEMO = replace(SCORED, name="demo", format="generated", files=None)
PAIRED = replace(
    CSV, name="paired", shape="positive_pairs", columns=(0, 1), splits={**CSV.splits, "dev": (), "test": ()}
)
BENCHMARK = BenchmarkConfig(name="bench", folder="bench", split="test", data=CSV, family="sts", scoring=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.csv").write_text(f"{split} a,b,1\n{split} c,d,2\n{split} e,f,2\n")
    return tmp_path


def _refusal(config: DataConfig, evaluation: EvaluationConfig = EVALUATION) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_splits(config, evaluation)
    return [str(problem) for problem in error.value.problems]


def test_each_split_of_a_folder_is_its_file(folder: Path) -> None:
    splits = load_splits(replace(CSV, path=str(folder)), EVALUATION)
    assert splits.train.shape == "scored_pairs"
    assert splits.train.texts == (("train a", "train c", "train e"), ("b", "d", "f"))
    assert splits.train.labels == (0.2, 0.4, 0.4)
    for name, pairs in (("dev", splits.dev), ("test", splits.test)):
        assert as_examples(pairs).texts[0] == (f"{name} a", f"{name} c", f"{name} e")
        assert pairs.origin == str(folder / f"{name}.csv")
    assert splits.train.origin == str(folder / "train.csv")


def test_a_path_has_priority_over_the_hub(folder: Path) -> None:
    splits = load_splits(replace(CSV, path=str(folder), hub="someone/stsb_multi_mt"), EVALUATION)
    assert len(splits.train) == 3


def test_a_home_folder_may_be_written_with_a_tilde(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_splits(replace(CSV, path=f"~/{folder.name}"), EVALUATION).train) == 3


def test_data_is_read_once_a_process(folder: Path) -> None:
    config = replace(CSV, path=str(folder))
    splits = load_splits(config, EVALUATION)
    (folder / "train.csv").unlink()
    again = replace(config, convert=replace(config.convert, seed=1), drop_leaked=True)
    assert load_splits(again, replace(EVALUATION, batch_size=2)) is splits
    assert load_splits(config, EVALUATION) is splits


def test_the_limit_cuts_what_is_trained_on_only(folder: Path) -> None:
    splits = load_splits(replace(CSV, path=str(folder), limit=2), EVALUATION)
    assert splits.train.texts == (("train a", "train c"), ("b", "d"))
    assert [len(pairs) for pairs in (splits.dev, splits.test)] == [3, 3]
    whole = load_splits(replace(CSV, path=str(folder)), EVALUATION)
    assert len(whole.train) == 3
    assert (whole.dev.digest, whole.test.digest) == (splits.dev.digest, splits.test.digest)


def test_a_limit_keeps_the_classes_of_all_rows(folder: Path) -> None:
    (folder / "train.csv").write_text("a,x\nb,z\nc,y\nd,x\n")
    train = load_train(replace(CSV, path=str(folder), shape="class_texts", columns=(0, 1), limit=2))
    assert (train.texts, train.labels, train.classes) == ((("a", "b"),), (0.0, 2.0), ("x", "y", "z"))


def test_a_limit_that_leaves_nothing_to_rank_is_refused(folder: Path) -> None:
    (folder / "train.csv").write_text("a,b,1\nc,d,1\ne,f,0\n")
    (folder / "dev.csv").write_text("a,b,1\nc,d,1\ne,f,2\n")
    for shape, what in (("scored_pairs", "scores"), ("binary_pairs", "labels")):
        with pytest.raises(ConfigError) as error:
            load_train(replace(CSV, path=str(folder), shape=shape, limit=2))  # type: ignore[arg-type]
        reported = (
            f"data.limit: the first 2 rows of {folder}/train.csv do not have two different {what}: raise the limit"
        )
        assert str(error.value) == reported
    assert _refusal(replace(CSV, path=str(folder), limit=2)) == [reported.replace("labels", "scores")]
    assert len(load_splits(replace(CSV, path=str(folder), limit=3), EVALUATION).train) == 3


def test_problems_of_all_splits_are_reported_at_once(folder: Path) -> None:
    (folder / "train.csv").write_text("a,b,1\nc,d,high\n")
    (folder / "dev.csv").unlink()
    (folder / "test.csv").write_text("a,b,3\nc,d,3\n")
    assert _refusal(replace(CSV, path=str(folder))) == [
        f"{folder}/train.csv, line 2: score 'high' is not a number: write a plain number such as 3.5",
        f"{folder}/dev.csv: no such file; in its folder: 'test.csv'",
        f"{folder}/test.csv: all 2 scores are 3, so nothing can be ranked: is the third of data.columns the score?",
    ]


@pytest.mark.parametrize(
    ("config", "there", "advice"),
    [
        ({}, "train.tsv", "'data.files=\"{split}.tsv\"' data.delimiter=tab"),
        ({}, "train.jsonl", "'data.files=\"{split}.jsonl\"' data.format=json_lines"),
        (
            {"files": "{split}.tsv", "delimiter": "\t"},
            "train.csv",
            "'data.files=\"{split}.csv\"' 'data.delimiter=\",\"'",
        ),
        (
            {"files": "{split}.jsonl", "format": "json_lines"},
            "train.csv",
            "'data.files=\"{split}.csv\"' data.format=delimited",
        ),
    ],
)
def test_a_missing_file_that_is_there_in_another_format_is_named_with_the_settings(
    tmp_path: Path, config: dict[str, Any], there: str, advice: str
) -> None:
    (tmp_path / there).write_text("sentence1\n")
    data = replace(CSV, path=str(tmp_path), **config)
    missing = data.files.format(split="train") if data.files else ""
    assert _refusal(data)[0] == f"{tmp_path}/{missing}: no such file, but there is {there}: set {advice}"


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("fr", "data.language: there are no files in 'fr': for stsb-{language}-{split}.csv there are en, es in "),
        (
            None,
            "data.language: is not set, but the files' names have one: for stsb-{language}-{split}.csv there are en, "
            "es in ",
        ),
    ],
)
def test_a_missing_language_is_reported_with_the_existing_ones(
    folder: Path, language: str | None, message: str
) -> None:
    for name in ("stsb-es-train.csv", "stsb-en-dev.csv", "stsb-es-test.csv", "notes-de-train.csv"):
        (folder / name).write_text("")
    assert _refusal(replace(STSB, path=str(folder), language=language)) == [message + str(folder)]


def test_files_without_any_language_are_missed_by_name(folder: Path) -> None:
    reported = _refusal(replace(STSB, path=str(folder), language="es"))
    assert reported[0] == f"{folder}/stsb-es-train.csv: no such file; in its folder: 'train.csv', 'test.csv'"
    assert len(reported) == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "data.files: is not set: set the file name of a split, as in '{split}.csv'"),
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


def test_a_path_that_cannot_be_all_splits_is_refused(folder: Path) -> None:
    file = folder / "train.csv"
    assert _refusal(replace(CSV, path=str(file))) == [
        f"data.path: {file} is a file, but train, dev, test are needed: give its folder, and the name in data.files "
        "with {split} for train, dev, test; or set evaluation.dev and evaluation.test, and the "
        "file is train"
    ]
    (folder / "spanish").mkdir()
    assert _refusal(replace(CSV, path=str(folder / "spanich"))) == [
        f"data.path: there is no folder {folder}/spanich; folders in {folder}: 'spanish'"
    ]


def test_without_path_and_hub_the_needed_files_are_named() -> None:
    assert _refusal(CSV) == [
        "data.path: is not set, and csv is not on the hub: set data.path=FOLDER, with train.csv, dev.csv, test.csv in "
        "that folder"
    ]


@pytest.mark.parametrize("name", DEMOS)
@pytest.mark.parametrize("option", [None, "mine"])
def test_demo_data_is_selected_by_its_shape_and_scored_by_the_same_pairs(name: DemoName, option: str | None) -> None:
    shape = DEMOS[name]
    config = replace(DEMO, name=option or name, shape=shape, columns=COLUMNS[shape], limit=20)
    splits = load_splits(config, EVALUATION)
    assert splits.train.origin == f"{name} train"
    assert splits.train.shape == shape
    assert len(splits.train) == 20
    for split, pairs in (("dev", splits.dev), ("test", splits.test)):
        assert pairs.origin == f"demo {split}"
        assert len(pairs) == 800
        scores = as_examples(pairs).labels or ()
        assert min(scores) < 0.2
        assert max(scores) == 1.0


def test_demo_data_reads_no_path(folder: Path) -> None:
    reported = f"data.path: {folder} is not read: demo data is generated"
    assert _refusal(replace(DEMO, path=str(folder))) == [f"{reported}; set data=csv for files"]


def test_values_that_demo_data_does_not_read_are_refused_all_at_once() -> None:
    config = replace(
        DEMO,
        language="es",
        revision="v1",
        columns=(0, 1, 2),
        where={"lang": "es"},
        titles=True,
        labels=("a", "b"),
        splits={**DEMO.splits, "dev": ()},
        delimiter=";",
        encoding="latin-1",
        score_range=(0.0, 1.0),
    )
    reported = "is not read: demo data is generated; leave it at"
    assert sorted(_refusal(config)) == [
        f"data.columns: [0,1,2] {reported} [sentence1,sentence2,score]",
        f"data.delimiter: ';' {reported} ','",
        f"data.encoding: 'latin-1' {reported} 'utf-8'",
        f"data.labels: [a,b] {reported} null",
        f"data.language: 'es' {reported} null",
        f"data.revision: 'v1' {reported} null",
        f"data.score_range: [0,1] {reported} [0,5]",
        f"data.splits: {{train:[train],dev:[],test:[test]}} {reported} {{train:[train],dev:[dev],test:[test]}}",
        f"data.titles: true {reported} false",
        f"data.where: {{lang:es}} {reported} {{}}",
    ]


def test_what_demo_data_does_not_read_is_every_key_without_an_effect_on_it() -> None:
    chosen_by = {"name", "format", "path", "shape", "columns"}
    read = {"convert", "negatives", "max_tokens", "drop_leaked", "limit", "also", "languages"}
    assert {*DEMO_VALUES, *chosen_by, *read} == {field.name for field in fields(DataConfig)}


def test_a_shape_without_demo_data_is_refused_with_the_shapes_that_have_some() -> None:
    assert _refusal(replace(DEMO, shape="triplets", columns=("a", "b", "c"))) == [
        "data.shape: there is no demo data of triplets (anchor, positive, negative: a text, one that means the same "
        "and one that does not): demo data is scored_pairs (data=demo), class_pairs (data=demo_nli), class_texts "
        "(data=demo_topics), positive_pairs (data=demo_retrieval); data.convert.to converts it to what a loss needs"
    ]


@pytest.mark.parametrize(("language", "train"), [("es", "Un avión está despegando."), ("en", "A plane is taking off.")])
def test_the_sts_benchmark_is_read_whole(shared_data: Path, language: str, train: str) -> None:
    config = replace(STSB, path=str(shared_data / "stsb_multi_mt"), language=language)
    splits = load_splits(config, EVALUATION)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (5749, 1500, 1379)
    assert splits.train.texts[0][0] == train


def test_reading_files_imports_no_heavy_library(folder: Path) -> None:
    script = (
        "import sys\n"
        "from embedsweep.data.load import load_splits\n"
        "from embedsweep.config.negatives import NegativesConfig\n"
        "from embedsweep.config.trial import ConvertConfig, DataConfig, StsConfig\n"
        f"load_splits({replace(CSV, path=str(folder))!r}, {EVALUATION!r})\n"
        "print(sorted({'torch', 'pandas', 'datasets', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_split_joins_its_files_in_their_order(folder: Path) -> None:
    config = replace(CSV, path=str(folder), splits={**CSV.splits, "train": ("dev", "train")})
    train = load_train(config)
    assert train.texts[0] == ("dev a", "dev c", "dev e", "train a", "train c", "train e")
    assert train.origin == f"{folder}/dev.csv + {folder}/train.csv"


def test_problems_of_joined_files_keep_their_places(folder: Path) -> None:
    (folder / "train.csv").write_text("a,b,1\nc,d,high\n")
    config = replace(CSV, path=str(folder), splits={**CSV.splits, "train": ("train", "extra")})
    assert _refusal(config) == [
        f"{folder}/extra.csv: no such file; in its folder: 'train.csv', 'dev.csv'",
        f"{folder}/train.csv, line 2: score 'high' is not a number: write a plain number such as 3.5",
    ]


def test_only_splits_that_are_needed_are_read(folder: Path) -> None:
    (folder / "bench").mkdir()
    (folder / "test.csv").rename(folder / "bench" / "test.csv")
    (folder / "dev.csv").unlink()
    scored_there = replace(EVALUATION, dev=BENCHMARK, test=BENCHMARK, path=str(folder))
    splits = load_splits(replace(CSV, path=str(folder)), scored_there)
    assert splits.train.texts[0][0] == "train a"
    assert splits.dev == splits.test
    assert splits.dev.origin == f"{folder}/bench/test.csv"


def test_a_file_is_what_is_trained_on_where_something_else_is_scored(folder: Path) -> None:
    (folder / "bench").mkdir()
    (folder / "test.csv").rename(folder / "bench" / "test.csv")
    scored_there = replace(EVALUATION, dev=BENCHMARK, test=BENCHMARK, path=str(folder))
    for config in (CSV, replace(PAIRED, columns=(1, 0), where={"2": "2"})):
        train = load_splits(replace(config, path=str(folder / "train.csv")), scored_there).train
        assert train.shape == config.shape
    assert train.texts == (("d", "f"), ("train c", "train e"))


def test_data_without_a_split_to_score_needs_a_benchmark(folder: Path) -> None:
    config = replace(CSV, name="mine", path=str(folder), splits={**CSV.splits, "dev": (), "test": ()})
    assert _refusal(config) == [
        f"evaluation.{split}: is not set, and data=mine has no {split} split (data.splits.{split}): choose a benchmark "
        f"of conf/benchmark/, for example evaluation.{split}=stsb-es-{split}"
        for split in ("dev", "test")
    ]


@pytest.mark.parametrize(
    ("evaluation", "where", "benchmarks"),
    [
        (EVALUATION, "evaluation", "evaluation.dev=stsb-es-dev evaluation.test=stsb-es-test"),
        (replace(EVALUATION, dev=BENCHMARK), "evaluation.test", "evaluation.test=stsb-es-test"),
    ],
)
def test_data_that_cannot_be_scored_needs_another_evaluation_or_benchmarks(
    folder: Path, evaluation: EvaluationConfig, where: str, benchmarks: str
) -> None:
    (folder / "bench").mkdir()
    (folder / "test.csv").rename(folder / "bench" / "test.csv")
    config = replace(PAIRED, name="mine", path=str(folder))
    assert _refusal(config, replace(evaluation, path=str(folder))) == [
        f"{where}: evaluation=sts scores scored_pairs, and data=mine has positive_pairs (two texts that mean the same; "
        "data.shape): set data.shape=scored_pairs 'data.columns=[sentence1,sentence2,score]' for a table with such "
        f"columns, or take evaluation=retrieval, or set {benchmarks} or other benchmarks"
    ]


def test_data_without_anything_to_train_on_is_refused(folder: Path) -> None:
    config = replace(CSV, path=str(folder), splits={**CSV.splits, "train": ()})
    assert _refusal(config) == ["data.splits.train: data=csv has nothing to train on: name its split, as [train]"]


def test_problems_of_data_and_benchmarks_are_reported_at_once(folder: Path) -> None:
    (folder / "train.csv").write_text("a,b,1\nc,d,high\n")
    (folder / "bench").mkdir()
    (folder / "bench" / "test.csv").write_text("a,b,1\n,d,2\n")
    evaluation = replace(EVALUATION, dev=BENCHMARK, test=replace(BENCHMARK, folder="other"), path=str(folder))
    assert _refusal(replace(CSV, path=str(folder)), evaluation) == [
        f"{folder}/train.csv, line 2: score 'high' is not a number: write a plain number such as 3.5",
        f"{folder}/bench/test.csv, line 2: sentence1 is empty: fill it in or leave the row out",
        f"evaluation.path: benchmark bench: there is no folder {folder}/other; folders in {folder}: 'bench'",
    ]


def _benchmark_refusal(benchmark: BenchmarkConfig, path: str | None) -> str:
    with pytest.raises(ConfigError) as error:
        load_benchmark(benchmark, path)
    return str(error.value)


def test_a_benchmark_without_hub_names_the_place_of_its_files(folder: Path) -> None:
    benchmark = replace(BENCHMARK, data=replace(CSV, name="bench", files="STS.tsv"))
    assert _benchmark_refusal(benchmark, None) == (
        "evaluation.path: benchmark bench: is not set, and bench is not on the hub: set evaluation.path=FOLDER, with "
        "bench/STS.tsv in that folder"
    )
    assert _benchmark_refusal(benchmark, str(folder / "nowhere")) == (
        f"evaluation.path: there is no folder {folder}/nowhere; folders in {folder}: nothing"
    )


def test_problems_of_a_benchmark_have_its_own_keys(folder: Path) -> None:
    benchmark = replace(BENCHMARK, folder=".", data=replace(CSV, files=None))
    assert _benchmark_refusal(benchmark, str(folder)) == (
        "benchmark bench, data.files: is not set: set the file name of a split, as in '{split}.csv'"
    )
    assert _benchmark_refusal(replace(benchmark, data=PAIRED), str(folder)) == (
        "benchmark bench: has two texts that mean the same (shape: positive_pairs), but family sts scores scored_pairs"
    )


def test_a_benchmark_of_demo_data_needs_no_path(tmp_path: Path) -> None:
    benchmark = replace(BENCHMARK, data=DEMO, split="dev")
    assert len(load_benchmark(benchmark, str(tmp_path))) == 800


LOSS = LossConfig(name="mnrl", parameters={}, inner=None)


def test_further_datasets_are_loaded_by_name(folder: Path) -> None:
    also = {
        "pairs": AlsoConfig(replace(PAIRED, path=str(folder)), LOSS),
        "more": AlsoConfig(replace(CSV, path=str(folder), limit=2), LOSS),
    }
    loaded = load_also(replace(CSV, also=also))
    assert {name: (examples.shape, len(examples)) for name, examples in loaded.items()} == {
        "pairs": ("positive_pairs", 3),
        "more": ("scored_pairs", 2),
    }


def test_problems_of_further_datasets_have_their_own_keys(folder: Path) -> None:
    also = {
        "one": AlsoConfig(replace(PAIRED, path=str(folder), columns=(0, 7)), LOSS),
        "two": AlsoConfig(replace(CSV, path=str(folder / "data.path")), LOSS),
    }
    with pytest.raises(ConfigError) as error:
        load_also(replace(CSV, also=also))
    assert [str(problem) for problem in error.value.problems] == [
        f"{folder}/train.csv: has no column 7 (data.also.one.columns): there are 0 to 2",
        f"data.also.two.path: there is no folder {folder}/data.path; folders in {folder}: nothing",
    ]


def test_files_without_a_format_are_refused(folder: Path) -> None:
    assert _refusal(replace(CSV, path=str(folder), format=None)) == [
        "data.format: is not set: set the format of the files, one of delimited, json_lines, parquet, semeval"
    ]
