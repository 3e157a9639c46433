"""Every YAML file that is shipped: composed, read without a problem, named as its file."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from embedsweep.config.compose import open_composer, shipped_conf
from embedsweep.config.study import EmissionsConfig, SearchConfig, StudyConfig, TrackingConfig
from embedsweep.config.training import OptimizerName
from embedsweep.config.trial import BenchmarkConfig
from embedsweep.config.values import resolve
from embedsweep.config.workers import WorkersConfig
from embedsweep.data.families import SCORED_SHAPES
from embedsweep.errors import ConfigError, Problem
from embedsweep.training.trainer import OPTIMIZERS
from embedsweep.validation.cells import expand_benchmarks
from embedsweep.validation.sections import TRIAL_SECTIONS, read_section, read_trial
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from tests.configs import DEV_METRICS

CONF = shipped_conf()
COUNTS = {
    "data": 19,
    "dataloader": 3,
    "emissions": 1,
    "evaluation": 5,
    "loss": 26,
    "model": 8,
    "optimizer": 3,
    "recipe": 6,
    "search": 4,
    "study": 1,
    "tracking": 1,
    "trainer": 1,
    "workers": 4,
}
"""Group -> how many options it has; a new option is counted here."""

BASES = {"base": 4, "benchmark": 42}
"""Folders of parts that are no groups -> how many files they have."""

GROUPS = list(COUNTS)
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*") if path.is_file())
OPTIONS = [path for path in FILES if path.parts[0] in COUNTS]
BENCHMARKS = [path.stem for path in FILES if path.parts[0] == "benchmark"]
GIVEN: dict[tuple[str, str], dict[str, Any]] = {
    ("loss", "gist"): {"loss.guide": "folder"},
    **{("loss", name): {"loss.teacher": "folder"} for name in ("distill_kl_div", "embed_distill", "margin_mse", "mse")},
}
"""What an option leaves to the user, by ``???``."""

SERVICES = {
    "study": StudyConfig,
    "tracking": TrackingConfig,
    "emissions": EmissionsConfig,
    "search": SearchConfig,
    "workers": WorkersConfig,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _read(group: str, option: str, given: dict[str, Any]) -> list[Problem]:
    """Return what is wrong with an option among the defaults."""
    with open_composer() as composer:
        composed = composer.compose({group: option})
        problems: list[Problem] = []
        expand_benchmarks(composed, composer, problems)
        tree = resolve(composed, given, GROUPS)
    read_trial({name: tree[name] for name in TRIAL_SECTIONS}, DEV_METRICS[0], (), problems)
    for name, kind in SERVICES.items():
        read_section(kind, name, tree[name], problems)
    return problems


def test_every_file_is_looked_at() -> None:
    assert Counter(path.parts[0] for path in FILES) == {**COUNTS, **BASES, "train.yaml": 1, "commands.yaml": 1}
    assert {path.suffix for path in FILES} == {".yaml"}
    assert {len(path.parts) for path in FILES} == {1, 2}


def test_the_defaults_choose_an_option_of_every_group() -> None:
    primary = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    chosen = {
        group: option for entry in primary["defaults"] if isinstance(entry, dict) for group, option in entry.items()
    }
    assert sorted(chosen) == GROUPS
    assert all((CONF / group / f"{option}.yaml").is_file() for group, option in chosen.items())
    # Whatever is configured stands in an option; the file itself only composes.
    assert primary.keys() == {"defaults", "hydra", "resume"}
    assert primary["resume"] is None


@pytest.mark.parametrize("path", OPTIONS, ids=str)
def test_each_option_is_read_without_a_problem(path: Path) -> None:
    group, option = path.parts[0], path.stem
    assert _read(group, option, GIVEN.get((group, option), {})) == []


@pytest.mark.parametrize("path", OPTIONS, ids=str)
def test_each_option_carries_its_own_name(path: Path) -> None:
    group = path.parts[0]
    tree = yaml.safe_load((CONF / path).read_text(encoding="utf-8"))
    # A recipe is spread over all sections, its own among them; a study's name is the study's own, and derived.
    name = tree["recipe"]["name"] if group == "recipe" else tree["name"]
    assert name == (None if group == "study" else path.stem)


@pytest.mark.parametrize(
    "group", [group for group in GROUPS if group not in ("loss", "evaluation", "recipe", "workers")]
)
def test_options_of_a_group_have_the_same_keys(group: str) -> None:
    """Which option is chosen does not decide which keys there are; some groups have some of their own."""
    with open_composer() as composer:
        composed = {name: composer.compose({group: name})[group] for name in composer.options(group)}
    assert len(composed) == COUNTS[group]
    keys = {name: _keys(tree) for name, tree in composed.items()}
    first = next(iter(keys.values()))
    assert [name for name in keys if keys[name] != first] == []


def _keys(section: dict[str, Any]) -> set[str]:
    """Its keys and those of sections inside, but not those of mappings that each option fills as it likes."""
    free = ("where", "also", "prompts", "space")
    inner = {name for name, value in section.items() if isinstance(value, dict) and name not in free}
    return {*section, *(f"{name}.{key}" for name in inner for key in section[name])}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_is_read_without_a_problem_and_carries_its_own_name(name: str) -> None:
    with open_composer() as composer:
        tree = composer.benchmark(name)
    problems: list[Problem] = []
    benchmark = read_section(BenchmarkConfig, f"benchmark.{name}", tree, problems)
    assert problems == []
    assert benchmark.name == name
    assert benchmark.data.shape in SCORED_SHAPES[benchmark.family]
    assert benchmark.data.splits[benchmark.split], "the split it scores has a name"


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "recipe"])
def test_a_key_the_readers_do_not_know_is_refused_in_every_group(group: str, tmp_path: Path) -> None:
    option = next(path for path in OPTIONS if path.parts[0] == group and (group, path.stem) not in GIVEN)
    mine = tmp_path / "conf" / group / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(
        (CONF / option).read_text(encoding="utf-8").replace(f"name: {option.stem}", _name(option)) + "\nbogus: 1\n"
    )
    problems = _read(group, "mine", GIVEN.get((group, option.stem), {}))
    assert [problem.where for problem in problems] == [f"{group}.bogus"]


def _name(option: Path) -> str:
    # Only losses, evaluations, optimizers and workers are looked up by their names.
    by_name = ("loss", "evaluation", "optimizer", "workers")
    return f"name: {option.stem}" if option.parts[0] in by_name else "name: mine"


@pytest.mark.parametrize(("group", "option"), [(group, option) for group, option in GIVEN], ids=str)
def test_what_an_option_leaves_open_must_be_given(group: str, option: str) -> None:
    (key,) = GIVEN[group, option]
    assert [str(problem) for problem in _read(group, option, {})] == [f"{key}: must be given: {key}=VALUE"]


UNSAID = {
    ("model", "pretrained"): ["model.path"],
    ("model", "static"): ["model.path"],
    **{("data", name): ["data.path"] for name in ("csv", "jsonl", "parquet", "semeval", "tsv")},
}
"""What an option leaves to the user by null, over a base: interpolated ``???`` cannot replace a null."""


@pytest.mark.parametrize(("group", "option"), UNSAID, ids=str)
def test_what_a_base_leaves_open_must_be_given_too(group: str, option: str) -> None:
    with pytest.raises(ConfigError) as error:
        pass_single([f"{group}={option}"])
    assert [problem.where for problem in error.value.problems] == UNSAID[group, option]


OF_LOSSES = {"mnrl": ["loss.scale", "dataloader.batch_sampler"], "cosent": ["loss.scale"], "cosine": []}
SEARCHES = [path.stem for path in OPTIONS if path.parts[0] == "search" and path.stem != "none"]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("loss", ["mnrl", "cosent", "cosine"])
def test_each_search_makes_a_study_of_every_loss(search: str, loss: str) -> None:
    sweep = pass_sweep([f"search={search}", f"loss={loss}"])
    tree = yaml.safe_load((CONF / "search" / f"{search}.yaml").read_text(encoding="utf-8"))
    assert sweep.plan is not None
    brought = {"full": ["optimizer.lr", *OF_LOSSES[loss]]}.get(search, [])
    assert [axis.name for axis in sweep.plan.axes] == [*tree["space"], *brought]
    assert sweep.n_trials == tree["n_trials"]
    assert sweep.plan.sampler == "tpe"


def _with_space(group: str) -> list[str]:
    options = [path for path in OPTIONS if path.parts[0] == group]
    return [path.stem for path in options if "space" in yaml.safe_load((CONF / path).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("loss", _with_space("loss"))
def test_each_loss_brings_keys_of_its_own_that_can_be_searched(loss: str) -> None:
    space = yaml.safe_load((CONF / "loss" / f"{loss}.yaml").read_text(encoding="utf-8"))["space"]
    words = [f"loss={loss}", "data=demo_nli" if loss in ("triplet", "gist") else "data=demo"]
    words += [f"loss.{key}=tiny" for key in ("guide",) if loss == "gist"]
    with pytest.raises(ConfigError) if loss == "gist" else nullcontext() as refused:
        sweep = pass_sweep(["search=full", *words])
        assert sweep.plan is not None
        assert set(space) <= {axis.key for axis in sweep.plan.axes}
    if refused is not None:  # the guide is no model; what is searched is right
        assert {problem.where for problem in refused.value.problems} == {"loss.guide"}


def test_losses_with_a_space_were_found() -> None:
    assert _with_space("loss") == [
        "angle",
        "contrastive",
        "cosent",
        "gist",
        "matryoshka",
        "matryoshka2d",
        "mnrl",
        "mnrl_symmetric",
        "online_contrastive",
        "triplet",
    ]


def test_searches_were_found() -> None:
    assert SEARCHES == ["full", "lr", "lr_warmup_batch"]


def test_the_defaults_are_valid() -> None:
    config = pass_single([]).config
    assert (config.model.name, config.loss.name, config.data.name) == ("tiny", "cosent", "demo")
    assert config.optimizer.lr == config.model.lr == 1e-3


def test_optimizers_are_those_of_the_table() -> None:
    assert [path.stem for path in OPTIONS if path.parts[0] == "optimizer"] == sorted(OPTIMIZERS)
    assert sorted(get_args(OptimizerName)) == sorted(OPTIMIZERS)
