"""The frozen plan of a study: written and read back, named, compared."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from embedsweep.config.study import (
    Axis,
    DiscreteAxis,
    PruningConfig,
    RangeAxis,
    StudyPlan,
    plan_differences,
    plan_of,
    study_name,
)

TRAINER = {"epochs": 2, "max_steps": None, "merge_columns": False, "cuda_graphs": "auto"}
LR = RangeAxis("optimizer.lr", 1e-4, 1e-2, log=True, step=None, integer=False, when={})
LOSS = DiscreteAxis("loss", ("mnrl", "cosent"), {})
DIMS = DiscreteAxis("loss.dims", ((128, 64), (128,)), {"loss": "mnrl"})
PLAN = StudyPlan(
    axes=(LOSS, LR, DiscreteAxis("model.pooling", (None, "mean", True, 3), {})),
    cells={
        "loss=mnrl": {"loss": {"name": "mnrl", "scale": 20.0}, "trainer": TRAINER},
        "loss=cosent": {"loss": {"name": "cosent", "scale": 20.0}, "trainer": TRAINER},
    },
    groups=("loss",),
    sampler="tpe",
    seed=42,
    objectives=("dev/spearman_cosine",),
    pruner="none",
    pruning=PruningConfig((0.25, 0.5), 2, 4, 1, 0.0, 0.1),
    duplicates="reuse",
    enqueue=({"optimizer.lr": 1e-3},),
    warm_start=None,
    constraints=(),
)


def _cells(section: str, key: str, value: Any) -> dict[str, Any]:
    return {
        name: {**cell, section: {**cell[section], key: value}}  # type: ignore[dict-item]  # a plain tree
        for name, cell in PLAN.cells.items()
    }


def test_a_plan_survives_json() -> None:
    assert plan_of(json.loads(json.dumps(asdict(PLAN)))) == PLAN
    more = replace(PLAN, axes=(*PLAN.axes, DIMS), enqueue=({"loss.dims": (128,)},), constraints=("a < b",))
    assert plan_of(json.loads(json.dumps(asdict(more)))) == more


def test_a_study_is_named_by_what_it_sweeps_and_a_hash_that_stays() -> None:
    # A name that changes with a version of this program would orphan every unnamed study.
    small = replace(PLAN, axes=(LOSS, LR), cells={"loss=mnrl": {}, "loss=cosent": {}})
    assert study_name(small) == "loss-lr-6965dce5"
    assert study_name(PLAN).startswith("loss-lr-pooling-")


def test_a_study_of_an_older_version_keeps_its_name() -> None:
    older = json.loads(json.dumps(asdict(PLAN)))
    for cell in older["cells"].values():
        del cell["trainer"]["cuda_graphs"]
    assert plan_of(older) == PLAN
    for cell in older["cells"].values():
        del cell["trainer"]["merge_columns"]
    assert plan_of(older) == PLAN
    small = replace(PLAN, axes=(LOSS, LR), cells={"loss=mnrl": {"trainer": {"epochs": 2}}})
    known = {"loss=mnrl": {"trainer": {"epochs": 2, "merge_columns": False, "cuda_graphs": "auto"}}}
    assert study_name(replace(small, cells=known)) == study_name(small)
    rules = {"prompt_rule": "roles", "save_dtype": "float32"}
    newer = {"loss=mnrl": {**known["loss=mnrl"], "model": {"name": "tiny", **rules}}}
    absent = {"loss=mnrl": {**known["loss=mnrl"], "model": {"name": "tiny"}}}
    frozen = plan_of(json.loads(json.dumps(asdict(replace(small, cells=absent)))))
    assert frozen.cells["loss=mnrl"]["model"] == {"name": "tiny", "prompt_rule": "columns", "save_dtype": None}
    assert study_name(frozen) == study_name(replace(small, cells=absent)) == study_name(replace(small, cells=newer))
    assert plan_differences(frozen, replace(small, cells=newer)) == []
    newer = {"loss=mnrl": {**known["loss=mnrl"], "model": {"name": "tiny", **rules, "save_dtype": "float16"}}}
    assert study_name(replace(small, cells=newer)) != study_name(frozen)
    assert plan_differences(frozen, replace(small, cells=newer)) == ["model.save_dtype was null and is now float16"]
    merging = replace(PLAN, cells=_cells("trainer", "merge_columns", True))
    assert study_name(merging) != study_name(PLAN)
    assert plan_differences(plan_of(older), merging) == ["trainer.merge_columns was false and is now true"]


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, seed=43),
        replace(PLAN, sampler="random"),
        replace(PLAN, objectives=("dev/pearson_cosine",)),
        replace(PLAN, axes=(LOSS, LR)),
        replace(PLAN, axes=(LOSS, replace(LR, high=0.1), PLAN.axes[2])),
        replace(PLAN, cells=_cells("trainer", "epochs", 3)),
    ],
)
def test_whatever_decides_results_changes_the_name(other: StudyPlan) -> None:
    assert study_name(other) != study_name(PLAN)


def test_the_name_does_not_depend_on_the_order_of_keys() -> None:
    turned = {name: dict(reversed(list(cell.items()))) for name, cell in reversed(list(PLAN.cells.items()))}
    assert study_name(replace(PLAN, cells=turned)) == study_name(PLAN)


WIDE: tuple[Axis, ...] = (LOSS, replace(LR, high=0.1), PLAN.axes[2])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (PLAN, []),
        (plan_of(json.loads(json.dumps(asdict(PLAN)))), []),
        (replace(PLAN, seed=43), ["seed was 42 and is now 43"]),
        (replace(PLAN, sampler="random"), ["sampler was tpe and is now random"]),
        (replace(PLAN, axes=WIDE), ["sweep of optimizer.lr was log 0.0001 to 0.01 and is now log 0.0001 to 0.1"]),
        (replace(PLAN, axes=PLAN.axes[:2]), ["sweep of model.pooling was null,mean,true,3 and is now absent"]),
        (
            replace(PLAN, axes=(*PLAN.axes, RangeAxis("trainer.seed", 0, 4, log=False, step=2, integer=True, when={}))),
            ["sweep of trainer.seed was absent and is now 0 to 4 by 2"],
        ),
        (
            replace(PLAN, axes=(LOSS, replace(LR, when={"loss": "mnrl"}), PLAN.axes[2])),
            [
                "sweep of optimizer.lr was log 0.0001 to 0.01 and is now absent",
                "sweep of optimizer.lr [loss=mnrl] was absent and is now log 0.0001 to 0.01",
            ],
        ),
        (
            replace(PLAN, axes=(*PLAN.axes, DIMS)),
            ["sweep of loss.dims [loss=mnrl] was absent and is now [128,64],[128]"],
        ),
        (
            replace(PLAN, enqueue=({"loss": "mnrl", "loss.dims": (128,)},)),
            ["enqueue was [{optimizer.lr:0.001}] and is now [{loss:mnrl,loss.dims:[128]}]"],
        ),
        (
            replace(PLAN, constraints=("a.b <= a.c", "a.b > 2")),
            ["constraints was [] and is now [a.b <= a.c,a.b > 2]"],
        ),
        (replace(PLAN, warm_start="other"), ["warm_start was null and is now other"]),
        (replace(PLAN, cells=_cells("trainer", "epochs", 3)), ["trainer.epochs was 2 and is now 3"]),
        (replace(PLAN, cells=_cells("trainer", "max_steps", 5)), ["trainer.max_steps was null and is now 5"]),
        (
            replace(PLAN, seed=1, objectives=("dev/pearson_max",), cells=_cells("loss", "scale", 10.0)),
            [
                "loss.scale was 20.0 and is now 10.0",
                "seed was 42 and is now 1",
                "objectives was [dev/spearman_cosine] and is now [dev/pearson_max]",
            ],
        ),
    ],
)
def test_each_difference_is_described_once(other: StudyPlan, words: list[str]) -> None:
    assert plan_differences(PLAN, other) == words
