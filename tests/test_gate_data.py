"""Data against the losses it is to train, at the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.errors import ConfigError
from embedsweep.gate import pass_single

MIXED = """\
defaults:
  - /base/data@_here_
  - /data@also.nli: demo_nli
  - /loss@also.nli.loss: mnrl
  - _self_
name: demo
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


def told(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        pass_single(words)
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
        (("data=demo_topics", "loss=cosent"), "class_pairs, binary_pairs, or another loss (to try it: data=demo)"),
        (
            ("data=demo", "loss=softmax"),
            "take data of the shape class_pairs, or another loss (to try it: data=demo_nli)",
        ),
        (
            ("data=demo", "loss=batch_all_triplet", "dataloader=group_by_label"),
            "take data of the shape class_texts, or another loss (to try it: data=demo_topics)",
        ),
    ],
)
def test_a_loss_without_its_data_names_demo_data_to_try(words: tuple[str, ...], ending: str) -> None:
    (problem,) = told(*words)
    assert problem.startswith("loss: loss=")
    assert problem.endswith(ending)


def test_a_further_dataset_is_converted_for_its_own_loss() -> None:
    assert pass_single(["data=mixed"]).config.data.also["nli"].loss.name == "mnrl"


def test_a_further_dataset_s_problems_stand_under_its_keys() -> None:
    (problem,) = told("data=mixed", "data.also.nli.convert.to=texts")
    assert problem.startswith("data.also.nli.convert.to: loss=mnrl does not take texts; it takes triplets (")
    assert problem.endswith("leave data.also.nli.convert.to at null, which takes triplets")


def test_every_dataset_must_fill_a_batch_where_the_last_is_dropped() -> None:
    words = ("data=mixed", "dataloader.drop_last=true", "data.also.nli.convert.to=positive_pairs")
    assert told(*words, "dataloader.batch_size=1700") == [
        "dataloader.batch_size: with drop_last no batch is left: 1600 examples of data.also.nli for a batch of 1700"
    ]
    assert pass_single([*words, "dataloader.batch_size=1600"]).config.dataloader.drop_last


def test_a_further_dataset_s_loss_needs_its_batch_too() -> None:
    (problem,) = told("data=mixed", "loss=cosine", "dataloader.batch_size=1")
    assert problem.startswith("dataloader.batch_size: loss=mnrl compares examples inside a batch and needs at least 2")


def test_what_leaks_does_not_count(folder: Path) -> None:
    words = ["data=csv", f"data.path={folder}", "dataloader.drop_last=true", "dataloader.batch_size=3"]
    assert pass_single(words).config.data.drop_leaked is False
    assert told(*words, "data.drop_leaked=true") == [
        "dataloader.batch_size: with drop_last no batch is left: 2 examples for a batch of 3"
    ]
