"""The data of a study is frozen with it: another content of any source is refused with what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import ConfigError, StudyError
from embedsweep.models.digest import folder_content
from embedsweep.study.frozen_data import agree_on_data, require_same_data
from embedsweep.study.opening import open_study
from embedsweep.study.record import DATA
from embedsweep.study.study import Study
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.sweep import pass_sweep
from tests.faults import studies
from tests.validation.commands import own_option

HEADER = "sentence1,sentence2,score\n"
ROWS = HEADER + "a b,c d,0\ne f,g h,5\n"
WORDS = ("loss=cosent,cosine", "data=csv", "data.path=pairs", "trainer.device=cpu", "dataloader.batch_size=2")
CHANGES = {
    "a row more": ("train", ROWS + "i,j,1\n", "train (pairs/train.csv) has changed: it had 2 examples", "has 3 now"),
    "another text": (
        "dev",
        ROWS.replace("a b", "a B"),
        "dev (pairs/dev.csv) has changed",
        "it has as many examples as when the study was created (2), but not the same",
    ),
    "another score": ("test", ROWS.replace("5", "4"), "test (pairs/test.csv) has changed", "not the same"),
    "another order": (
        "train",
        HEADER + "e f,g h,5\na b,c d,0\n",
        "train (pairs/train.csv) has changed",
        "not the same",
    ),
}


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None]) -> Path:
    """A folder of three files in the working directory."""
    monkeypatch.chdir(tmp_path)
    forget_data()
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.csv").write_text(ROWS)
    return folder


def opened(*words: str) -> Study:
    return open_study(pass_sweep(words))


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_is_refused_with_what_differs(
    change: str, pairs: Path, forget_data: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    study = opened(*WORDS)
    agree_on_data(study)
    agree_on_data(study)
    split, content, *differences = CHANGES[change]
    (pairs / f"{split}.csv").write_text(content)
    forget_data()

    for words in (WORDS, (f"study.name={study.name}",)):
        assert main(["train", "-m", *words, "study.dry_run=true"]) == 2
        error = capsys.readouterr().err
        assert "1 problem; nothing was trained" in error
        assert all(difference in error for difference in (f"study {study.name}", *differences))
    with pytest.raises(ConfigError, match="has changed"):
        agree_on_data(opened(*WORDS))
    with pytest.raises(StudyError, match="has changed"):
        require_same_data(study, {"loss": "cosent"}, _config(study, loss="cosent"))


def test_every_source_is_frozen_and_reported(pairs: Path, forget_data: Callable[[], None]) -> None:
    study = opened(*WORDS)
    agree_on_data(study)
    for split in ("train", "dev", "test"):
        (pairs / f"{split}.csv").write_text(ROWS.replace("g h", "gh"))
    forget_data()
    with pytest.raises(ConfigError) as error:
        agree_on_data(study)
    assert [problem.message.split()[0] for problem in error.value.problems] == ["train", "dev", "test"]


def test_what_is_done_with_examples_is_no_other_data(pairs: Path) -> None:
    words = (*WORDS[1:], "loss=cosent", "data.limit=2", "optimizer.lr=1e-4,1e-3", "data.drop_leaked=false")
    study = opened(*words)
    agree_on_data(study)
    assert set(study.frozen_data) == {"train", "dev", "test"}


def test_sources_that_are_swept_are_frozen_each(pairs: Path, forget_data: Callable[[], None]) -> None:
    study = opened("loss=cosent", *WORDS[1:2], *WORDS[3:], "data.path=pairs", "data.splits.train=[train],[train,dev]")
    agree_on_data(study)
    trained = {name: content["size"] for name, content in study.frozen_data.items() if name.startswith("train")}
    assert trained == {"train with data.splits.train=[train]": 2, "train with data.splits.train=[train,dev]": 4}
    (pairs / "train.csv").write_text(ROWS + "i,j,1\n")
    forget_data()
    with pytest.raises(ConfigError) as error:
        agree_on_data(study)
    assert len(error.value.problems) == 2


def _write_judged(folder: Path, splits: tuple[str, ...]) -> None:
    """Write a folder of three documents and three questions, two of them judged in each split."""
    (folder / "qrels").mkdir(parents=True)
    for name, letter in (("corpus", "d"), ("queries", "q")):
        texts = [{"_id": f"{letter}{number}", "text": f"{letter} {number}"} for number in range(3)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(text)}\n" for text in texts))
    for split in splits:
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\n")


def test_changed_documents_are_named_with_the_judgements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    forget_data()
    _write_judged(Path("mine"), ("train", "dev", "test"))
    study = opened("loss=mnrl", "data=beir", "data.path=mine", "evaluation=retrieval", "optimizer.lr=1e-4,1e-3")
    agree_on_data(study)
    with Path("mine", "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "d3", "text": "d three"}\n')
    forget_data()
    with pytest.raises(ConfigError) as error:
        agree_on_data(study)
    assert [problem.message.partition(" has changed")[0] for problem in error.value.problems] == [
        f"{split} (mine/qrels/{split}.tsv with corpus.jsonl and queries.jsonl)" for split in ("dev", "test")
    ]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("corpus.jsonl", '{"_id": "d3", "text": "d three"}', "it had 3 documents when the study was created and has 4"),
        ("qrels/dev.tsv", "q1\td2\t1", "it has as many documents as when the study was created (3), but not the same"),
    ],
)
def test_what_negatives_are_mined_from_is_frozen(
    file: str, line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    forget_data()
    _write_judged(Path("mine"), ("train", "dev"))
    words = ("loss=mnrl", "data=beir", "data.path=mine", "evaluation.dev=demo-dev", "evaluation.test=demo-test")
    without = opened(*words, "optimizer.lr=1e-4,1e-3")
    study = opened(*words, "data.negatives.count=0,1")
    agree_on_data(without)
    agree_on_data(study)
    with Path("mine", file).open("a") as opened_file:
        opened_file.write(f"{line}\n")
    forget_data()
    agree_on_data(without)
    with pytest.raises(ConfigError) as error:
        agree_on_data(study)
    (problem,) = error.value.problems
    assert problem.message.startswith(f"corpus (mine) has changed: {message}")
    params = {count: {"data.negatives.count": count} for count in (0, 1)}
    require_same_data(study, params[0], cell_config(study.plan, params[0]))
    with pytest.raises(StudyError, match="corpus"):
        require_same_data(study, params[1], cell_config(study.plan, params[1]))


def test_a_further_dataset_is_frozen_whatever_its_name(pairs: Path, forget_data: Callable[[], None]) -> None:
    own_option(
        "data/both.yaml", "defaults: [csv, /data@also.train: csv, /loss@also.train.loss: cosine, _self_]\nname: both\n"
    )
    further = pairs / "further.csv"
    further.write_text(ROWS)
    study = opened(WORDS[0], *WORDS[2:], "data=both", f"data.also.train.path={further}")
    agree_on_data(study)
    further.write_text(ROWS.replace("a b", "other"))
    forget_data()
    with pytest.raises(ConfigError) as error:
        agree_on_data(study)
    (problem,) = error.value.problems
    assert problem.message.startswith("data.also.train (")


@pytest.mark.parametrize("changed", ["encoder/model.safetensors", "teacher/config.json"])
def test_a_folder_of_a_model_or_a_teacher_is_frozen(changed: str, pairs: Path) -> None:
    for name in ("encoder", "teacher"):
        (pairs.parent / name).mkdir()
        config = {"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0, "hidden_size": 8}
        (pairs.parent / name / "config.json").write_text(json.dumps(config))
        for file in ("model.safetensors", "tokenizer.json"):
            (pairs.parent / name / file).touch()
    models = ("model=pretrained", "model.path=encoder", "loss=mse", "loss.teacher=teacher")
    study = opened("optimizer.lr=1e-4,1e-3", *WORDS[1:], *models)
    agree_on_data(study)
    assert {"model encoder", "model teacher"} <= set(study.frozen_data)
    (pairs.parent / changed).write_text(json.dumps({**config, "more": 1}))
    with pytest.raises(ConfigError) as error:
        agree_on_data(study)
    (problem,) = error.value.problems
    assert problem.message.startswith(f"model {Path(changed).parent} (")
    assert "has as many files as when the study was created (3), but not the same" in problem.message


def test_a_study_of_an_earlier_version_takes_the_data_it_finds(pairs: Path, forget_data: Callable[[], None]) -> None:
    study = opened(*WORDS)
    assert DATA not in study._study.user_attrs  # as earlier versions leave it
    (pairs / "train.csv").write_text(ROWS + "i,j,1\n")
    forget_data()
    require_same_data(study, {"loss": "cosent"}, _config(study, loss="cosent"))
    agree_on_data(study)
    assert study.frozen_data["train"]["size"] == 3


def test_data_is_no_part_of_the_derived_name(pairs: Path, forget_data: Callable[[], None]) -> None:
    name = opened(*WORDS).name
    (pairs / "train.csv").write_text(ROWS + "i,j,1\n")
    forget_data()
    assert opened(*WORDS).name == name


def test_the_content_of_a_models_folder_is_its_files_but_not_its_readme(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    for name in ("model.safetensors", "1_Pooling/config.json", "README.md", ".gitattributes", "pytorch_model.bin"):
        (tmp_path / name).write_text(name)
    before = folder_content(tmp_path)
    assert before.size == 2
    for name in ("README.md", ".gitattributes"):
        (tmp_path / name).write_text("other")
    assert folder_content(tmp_path) == before
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    assert folder_content(tmp_path).digest != before.digest


@pytest.mark.slow
def test_a_study_of_a_changed_file_or_model_trains_nothing(
    pairs: Path, tmp_path: Path, forget_data: Callable[[], None]
) -> None:
    words = (*WORDS, "trainer.max_steps=1", "study.name=changed", "workers=local", "study.n_trials=1")
    first = studies.run(tmp_path, words)
    assert first.code == 0, first.output
    (pairs / "dev.csv").write_text(ROWS.replace("a b", "other"))
    for more in (words, ("study.name=changed",)):
        refused = studies.run(tmp_path, (*more[:-1], "study.n_trials=2") if more is words else more)
        assert refused.code == 2, refused.output
        assert "study changed: dev (pairs/dev.csv) has changed" in refused.output
    assert len(studies.Study(tmp_path).trials) == 1


def _config(study: Study, **params: str) -> TrialConfig:
    return cell_config(study.plan, params)
