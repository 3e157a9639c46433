"""Captured steps without a GPU: which batches are captured, how they are padded, what is kept, why some are not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.errors import TrialError
from embedsweep.losses.nesting import not_captured
from embedsweep.losses.table import LOSSES
from embedsweep.training import graphed as module
from embedsweep.training import train as train_module
from embedsweep.training.built_models import BuiltModel, BuiltModels
from embedsweep.training.cuda_graphs import CaptureError, _key
from embedsweep.training.graphed import MAX_COST, MULTIPLE, QUANTILES, Graphed, Lengths, ModelGraphs, lengths_of
from embedsweep.training.micro_batches import why_eager
from embedsweep.training.train import Outcome
from embedsweep.training.trainer import Trainer
from embedsweep.validation.single import pass_single
from tests.loss_cases import WRAPPERS, fresh_model, loss_config
from tests.training.cases import train_config


class Memory:
    """Replaces the memory that graphs share on a device."""

    def __init__(self, parameters: tuple[nn.Parameter, ...]) -> None:
        self.parameters = parameters


class Steps:
    """Computes each step eagerly and records the keys of its batches."""

    made: list[Steps]
    model: nn.Module

    def __init__(self, memory: Memory, max_grad_norm: float) -> None:
        self.memory, self.max_norm = memory, max_grad_norm
        self.keys: list[Any] = []
        self.modes: set[bool] = set()
        Steps.made.append(self)

    def __len__(self) -> int:
        return len(set(self.keys))

    def step(
        self, batch: Mapping[str, Any], compute: Callable[[dict[str, Any]], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys.append(_key(batch))
        self.modes |= {module.training for module in Steps.model.modules()}
        loss = compute(dict(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        used = [parameter for parameter in self.memory.parameters if parameter.grad is not None]
        return loss.detach(), nn.utils.clip_grad_norm_(used, self.max_norm or float("inf"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> type[Steps]:
    Steps.made = []
    monkeypatch.setattr(module, "GraphMemory", Memory)
    monkeypatch.setattr(module, "StepGraphs", Steps)
    monkeypatch.setattr(train_module, "_why_eager", lambda *_: None)
    return Steps


def config_of(*words: str) -> TrialConfig:
    return pass_single(["trainer.device=cpu", "data.limit=72", "dataloader.batch_size=32", *words]).config


def trained(config: TrialConfig, folder: Path) -> tuple[Outcome, dict[str, torch.Tensor]]:
    model = Steps.model = fresh_model()
    outcome, _ = train_config(config, folder, built=BuiltModel(model, ModelGraphs(model), None))
    return outcome, model.state_dict()


def test_whole_batches_are_captured_at_a_few_lengths_and_train_like_others(
    steps: type[Steps], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("trainer.epochs=2")
    outcome, weights = trained(config, tmp_path / "captured")
    (made,) = steps.made
    assert len(made.keys) == 4  # of 72 examples two batches of 32 in each epoch; the last 8 are trained eagerly
    widths = {shape[1] for key in made.keys for name, shape, *_ in key if name.endswith("input_ids")}
    assert len(widths) <= 5
    assert all(shape[0] == 32 for key in made.keys for name, shape, *_ in key if name.endswith("input_ids"))
    assert outcome.captured.startswith(f"{len(made)} steps, padded to ")

    monkeypatch.setattr(train_module, "_why_eager", lambda *_: "a test")
    eager, expected = trained(config, tmp_path / "eager")
    assert eager.captured == "none: a test"
    assert abs(outcome.dev["dev/spearman_cosine"] - eager.dev["dev/spearman_cosine"]) < 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)


def test_captured_steps_use_dropout_before_the_first_evaluation_too(steps: type[Steps], tmp_path: Path) -> None:
    """A model that was just loaded is in training mode, but the transformer inside it is not."""
    trained(config_of("trainer.max_steps=4", "trainer.eval_every=2"), tmp_path)
    assert steps.made[0].modes == {True}


def test_steps_of_texts_that_are_not_padded_are_not_captured(tmp_path: Path) -> None:
    config = config_of()
    config = replace(config, trainer=replace(config.trainer, device="cuda"))
    model = fresh_model()

    class OnCuda(list):  # type: ignore[type-arg]
        device = torch.device("cuda")
        tokenizer = SimpleNamespace(pad_token_id=0)

    assert train_module._why_eager(config, 1, OnCuda(model)) is None
    static = OnCuda([nn.EmbeddingBag(3, 4)])
    assert train_module._why_eager(config, 1, static) == "its texts are not padded to one length"
    OnCuda.tokenizer = SimpleNamespace(pad_token_id=None)
    assert train_module._why_eager(config, 1, OnCuda(model)) == "its texts are not padded to one length"


def test_a_captured_step_calls_the_loss_once_and_logs_the_norm_of_its_gradient(
    steps: type[Steps], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more calls per step, gradients would be added up in the graph's own memory."""
    calls: list[object] = []
    monkeypatch.setattr(Trainer, "compute_loss", lambda *arguments, **_: calls.append(arguments))
    outcome, _ = trained(config_of("dataloader.drop_last=true", "trainer.log_every=1", "trainer.max_steps=4"), tmp_path)
    assert len(steps.made[0].keys) == 4
    assert calls == []  # the captured loss is not checked in Python
    norms = [entry["grad_norm"] for entry in outcome.log if "grad_norm" in entry]
    assert len(norms) == 4
    assert all(norm > 0 for norm in norms)


