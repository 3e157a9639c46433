"""Overrides are parsed and options composed: Hydra's grammar, groups, the working directory's own options."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from embedsweep.config.compose import (
    as_text_word,
    describe_user_conf,
    open_composer,
    parse_words,
    shipped_conf,
    user_conf,
)
from embedsweep.errors import ConfigError


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
        *(
            (
                f"data.path={value}",
                f"data.path={value}: cannot be read as key=value: {why}; a text with one of ()[]{{}}=,:\"' is written "
                f"in quotes: 'data.path=\"{value}\"'",
            )
            for value, why in (
                ("my(1)", "Unknown function 'my'"),
                ("a=b", "mismatched input '='"),
                ("x[1]", "mismatched input '['"),
                ("a b(2)", "mismatched input '('"),
            )
        ),
        ("@key=3", "@key: has no key before the ="),
        (
            "optimizer.lr=interval(1",
            "optimizer.lr=interval(1: cannot be read as key=value: no viable alternative at input 'interval(1'",
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
            "hydra/launcher: embedsweep starts its own workers: workers=local, ray or slurm, or this command again "
            "beside it",
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
def test_an_invalid_override_is_explained(text: str, message: str) -> None:
    assert _refusal(text) == message


@pytest.mark.parametrize(
    "value",
    ["my (1)", "a,b", "a=b", "[x]", "{x}", 'q"q', "it's", 'a\\"b', "C:\\a\\", "$HOME;#", "ñ", "a:b", "null", "1"],
)
def test_the_advised_word_is_read_as_the_text_that_was_meant(value: str) -> None:
    (typed,) = shlex.split(as_text_word("data.path", value))
    (word,) = parse_words([typed])
    assert (word.key, word.value, word.sweeps) == ("data.path", value, False)


def test_all_invalid_overrides_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_words(["loss", "a=1", "=3", "hydra/sweeper=x"])
    assert [problem.where for problem in error.value.problems] == ["loss", "=3", "hydra/sweeper"]


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


def test_changing_a_composed_configuration_leaves_the_cached_one_unchanged() -> None:
    with open_composer() as composer:
        composer.compose({})["data"]["score_range"].append(9)
        assert composer.compose({})["data"]["score_range"] == [0, 5]


def test_a_yaml_file_that_cannot_be_composed_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "torn.yaml").write_text("name: [torn\n")
    with open_composer() as composer, pytest.raises(ConfigError, match=r"conf \(loss=torn\): .*torn\.yaml"):
        composer.compose({"loss": "torn"})


def test_the_conf_folder_of_the_working_directory_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_conf() is None
    (tmp_path / "conf").mkdir()
    assert user_conf() == tmp_path / "conf"
    monkeypatch.chdir(shipped_conf().parent)
    assert user_conf() is None


def _own(path: str, text: str) -> None:
    file = Path("conf") / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_the_primary_configuration_of_another_project_is_not_used_and_named() -> None:
    with open_composer() as composer:
        shipped = composer.compose({})
    _own("train.yaml", "defaults: [model: resnet]\nlr: 1\n")
    _own("model/resnet.yaml", "name: resnet\n")
    with open_composer() as composer:
        assert composer.compose({}) == shipped
        assert "resnet" in composer.options("model")
    assert describe_user_conf() == ["conf/train.yaml of this folder is not used: choose options in the command"]


def test_files_that_hide_shipped_options_are_named() -> None:
    assert describe_user_conf() == []
    _own("loss/mine.yaml", "name: mnrl\nscale: 30\n")
    _own("commands.yaml", "ui: {port: 6006}\n")
    _own("loss/mnrl.yaml", (shipped_conf() / "loss" / "mnrl.yaml").read_text(encoding="utf-8"))
    assert describe_user_conf() == [], "a file that is the same hides nothing"
    _own("loss/mnrl.yaml", "name: mnrl\nscale: 30\n")
    assert describe_user_conf() == ["files of this folder are used instead of the shipped ones: conf/loss/mnrl.yaml"]
    for name in ("cosent", "angle", "cosine", "triplet", "mse"):
        _own(f"loss/{name}.yaml", "name: other\n")
    (line,) = describe_user_conf()
    assert line.endswith("conf/loss/cosine.yaml, conf/loss/mnrl.yaml, conf/loss/mse.yaml and 1 more")


@pytest.mark.parametrize(("path", "known"), [("loss/mine.yaml", True), ("callbacks/theirs.yaml", False)])
def test_an_option_that_is_not_utf_8_is_named(path: str, known: bool) -> None:
    _own(path, "")
    (Path("conf") / path).write_bytes(b"name: mnrl # caf\xe9\n")
    if not known:  # a folder that is no group here
        assert describe_user_conf() == []
        return
    with pytest.raises(ConfigError, match=r"conf/loss/mine\.yaml: is not UTF-8 \(at byte 17\)"):
        describe_user_conf()
