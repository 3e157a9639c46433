"""The identity of a configuration: its values, in any order, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from embedsweep.config.identity import canonical, config_hash, digest, trial_config_of, without_later_keys
from embedsweep.config.study import study_name
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_canonical_form_and_digest_do_not_depend_on_order() -> None:
    assert canonical({"b": [1, None], "a": "ñ"}) == '{"a":"ñ","b":[1,null]}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_the_identity_of_a_trial_is_its_values_and_not_its_services() -> None:
    base = pass_single([])
    assert len(config_hash(base.config)) == 12
    assert config_hash(pass_single(["emissions.country_iso_code=FRA", "tracking.uri=sqlite:///x.db"]).config) == (
        config_hash(base.config)
    )
    assert config_hash(pass_single(["optimizer.lr=1e-3"]).config) == config_hash(base.config)
    assert config_hash(pass_single(["trainer.seed=43"]).config) != config_hash(base.config)
    assert config_hash(replace(base.config, objective="dev/pearson_cosine")) != config_hash(base.config)


def test_what_is_watched_beside_dev_is_no_part_of_the_identity_of_a_trial_and_is_of_its_study() -> None:
    watching = ["evaluation.watch=[demo-dev]"]
    assert config_hash(pass_single(watching).config) == config_hash(pass_single([]).config)
    plan, watched = (pass_sweep(["loss=mnrl,cosent", *words]).plan for words in ([], watching))
    assert plan is not None
    assert watched is not None
    assert study_name(plan) == "loss-ad07fc5f"  # as before there was such a key; README.md names it
    assert study_name(watched) != study_name(plan)


def test_a_later_key_changes_the_identity_only_of_configurations_that_set_it() -> None:
    words = ["data=demo_mixed", "evaluation.dev=demo-dev", "evaluation.benchmarks=[demo-test]"]
    config = pass_single(words).config
    tree = without_later_keys(asdict(config))
    assert not {"quoting", "titles"} & set(tree["data"])
    assert "quoting" not in canonical(tree)
    assert not {"family", "scoring"} & set(tree["evaluation"]["dev"])
    older = replace(config.model, prompt_rule="columns", save_dtype=None)  # what these are where they are missing
    assert trial_config_of(tree) == replace(config, model=older)
    assert config_hash(trial_config_of(tree)) == config_hash(config)
    data = replace(config.data, quoting="none")
    assert without_later_keys(asdict(replace(config, data=data)))["data"]["quoting"] == "none"
    assert config_hash(replace(config, data=data)) != config_hash(config)