@pytest.mark.parametrize(("word", "fails"), [("auto", False), (True, True)])
def test_a_step_that_cannot_be_captured_is_trained_eagerly_or_fails_the_trial_if_graphs_are_required(
    word: Any, fails: bool, steps: type[Steps], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("trainer.max_steps=3")
    config = replace(config, trainer=replace(config.trainer, cuda_graphs=word))
    monkeypatch.setattr(Steps, "step", lambda *_: (_ for _ in ()).throw(CaptureError("it synchronises")))
    if fails:
        with pytest.raises(TrialError, match=r"cuda_graphs=true, and a step cannot be captured .*: use auto"):
            trained(config, tmp_path)
    else:
        outcome, _ = trained(config, tmp_path)
        assert outcome.captured == "none: a step cannot be captured (it synchronises)"
        assert outcome.steps == 3


def test_a_loss_that_is_not_finite_raises_in_a_captured_step(
    steps: type[Steps], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("trainer.max_steps=9")
    config = replace(config, optimizer=replace(config.optimizer, lr=1e6, warmup=0.0))
    with pytest.raises(TrialError, match=r"the training loss became nan at step \d$"):
        trained(config, tmp_path)


def graphed(**changes: Any) -> Graphed:
    defaults = {"lengths": Lengths((8, 16), 0.1), "batch_size": 2, "padding_id": 7, "is_required": False}
    return Graphed(Steps(Memory(()), 0.0), lambda: None, **{**defaults, **changes})  # type: ignore[arg-type]


def columns(rows: int, *widths: int) -> dict[str, Any]:
    made: dict[str, Any] = {"label": torch.ones(rows)}
    for number, width in enumerate(widths):
        for key in ("input_ids", "attention_mask", "token_type_ids"):
            made[f"text{number}_{key}"] = torch.ones(rows, width, dtype=torch.int64)
        made[f"text{number}_modality"] = "text"
    return made


@pytest.mark.parametrize(
    ("rows", "widths", "expected"),
    [
        (2, (3, 5), (8, 8)),
        (2, (8, 8), (8, 8)),
        (2, (3, 9), (16, 16)),  # the longest column decides for all
        (2, (3, 17), (3, 17)),  # beyond the last edge
        (1, (3, 5), (3, 5)),  # the last batch of an epoch
    ],
)
def test_the_columns_of_a_whole_batch_are_padded_to_one_edge(
    rows: int, widths: tuple[int, ...], expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Steps, "made", [], raising=False)
    inputs = columns(rows, *widths)
    padded = graphed().pad(dict(inputs))
    assert [padded[f"text{n}_input_ids"].shape[1] for n in range(len(widths))] == list(expected)
    assert graphed().takes(padded) == (rows == 2 and max(expected) in (8, 16))
    for number, (width, edge) in enumerate(zip(widths, expected, strict=True)):
        filled = edge - width
        assert padded[f"text{number}_input_ids"][0, width:].tolist() == [7] * filled
        assert padded[f"text{number}_attention_mask"][0, width:].tolist() == [0] * filled
        assert padded[f"text{number}_token_type_ids"][0, width:].tolist() == [0] * filled
    assert torch.equal(padded["label"], inputs["label"])
    assert padded["text0_modality"] == "text"


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"label": torch.zeros(2)}, True),  # values do not matter
        ({"label": torch.ones(2, dtype=torch.float64)}, False),
        ({"label": torch.ones(3)}, False),
        ({"text0_modality": "image"}, False),
        ({"dataset_name": "more"}, False),
    ],
)
def test_a_graph_serves_batches_of_equal_shapes_and_types(change: dict[str, Any], is_same: bool) -> None:
    batch = columns(2, 8)
    assert (_key(batch) == _key({**batch, **change})) == is_same


