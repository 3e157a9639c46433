"""Options in the ``conf/`` folder of the working directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embedsweep.config.compose import shipped_conf
from embedsweep.config.study import plan_differences, study_name
from embedsweep.config.trial import RetrievalConfig
from embedsweep.losses.table import LOSSES as ALL_LOSSES
from embedsweep.validation import services as services_module
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.single import pass_single
from tests.validation.commands import (
    data_folder,
    errors,
    options,
    own_option,
    passed,
)

pytestmark = pytest.mark.usefixtures("composed_once", "a_machine_without_gpu_or_hub")


def test_a_users_own_option_stands_beside_the_shipped_ones(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "pairs")
    shipped = Path(services_module.__file__).parents[3] / "conf"
    text = (shipped / "data" / "csv.yaml").read_text()
    own_option("data/mine.yaml", text.replace("name: csv", "name: mine").replace("path: ???", f"path: {folder}"))
    assert pass_single(["data=mine"]).config.data.name == "mine"
    assert errors("data=mne") == [f"data: no option mne (did you mean mine?); {options('data', 'mine')}"]


def test_a_users_own_option_comes_before_the_shipped_one_of_its_name() -> None:
    own_option("loss/mnrl.yaml", "name: mnrl\nscale: 50.0\n")
    assert pass_single(["loss=mnrl"]).config.loss.parameters["scale"] == 50.0
    assert pass_single(["loss=cosent"]).config.loss.parameters["scale"] == 20.0


def test_a_users_own_option_may_give_a_loss_another_scale() -> None:
    own_option("loss/mnrl_sharp.yaml", "name: mnrl\nscale: 50.0\n")
    sweep = passed("loss=mnrl,mnrl_sharp")
    assert sweep.plan is not None
    scales = [cell_config(sweep.plan, {"loss": name}).loss.parameters["scale"] for name in ("mnrl", "mnrl_sharp")]
    assert scales == [20.0, 50.0]


def test_a_users_own_search_can_be_chosen() -> None:
    own_option(
        "search/mine.yaml",
        "defaults: [none, _self_]\nname: mine\nn_trials: 3\nspace:\n  loss.scale: interval(10, 30)\n",
    )
    sweep = passed("search=mine")
    assert sweep.plan is not None
    assert [axis.key for axis in sweep.plan.axes] == ["loss.scale"]
    assert sweep.n_trials == 3


LATER = ("titles", "negatives", "watch", "budget_hours", "patience", "min_delta", "keep")
"""Keys that options of an earlier version do not have."""


def earlier(option: str) -> str:
    """Return a shipped option as it was before the later keys."""
    text = (shipped_conf() / option).read_text()
    return "".join(f"{block}\n" for block in re.split(r"\n(?! )", text) if block.partition(":")[0] not in LATER)


@pytest.mark.parametrize("words", [[], ["evaluation=mine"], ["study=mine"], ["evaluation=mine", "study=mine"]])
def test_a_users_own_options_of_an_earlier_version_begin_the_studies_that_they_began(words: list[str]) -> None:
    own_option("evaluation/mine.yaml", f"name: sts\n{earlier('base/evaluation.yaml')}")
    own_option("study/mine.yaml", earlier("study/default.yaml"))
    own_option("base/data.yaml", earlier("base/data.yaml"))
    plan = passed("loss=mnrl,cosent", *words).plan
    assert plan is not None
    assert study_name(plan) == "loss-ad07fc5f"
    shipped = passed("loss=mnrl,cosent", "evaluation=sts", "study=default").plan
    assert shipped is not None
    assert plan_differences(plan, shipped) == plan_differences(shipped, plan) == []


def test_later_keys_can_be_set_in_a_users_own_options_of_an_earlier_version() -> None:
    own_option("evaluation/mine.yaml", f"name: sts\n{earlier('base/evaluation.yaml')}")
    own_option("study/mine.yaml", earlier("study/default.yaml"))
    own_option("base/data.yaml", earlier("base/data.yaml"))
    words = ["evaluation=mine", "study=mine", "evaluation.watch=[demo-dev]", "study.patience=1"]
    request = passed("loss=mnrl,cosent", *words, "data.negatives.seed=7")
    assert request.study.patience == 1
    assert request.plan is not None
    config = cell_config(request.plan, {"loss": "mnrl"})
    assert [benchmark.name for benchmark in config.evaluation.watch] == ["demo-dev"]
    assert config.data.negatives.seed == 7
    assert pass_single([]).config.data.negatives.seed == 42


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("name: mnrl\n", ["loss.scale: is missing from this option's YAML file"]),
        (
            "name: mnrl\nscale: 20\nscal: 3\n",
            ["loss.scal: loss=mnrl has no such parameter (did you mean scale?); it has: scale"],
        ),
        (
            "name: mnlr\nscale: 20\n",
            [f"loss.name: no loss mnlr (did you mean mnrl?); there are: {', '.join(ALL_LOSSES)}"],
        ),
        ("scale: 20\n", ["loss.name: is missing from this option's YAML file"]),
    ],
)
def test_an_invalid_option_of_the_user_is_reported(text: str, messages: list[str]) -> None:
    own_option("loss/mine.yaml", text)
    assert errors("loss=mine") == messages


RANKS = "accuracy_at_k, precision_recall_at_k, mrr_at_k, ndcg_at_k, map_at_k, similarities, corpus_chunk_size"


@pytest.mark.parametrize(
    ("family", "families", "keys"),
    [
        ("retrieval", "retrieval", f"{RANKS}, corpus_seed"),
        ("reranking", "reranking", "at_k"),
        ("pairs", "retrieval or triplets or pairs", "similarities"),
    ],
)
def test_an_evaluation_with_the_keys_of_a_family_has_its_name(family: str, families: str, keys: str) -> None:
    words = ["evaluation=mine", "data=demo_retrieval", "loss=mnrl", "evaluation.batch_size=8"]
    own_option("evaluation/mine.yaml", f"defaults: [{family}, _self_]\nname: mine\n")
    what = f"must be {families}, which this option has keys of ({keys}), but got mine; its file may have any name"
    assert errors(*words) == [f"evaluation.name: {what}"]


def test_a_users_own_evaluation_may_change_the_keys_of_a_family() -> None:
    own_option("evaluation/mine.yaml", "defaults: [retrieval, _self_]\ncorpus_size: 50\n")
    config = pass_single(["evaluation=mine", "data=demo_retrieval", "loss=mnrl"]).config
    assert isinstance(config.evaluation, RetrievalConfig)
    assert config.evaluation.corpus_size == 50
