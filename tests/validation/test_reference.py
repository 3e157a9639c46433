"""The reference of keys: complete, current, quick, and right about what the validation refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, make_dataclass
from pathlib import Path
from typing import Annotated

import pytest
from tools.write_config_reference import PAGE, page

from embedsweep.cli import main
from embedsweep.config import training, trial
from embedsweep.config.compose import open_composer, shipped_conf
from embedsweep.config.identity import config_hash, trial_config_of
from embedsweep.config.types import Bounds, fields_of
from embedsweep.config.values import leaf_keys, resolve, value_at
from embedsweep.errors import ConfigError
from embedsweep.losses.table import LOSSES
from embedsweep.tracking.names import flatten
from embedsweep.validation import reference
from embedsweep.validation.reference import allowed_words, as_text, groups, keys, option_names, reference_of
from embedsweep.validation.single import pass_single

DOCUMENTED = [group for group in groups() if group not in ("loss", "recipe")]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_page_of_the_documentation_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.write_config_reference"


def test_groups_and_options_are_those_that_can_be_composed() -> None:
    with open_composer() as composer:
        assert sorted(groups()) == composer.groups
        assert {group: list(option_names(group)) for group in groups()} == {
            group: composer.options(group) for group in groups()
        }


@pytest.mark.parametrize("group", [*DOCUMENTED, "loss=matryoshka", "loss=gist"])
def test_every_key_is_there_with_a_comment_and_the_value_that_is_composed(group: str) -> None:
    name, _, option = group.partition("=")
    entries = {entry.key: entry for entry in reference_of(group).keys}
    assert [key for key, entry in entries.items() if not entry.comment] == []
    with open_composer() as composer:
        composed = composer.compose({name: option} if option else {})
    tree = {name: composed[name]}
    free = ("where", "prompts", "also", "inner", "space")
    known = {key for key in leaf_keys(tree) if key != f"{name}.name" and key.split(".")[1] not in free}
    study = {"study.name"} if name == "study" else set()
    assert known | study == {key for key in entries if key.split(".")[1] not in free}
    assert [key for key in known if value_at(tree, key) != entries[key].value] == []


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_has_the_keys_of_the_table(loss: str) -> None:
    entries = [entry.key for entry in reference_of(f"loss={loss}").keys]
    assert entries == [*(f"loss.{name}" for name in LOSSES[loss].parameters), *(["loss.inner"] * LOSSES[loss].wraps)]


def test_a_key_of_several_losses_names_each() -> None:
    text = as_text(reference_of("loss.temperature"))
    assert "loss.temperature=0.01 (loss=gist)" in text
    assert "loss.temperature=1.0 (loss=distill_kl_div)" in text


def test_a_key_of_some_workers_names_each() -> None:
    assert [entry.option for entry in reference_of("workers.slurm").keys] == ["workers=slurm"] * 10
    counts = {entry.option: entry.value for entry in reference_of("workers.count").keys}
    assert counts == {"workers=inline": 1, "workers=local": None, "workers=ray": None, "workers=slurm": 1}


def test_a_section_inside_a_group_has_its_keys_only() -> None:
    entries = reference_of("trainer.early_stopping").keys
    assert [entry.key for entry in entries] == ["trainer.early_stopping.patience", "trainer.early_stopping.min_delta"]


def test_every_key_can_be_asked_for_with_the_sections_it_stands_in() -> None:
    typed = {*groups()} - {"recipe", "search"}  # which have no keys of their own
    of_groups = {key for key in keys() if key.partition(".")[0] in typed}
    sections = {key.rpartition(".")[0] for key in of_groups} - typed - {""}
    for name in (of_groups | sections) - {"loss"}:  # which lists its options
        assert any(entry.key == name or entry.key.startswith(f"{name}.") for entry in reference_of(name).keys), name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("modle", "modle: no such group, option or key (did you mean model?); groups are: model, loss, "),
        ("model=minlm", "model=minlm: no option minlm (did you mean minilm?); there are: bertin, "),
        ("trainer.epoch", "trainer.epoch: no such group, option or key (did you mean trainer.epochs?); groups are: "),
        ("bogus", "bogus: no such group, option or key; groups are: model, loss, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        reference_of(word)
    assert str(error.value.problems[0]).startswith(message)


def test_help_prints_the_requested_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help", "trainer.epochs"]) == 0
    assert capsys.readouterr().out == (
        "trainer.epochs\n\n  trainer.epochs=2\n      a number above 0\n      passes over the training data\n"
    )
    assert main(["train", "--help", "model=minilm"]) == 0
    assert capsys.readouterr().out.startswith("model=minilm: all-MiniLM-L6-v2: 22.7M parameters")
    assert main(["train", "--help", "trainr"]) == 2
    assert "did you mean trainer?" in capsys.readouterr().err


def test_a_recipe_is_shown_as_it_stands() -> None:
    text = as_text(reference_of("recipe=distilbert_sts_es"))
    assert "python train.py recipe=distilbert_sts_es" in text
    assert "  - override /loss: cosine\n" in text


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from embedsweep.cli import main; main(['train', '--help', 'model']); print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.splitlines()[-1] == "False"


def test_keys_and_allowed_words_are_those_of_the_configuration() -> None:
    assert {"model", "trainer.epochs", "loss.scale", "loss@loss.inner", "study.objective", "study.name"} <= set(keys())
    assert not {"model.name", "optimizer.name", "trainer.name"} & set(keys())
    assert allowed_words("optimizer") == ("adafactor", "adamw", "schedule_free")
    assert allowed_words("loss@loss.inner") == option_names("loss")
    assert allowed_words("trainer.precision") == ("fp32", "fp16", "bf16")
    assert allowed_words("evaluation.dev") == option_names("benchmark")
    assert "dev/spearman_cosine" in allowed_words("study.objective")
    assert set(allowed_words("loss.margin_strategy")) == {"absolute", "relative"}
    assert allowed_words("trainer.epochs") == allowed_words("no.such") == ()


@pytest.mark.parametrize("key", [key for key in keys() if allowed_words(key) == ("true", "false")])
def test_the_words_of_a_switch_are_read(key: str) -> None:
    if key.startswith("loss.") or key.partition(".")[0] not in ("model", "dataloader", "trainer", "evaluation", "data"):
        return
    section, _, rest = key.partition(".")
    with open_composer() as composer:
        tree = resolve(composer.compose({}), {key: "maybe"}, [section])
    assert value_at(tree, key) == "maybe"
    with pytest.raises(ConfigError, match="must be true or false"):
        pass_single([f"{section}.{rest}=maybe"])


def test_a_users_own_option_is_listed_with_its_comments(tmp_path: Path) -> None:
    (tmp_path / "conf" / "trainer").mkdir(parents=True)
    shipped = (shipped_conf() / "trainer" / "default.yaml").read_text(encoding="utf-8")
    mine = shipped.replace("name: default", "name: long").replace("epochs: 2 ", "epochs: 9 ")
    (tmp_path / "conf" / "trainer" / "long.yaml").write_text(f"# Very long.\n{mine}", encoding="utf-8")
    reference._read_option.cache_clear()
    entry = next(entry for entry in reference_of("trainer=long").keys if entry.key == "trainer.epochs")
    assert (entry.value, entry.comment) == (9, "passes over the training data")
    assert "long" in allowed_words("trainer")


@pytest.fixture
def smoothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key ``trainer.smoothing``: one line in its YAML and one field in its dataclass."""
    (tmp_path / "conf" / "trainer").mkdir(parents=True)
    shipped = (shipped_conf() / "trainer" / "default.yaml").read_text(encoding="utf-8")
    line = "smoothing: 0.1            # how much of a label is spread over the others\n"
    (tmp_path / "conf" / "trainer" / "default.yaml").write_text(shipped + line, encoding="utf-8")
    field = ("smoothing", Annotated[float, Bounds(at_least=0, below=1)])
    extended = make_dataclass("TrainerConfig", [field], bases=(training.TrainerConfig,), frozen=True)
    monkeypatch.setattr(trial, "TrainerConfig", extended)
    for cached in (fields_of, reference._read_option, reference.types_of):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def forget_types() -> object:
    yield
    for cached in (fields_of, reference._read_option, reference.types_of):
        cached.cache_clear()


@pytest.mark.usefixtures("smoothing")
def test_a_new_plain_key_needs_its_yaml_and_its_dataclass_only() -> None:
    config = pass_single([]).config
    assert flatten(config)["trainer.smoothing"] == "0.1"
    stored = asdict(pass_single(["trainer.smoothing=0"]).config)
    assert stored["trainer"]["smoothing"] == 0.0
    assert asdict(trial_config_of(stored)) == stored
    assert config_hash(pass_single(["trainer.smoothing=0.2"]).config) != config_hash(config)
    with pytest.raises(ConfigError) as error:
        pass_single(["trainer.smoothing=1"])
    assert [str(problem) for problem in error.value.problems] == [
        "trainer.smoothing: must be a number of at least 0 and below 1, but got 1"
    ]
    with pytest.raises(ConfigError, match=r"trainer\.smothing: no such key \(did you mean trainer\.smoothing\?\)"):
        pass_single(["trainer.smothing=0"])
    (entry,) = reference_of("trainer.smoothing").keys
    assert (entry.type, entry.value, entry.comment) == (
        "a number of at least 0 and below 1",
        0.1,
        "how much of a label is spread over the others",
    )
    assert "trainer.smoothing" in keys()