@pytest.mark.parametrize(
    ("words", "is_same"),
    [
        (["optimizer.lr=1e-4", "optimizer.warmup=0.2", "trainer.seed=9", "trainer.epochs=1"], True),
        (["dataloader.batch_size=16"], False),
        (["loss=mnrl"], False),
        (["loss.scale=30"], False),
        (["trainer.precision=bf16"], False),
        (["trainer.merge_columns=true"], False),
        (["optimizer.max_grad_norm=2"], False),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_trials_share_captured_steps_if_all_that_is_captured_is_equal(
    words: list[str], is_same: bool, steps: type[Steps]
) -> None:
    graphs = ModelGraphs(fresh_model())
    texts = Dataset.from_dict({"sentence1": ["one", "two"], "sentence2": ["a b c", "d"], "score": [0.1, 0.9]})
    first = graphs.graphed(config_of(), {"demo": texts}).graphs
    assert (graphs.graphed(config_of(*words), {"demo": texts}).graphs is first) == is_same
    assert graphs.graphed(config_of(), {"demo": texts}).graphs is first


def test_steps_of_the_last_losses_are_kept_and_can_be_cleared(steps: type[Steps]) -> None:
    graphs = ModelGraphs(fresh_model())
    texts = {"demo": Dataset.from_dict({"sentence1": ["one"], "sentence2": ["a b"], "score": [0.1]})}
    scales = range(10, 10 + module.MAX_LOSSES + 1)
    made = [graphs.graphed(config_of(f"loss.scale={scale}"), texts).graphs for scale in scales]
    assert graphs.graphed(config_of(f"loss.scale={scales[-1]}"), texts).graphs is made[-1]
    assert graphs.graphed(config_of(f"loss.scale={scales[0]}"), texts).graphs is not made[0]
    graphs.clear()
    assert graphs.graphed(config_of(f"loss.scale={scales[-1]}"), texts).graphs is not made[-1]


def static(model: ModelConfig) -> ModelConfig:
    return replace(model, static_dim=32)


@pytest.mark.parametrize(
    ("words", "processes", "on_cuda", "reason"),
    [
        ([], 1, True, None),
        (["loss=mnrl", "trainer.precision=bf16", "trainer.merge_columns=true"], 1, True, None),
        (["loss=matryoshka"], 1, True, None),
        ([], 1, False, "trainer.device=cpu is no CUDA device here"),
        ([], 2, True, "2 processes train together"),
        (["loss=mnrl", "dataloader.micro_batch_size=8"], 1, True, "computed in parts .dataloader.micro_batch_size=8."),
        (["loss=softmax", "data=demo_nli"], 1, True, "loss=softmax has weights of its own"),
        (["loss=matryoshka", "loss.n_dims_per_step=1"], 1, True, "n_dims_per_step=1 draws the dimensions"),
        (["loss=matryoshka2d"], 1, True, "loss=matryoshka2d draws the layers"),
    ],
)
def test_why_steps_are_not_captured(words: list[str], processes: int, on_cuda: bool, reason: str | None) -> None:
    why = why_eager(config_of(*words), processes, on_cuda=on_cuda)
    if reason is None:
        assert why is None
    else:
        assert why is not None
        assert re.search(reason, why)


def test_fp16_and_static_embeddings_are_not_captured() -> None:
    config = config_of()
    half = replace(config, trainer=replace(config.trainer, precision="fp16"))
    assert why_eager(half, 1, on_cuda=True) == "fp16 scales the gradient anew after an overflow"
    assert why_eager(replace(config, model=static(config.model)), 1, on_cuda=True) == (
        "a static embedding has no texts of one length"
    )


def test_a_wrapper_is_captured_only_if_the_loss_inside_it_is() -> None:
    for name in WRAPPERS:
        inside = loss_config(name, Path("x"), loss_config("online_contrastive", Path("x")))
        assert not_captured(inside) is not None
    assert LOSSES["mnrl"].not_captured is None


def test_a_trial_with_refused_graphs_trains_eagerly_and_the_next_captures_again(
    steps: type[Steps], tmp_path: Path
) -> None:
    config = config_of("trainer.max_steps=2")
    models = BuiltModels()
    built = models.get(config)
    built.graphs.refused = "not enough memory for captured steps"

    def run(folder: str) -> Outcome:
        return train_config(config, tmp_path / folder, built=built)[0]

    assert run("refused").captured == "none: not enough memory for captured steps"
    assert models.get(config) is built
    Steps.model = built.model
    assert "steps, padded to" in run("next").captured


def longest_of_random_batches(tokens: list[int], n: int, draws: int = 20_000) -> np.ndarray:
    return np.random.default_rng(0).choice(tokens, (draws, n)).max(axis=1)


@pytest.mark.parametrize(
    ("tokens", "texts", "most", "edges"),
    [
        ([5] * 10, 4, None, (8,)),
        ([8] * 10, 4, None, (8,)),
        ([9] * 10, 4, None, (16,)),
        ([30], 32, None, (32,)),
        ([61] * 3, 2, 64, (64,)),
        ([61] * 3, 2, 61, (61,)),  # the model reads no more
        (list(range(1, 101)), 1, None, (32, 56, 80, 96, 104)),  # single texts: quantiles, rounded up
        ([20] * 90 + [40] * 10, 1, None, (24, 40)),
        (list(range(1, 101)), 1000, None, (104,)),  # one of 1000 is always among the longest
    ],
)
def test_edges_are_quantiles_of_the_longest_text_of_a_batch(
    tokens: list[int], texts: int, most: int | None, edges: tuple[int, ...]
) -> None:
    assert lengths_of(tokens, texts, most).edges == edges


@pytest.mark.parametrize(("n", "quantiles"), [(1, QUANTILES[2]), (64, QUANTILES[2])])
def test_random_batches_reach_each_edge_as_often_as_its_quantile_says(n: int, quantiles: tuple[float, ...]) -> None:
    tokens = np.random.default_rng(1).geometric(0.002, 5000).tolist()  # long enough for rounding not to matter
    longest = longest_of_random_batches(tokens, n)
    for edge, quantile in zip(lengths_of(tokens, n, None).edges, quantiles, strict=True):
        assert abs((longest <= edge).mean() - quantile) < 0.03


def test_there_are_as_few_edges_as_keep_padding_small() -> None:
    assert len(lengths_of([30] * 500 + [32] * 500, 16, None).edges) == 1
    narrow, wide = (np.random.default_rng(3).normal(100, spread, 5000).astype(int).clip(3) for spread in (10, 60))
    assert len(lengths_of(narrow, 32, None).edges) == 2
    assert len(lengths_of(wide, 1, None).edges) == 5
    assert lengths_of(narrow, 32, None).cost <= MAX_COST


def test_the_cost_is_the_padding_of_random_batches() -> None:
    tokens = np.random.default_rng(2).poisson(14, 3000).clip(3).tolist()
    lengths = lengths_of(tokens, 32, 256)
    longest = longest_of_random_batches(tokens, 32)
    padded = np.array([lengths.edge(int(length)) for length in longest])
    assert abs(lengths.cost - (padded.sum() / longest.sum() - 1)) < 0.01


def test_no_batch_of_the_measured_texts_exceeds_the_last_edge() -> None:
    tokens = [3, 200, 17, 17, 90]
    lengths = lengths_of(tokens, 8, None)
    assert lengths.edge(200) == 200
    assert lengths.edge(201) is None
    assert all(edge % MULTIPLE == 0 for edge in lengths.edges)
