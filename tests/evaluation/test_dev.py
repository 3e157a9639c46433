from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from embedsweep.errors import ConfigError
from embedsweep.evaluation.dev import ScoredOnce, dev_evaluator
from embedsweep.evaluation.evaluator import metric_names, scores_of
from embedsweep.models.build import build_model
from embedsweep.validation.single import pass_single
from tests.demo_pairs import demo_pairs


@pytest.fixture(autouse=True)
def in_a_folder_with_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``short-dev``: the last 40 pairs of demo's dev set."""
    monkeypatch.chdir(tmp_path)
    for folder in ("conf/benchmark", "data/short"):
        Path(folder).mkdir(parents=True)
    Path("conf/benchmark/short-dev.yaml").write_text(
        "defaults: [/data@data: csv, _self_]\nname: short-dev\nfolder: short\nsplit: dev\n", encoding="utf-8"
    )
    rows = [f'"{first}","{second}",{score}' for first, second, score in demo_pairs("dev")[-40:]]
    Path("data/short/dev.csv").write_text("\n".join(["sentence1,sentence2,score", *rows]), encoding="utf-8")


def test_what_is_watched_is_scored_beside_dev_as_it_is_alone() -> None:
    watching = ["evaluation.watch=[short-dev]", "evaluation.path=data", "evaluation.dims=[64]", "trainer.device=cpu"]
    config = pass_single(watching).config
    model = build_model(config.model, "cpu")
    alone = {
        name: scores_of(dev_evaluator(pass_single([*watching[1:], *words]).config, model), model)
        for name, words in {"dev": [], "short": ["evaluation.dev=short-dev"]}.items()
    }
    renamed = {name.replace("dev", "dev/short-dev", 1): value for name, value in alone["short"].items()}
    metrics = dev_evaluator(config, model)(model)
    scores = metric_names(metrics, "dev")
    assert scores == alone["dev"] | renamed
    assert {"dev-64/spearman_cosine", "dev/short-dev/spearman_cosine", "dev/short-dev-64/pearson_max"} <= scores.keys()
    logged = {f"eval_{name}": value for name, value in metrics.items()}  # as the trainer names them
    assert metric_names({**logged, "eval_runtime": 1.0, "step": 3}, "dev") == scores


@pytest.mark.parametrize(("from_s", "is_repeated"), [(0.0, True), (1e6, False)])
def test_a_slow_evaluation_is_repeated_for_another_model_and_a_quick_one_is_not(
    from_s: float, is_repeated: bool
) -> None:
    config = pass_single(["evaluation.dev=short-dev", "evaluation.path=data", "trainer.device=cpu"]).config
    first, second = (build_model(config.model, "cpu") for _ in range(2))
    for weights in second.parameters():
        weights.data.mul_(1 + 0.1 * torch.rand_like(weights))
    exact = [scores_of(dev_evaluator(config, model), model) for model in (first, second)]
    assert exact[0] != exact[1]
    once = ScoredOnce(from_s)
    found = [metric_names(once.of(config, model, lambda: None)(model), "dev") for model in (first, second)]
    assert found == [exact[0], exact[0] if is_repeated else exact[1]]
    assert (once.saved_s > 0) is is_repeated
    assert once.has_scored
    assert len(once.item_scores()) == 40


def test_an_evaluation_gives_signs_of_life_of_dev_and_of_what_is_watched() -> None:
    words = ["evaluation.path=data", "evaluation.batch_size=20", "trainer.device=cpu"]
    config = pass_single([*words, "evaluation.watch=[short-dev]"]).config
    model = build_model(config.model, "cpu")
    signs: list[int] = []
    dev_evaluator(config, model, lambda: signs.append(1))(model)
    texts = [2 * len(demo_pairs("dev")), 2 * 40]
    assert len(signs) >= sum(texts) // 20
    before = len(signs)
    model.encode(["a text"])
    assert len(signs) == before


@pytest.mark.parametrize(
    ("watched", "message"),
    [
        ("[demo-test]", "evaluation.watch: demo-test is a test benchmark, and dev selects: watch a dev benchmark"),
        ("[demo-dev,demo-dev]", "evaluation.watch: names demo-dev twice"),
        ("[demo-dv]", "evaluation.watch: demo-dv: no such benchmark (did you mean demo-dev?)"),
        ("[short-dev]", "benchmark short-dev"),  # without evaluation.path
    ],
)
def test_what_cannot_be_watched_is_refused(watched: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        pass_single([f"evaluation.watch={watched}"])


@pytest.mark.parametrize(
    ("words", "reads_it"),
    [
        (["evaluation.test=hidden-dev"], "as test does"),
        (["evaluation.test=short-test"], "as test does"),
        (["evaluation.benchmarks=[short-test]"], "as short-test does"),
        (["data=csv", "data.path=data/short", "data.splits.dev=[train]"], "as test does"),
        ([], ""),
        (["evaluation.benchmarks=[hidden-dev]"], ""),
        (["evaluation.test=short-dev"], ""),
    ],
)
def test_a_test_cannot_be_watched_under_another_name(words: list[str], reads_it: str) -> None:
    option = "defaults: [/data@data: csv, _self_]\nname: {}\nfolder: short\nsplit: {}\ndata: {}\n"
    for name, split, data in (("hidden-dev", "dev", "{splits: {dev: [test]}}"), ("short-test", "test", "{}")):
        Path(f"conf/benchmark/{name}.yaml").write_text(option.format(name, split, data), encoding="utf-8")
    for split in ("train", "test"):
        shutil.copy("data/short/dev.csv", f"data/short/{split}.csv")
    command = ["evaluation.watch=[hidden-dev]", "evaluation.path=data", *words]
    if not reads_it:
        assert pass_single(command).config.evaluation.watch[0].name == "hidden-dev"
        return
    message = f"evaluation.watch: hidden-dev reads test of csv, {reads_it}, and dev selects: watch a dev benchmark of "
    with pytest.raises(ConfigError, match=re.escape(message)):
        pass_single(command)
