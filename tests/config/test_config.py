"""Words become options and values; options become one configuration; a configuration becomes an identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedsweep.config.compose import open_composer, parse_words, shipped_conf, user_conf
from embedsweep.config.identity import canonical, config_hash, digest
from embedsweep.config.values import has_key, leaf_keys, nearest, nearest_key, resolve, set_value, shown, value_at
from embedsweep.errors import ConfigError
from embedsweep.validation.single import pass_single

KEYS = ["loss.name", "loss.scale", "model.lr", "optimizer.lr", "optimizer.warmup", "dataloader.batch_size"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _refusal(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse_words([text])
    (problem,) = error.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("loss.scale=20", "loss.scale", 20),
        ("loss.scale=2e1", "loss.scale", 20.0),
        ("optimizer.lr=1e-4", "optimizer.lr", 0.0001),
        ("data.limit=null", "data.limit", None),
        ("model.trust_remote_code=true", "model.trust_remote_code", True),
        ("loss=mnrl", "loss", "mnrl"),
        ("+loss.scale=1", "loss.scale", 1),
        ("++loss.scale=1", "loss.scale", 1),
        ('data.path="a b/c"', "data.path", "a b/c"),
        ("data.delimiter=';'", "data.delimiter", ";"),
        ("loss.scale='20'", "loss.scale", "20"),
        ("data.columns=[a,'b c',2]", "data.columns", ["a", "b c", 2]),
        ("search.space={a: '1,2', b: [c]}", "search.space", {"a": "1,2", "b": ["c"]}),
        ("model.path=ORG/NAME", "model.path", "ORG/NAME"),
        ("optimizer.lr=${model.lr}", "optimizer.lr", "${model.lr}"),
    ],
)
def test_a_word_is_a_key_and_a_plain_value(text: str, key: str, value: Any) -> None:
    (word,) = parse_words([text])
    assert (word.text, word.key, word.value, word.sweeps) == (text, key, value, False)
    assert type(word.value) is type(value)


@pytest.mark.parametrize(
    "text", ["loss=a,b", "x=choice(1,2)", "x=range(3)", "x=interval(0,1)", "x=tag(log,interval(1,2))", "x=glob(*)"]
)
def test_a_word_with_several_values_sweeps(text: str) -> None:
    (word,) = parse_words([text])
    assert word.sweeps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss", "loss: is not key=value"),
        ("x y", "x y: is not key=value"),
        ("=3", "=3: has no key before the ="),
        (
            "loss=mnrl,",
            "loss=mnrl,: cannot be read as key=value: mismatched input '<EOF>'",
        ),
        (
            "data.path=/home/josé",
            "data.path=/home/josé: has a character that Hydra reads only in quotes, as in 'data.path=\"/home/josé\"'",
        ),
        *(
            (
                f"data.files={name}",
                f"data.files={name}: has a character that Hydra reads only in quotes, as in 'data.files=\"{name}\"'",
            )
            for name in ("x-{split}.csv", "{split}.csv", "stsb-{language}-{split}.csv")
        ),
        ("data.where={a:1", "data.where={a:1: cannot be read as key=value: no viable alternative at input '{a:1'"),
        (
            "model.pooling=choice(null,mean)",
            "model.pooling=choice(null,mean): Hydra's choice() cannot contain null: write the choices as key=null,a,b",
        ),
        (
            "~loss",
            "loss: ~loss cannot be used: keys cannot be removed from the configuration; set the key to null instead",
        ),
        (
            "hydra/launcher=joblib",
            "hydra/launcher: embedsweep starts its own workers: run the same command again beside this one to add a "
            "worker",
        ),
        (
            "hydra/sweeper=optuna",
            "hydra/sweeper: embedsweep has its own sweeper: choose the sampler that "
            "proposes trials by study.sampler=tpe",
        ),
        (
            "hydra.job.chdir=true",
            "hydra.job.chdir: Hydra's own settings are not used: results go to sweeps/ and to tracking.uri",
        ),
    ],
)
def test_a_wrong_word_is_told_in_a_sentence(text: str, message: str) -> None:
    assert _refusal(text) == message


def test_all_wrong_words_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_words(["loss", "a=1", "=3", "hydra/sweeper=x"])
    assert [problem.where for problem in error.value.problems] == ["loss", "=3", "hydra/sweeper"]


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("mnlr", ["cosent", "cosine", "mnrl"], " (did you mean mnrl?)"),
        ("bogus", ["cosent", "cosine", "mnrl"], ""),
        ("a", [], ""),
    ],
)
def test_the_nearest_word_is_offered_where_one_is_near(word: str, known: list[str], said: str) -> None:
    assert nearest(word, known) == said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("loss.scal", " (did you mean loss.scale?)"),
        ("optimizer.warm_up", " (did you mean optimizer.warmup?)"),
        ("lr", " (did you mean model.lr or optimizer.lr?)"),
        ("trainer.batchsize", " (did you mean dataloader.batch_size?)"),
        ("loss.temperature", ""),
    ],
)
def test_the_nearest_key_stands_beside_it_or_has_its_name(key: str, said: str) -> None:
    assert nearest_key(key, KEYS) == said


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, "null"),
        (True, "true"),
        (1e-05, "1e-05"),
        ("mnrl", "mnrl"),
        ([0, "a", None], "[0,a,null]"),
        ((1,), "[1]"),
        ({"of": "model.lr", "log": False}, "{of:model.lr,log:false}"),
    ],
)
def test_values_are_shown_as_they_are_typed(value: object, typed: str) -> None:
    assert shown(value) == typed


def test_options_and_groups_are_those_of_the_folder() -> None:
    with open_composer() as composer:
        assert composer.options("search") == ["full", "lr", "lr_warmup_batch", "none"]
        assert composer.options("nothing") == []
        folders = sorted(path.name for path in shipped_conf().iterdir() if path.is_dir())
        assert composer.groups == [name for name in folders if name not in ("base", "benchmark")]
        assert composer.is_group("loss")
        assert not composer.is_group("loss.scale")
        assert not composer.is_group("hydra.job")
        assert not composer.is_group("benchmark"), "benchmarks are named by evaluation.dev and the like"


def test_composing_keeps_interpolations_and_missing_values_as_they_stand() -> None:
    with open_composer() as composer:
        composed = composer.compose({"model": "pretrained", "loss": "gist"})
    assert (composed["loss"]["name"], composed["loss"]["guide"]) == ("gist", "???")
    assert composed["optimizer"]["lr"] == "${model.lr}"
    assert "hydra" not in composed


def test_what_was_composed_once_is_not_changed_by_who_got_it() -> None:
    with open_composer() as composer:
        composer.compose({})["data"]["score_range"].append(9)
        assert composer.compose({})["data"]["score_range"] == [0, 5]


def test_a_yaml_file_that_cannot_be_composed_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "torn.yaml").write_text("name: [torn\n")
    with open_composer() as composer, pytest.raises(ConfigError, match=r"conf \(loss=torn\): .*torn\.yaml"):
        composer.compose({"loss": "torn"})


def test_the_working_directorys_own_conf_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_conf() is None
    (tmp_path / "conf").mkdir()
    assert user_conf() == tmp_path / "conf"
    monkeypatch.chdir(shipped_conf().parent)
    assert user_conf() is None


TREE: dict[str, Any] = {"a": {"b": None, "c": {"d": "???"}, "e": {}}, "f": 1}


@pytest.mark.parametrize(
    ("key", "is_there"),
    [("a", True), ("a.b", True), ("a.c.d", True), ("f", True), ("a.b.x", False), ("a.x", False), ("f.x", False)],
)
def test_a_key_is_there_whatever_its_value(key: str, is_there: bool) -> None:
    assert has_key(TREE, key) is is_there


def test_leaf_keys_are_those_that_can_be_set() -> None:
    assert list(leaf_keys(TREE)) == ["a.b", "a.c.d", "a.e", "f"]


def test_values_are_set_and_found_by_dotted_key() -> None:
    tree: dict[str, Any] = {"a": {"b": 1}, "c": 2}
    set_value(tree, "a.b", 3)
    set_value(tree, "c", 4)
    assert tree == {"a": {"b": 3}, "c": 4}
    assert (value_at(tree, "a.b"), value_at(tree, "a.x"), value_at(tree, "c.x")) == (3, None, None)


def test_interpolations_follow_the_values_that_are_set() -> None:
    plain = {"model": {"lr": 1, "path": "???"}, "optimizer": {"lr": "${model.lr}"}, "other": {"x": "${nowhere}"}}
    resolved = resolve(plain, {"model.lr": 5}, ("model", "optimizer"))
    assert resolved == {"model": {"lr": 5, "path": "???"}, "optimizer": {"lr": 5}}


def test_interpolations_that_lead_nowhere_are_told_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOPE", raising=False)
    plain = {"a": {"x": "${model.foo}"}, "b": {"y": "${oc.env:NOPE}"}, "c": {"z": 1}}
    with pytest.raises(ConfigError) as error:
        resolve(plain, {}, ("a", "b", "c"))
    assert [str(problem) for problem in error.value.problems] == [
        "a.x: Interpolation key 'model.foo' not found",
        "b.y: \"Environment variable 'NOPE' not found\"",
    ]


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
