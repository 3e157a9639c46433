"""Every YAML file that is shipped: composed, read by the gate, named as its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedsweep.config import open_composer, resolve, shipped_conf
from embedsweep.errors import Problem
from embedsweep.gate import pass_single, pass_sweep
from embedsweep.gate.sections import (
    TRIAL_SECTIONS,
    read_emissions,
    read_search,
    read_study,
    read_tracking,
    read_trial,
)
from embedsweep.optimizers import OPTIMIZERS
from embedsweep.schema import DEV_METRICS

CONF = shipped_conf()
OPTIONS = sorted(path.relative_to(CONF) for path in CONF.glob("*/*.yaml"))
GROUPS = (
    "data dataloader emissions evaluation loss model optimizer search study tracking trainer".split()  # noqa: SIM905
)
GIVEN: dict[tuple[str, str], dict[str, Any]] = {
    ("model", "pretrained"): {"model.path": "ORG/NAME"},
    ("data", "csv"): {"data.path": "folder"},
}
"""What an option leaves to the user."""

SERVICES: dict[str, Callable[[object, list[Problem]], object]] = {
    "study": read_study,
    "tracking": read_tracking,
    "emissions": read_emissions,
    "search": read_search,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _read(group: str, option: str, given: dict[str, Any]) -> list[Problem]:
    """What the gate's readers say of an option among the defaults."""
    with open_composer() as composer:
        tree = resolve(composer.compose({group: option}), given, GROUPS)
    problems: list[Problem] = []
    read_trial({name: tree[name] for name in TRIAL_SECTIONS}, DEV_METRICS[0], problems)
    for name, read in SERVICES.items():
        read(tree[name], problems)
    return problems


def test_every_file_is_looked_at() -> None:
    files = sorted(path.relative_to(CONF) for path in CONF.rglob("*") if path.is_file())
    assert files == sorted([Path("train.yaml"), *OPTIONS])
    assert len(OPTIONS) == 21
    assert sorted({path.parts[0] for path in OPTIONS}) == GROUPS


def test_the_defaults_choose_an_option_of_every_group() -> None:
    primary = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    chosen = {
        group: option for entry in primary["defaults"] if isinstance(entry, dict) for group, option in entry.items()
    }
    assert sorted(chosen) == GROUPS
    assert all((CONF / group / f"{option}.yaml").is_file() for group, option in chosen.items())
    # Whatever is configured stands in an option; the file itself only composes.
    assert primary.keys() == {"defaults", "hydra"}


@pytest.mark.parametrize("path", OPTIONS, ids=str)
def test_each_option_is_read_without_a_problem(path: Path) -> None:
    group, option = path.parts[0], path.stem
    assert _read(group, option, GIVEN.get((group, option), {})) == []


@pytest.mark.parametrize("path", OPTIONS, ids=str)
def test_each_option_carries_its_own_name(path: Path) -> None:
    tree = yaml.safe_load((CONF / path).read_text(encoding="utf-8"))
    # A study's name is the study's own, and by default derived.
    assert tree["name"] == (None if path.parts[0] == "study" else path.stem)


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "loss"])
def test_options_of_a_group_have_the_same_keys(group: str) -> None:
    """Which option is chosen does not decide which keys there are; losses alone have parameters of their own."""
    options = [CONF / path for path in OPTIONS if path.parts[0] == group]
    keys = [list(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in options]
    assert keys == [keys[0]] * len(options)


@pytest.mark.parametrize("group", GROUPS)
def test_a_key_the_readers_do_not_know_is_refused_in_every_group(group: str, tmp_path: Path) -> None:
    option = next(path for path in OPTIONS if path.parts[0] == group)
    mine = tmp_path / "conf" / group / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(
        (CONF / option).read_text(encoding="utf-8").replace(f"name: {option.stem}", _name(option)) + "\nbogus: 1\n"
    )
    problems = _read(group, "mine", GIVEN.get((group, option.stem), {}))
    assert [problem.where for problem in problems] == [f"{group}.bogus"]


def _name(option: Path) -> str:
    # Only losses and optimizers are looked up by their names.
    return f"name: {option.stem}" if option.parts[0] in ("loss", "optimizer") else "name: mine"


@pytest.mark.parametrize(("group", "option"), [(group, option) for group, option in GIVEN], ids=str)
def test_what_an_option_leaves_open_must_be_given(group: str, option: str) -> None:
    (key,) = GIVEN[group, option]
    assert [str(problem) for problem in _read(group, option, {})] == [f"{key}: must be given: {key}=VALUE"]


SEARCHES = [path.stem for path in OPTIONS if path.parts[0] == "search" and path.stem != "none"]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("loss", ["mnrl", "cosent", "cosine"])
def test_each_search_makes_a_study_of_every_loss(search: str, loss: str) -> None:
    sweep = pass_sweep([f"search={search}", f"loss={loss}"])
    tree = yaml.safe_load((CONF / "search" / f"{search}.yaml").read_text(encoding="utf-8"))
    assert sweep.plan is not None
    assert [axis.key for axis in sweep.plan.axes] == list(tree["space"])
    assert sweep.n_trials == tree["n_trials"]
    assert sweep.plan.sampler == "tpe"


def test_searches_were_found() -> None:
    assert SEARCHES == ["lr", "lr_warmup_batch"]


def test_the_defaults_pass_the_gate() -> None:
    config = pass_single([]).config
    assert (config.model.name, config.loss.name, config.data.name) == ("tiny", "cosent", "demo")
    assert config.optimizer.lr == config.model.lr == 1e-3


def test_optimizers_are_those_of_the_table() -> None:
    assert [path.stem for path in OPTIONS if path.parts[0] == "optimizer"] == sorted(OPTIMIZERS)
