"""Names of params, runs and data sets."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import pytest

from embedsweep.config.study import Choice
from embedsweep.tracking.names import color_tags, dataset_name, flatten, study_params, trial_name
from tests.tracking.stores import CONFIG
from tests.tracking.test_view import PLAN


def test_flatten_names_every_value_once() -> None:
    flat = flatten(CONFIG)
    expected = {
        "objective": "dev/spearman_cosine",
        "model.revision": "null",
        "model.trust_remote_code": "false",
        "loss.name": "matryoshka",
        "loss.matryoshka_dims": "[64, 32]",
        "loss.inner.name": "mnrl",
        "loss.inner.scale": "20.0",
        "model.prompts.query": "q: ",
        "model.lora.rank": "null",
        "data.where.language": "es",
        "data.language": "null",
        "data.splits.dev": '["dev"]',
        "evaluation.dev": "null",
        "evaluation.benchmarks": '["sts2017-es"]',
        "data.path": "data/é",
        "data.columns": '["sentence1", "sentence2", 2]',
        "data.delimiter": "\t",
        "data.score_range": "[0.0, 5.0]",
        "data.convert.positive_threshold": "0.8",
        "data.convert.both_directions": "true",
        "dataloader.batch_size": "16",
        "optimizer.lr": "2e-05",
        "trainer.early_stopping.patience": "null",
    }
    assert {key: flat[key] for key in expected} == expected
    assert len(flat) == 98


@pytest.mark.parametrize(
    ("values", "groups", "name"),
    [
        ({"loss": "cosent", "optimizer.warmup": 0.1, "optimizer.lr": 2e-5}, ["loss"], "07 cosent 2e-5 warmup=0.1"),
        ({"model": "tiny", "loss@loss.inner": "mnrl"}, ["model", "loss@loss.inner"], "07 tiny mnrl"),
        ({"loss.scale": 43.44, "dataloader.batch_size": 64}, [], "07 scale=43.4 batch_size=64"),
        ({"optimizer.lr": 0.0052055, "model.dense": None}, [], "07 0.0052 dense=null"),
        ({"optimizer.lr": 0.00011}, [], "07 1.1e-4"),
        ({"loss.scale": 20.1, "loss.margin": 0.0}, [], "07 scale=20.1 margin=0"),
        ({}, [], "07"),
    ],
)
def test_a_trials_name_begins_with_what_tells_it_apart(values: dict[str, Choice], groups: list[str], name: str) -> None:
    assert trial_name(7, values, groups) == name


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("/data/my_pairs/train.csv", "my_pairs/train.csv"),
        ("train.csv", "train.csv"),
        ("/train.csv", "train.csv"),
        ("org/stsb@0123456789ab[es] train", "org/stsb@0123456789ab[es] train"),
        (
            "in/STS.input.a.txt + in/STS.input.b.txt + in/STS.input.c.txt (3 unscored pairs left out)",
            "in/STS.input.a.txt and 2 more",
        ),
        ("demo dev", "demo dev"),
    ],
)
def test_a_data_set_is_named_by_its_source(origin: str, name: str) -> None:
    assert dataset_name(origin) == name


def test_the_params_of_a_study_say_what_was_searched_and_what_was_fixed() -> None:
    fixed = ["data.limit=64", "loss@loss.inner=mnrl", "study.pruner=none"]
    params = study_params(PLAN, fixed)
    assert params == {
        "searched.loss": "mnrl,cosent",
        "searched.optimizer.lr": "log 1e-06 to 0.0001",
        "searched.loss.scale": "log 5 to 100 (loss=mnrl)",
        "fixed.data.limit": "64",
        "fixed.loss_loss.inner": "mnrl",
        "fixed.study.pruner": "none",
        "objective": "dev/spearman_cosine",
        "sampler": "tpe",
        "pruner": "none",
    }


def test_trials_of_an_option_share_a_hue_and_differ_in_shade() -> None:
    colors = [color_tags(PLAN, {"loss": loss}, number) for number, loss in enumerate(("mnrl", "mnrl", "cosent"))]
    parts = [[int(each["mlflow.runColor"][start : start + 2], 16) / 255 for start in (1, 3, 5)] for each in colors]
    hues, lightness, _ = zip(*(colorsys.rgb_to_hls(*each) for each in parts), strict=True)
    assert hues[0] == pytest.approx(hues[1], abs=0.01)
    assert abs(hues[0] - hues[2]) == pytest.approx(0.5, abs=0.01)
    assert lightness[0] < lightness[1] - 0.05
    assert color_tags(replace(PLAN, groups=()), {}, 0) == {}
